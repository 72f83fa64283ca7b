"""Owns the rules of publishing: what a manifest says, and which version may follow which.

How bytes travel is left to `registry`.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from packaging.version import Version

from repo_ml.compatibility import compare
from repo_ml.errors import FormatError, VersionClaimError, VersionTakenError
from repo_ml.registry import OnBytes, Registry
from repo_ml.release import (
    CARD_FILE,
    DESCRIPTION_FILE,
    MANIFEST_TYPE,
    SCHEMA_FILE,
    SIGNATURE_FILE,
    TITLE,
    Artifact,
    Description,
    Descriptor,
    PublishedRelease,
    Reference,
    SignedRelease,
    describe,
    plain,
    to_json,
)
from repo_ml.released import released_schema, released_versions
from repo_ml.schema import InputSchema

# CNCF ModelPack specification, annotations and media types
_ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
_WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
_WEIGHT_CONFIG_TYPE = "application/vnd.cncf.model.weight.config.v1.raw"
_DOC_TYPE = "application/vnd.cncf.model.doc.v1.raw"
_SIGNATURE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_FILE_PATH = "org.cncf.model.filepath"
_AT_ONCE = 4


def assemble(signed: SignedRelease) -> Artifact:
    """Write the manifest of a release: a CNCF ModelPack.

    Raises:
        FormatError: The folder is no whole release.
    """
    layers = _layers(signed)
    config = _config(signed.description, layers)
    return Artifact(signed, layers, config, _manifest(signed.description, config, layers))


def publish(
    registry: Registry, host: str, artifact: Artifact, on_bytes: OnBytes
) -> PublishedRelease:
    """Hand a release over: its layers, its manifest under its version, then its channel.

    Nobody can pull anything before the manifest is there, and it goes last.

    Args:
        registry: Where to.
        host: How the registry is addressed in a reference.
        artifact: A signed release, assembled.
        on_bytes: Called with the size of every piece that is through.

    Raises:
        RegistryError: The registry does not answer, or refuses.
        VersionTakenError: The version is released with other bytes.
        VersionClaimError: The version claims a smaller change than there is.
        FormatError: The release before it cannot be read.
    """
    description, digest = artifact.signed.description, artifact.digest
    tagged = Reference(host, description.repository, description.tag)
    pinned = Reference(host, description.repository, digest)
    released = registry.resolve(tagged)
    versions = released_versions(registry, description.repository)
    if released is not None and released != digest:
        last = max([description.version, *_of_major(versions, description.version.major)])
        free = f"{last.major}.{last.minor}.{last.micro + 1}"
        raise VersionTakenError(str(tagged), released, digest, free)
    if released is None:
        _check_claim(registry, host, artifact.signed, versions)
        _push_layers(registry, artifact, on_bytes)
        registry.push_manifest(tagged, artifact.manifest)
    channel = Reference(host, description.repository, description.channel)
    newest = max([description.version, *_of_major(versions, description.version.major)])
    if newest == description.version and registry.resolve(channel) != digest:
        registry.push_manifest(channel, artifact.manifest)
    return PublishedRelease(pinned, already=released is not None)


def _layers(signed: SignedRelease) -> tuple[Descriptor, ...]:
    """Describe every file of a release, in the order of its manifest."""
    types = {
        signed.description.model_file: _WEIGHT_TYPE,
        DESCRIPTION_FILE: _WEIGHT_CONFIG_TYPE,
        SCHEMA_FILE: _WEIGHT_CONFIG_TYPE,
        CARD_FILE: _DOC_TYPE,
        "roc.png": _DOC_TYPE,
        "calibration.png": _DOC_TYPE,
        SIGNATURE_FILE: _SIGNATURE_TYPE,
    }
    there = {path.name for path in signed.folder.iterdir()}
    if there != set(types):
        raise FormatError(
            f"{signed.folder}: expected {', '.join(types)}, got {', '.join(sorted(there))}; "
            f"package and sign it again"
        )
    layers = []
    for title, media_type in types.items():
        path = signed.folder / title
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        layers.append(Descriptor(media_type, f"sha256:{digest}", path.stat().st_size, title))
    return tuple(layers)


def _config(description: Description, layers: Iterable[Descriptor]) -> bytes:
    """Write the ModelPack configuration: its required keys, and none of our own."""
    return to_json(
        {
            "descriptor": {
                "createdAt": description.origin.created,
                "name": description.name,
                "version": str(description.version),
                "revision": description.origin.git_revision or "",
            },
            "config": {"format": "joblib"},
            "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
        }
    )


def _manifest(description: Description, config: bytes, layers: Iterable[Descriptor]) -> bytes:
    configured = describe(_CONFIG_TYPE, config)
    return to_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": _ARTIFACT_TYPE,
            "config": plain(configured),
            "layers": [
                {**plain(layer), "annotations": {TITLE: layer.title, _FILE_PATH: layer.title}}
                for layer in layers
            ],
            "annotations": {
                "org.opencontainers.image.created": description.origin.created,
                "org.opencontainers.image.version": str(description.version),
            },
        }
    )


def _push_layers(registry: Registry, artifact: Artifact, on_bytes: OnBytes) -> None:
    signed, repository = artifact.signed, artifact.signed.description.repository

    def push(layer: Descriptor) -> None:
        registry.push(repository, layer, signed.folder / layer.title, on_bytes)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(push, sorted(artifact.layers, key=lambda layer: layer.size)))
    config = describe(_CONFIG_TYPE, artifact.config)
    registry.push(repository, config, artifact.config, on_bytes)


def _of_major(versions: Iterable[Version], major: int) -> list[Version]:
    return [version for version in versions if version.major == major]


def _check_claim(
    registry: Registry, host: str, signed: SignedRelease, versions: Iterable[Version]
) -> None:
    """Hold the version against the newest release before it (semver.org 2.0.0, of the input)."""
    offered = signed.description.version
    previous = max((version for version in versions if version < offered), default=None)
    if previous is None:
        return
    reference = Reference(host, signed.description.repository, f"v{previous}")
    before = released_schema(registry, reference)
    now = InputSchema.from_json((signed.folder / SCHEMA_FILE).read_bytes(), SCHEMA_FILE)
    misfits = compare(before, now)
    changed = before.differences(now)
    if misfits:
        needed = Version(f"{previous.major + 1}.0.0")
        reasons = [f"{misfit.property} {misfit.reason}" for misfit in misfits]
    elif changed:
        needed = Version(f"{previous.major}.{previous.minor + 1}.0")
        reasons = [f"the input {name} changed" for name in changed]
    else:
        return
    if offered < needed:
        raise VersionClaimError(str(offered), str(previous), str(needed), reasons)
