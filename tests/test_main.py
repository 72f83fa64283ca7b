"""Tests of the command line: what it prints, and how it ends."""

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import GOLDEN_INPUTS, KeyPair, MakeRelease, MemoryRegistry
from repo_api import delivery, progress
from repo_api.__main__ import main
from repo_api.release import Descriptor

RECORD = {
    "highest_education": "HE Qualification",
    "num_of_prev_attempts": 0,
    "active_days_28d": 3,
    **GOLDEN_INPUTS[1],
}


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, keys: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDUSTREAM_REGISTRY", "registry.test")
    monkeypatch.setenv("EDUSTREAM_TRUSTED_KEY", str(keys.public))
    monkeypatch.setenv("EDUSTREAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> MemoryRegistry:
    """Put a registry in memory behind every address."""
    registry = MemoryRegistry()
    monkeypatch.setattr(delivery, "OciRegistry", lambda _address: registry)
    return registry


@pytest.fixture
def digest(registry: MemoryRegistry, make_release: MakeRelease) -> str:
    return registry.publish(make_release(), "v2", "v2.0.0")


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on standard error."""
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("repo-api: error: ")
    assert err.count("\n") == 1
    return err


def test_pull_prints_digest_and_folder(
    digest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["pull"])

    assert code == 0
    assert capsys.readouterr().out.splitlines() == [
        digest,
        str(tmp_path / "cache" / "releases" / digest.removeprefix("sha256:")),
    ]


def test_verify_prints_what_was_signed(digest: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["verify", "edustream/churn-model:v2.0.0"])

    assert code == 0
    assert capsys.readouterr().out.startswith(f"churn-model 2.0.0 {digest}\nsigned by ")


def test_predict_answers_json_lines(
    digest: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.TextIOWrapper(io.BytesIO(json.dumps(RECORD).encode()))
    monkeypatch.setattr(sys, "stdin", lines)

    code = main(["predict"])

    assert code == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["version"], answer["digest"]) == ("2.0.0", digest)


@pytest.mark.usefixtures("digest")
def test_predict_remembers_what_was_served(
    registry: MemoryRegistry,
    make_release: MakeRelease,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    main(["predict"])
    registry.publish(make_release(version="2.0.0rc1"), "v2")

    code = main(["verify"])

    assert code == 1
    assert "expected version 2.0.0, which was served before" in refusal(capsys)


@pytest.mark.usefixtures("registry")
def test_what_is_not_released_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["pull"])

    assert code == 1
    assert "registry.test/edustream/churn-model:v2: not released" in refusal(capsys)


@pytest.mark.usefixtures("digest")
def test_verify_without_a_trusted_key_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDUSTREAM_TRUSTED_KEY")

    code = main(["verify"])

    assert code == 1
    assert "no trusted key; set EDUSTREAM_TRUSTED_KEY" in refusal(capsys)


def test_a_request_schema_that_is_not_there_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["predict", "--request-schema", "nowhere.json"])

    assert code == 1
    assert "nowhere.json: cannot be read (No such file or directory)" in refusal(capsys)


def test_serve_finds_a_taken_port_before_it_pulls(
    registry: MemoryRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code = main(["serve", "--port", str(taken.getsockname()[1])])

    assert code == 1
    assert "cannot listen: Address already in use" in refusal(capsys)
    assert not registry.requests


def test_the_environment_may_come_from_a_file(
    digest: str,
    keys: KeyPair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    del os.environ["EDUSTREAM_TRUSTED_KEY"]
    (tmp_path / ".env").write_text(f"EDUSTREAM_TRUSTED_KEY={keys.public}\n", encoding="utf-8")

    code = main(["verify"])

    assert code == 0
    assert digest in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["pull", "Edustream:v2"], "expected repository:tag or repository@sha256:digest"),
        (["pull", "edustream/churn-model@v2"], "expected a tag or a sha256 digest, got 'v2'"),
        (["serve", "--port", "70000"], "expected a number from 0 to 65535, got '70000'"),
        (["serve", "--workers", "none"], "expected a number from 1 to 1024, got 'none'"),
        (["serve", "--watch", "-1"], "expected a number from 0 to 86400, got '-1'"),
    ],
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)

    assert error.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pull", "verify", "predict", "serve"])
def test_the_help_of_a_command_gives_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])

    assert f"examples:\n  repo-api {command}" in capsys.readouterr().out


def test_an_interrupt_is_no_traceback(
    registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "resolve", interrupt)

    assert main(["pull"]) == 130


def test_pulling_imports_neither_scikit_learn_nor_the_signing_library() -> None:
    code = "import sys, repo_api.__main__; print(*sys.modules)"

    modules = subprocess.run(  # noqa: S603  our own code
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout.split()

    assert not {"sklearn", "numpy", "model_signing", "starlette"} & set(modules)


def test_a_terminal_sees_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    layer = Descriptor("application/octet-stream", "sha256:" + "a" * 64, 7, "model.pkl")

    with progress.bars() as shown:
        shown(layer)(7)

    assert "model.pkl" in capsys.readouterr().err
