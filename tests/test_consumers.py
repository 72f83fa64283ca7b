"""Where contracts are found: a folder is taken as it is, the registry's must be signed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import MemoryRegistry, sha256, shipped
from made_contracts import files_of, write_contract
from repo_ml.consumers import contracts_in_folder, contracts_in_registry
from repo_ml.errors import FormatError, SignatureError
from repo_ml.release import Descriptor, Reference

REPOSITORY = "edustream/contracts/repo-api"
Check = Callable[[Path, Path], None]


def anybody(_folder: Path, _signature: Path) -> None:
    """Trust every signature."""


def nobody(_folder: Path, _signature: Path) -> None:
    raise SignatureError("expected another key")


def release_contract(registry: MemoryRegistry, version: str, files: dict[str, bytes]) -> None:
    layers = []
    for title, content in (files | {"config": b"{}"}).items():
        described = Descriptor("text/plain", sha256(content), len(content))
        registry.push(REPOSITORY, described, content, lambda _: None)
        entry = {"mediaType": "text/plain", "digest": described.digest, "size": described.size}
        layers.append(entry | {"annotations": {"org.opencontainers.image.title": title}})
    manifest = {"config": layers.pop(), "layers": layers}
    reference = Reference("", REPOSITORY, f"v{version}")
    registry.push_manifest(reference, json.dumps(manifest).encode())


def test_folder_gives_every_version_in_order(tmp_path: Path) -> None:
    for version in ("10.0.0", "2.0.0", "1.0.0"):
        write_contract(shipped(1), tmp_path, version)

    found = contracts_in_folder(tmp_path)

    assert [str(contract.version) for contract in found] == ["1.0.0", "2.0.0", "10.0.0"]
    assert found[0].digest is None


def test_folder_without_contracts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="expected contracts in repo-api/VERSION, got none"):
        contracts_in_folder(tmp_path)


def test_folder_of_a_version_that_is_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "repo-api" / "1.0.0").mkdir(parents=True)

    with pytest.raises(FormatError, match="got no file"):
        contracts_in_folder(tmp_path)


def test_registry_without_contracts_has_nobody_who_depends_on_us() -> None:
    assert contracts_in_registry(MemoryRegistry(), "host", anybody) == ()


def test_registry_gives_signed_contracts_with_their_digest() -> None:
    registry = MemoryRegistry()
    release_contract(registry, "1.0.0", files_of(shipped(1)) | {"contract.sig": b"signature"})

    (contract,) = contracts_in_registry(registry, "host", anybody)

    assert contract.digest == registry.tagged[REPOSITORY, "v1.0.0"]
    assert contract.model == "churn-model"


def test_unsigned_contract_is_refused() -> None:
    registry = MemoryRegistry()
    release_contract(registry, "1.0.0", files_of(shipped(1)))

    with pytest.raises(SignatureError, match="got an unsigned contract"):
        contracts_in_registry(registry, "host", anybody)


def test_contract_signed_by_somebody_else_is_refused() -> None:
    registry = MemoryRegistry()
    release_contract(registry, "1.0.0", files_of(shipped(1)) | {"contract.sig": b"signature"})

    with pytest.raises(SignatureError, match=r"repo-api:v1\.0\.0: expected another key"):
        contracts_in_registry(registry, "host", nobody)
