"""The command line: each command once, and one line and the exit code for each error."""

import json
import os
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import repo_ml.__main__ as program
from conftest import RegistryServer, sha256
from repo_ml.data.synthetic import synthetic
from repo_ml.package import save_trained
from repo_ml.release import SignedRelease, Trained

_CUSTOMERS = {
    "type": "object",
    "properties": {
        "plan": {"type": "string", "enum": ["basic", "plus", "pro"]},
        "months": {"type": "integer", "minimum": 0},
        "charge": {"type": ["number", "null"]},
        "paperless": {"type": "boolean"},
    },
    "required": ["plan", "months"],
}


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> Ran:
        code = program.main([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def key(keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDUSTREAM_SIGNING_KEY", str(keys[0]))
    return keys[0]


@pytest.fixture
def registry(server: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> RegistryServer:
    monkeypatch.setenv("EDUSTREAM_REGISTRY", server.address)
    return server


@pytest.fixture
def customers() -> Sequence[str]:
    """Write the data and the schema of another business; gives the arguments for it."""
    rows = [
        f"c{n},{('basic', 'plus', 'pro')[n % 3]},{n},{n if n % 7 else ''},{n % 2 == 0},"
        + ("left" if n % 3 == 0 else "stays")
        for n in range(90)
    ]
    Path("customers.csv").write_text("id,plan,months,charge,paperless,status\n" + "\n".join(rows))
    Path("customers.json").write_text(json.dumps(_CUSTOMERS))
    data = ("--data", "customers.csv", "--schema", "customers.json")
    return (*data, "--target", "status", "--positive", "left")


def _refused(ran: Ran, reason: str) -> None:
    """Hold a failure against the rule: exit 1, and one line that says why."""
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("repo-ml: error: ")
    assert reason in ran.err


def test_steps_one_by_one_reach_the_registry(run: Run, registry: RegistryServer) -> None:
    made = run("data", "synthetic", "--learners", "300", "--out", "learners.csv")
    trained = run("train", "--data", "learners.csv", "--schema", "v1")
    packaged = run("package")
    keygen = run("keygen", ".keys")
    Path(".env").write_text("EDUSTREAM_SIGNING_KEY=.keys/signing.pem\n")
    signed = run("sign", "releases/churn-model-1.0.0")
    published = run("publish", "releases/churn-model-1.0.0")

    for ran in (made, trained, packaged, keygen, signed, published):
        assert (ran.code, ran.err) == (0, "")
    assert made.out.startswith("learners.csv: 300 learners, ")
    assert "cross-validation: AUC 0." in trained.out
    assert "next: repo-ml sign releases/churn-model-1.0.0" in packaged.out
    assert stat.S_IMODE(Path(".keys/signing.pem").stat().st_mode) == 0o600
    digest = registry.registry.tagged["edustream/churn-model", "v1.0.0"]
    pinned = f"{registry.address}/edustream/churn-model@{digest}"
    assert published.out.splitlines()[-1] == f"DEPLOY EXITOSO {pinned}"


@pytest.mark.usefixtures("key")
def test_another_business_is_released_in_one_go(
    run: Run, registry: RegistryServer, customers: Sequence[str]
) -> None:
    ran = run("release", *customers, "--name", "customer-churn", "--version", "1.2.3")

    assert (ran.code, ran.err) == (0, "")
    assert "DEPLOY EXITOSO" in ran.out.splitlines()[-1]
    assert ("edustream/customer-churn", "v1.2.3") in registry.registry.tagged
    released = json.loads(Path("releases/customer-churn-1.2.3/release.json").read_text())
    assert released["model_file"] == "customer_churn_v1.pkl"
    assert released["target"] == "status"


def test_publishing_again_says_that_it_was_released(
    run: Run, registry: RegistryServer, signed: SignedRelease
) -> None:
    first = run("publish", signed.folder)
    manifests = len(registry.registry.log)

    again = run("publish", signed.folder)

    assert again.code == 0
    assert "v2.0.0 is already released with these very bytes" in again.out
    assert again.out.splitlines()[-1] == first.out.splitlines()[-1]
    assert len(registry.registry.log) == manifests


@pytest.mark.usefixtures("key")
def test_version_that_is_taken_is_told(
    run: Run, registry: RegistryServer, signed: SignedRelease
) -> None:
    run("publish", signed.folder)
    (signed.folder / "README.md").write_text("# Another")
    run("sign", signed.folder)

    ran = run("publish", signed.folder)

    _refused(ran, "a released version never changes, publish with --version 2.0.1")
    assert registry.address in ran.err


def test_default_version_is_that_of_the_shipped_schema(run: Run, trained: Trained) -> None:
    save_trained(trained, Path("build/trained.joblib"))

    ran = run("package", "--name", "other-model")

    assert ran.out.startswith("packaged releases/other-model-2.0.0\n")


@pytest.mark.parametrize("command", ["release", "sign"])
@pytest.mark.parametrize("setting", [None, "", "no/such/key.pem", "."])
def test_missing_key_is_told_before_anything_is_done(
    command: str,
    setting: str | None,
    run: Run,
    signed: SignedRelease,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if setting is not None:
        monkeypatch.setenv("EDUSTREAM_SIGNING_KEY", setting)
    before = (signed.folder / "model.sig").read_bytes()

    ran = run(command, *([signed.folder] if command == "sign" else []))

    _refused(ran, "set EDUSTREAM_SIGNING_KEY to one, or make one: repo-ml keygen .keys")
    assert ran.out == ""
    assert (signed.folder / "model.sig").read_bytes() == before


def test_real_environment_wins_over_the_file(run: Run, key: Path, signed: SignedRelease) -> None:
    Path(".env").write_text("EDUSTREAM_SIGNING_KEY=no/such/key.pem\n")

    ran = run("sign", signed.folder)

    assert ran.code == 0
    assert os.environ["EDUSTREAM_SIGNING_KEY"] == str(key)


def test_registry_that_is_down_is_told(
    run: Run, signed: SignedRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("EDUSTREAM_REGISTRY", f"127.0.0.1:{unused.getsockname()[1]}")

        ran = run("publish", signed.folder)

    _refused(ran, "start it, or set EDUSTREAM_REGISTRY")


def test_unsigned_release_is_not_published(
    run: Run, registry: RegistryServer, signed: SignedRelease
) -> None:
    (signed.folder / "model.sig").unlink()

    ran = run("publish", signed.folder)

    _refused(ran, "package and sign it again")
    assert registry.registry.tagged == {}


@pytest.mark.parametrize(
    ("csv", "reason"),
    [
        ("", "got an empty file"),
        ("months,status\n1,left\n", "expected the columns plan"),
        ("plan,months,status\nbasic,-1,left\n", "row 1, column months: '-1'"),
        ("plan,months,status\nbasic,1,left\nplus,2,left\n", "expected two outcomes"),
        ("plan,months,status\nbasic,1,left\nplus,2,stays\n", "at least 10 records"),
    ],
)
def test_bad_table_is_told_and_leaves_nothing(
    csv: str, reason: str, run: Run, customers: Sequence[str]
) -> None:
    Path("customers.csv").write_text(csv)

    ran = run("train", *customers)

    _refused(ran, reason)
    assert not Path("build").exists()


def test_missing_table_is_told(run: Run) -> None:
    ran = run("train", "--data", "no/such/file.csv")

    _refused(ran, "No such file or directory")
    assert "no/such/file.csv" in ran.err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "expected a file, or one of v1, v2"),
        ("{", "own.json: expected JSON"),
        (json.dumps({**_CUSTOMERS, "$defs": {}}), "keyword '$defs' at / is not supported"),
    ],
)
def test_bad_schema_is_told(content: str | None, reason: str, run: Run) -> None:
    if content is not None:
        Path("own.json").write_text(content)

    ran = run("train", "--schema", "own.json")

    _refused(ran, reason)


def test_shipped_schemas_are_found_by_their_names(run: Run) -> None:
    synthetic(20, 7).write_csv("few.csv")

    ran = run("train", "--data", "few.csv", "--schema", "v1")

    _refused(ran, "at least 10 records of each outcome")
    assert ran.out == ""


def test_package_without_a_training_is_told(run: Run) -> None:
    _refused(run("package"), "make one: repo-ml train")


def test_folder_that_is_no_release_is_told(run: Run) -> None:
    _refused(run("publish", "nowhere"), "expected a release folder, got no release.json")


def test_folder_that_cannot_be_written_is_told(run: Run) -> None:
    Path("a-file").touch()

    ran = run("data", "synthetic", "--learners", "5", "--out", "a-file/learners.csv")

    _refused(ran, "a-file")


def test_folder_without_the_oulad_tables_is_told(run: Run) -> None:
    _refused(run("data", "oulad", "."), "is this the OULAD folder?")


def test_second_key_is_refused(run: Run) -> None:
    run("keygen", "keys")
    first = sha256(Path("keys/signing.pem").read_bytes())

    ran = run("keygen", "keys")

    _refused(ran, "there is a key already")
    assert sha256(Path("keys/signing.pem").read_bytes()) == first


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("fly",), "invalid choice"),
        (("data", "synthetic", "--learners", "0"), "expected a number from 1 on, got '0'"),
        (("data", "synthetic", "--learners", "many"), "expected a number from 1 on, got 'many'"),
        (("release", "--version", "2"), "version '2': expected three numbers, such as 2.0.1"),
        (("package", "--name", "Über"), "expected lower-case letters"),
        (("publish",), "the following arguments are required: FOLDER"),
    ],
)
def test_wrong_usage_is_told_with_exit_2(
    arguments: Sequence[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)

    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--help"])

    out = capsys.readouterr().out
    assert ended.value.code == 0
    for command in ("repo-ml release", "repo-ml data oulad", "repo-ml publish", "--positive Yes"):
        assert command in out
    assert "EDUSTREAM_SIGNING_KEY" in out


@pytest.mark.parametrize(
    "command",
    ["data", "train", "package", "sign", "publish", "release", "keygen", "data oulad"],
)
def test_each_command_has_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main([*command.split(), "--help"])

    assert ended.value.code == 0
    assert f"usage: repo-ml {command}" in capsys.readouterr().out
