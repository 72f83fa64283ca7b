"""Tests of the publishing of a contract: what is published, once, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_signing import hashing, verifying

from conftest import KeyPair, MemoryRegistry
from repo_api import registry as registry_module
from repo_api.__main__ import main
from repo_api.contract import PACT_FILE, SCHEMA_FILE, own_request_schema, own_version
from repo_api.release import Manifest

TAG = f"v{own_version()}"
PACT: dict[str, Any] = {
    "consumer": {"name": "repo-api"},
    "provider": {"name": "repo-ml"},
    "interactions": [{"description": "a model release", "type": "Asynchronous/Messages"}],
    "metadata": {"pactSpecification": {"version": "4.0"}},
}


@pytest.fixture(autouse=True)
def registry(
    registry: MemoryRegistry, tmp_path: Path, keys: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> MemoryRegistry:
    """Put a registry in memory behind every address."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDUSTREAM_REGISTRY", "registry.test")
    monkeypatch.setenv("EDUSTREAM_SIGNING_KEY", str(keys.private))
    monkeypatch.delenv("EDUSTREAM_CONTRACTS", raising=False)
    monkeypatch.setattr(registry_module, "OciRegistry", lambda _address: registry)
    return registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "contracts" / "repo-api" / own_version()
    folder.mkdir(parents=True)
    (folder / PACT_FILE).write_text(json.dumps(PACT), encoding="utf-8")
    (folder / SCHEMA_FILE).write_bytes(own_request_schema())
    return folder


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on standard error."""
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("repo-api: error: ")
    assert err.count("\n") == 1
    return err


def test_publish_of_an_older_version_goes_by_the_name_of_its_folder(
    registry: MemoryRegistry, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = folder.rename(folder.with_name("0.9.0"))
    (older / SCHEMA_FILE).write_bytes(own_request_schema() + b"\n")

    code = main(["contract", "publish", str(older)])

    assert code == 0
    assert "v0.9.0" in registry.tags
    assert "repo-api:v0.9.0\n" in capsys.readouterr().out


def test_publish_sends_a_signed_artifact(
    registry: MemoryRegistry,
    folder: Path,
    keys: KeyPair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["contract", "publish", str(folder)])

    assert code == 0
    digest = registry.tags[TAG]
    assert capsys.readouterr().out.splitlines() == [
        f"registry.test/edustream/contracts/repo-api:{TAG}",
        digest,
        "1 interactions, published",
    ]
    manifest = json.loads(registry.manifests[digest])
    assert manifest["artifactType"] == "application/vnd.edustream.contract.v1"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert registry.blobs[manifest["config"]["digest"]] == b"{}"
    layers = Manifest.from_json(registry.manifests[digest]).layers
    assert {layer.title: layer.media_type for layer in layers} == {
        "repo-api-repo-ml.json": "application/vnd.pact.v4+json",
        "request.schema.json": "application/schema+json",
        "contract.sig": "application/vnd.dev.sigstore.bundle.v0.3+json",
    }
    pulled = tmp_path / "pulled"
    pulled.mkdir()
    for layer in layers:
        (pulled / layer.title).write_bytes(registry.blobs[layer.digest])
    ignored = hashing.Config().set_ignored_paths(paths=["contract.sig"])
    verifying.Config().use_elliptic_key_verifier(public_key=keys.public).set_hashing_config(
        ignored
    ).verify(pulled, pulled / "contract.sig")


def test_publish_signs_nothing_else_and_leaves_the_folder_as_it_is(folder: Path) -> None:
    (folder / "notes.txt").write_text("not part of it", encoding="utf-8")

    main(["contract", "publish", str(folder)])

    assert {path.name for path in folder.iterdir()} == {PACT_FILE, SCHEMA_FILE, "notes.txt"}


def test_publishing_the_same_again_says_so(
    registry: MemoryRegistry, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["contract", "publish", str(folder)])
    before = dict(registry.tags)

    code = main(["contract", "publish", str(folder)])

    assert code == 0
    assert capsys.readouterr().out.endswith("published already, the same\n")
    assert registry.tags == before


def test_a_released_contract_never_changes(
    registry: MemoryRegistry, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["contract", "publish", str(folder)])
    before = dict(registry.tags)
    capsys.readouterr()
    other = {**PACT, "interactions": PACT["interactions"] * 2}
    (folder / PACT_FILE).write_text(json.dumps(other), encoding="utf-8")

    code = main(["contract", "publish", str(folder)])

    assert code == 1
    assert f"{TAG}: released already, with another {PACT_FILE}" in refusal(capsys)
    assert registry.tags == before


@pytest.mark.parametrize("named", [True, False])
def test_the_folder_is_the_released_one_of_this_version_unless_it_is_given(
    registry: MemoryRegistry,
    folder: Path,
    named: bool,  # noqa: FBT001  both ways to find it
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if named:
        monkeypatch.setenv("EDUSTREAM_CONTRACTS", str(folder.parents[1]))
    else:
        (tmp_path / "repo-api").mkdir()
        monkeypatch.chdir(tmp_path / "repo-api")

    code = main(["contract", "publish"])

    assert code == 0
    assert TAG in registry.tags


def test_without_a_key_nothing_is_published(
    registry: MemoryRegistry,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EDUSTREAM_SIGNING_KEY")

    code = main(["contract", "publish", str(folder)])

    assert code == 1
    assert "no signing key; set EDUSTREAM_SIGNING_KEY" in refusal(capsys)
    assert not registry.requests


@pytest.mark.parametrize("content", [None, b"no key", b"public"])
def test_a_key_that_cannot_sign_is_one_line(  # noqa: PLR0913, PLR0917  fixtures
    content: bytes | None,
    registry: MemoryRegistry,
    folder: Path,
    keys: KeyPair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = keys.public if content == b"public" else tmp_path / "key.pem"
    if content == b"no key":
        key.write_bytes(content)
    monkeypatch.setenv("EDUSTREAM_SIGNING_KEY", str(key))

    code = main(["contract", "publish", str(folder)])

    assert code == 1
    assert f"{key}: cannot sign with it" in refusal(capsys)
    assert not registry.tags


def test_a_registry_that_is_down_is_one_line(
    registry: MemoryRegistry, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.reachable = False

    code = main(["contract", "publish", str(folder)])

    assert code == 1
    assert "the registry does not answer" in refusal(capsys)


def put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def pact(**changes: object) -> Callable[[Path], object]:
    return put(PACT_FILE, json.dumps({**PACT, **changes}).encode())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / PACT_FILE).unlink(), f"with the file {PACT_FILE}, got none"),
        (lambda folder: (folder / SCHEMA_FILE).unlink(), f"with the file {SCHEMA_FILE}, got none"),
        (put(PACT_FILE, b"{"), f"{PACT_FILE}: expected JSON, got Expecting"),
        (put(PACT_FILE, b"[]"), "expected a pact, got JSON without list indices"),
        (put(PACT_FILE, b"{}"), "expected a pact, got JSON without 'metadata'"),
        (pact(provider={"name": "repo-cook"}), "expected the provider repo-ml, got 'repo-cook'"),
        (pact(consumer={"name": "repo-web"}), "expected the consumer repo-api, got 'repo-web'"),
        (pact(interactions=[]), "expected interactions, got none"),
        (pact(interactions="many"), "expected interactions, got none"),
        (
            pact(metadata={"pactSpecification": {"version": "5.0"}}),
            "expected a pact of specification 4, got 5.0",
        ),
        (put(SCHEMA_FILE, b"{"), f"{SCHEMA_FILE}: expected JSON"),
        (
            put(
                SCHEMA_FILE,
                own_request_schema().replace(b'"maximum": 28', b'"multipleOf": 7'),
            ),
            "properties.active_days_28d: keyword 'multipleOf' is not supported",
        ),
        (
            put(SCHEMA_FILE, own_request_schema() + b"\n"),
            f"expected the request schema of repo-api {own_version()}, got another one",
        ),
    ],
)
def test_what_is_no_contract_of_this_version_is_refused(
    spoil: Callable[[Path], object],
    reason: str,
    registry: MemoryRegistry,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(folder)

    code = main(["contract", "publish", str(folder)])

    assert code == 1
    assert reason in refusal(capsys)
    assert not registry.tags
