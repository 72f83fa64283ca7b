"""Owns the contract as a value: the pact and the request schema of one version of this API.

Deriving a pact from the schema is left to the tests, sending it to `publish`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Self

from repo_api.errors import ContractError, FormatError
from repo_api.release import Reference
from repo_api.schema import Schema

CONSUMER = "repo-api"
PROVIDER = "repo-ml"
PACT_FILE = f"{CONSUMER}-{PROVIDER}.json"
SCHEMA_FILE = "request.schema.json"
SIGNATURE_FILE = "contract.sig"
CONTRACT_TYPE = "application/vnd.edustream.contract.v1"
MEDIA_TYPES = {
    PACT_FILE: "application/vnd.pact.v4+json",
    SCHEMA_FILE: "application/schema+json",
    SIGNATURE_FILE: "application/vnd.dev.sigstore.bundle.v0.3+json",
}
_REPOSITORY = "edustream/contracts/repo-api"


@dataclass(frozen=True, slots=True)
class Contract:
    """What one version of this API expects of a model: a pact, and the schema it came from."""

    pact: bytes
    request_schema: bytes
    interactions: int

    @classmethod
    def from_folder(cls, folder: Path, source: str) -> Self:
        """Read a contract and refuse one that promises nothing, or something to others.

        Args:
            folder: Where its files lie.
            source: What an error calls it.

        Raises:
            FormatError: A file is missing, or cannot be read as what it should be.
            ContractError: It is a pact between others, or has no interactions.
        """
        contents = {}
        for name in (PACT_FILE, SCHEMA_FILE):
            try:
                contents[name] = (folder / name).read_bytes()
            except OSError as error:
                raise FormatError(
                    f"{source}: expected a contract with the file {name}, got none "
                    f"({error.strerror}); write one: tox run -e contract"
                ) from error
        Schema.from_json(contents[SCHEMA_FILE], f"{source}: {SCHEMA_FILE}")
        interactions = _count(contents[PACT_FILE], f"{source}: {PACT_FILE}")
        return cls(contents[PACT_FILE], contents[SCHEMA_FILE], interactions)

    def files(self) -> Mapping[str, bytes]:
        """Give the files that a contract consists of, but for its signature."""
        return {PACT_FILE: self.pact, SCHEMA_FILE: self.request_schema}


def own_version() -> str:
    """Give the version of this API, which is that of its contract."""
    return metadata.version(CONSUMER)


def own_request_schema() -> bytes:
    """Give the request schema that this version was released with, byte for byte."""
    return resources.files("repo_api").joinpath("request_schema.json").read_bytes()


def contract_reference(registry: str, version: str) -> Reference:
    """Tell where the contract of a version of this API is published."""
    return Reference(registry, _REPOSITORY, f"v{version}")


def own_reference(registry: str) -> Reference:
    """Tell where the contract of this version is published."""
    return contract_reference(registry, own_version())


def _count(content: bytes, source: str) -> int:
    """Count the interactions of a pact between this API and its provider."""
    try:
        pact = json.loads(content)
    except ValueError as error:
        raise FormatError(f"{source}: expected JSON, got {error}") from error
    try:
        specification = str(pact["metadata"]["pactSpecification"]["version"])
        parties = {role: _name(pact, role) for role in ("consumer", "provider")}
        interactions = pact["interactions"]
    except (KeyError, TypeError) as error:
        raise FormatError(f"{source}: expected a pact, got JSON without {error}") from error
    if specification.partition(".")[0] != "4":
        raise FormatError(
            f"{source}: expected a pact of specification 4, got {specification}; "
            "write it again: tox run -e contract"
        )
    for role, name in (("consumer", CONSUMER), ("provider", PROVIDER)):
        if parties[role] != name:
            raise ContractError(f"{source}: expected the {role} {name}, got {parties[role]!r}")
    if not isinstance(interactions, list) or not interactions:
        raise ContractError(
            f"{source}: expected interactions, got none: it would hold for every model"
        )
    return len(interactions)


def _name(pact: Mapping[str, Any], role: str) -> str:
    return str(pact[role]["name"])
