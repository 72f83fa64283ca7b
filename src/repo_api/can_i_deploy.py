"""Owns the answer to "may this API go out with that release?", and what it rests on.

It takes a release that was verified and compared already. A question that cannot
be answered is an error, never a yes.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from repo_api.compatibility import Misfit
from repo_api.contract import CONSUMER, SCHEMA_FILE, Contract, own_request_schema
from repo_api.errors import FormatError, IntegrityError, RegistryError, ReleaseNotFoundError
from repo_api.registry import Registry
from repo_api.release import Manifest, Reference, VerifiedRelease

VERIFICATION_TYPE = "application/vnd.edustream.verification.v1+json"
_VERIFICATION_FILE = "verification.json"


@dataclass(frozen=True, slots=True)
class Verification:
    """What the provider found when it held a release against a contract of this API."""

    consumer: str
    consumer_version: str
    contract: str | None
    fits: bool
    interactions: int
    misfits: tuple[Misfit, ...]

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Self:
        """Read a result that the provider stored beside a release.

        Raises:
            FormatError: A field is missing, or the verdict is none.
        """
        try:
            raw = json.loads(content)
            return cls(
                consumer=str(raw["consumer"]),
                consumer_version=str(raw["consumer_version"]),
                contract=raw["contract"],
                fits={"fits": True, "does not fit": False}[raw["verdict"]],
                interactions=int(raw["interactions"]),
                misfits=tuple(_misfit(each) for each in raw["misfits"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{source}: expected a verification result, got {error!r}") from error


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes if there is no reason against it, and the facts that it rests on."""

    verified: VerifiedRelease
    contract: Reference
    contract_digest: str
    misfits: tuple[Misfit, ...]
    verifications: tuple[Verification, ...]

    @property
    def yes(self) -> bool:
        """Whether neither the proof nor the provider found anything against it."""
        return not self.misfits and all(result.fits for result in self.verifications)

    def __str__(self) -> str:
        """Say it for people: the answer, what it rests on, and every reason against it."""
        answer = "yes" if self.yes else "no"
        version = self.contract.tag.removeprefix("v")
        model = self.verified.description
        lines = [
            f"{answer}: {CONSUMER} {version} with {model.name} {model.version}",
            f"  model     {self.verified.reference} {self.verified.digest}",
            f"  contract  {self.contract} {self.contract_digest}",
            f"  proof     {self._proof()}",
            f"  verified  {self._recorded()}",
        ]
        recorded = [misfit for result in self.verifications for misfit in result.misfits]
        for misfit in (*self.misfits, *(each for each in recorded if each not in self.misfits)):
            lines += [f"{misfit}, as in", f"  {json.dumps(misfit.counterexample)}"]
        return "\n".join(lines)

    def _proof(self) -> str:
        if self.misfits:
            return "the model would refuse requests that this API can send"
        return "every request that this API can send is one that the model accepts"

    def _recorded(self) -> str:
        refused = [result for result in self.verifications if not result.fits]
        if refused:
            return "the provider found that it does not fit"
        if self.verifications:
            return f"the provider held it against {self.verifications[0].interactions} interactions"
        return "not yet by the provider; the proof stands alone"


def decide(
    registry: Registry,
    contract: Reference,
    verified: VerifiedRelease,
    misfits: Sequence[Misfit],
) -> Decision:
    """Weigh the proof, the released contract and what the provider found.

    The contract's signature is not checked on this side: the consumer trusts
    its own package, not the registry, so the released request schema must be
    the packaged one, byte for byte. A stored result can only add a no.

    Args:
        registry: Where the contract and the provider's results lie.
        contract: The released contract of this version.
        verified: The release in question.
        misfits: What the proof found; see `fit`.

    Raises:
        RegistryError: The registry does not answer, or has no contract of this version.
        IntegrityError: The released contract is not that of this package.
        ReleaseError: Contract or results cannot be read.
    """
    try:
        digest = registry.resolve(contract)
    except ReleaseNotFoundError as error:
        raise RegistryError(
            f"{contract}: the contract of this version is not released; "
            "publish it: repo-api contract publish"
        ) from error
    with tempfile.TemporaryDirectory(prefix="repo-api-") as folder:
        _fetch(registry, contract.repository, digest, Path(folder))
        released = Contract.from_folder(Path(folder), str(contract))
    if released.request_schema != own_request_schema():
        raise IntegrityError(
            f"{contract}: {SCHEMA_FILE}", "that of this package, byte for byte", "another one"
        )
    version = contract.tag.removeprefix("v")
    results = tuple(
        result
        for result in _results(registry, verified)
        if (result.consumer, result.consumer_version) == (CONSUMER, version)
        and result.contract in (digest, None)
    )
    return Decision(verified, contract, digest, tuple(misfits), results)


def _results(registry: Registry, verified: VerifiedRelease) -> list[Verification]:
    """Read what the provider stored beside the manifest of a release."""
    repository = verified.reference.repository
    results = []
    for digest in registry.referrers(repository, verified.digest, VERIFICATION_TYPE):
        with tempfile.TemporaryDirectory(prefix="repo-api-") as folder:
            _fetch(registry, repository, digest, Path(folder))
            path = Path(folder) / _VERIFICATION_FILE
            if not path.exists():
                raise FormatError(f"{repository}@{digest}: expected a file {path.name}, got none")
            results.append(Verification.from_json(path.read_bytes(), f"{repository}@{digest}"))
    return results


def _fetch(registry: Registry, repository: str, digest: str, folder: Path) -> None:
    """Write the layers of a small artifact to a folder."""
    for layer in Manifest.from_json(registry.manifest(repository, digest)).layers:
        registry.fetch(repository, layer, folder / layer.title, lambda _: None)


def _misfit(raw: Mapping[str, Any]) -> Misfit:
    return Misfit(str(raw["property"]), str(raw["reason"]), dict(raw["counterexample"]))
