"""Owns the publishing of a contract: signed by this API's own key, once a version.

What a contract consists of is left to `contract`, the signature to `sign`.
"""

import json
import tempfile
from pathlib import Path

from repo_api.contract import (
    CONTRACT_TYPE,
    MEDIA_TYPES,
    SCHEMA_FILE,
    SIGNATURE_FILE,
    Contract,
    own_request_schema,
    own_version,
)
from repo_api.errors import ContractError, ReleaseNotFoundError
from repo_api.hashing import digest_of
from repo_api.registry import Registry
from repo_api.release import MANIFEST_TYPE, TITLE, Descriptor, Manifest, Reference
from repo_api.sign import sign

# OCI image-spec 1.1, guidance for an empty descriptor
_EMPTY = Descriptor("application/vnd.oci.empty.v1+json", digest_of(b"{}"), 2, "config")


def publish(
    registry: Registry, reference: Reference, contract: Contract, key: Path
) -> tuple[str, bool]:
    """Sign and publish the contract of a version, unless it is published already.

    Args:
        registry: Where it goes.
        reference: The place of the version's contract.
        contract: What the version expects of a model.
        key: This API's own private key, PEM.

    Returns:
        The digest of its manifest, and whether this call published it.

    Raises:
        RegistryError: The registry does not answer, or refuses.
        ContractError: It is not the contract of the version, as far as this
            program knows, or the version is published with another one.
        SetupError: The key cannot be used.
    """
    own = reference.tag == f"v{own_version()}"
    if own and contract.request_schema != own_request_schema():
        raise ContractError(
            f"{SCHEMA_FILE}: expected the request schema of repo-api {own_version()}, got another "
            "one; write the contract again: tox run -e contract"
        )
    try:
        digest = registry.resolve(reference)
    except ReleaseNotFoundError:
        return _push(registry, reference, contract, key), True
    _check_same(registry, reference, digest, contract)
    return digest, False


def _check_same(registry: Registry, reference: Reference, digest: str, contract: Contract) -> None:
    """Check that what is published is this contract; when it was signed does not matter."""
    manifest = Manifest.from_json(registry.manifest(reference.repository, digest))
    published = {layer.title: layer.digest for layer in manifest.layers}
    for name, content in contract.files().items():
        if published.get(name) != digest_of(content):
            raise ContractError(
                f"{reference}: released already, with another {name}; a released contract never "
                "changes: raise the version in pyproject.toml"
            )


def _push(registry: Registry, reference: Reference, contract: Contract, key: Path) -> str:
    files = dict(contract.files())
    with tempfile.TemporaryDirectory(prefix="repo-api-") as name:
        folder = Path(name)
        for title, content in files.items():
            (folder / title).write_bytes(content)
        sign(folder, folder / SIGNATURE_FILE, key)
        files[SIGNATURE_FILE] = (folder / SIGNATURE_FILE).read_bytes()
    layers = []
    registry.push(reference.repository, _EMPTY, b"{}")
    for title, content in files.items():
        layer = Descriptor(MEDIA_TYPES[title], digest_of(content), len(content), title)
        registry.push(reference.repository, layer, content)
        layers.append({**_described(layer), "annotations": {TITLE: title}})
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": CONTRACT_TYPE,
        "config": _described(_EMPTY),
        "layers": layers,
    }
    content = json.dumps(manifest).encode()
    registry.push_manifest(reference, content)
    return digest_of(content)


def _described(layer: Descriptor) -> dict[str, str | int]:
    return {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
