"""Owns finding the contracts of those who depend on a model, in a folder or in the registry."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from repo_ml.contract import Contract
from repo_ml.errors import FormatError, SignatureError
from repo_ml.registry import Registry
from repo_ml.release import Reference, layers_from_json
from repo_ml.released import released_versions

CONSUMERS = ("repo-api",)
"""Who may depend on our models; a new consumer is added here."""

_SIGNATURE_FILE = "contract.sig"


def contracts_in_folder(folder: Path) -> tuple[Contract, ...]:
    """Read every contract below `folder/consumer/version`; a folder is its owner's word.

    Raises:
        FormatError: There is none, or one cannot be read.
    """
    found = []
    for consumer in CONSUMERS:
        below = folder / consumer
        versions = [path for path in below.iterdir() if path.is_dir()] if below.is_dir() else []
        for version in versions:
            files = {path.name: path.read_bytes() for path in version.iterdir() if path.is_file()}
            found.append(Contract.from_files(files, consumer, version.name, None))
    if not found:
        raise FormatError(
            f"{folder}: expected contracts in {' or '.join(CONSUMERS)}/VERSION, got none; "
            "is it the right folder?"
        )
    return tuple(sorted(found, key=lambda contract: (contract.consumer, contract.version)))


def contracts_in_registry(
    registry: Registry, host: str, check_signature: Callable[[Path, Path], None]
) -> tuple[Contract, ...]:
    """Read every contract that the consumers released; none if nobody depends on us yet.

    Args:
        registry: Where they are released.
        host: How the registry is addressed in a reference.
        check_signature: Raises unless the bundle, given second, is by the
            consumer's key over the folder, given first.

    Raises:
        RegistryError: The registry does not answer, or refuses.
        SignatureError: A contract is not signed by its consumer.
        FormatError: A contract cannot be read.
    """
    found = []
    for consumer in CONSUMERS:
        repository = f"edustream/contracts/{consumer}"
        for version in released_versions(registry, repository):
            reference = Reference(host, repository, f"v{version}")
            digest = registry.resolve(reference)
            if digest is None:
                raise FormatError(f"{reference}: listed by the registry and not there")
            files = _fetch(registry, reference, digest, check_signature)
            found.append(Contract.from_files(files, consumer, str(version), digest))
    return tuple(found)


def _fetch(
    registry: Registry,
    reference: Reference,
    digest: str,
    check_signature: Callable[[Path, Path], None],
) -> dict[str, bytes]:
    content = registry.manifest(reference.repository, digest)
    files = {
        layer.title: registry.read(reference.repository, layer)
        for layer in layers_from_json(content, str(reference))
    }
    if _SIGNATURE_FILE not in files:
        raise SignatureError(f"{reference}: expected {_SIGNATURE_FILE}, got an unsigned contract")
    with tempfile.TemporaryDirectory() as temporary:
        folder, signature = Path(temporary) / "contract", Path(temporary) / _SIGNATURE_FILE
        folder.mkdir()
        signature.write_bytes(files.pop(_SIGNATURE_FILE))
        for name, file in files.items():
            (folder / name).write_bytes(file)
        try:
            check_signature(folder, signature)
        except SignatureError as error:
            raise SignatureError(f"{reference}: {error}") from error
    return files
