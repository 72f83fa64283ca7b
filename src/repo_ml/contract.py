"""Owns what a contract is, and what came of holding a release against it; formats only.

Where contracts are kept is left to `consumers`, verifying them to `pacts`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from packaging.version import Version

from repo_ml.errors import FormatError, Misfit
from repo_ml.release import release_version
from repo_ml.schema import InputSchema

PROVIDER = "repo-ml"
REQUEST_SCHEMA_FILE = "request.schema.json"
RELEASE_INTERACTION = "a model release"
REQUEST_INTERACTION = "a request to score"

_PACT_MAJOR = "4."


@dataclass(frozen=True, slots=True)
class Contract:
    """What one version of a consumer sends, and what it reads.

    `model` is the release that it is about, `records` the requests of its
    pact by description, `digest` its manifest's where it came from a registry.
    """

    consumer: str
    version: Version
    model: str
    records: Mapping[str, Mapping[str, Any]]
    schema: InputSchema
    pact: bytes
    digest: str | None

    def __str__(self) -> str:
        """Name it."""
        return f"{self.consumer} {self.version}"

    @classmethod
    def from_files(
        cls, files: Mapping[str, bytes], consumer: str, version: str, digest: str | None
    ) -> Self:
        """Read a contract from the two files that it consists of, by their names.

        Raises:
            FormatError: A file is missing or cannot be read, or the pact is
                not between the two, is empty, or lacks a request.
        """
        subject = f"contract of {consumer} {version}"
        name = f"{consumer}-{PROVIDER}.json"
        for needed in (name, REQUEST_SCHEMA_FILE):
            if needed not in files:
                raise FormatError(
                    f"{subject}: expected {needed}, got {', '.join(sorted(files)) or 'no file'}; "
                    f"ask {consumer} to release its contract again"
                )
        schema = InputSchema.from_json(
            files[REQUEST_SCHEMA_FILE], f"{subject}, {REQUEST_SCHEMA_FILE}"
        )
        model, records = _read_pact(files[name], consumer, f"{subject}, {name}")
        for case in _missing(schema, records):
            raise FormatError(f"{subject}: expected an interaction with {case}, got none")
        return cls(consumer, release_version(version), model, records, schema, files[name], digest)


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of holding one release against one contract.

    `contract` is the digest of the contract's manifest, if it has one;
    `failed` names the interactions that failed, of `interactions` in all.
    """

    consumer: str
    consumer_version: str
    contract: str | None
    model: str
    model_version: str
    interactions: int
    failed: tuple[str, ...]
    misfits: tuple[Misfit, ...]

    @property
    def fits(self) -> bool:
        """Say whether every request of the consumer is accepted."""
        return not self.misfits

    def to_json(self) -> bytes:
        """Write it as it is kept in the registry."""
        raw = asdict(self)
        raw["provider"] = PROVIDER
        raw["verdict"] = "fits" if self.fits else "does not fit"
        return (json.dumps(raw, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            FormatError: It is something else.
        """
        try:
            raw = json.loads(content)
            return cls(
                consumer=str(raw["consumer"]),
                consumer_version=str(raw["consumer_version"]),
                contract=raw["contract"],
                model=str(raw["model"]),
                model_version=str(raw["model_version"]),
                interactions=int(raw["interactions"]),
                failed=tuple(raw["failed"]),
                misfits=tuple(Misfit(**misfit) for misfit in raw["misfits"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"verification: cannot be read: {error!r}") from error


def _read_pact(
    content: bytes, consumer: str, subject: str
) -> tuple[str, dict[str, Mapping[str, Any]]]:
    """Give the model that a pact is about, and its requests by description."""
    try:
        pact = json.loads(content)
    except ValueError as error:
        raise FormatError(f"{subject}: expected JSON, got {error}") from error
    try:
        between = (pact["consumer"]["name"], pact["provider"]["name"])
        written = str(pact["metadata"]["pactSpecification"]["version"])
        interactions = {found["description"]: found for found in pact["interactions"]}
        releases = [
            found["contents"]["content"]["name"]
            for description, found in interactions.items()
            if description == RELEASE_INTERACTION
        ]
        records = {
            description: found["request"]["contents"]["content"]
            for description, found in interactions.items()
            if description.startswith(REQUEST_INTERACTION)
        }
    except (KeyError, TypeError) as error:
        raise FormatError(f"{subject}: expected a message pact, got none: {error!r}") from error
    if between != (consumer, PROVIDER):
        raise FormatError(
            f"{subject}: expected a pact of {consumer} with {PROVIDER}, "
            f"got one of {between[0]} with {between[1]}"
        )
    if not written.startswith(_PACT_MAJOR):
        raise FormatError(f"{subject}: expected pact specification 4, got {written}")
    if not releases or not records:
        raise FormatError(
            f"{subject}: expected {RELEASE_INTERACTION!r} and {REQUEST_INTERACTION!r}, "
            f"got {len(interactions)} other interactions"
        )
    return str(releases[0]), records


def _missing(schema: InputSchema, records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Name the cases of the schema that no request shows."""
    sent = list(records.values())
    required = {p.name for p in schema.properties if p.required}
    if not any(set(record) == required for record in sent):
        yield "the required properties only"
    for p in schema.properties:
        values = [record[p.name] for record in sent if p.name in record]
        cases: list[object] = [*p.members, *([None] if p.nullable else [])]
        if p.kind == "integer":
            cases += [
                f(b) for f, b in ((math.ceil, p.minimum), (math.floor, p.maximum)) if b is not None
            ]
        elif p.kind == "number":
            cases += [bound for bound in (p.minimum, p.maximum) if bound is not None]
        for case in cases:
            if case not in values:
                yield f"{p.name} {json.dumps(case)}"
