"""Owns the order of things when a release leaves: contracts, promises, layers, results.

Each step is a module of its own; what pact and scikit-learn weigh is only paid where there
is a contract to verify.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from repo_ml.consumers import contracts_in_folder, contracts_in_registry
from repo_ml.contract import Contract, Verification
from repo_ml.errors import SignatureError
from repo_ml.progress import transfer
from repo_ml.promises import check_promises, keep, kept
from repo_ml.publish import assemble, publish
from repo_ml.registry import OciRegistry, Registry
from repo_ml.release import PackagedRelease, PublishedRelease, SignedRelease

Verdicts = list[tuple[Contract, Verification]]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A release that went out, what was verified of it, and whom it leaves behind."""

    published: PublishedRelease
    verdicts: Verdicts
    left_behind: list[Verification]


def hand_over(registry: OciRegistry, signed: SignedRelease, trusted_key: Path | None) -> HandedOver:
    """Publish a release that keeps its promises.

    Raises:
        ReleaseError: It does not, or could not be verified or published.
    """
    host, description = registry.host, signed.description
    artifact = assemble(signed)
    released = kept(registry, description.repository, artifact.digest)
    contracts = contracts_released(registry, trusted_key)
    packaged = PackagedRelease(signed.folder, description)
    verdicts = verify_all(packaged, contracts, released)
    left_behind = check_promises(registry, host, description, verdicts)
    with transfer(f"publishing to {host}", artifact.size) as advance:
        published = publish(registry, host, artifact, advance)
    new = [result for _, result in verdicts if result.contract not in released]
    keep(registry, description.repository, artifact.digest, new)
    return HandedOver(published, verdicts, left_behind)


def contracts_released(registry: OciRegistry, trusted_key: Path | None) -> tuple[Contract, ...]:
    """Read the contracts in the registry, each signed by its consumer.

    Raises:
        ReleaseError: One cannot be had, read, or trusted.
    """

    def check(folder: Path, signature: Path) -> None:
        from repo_ml.sign import check_signature

        if trusted_key is None:
            raise SignatureError(
                "no key to check it with; set EDUSTREAM_TRUSTED_KEY to the consumer's public key"
            )
        check_signature(folder, signature, trusted_key)

    return contracts_in_registry(registry, registry.host, check)


def contracts_at(place: str, trusted_key: Path | None) -> tuple[Contract, ...]:
    """Read the contracts in a folder, or in the registry at an address.

    Raises:
        ReleaseError: One cannot be had, read, or trusted.
    """
    if Path(place).is_dir():
        return contracts_in_folder(Path(place))
    return contracts_released(OciRegistry(place), trusted_key)


def results_of(registry: Registry, signed: SignedRelease) -> Mapping[str | None, Verification]:
    """Read what is kept of a release, by the digest of the contract; nothing if it is not out.

    Raises:
        ReleaseError: The registry does not answer, or what it keeps cannot be read.
    """
    return kept(registry, signed.description.repository, assemble(signed).digest)


def verify_all(
    packaged: PackagedRelease,
    contracts: Iterable[Contract],
    known: Mapping[str | None, Verification],
) -> Verdicts:
    """Hold a release against every contract that is about it, and was not verified before.

    Raises:
        ReleaseError: A verification could not be finished, which is no verdict.
    """
    concerned = [found for found in contracts if found.model == packaged.description.name]
    verdicts = [(found, known[found.digest]) for found in concerned if found.digest in known]
    missing = [found for found in concerned if found.digest not in known]
    if missing:
        from repo_ml.package import scorer
        from repo_ml.pacts import verify_contract

        score = scorer(packaged)
        verdicts += [(found, verify_contract(packaged, found, score)) for found in missing]
    return sorted(verdicts, key=lambda verdict: (verdict[0].consumer, verdict[0].version))
