"""Owns what follows from verifications: whether a release may go out, and keeping the results.

Results are kept in the registry as referrers of the release (OCI distribution-spec 1.1), so
that a release and a contract are held against each other once.
"""

from collections.abc import Iterable, Sequence

from repo_ml.compatibility import compare
from repo_ml.contract import Contract, Verification
from repo_ml.errors import BrokenPromiseError
from repo_ml.registry import Registry
from repo_ml.release import (
    MANIFEST_TYPE,
    TITLE,
    Description,
    Descriptor,
    Reference,
    describe,
    layers_from_json,
    plain,
    to_json,
)
from repo_ml.released import released_schema, released_versions

VERIFICATION_TYPE = "application/vnd.edustream.verification.v1+json"

_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_TITLE = "verification.json"


def check_promises(
    registry: Registry,
    host: str,
    description: Description,
    verdicts: Iterable[tuple[Contract, Verification]],
) -> list[Verification]:
    """Refuse a release that breaks what an older one of its major version kept.

    Returns:
        The verifications that failed and may: who is left behind.

    Raises:
        BrokenPromiseError: A contract was kept under this major version, and is not now.
        RegistryError: The registry does not answer, or refuses.
        FormatError: An older release cannot be read.
    """
    older = [
        version
        for version in released_versions(registry, description.repository)
        if version.major == description.version.major and version != description.version
    ]
    left_behind = []
    for contract, verification in verdicts:
        if verification.fits:
            continue
        for version in reversed(older):
            reference = Reference(host, description.repository, f"v{version}")
            if not compare(contract.schema, released_schema(registry, reference)):
                raise BrokenPromiseError(
                    str(description.version), str(version), str(contract), verification.misfits
                )
        left_behind.append(verification)
    return left_behind


def keep(
    registry: Registry, repository: str, release: str, results: Sequence[Verification]
) -> None:
    """Keep results beside the release that they are about.

    Args:
        registry: Where the release is.
        repository: Its repository.
        release: The digest of its manifest.
        results: What was verified of it.

    Raises:
        RegistryError: The registry does not answer, or refuses.
    """
    subject = Descriptor(MANIFEST_TYPE, release, len(registry.manifest(repository, release)))
    empty = describe(_EMPTY_TYPE, b"{}")
    for result in results:
        content = result.to_json()
        layer = describe(VERIFICATION_TYPE, content, _TITLE)
        manifest = to_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "artifactType": VERIFICATION_TYPE,
                "config": plain(empty),
                "layers": [{**plain(layer), "annotations": {TITLE: _TITLE}}],
                "subject": plain(subject),
                "annotations": {
                    "edustream.consumer": f"{result.consumer} {result.consumer_version}",
                    "edustream.verdict": "fits" if result.fits else "does not fit",
                },
            }
        )
        registry.push(repository, layer, content, _nobody)
        registry.push(repository, empty, b"{}", _nobody)
        registry.push_referrer(repository, release, manifest, VERIFICATION_TYPE)


def kept(registry: Registry, repository: str, release: str) -> dict[str | None, Verification]:
    """Read the results that are kept of a release, by the digest of the contract.

    Raises:
        RegistryError: The registry does not answer, or refuses.
        IntegrityError: A result is not what its digest says.
        FormatError: A result cannot be read.
    """
    found: dict[str | None, Verification] = {}
    for digest in registry.referrers(repository, release, VERIFICATION_TYPE):
        content = registry.manifest(repository, digest)
        (layer,) = layers_from_json(content, f"{repository}@{digest}")
        result = Verification.from_json(registry.read(repository, layer))
        found[result.contract] = result
    return found


def _nobody(_: int) -> None:
    """Show no progress: these are small."""
