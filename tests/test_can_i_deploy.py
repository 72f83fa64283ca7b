"""Tests of `can-i-deploy`: yes, no, and everything that is neither."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import INPUT_SCHEMA, KeyPair, MakeRelease, MemoryRegistry, make_keys, sign
from repo_api import can_i_deploy, delivery
from repo_api.__main__ import main
from repo_api.can_i_deploy import VERIFICATION_TYPE
from repo_api.contract import PACT_FILE, SCHEMA_FILE, own_request_schema, own_version
from repo_api.hashing import digest_of
from repo_api.release import SCHEMA_FILE as INPUT_SCHEMA_FILE
from repo_api.release import SIGNATURE_FILE, TITLE

TAG = f"v{own_version()}"
PACT = {
    "consumer": {"name": "repo-api"},
    "provider": {"name": "repo-ml"},
    "interactions": [{"description": "a model release"}],
    "metadata": {"pactSpecification": {"version": "4.0"}},
}
MISFIT = {"property": "clicks_28d", "reason": "is cursed", "counterexample": {"clicks_28d": 13}}


@pytest.fixture(autouse=True)
def registry(
    registry: MemoryRegistry, tmp_path: Path, keys: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> MemoryRegistry:
    """Put a registry in memory behind every address."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDUSTREAM_REGISTRY", "registry.test")
    monkeypatch.setenv("EDUSTREAM_TRUSTED_KEY", str(keys.public))
    monkeypatch.setenv("EDUSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(delivery, "OciRegistry", lambda _address: registry)
    return registry


@pytest.fixture
def contract(registry: MemoryRegistry, tmp_path: Path) -> Path:
    """Publish the contract of this version."""
    folder = tmp_path / "contract"
    folder.mkdir()
    (folder / PACT_FILE).write_text(json.dumps(PACT), encoding="utf-8")
    (folder / SCHEMA_FILE).write_bytes(own_request_schema())
    registry.publish(folder, TAG)
    return folder


@pytest.fixture
def model(registry: MemoryRegistry, make_release: MakeRelease) -> str:
    """Publish a model that accepts what this API sends."""
    return registry.publish(make_release(), "v2")


def publish_model(
    registry: MemoryRegistry,
    folder: Path,
    keys: KeyPair,
    change: Callable[[dict[str, Any]], object],
) -> None:
    """Publish a model that accepts something else."""
    schema = json.loads(json.dumps(INPUT_SCHEMA))
    change(schema)
    (folder / INPUT_SCHEMA_FILE).write_text(json.dumps(schema), encoding="utf-8")
    (folder / SIGNATURE_FILE).unlink()
    sign(folder, keys.private)
    registry.publish(folder, "v2")


def record(registry: MemoryRegistry, model: str, **changes: object) -> None:
    """Store a verification result beside a model, as its provider does."""
    result = {
        "consumer": "repo-api",
        "consumer_version": own_version(),
        "contract": registry.tags.get(TAG),
        "provider": "repo-ml",
        "model": "churn-model",
        "model_version": "2.0.0",
        "verdict": "fits",
        "interactions": 42,
        "failed": 0,
        "misfits": [],
        **changes,
    }
    store(registry, model, "verification.json", json.dumps(result).encode())


def store(registry: MemoryRegistry, model: str, title: str, content: bytes) -> None:
    registry.blobs[digest_of(content)] = content
    layer = {
        "mediaType": VERIFICATION_TYPE,
        "digest": digest_of(content),
        "size": len(content),
        "annotations": {TITLE: title},
    }
    manifest = json.dumps(
        {"artifactType": VERIFICATION_TYPE, "layers": [layer], "subject": {"digest": model}}
    ).encode()
    registry.manifests[digest_of(manifest)] = manifest


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error."""
    code = main(["can-i-deploy", *arguments])
    return code, *capsys.readouterr()


@pytest.mark.usefixtures("contract")
def test_yes_says_what_it_rests_on(
    registry: MemoryRegistry, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ask(capsys)

    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"yes: repo-api {own_version()} with churn-model 2.0.0",
        f"  model     registry.test/edustream/churn-model:v2 {model}",
        f"  contract  registry.test/edustream/contracts/repo-api:{TAG} {registry.tags[TAG]}",
        "  proof     every request that this API can send is one that the model accepts",
        "  verified  not yet by the provider; the proof stands alone",
    ]


@pytest.mark.usefixtures("contract")
def test_no_gives_property_reason_and_counterexample(
    registry: MemoryRegistry,
    make_release: MakeRelease,
    keys: KeyPair,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish_model(
        registry,
        make_release(),
        keys,
        lambda schema: schema["required"].append("mean_score_28d"),
    )

    code, out, err = ask(capsys)

    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == f"no: repo-api {own_version()} with churn-model 2.0.0"
    assert lines[-2] == "mean_score_28d is required and may be left out, as in"
    assert json.loads(lines[-1])["clicks_28d"] == 0
    assert "mean_score_28d" not in json.loads(lines[-1])


@pytest.mark.usefixtures("contract")
def test_the_model_may_be_named(
    registry: MemoryRegistry, make_release: MakeRelease, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.publish(make_release(version="3.0.0"), "v3")

    code, out, _ = ask(capsys, "--model", "edustream/churn-model:v3")

    assert code == 0
    assert "churn-model 3.0.0" in out


@pytest.mark.usefixtures("contract")
def test_what_was_served_before_has_no_say(
    registry: MemoryRegistry,
    make_release: MakeRelease,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served = tmp_path / "cache/served/registry.test%2Fedustream%2Fchurn-model%3Av2.json"
    served.parent.mkdir(parents=True)
    digest = "sha256:" + "0" * 64
    served.write_text(json.dumps({"digest": digest, "version": "2.5.0"}), encoding="utf-8")
    registry.publish(make_release(), "v2")

    code, _, _ = ask(capsys)

    assert code == 0


@pytest.mark.usefixtures("contract")
def test_what_the_provider_found_backs_a_yes(
    registry: MemoryRegistry, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record(registry, model)

    code, out, _ = ask(capsys)

    assert code == 0
    assert "verified  the provider held it against 42 interactions" in out


@pytest.mark.usefixtures("contract")
@pytest.mark.parametrize("changes", [{}, {"contract": None}])
def test_what_the_provider_found_may_be_a_no(
    changes: dict[str, object],
    registry: MemoryRegistry,
    model: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record(registry, model, verdict="does not fit", misfits=[MISFIT], **changes)

    code, out, _ = ask(capsys)

    assert code == 1
    assert "verified  the provider found that it does not fit" in out
    assert out.endswith('clicks_28d is cursed, as in\n  {"clicks_28d": 13}\n')


@pytest.mark.usefixtures("contract")
@pytest.mark.parametrize(
    "changes",
    [
        {"consumer": "repo-web"},
        {"consumer_version": "0.1.0"},
        {"contract": "sha256:" + "1" * 64},
    ],
)
def test_what_the_provider_found_of_another_pair_has_no_say(
    changes: dict[str, object],
    registry: MemoryRegistry,
    model: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record(registry, model, verdict="does not fit", misfits=[MISFIT], **changes)

    code, out, _ = ask(capsys)

    assert code == 0
    assert "not yet by the provider" in out


@pytest.mark.usefixtures("contract")
def test_a_yes_of_the_provider_is_no_yes_against_the_proof(
    registry: MemoryRegistry,
    make_release: MakeRelease,
    keys: KeyPair,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish_model(
        registry,
        make_release(),
        keys,
        lambda schema: schema["properties"]["clicks_28d"].update(minimum=5),
    )
    record(registry, registry.tags["v2"])

    code, out, _ = ask(capsys)

    assert code == 1
    assert "clicks_28d may be 0, and the least accepted is 5" in out


@pytest.mark.usefixtures("contract", "model")
def test_a_registry_that_is_down_is_no_answer_even_if_the_cache_has_the_release(
    registry: MemoryRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys)
    registry.reachable = False

    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert err.startswith("repo-api: could not decide: registry.test: the registry does not answer")


@pytest.mark.usefixtures("contract")
def test_a_release_that_only_the_cache_has_is_no_answer(
    registry: MemoryRegistry,
    make_release: MakeRelease,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The registry answers the first request, and breaks down before the release is there."""
    old = registry.publish(make_release(), "v2")
    ask(capsys)
    served = tmp_path / "cache/served/registry.test%2Fedustream%2Fchurn-model%3Av2.json"
    served.parent.mkdir(parents=True)
    served.write_text(json.dumps({"digest": old, "version": "2.0.0"}), encoding="utf-8")
    new = registry.publish(make_release(version="2.1.0"), "v2")
    del registry.blobs[registry.layer(new, "release.json").digest]

    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert f"expected {new}, got {old} from the cache" in err


@pytest.mark.usefixtures("model")
def test_without_a_released_contract_there_is_no_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert "the contract of this version is not released" in err
    assert "repo-api contract publish" in err


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (SCHEMA_FILE, own_request_schema() + b"\n", "expected that of this package"),
        (
            SCHEMA_FILE,
            own_request_schema().replace(b'"maximum": 28', b'"multipleOf": 7'),
            "keyword 'multipleOf' is not supported",
        ),
        (PACT_FILE, json.dumps({**PACT, "interactions": []}).encode(), "got none"),
        (PACT_FILE, json.dumps({**PACT, "provider": {"name": "x"}}).encode(), "the provider"),
        (PACT_FILE, b"{", "expected JSON"),
    ],
)
def test_a_contract_that_is_not_that_of_this_package_is_no_answer(  # noqa: PLR0913, PLR0917  fixtures
    name: str,
    content: bytes,
    reason: str,
    registry: MemoryRegistry,
    contract: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (contract / name).write_bytes(content)
    registry.publish(contract, TAG)

    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert reason in err


@pytest.mark.usefixtures("contract")
def test_a_model_by_somebody_else_is_no_answer(
    registry: MemoryRegistry,
    make_release: MakeRelease,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry.publish(make_release(key=make_keys(tmp_path).private), "v2")

    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert "expected a signature by" in err


@pytest.mark.usefixtures("contract", "model")
def test_without_a_trusted_key_there_is_no_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDUSTREAM_TRUSTED_KEY")

    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert "no trusted key" in err


@pytest.mark.usefixtures("contract")
def test_a_model_that_is_not_released_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert "not released" in err


@pytest.mark.usefixtures("contract")
def test_a_keyword_that_the_comparison_does_not_know_is_no_answer(
    registry: MemoryRegistry,
    make_release: MakeRelease,
    keys: KeyPair,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish_model(
        registry,
        make_release(),
        keys,
        lambda schema: schema["properties"]["clicks_28d"].update(multipleOf=2),
    )

    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert "properties.clicks_28d: keyword 'multipleOf' is not supported" in err


@pytest.mark.usefixtures("contract")
@pytest.mark.parametrize(
    ("title", "content"),
    [
        ("verification.json", b"{"),
        ("verification.json", b'{"consumer": "repo-api"}'),
        ("notes.txt", b"fits"),
    ],
)
def test_a_result_that_cannot_be_read_is_no_answer(
    title: str,
    content: bytes,
    registry: MemoryRegistry,
    model: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store(registry, model, title, content)

    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert "verification" in err


@pytest.mark.usefixtures("contract")
def test_a_verdict_that_is_neither_is_no_answer(
    registry: MemoryRegistry, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record(registry, model, verdict="perhaps")

    code, out, err = ask(capsys)

    assert (code, out) == (3, "")
    assert "KeyError('perhaps')" in err


@pytest.mark.usefixtures("contract", "model")
def test_a_crash_is_no_answer(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(can_i_deploy, "decide", crash)

    code, out, _ = ask(capsys)

    assert (code, out) == (3, "")
    assert "could not decide: a bug" in caplog.text
