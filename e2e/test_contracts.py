"""The contract between the two programs: what it stops, and what it lets through."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import MODEL, ROOT, LocalRegistry, Team, git, revise

RELEASED = sorted(path.parent for path in ROOT.glob("contracts/*/*/request.schema.json"))
UNDECIDED = 3
PROPERTY = "mean_score_28d"


def changed_since_release(folder: Path) -> str:
    """Name the files of a released contract that are not as the commit left them that added it."""
    added = git(folder, "log", "--diff-filter=A", "--format=%H", "--", ".").splitlines()
    return git(folder, "diff", "--name-status", added[-1], "--", ".") if added else "uncommitted"


def counterexample(text: str) -> dict[str, Any]:
    """Read the request in a text, which shows what would break."""
    found: dict[str, Any]
    found, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    return found


def demanding(release: Path, into: Path, version: str) -> Path:
    """Copy a release as if its schema were v2 with one more property required."""
    major = int(version.partition(".")[0])
    model_file = f"churn_model_v{major}.pkl"
    changed = revise(release, into, version=version, schema_version=major, model_file=model_file)
    file = changed / "input_schema.json"
    schema = json.loads(file.read_bytes())
    schema["required"].append(PROPERTY)
    file.write_text(json.dumps(schema), encoding="utf-8")
    return changed


def imports_pact(team: Team, *arguments: str | Path) -> bool:
    """Run a command, which must succeed, and tell whether it loaded pact."""
    done = team.run(*arguments, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    return bool(re.search(r"\| +pact$", done.stderr, re.MULTILINE))


def test_contracts_were_released() -> None:
    assert {path.name for path in RELEASED} >= {"1.0.0", "2.0.0"}


@pytest.mark.parametrize(
    "folder", RELEASED, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_a_released_contract_never_changes(folder: Path) -> None:
    assert changed_since_release(folder) == ""


@pytest.mark.parametrize("change", ["edit", "add", "delete", "commit"])
def test_a_change_of_a_released_contract_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")
    folder = tmp_path / "contracts" / "repo-api" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "pact.json").write_text("{}", encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "Released")
    before = changed_since_release(folder)

    if change == "delete":
        (folder / "pact.json").unlink()
        (folder / "other.json").touch()
    else:
        (folder / ("other.json" if change == "add" else "pact.json")).write_text("[]", "utf-8")
    git(tmp_path, "add", ".")
    if change == "commit":
        git(tmp_path, "commit", "--quiet", "-m", "Changed")

    assert before == ""
    assert changed_since_release(folder) != ""


def test_can_i_deploy_says_yes(ml: Team, api: Team, contract: str, release: Path) -> None:
    ml.must("publish", release)

    said = api.must("can-i-deploy")

    assert said.startswith(f"yes: repo-api {contract} with churn-model 2.0.0\n")


def test_can_i_deploy_says_no_with_reason_and_counterexample(
    ml: Team, api: Team, contract: str, release: Path, tmp_path: Path
) -> None:
    newer = demanding(release, tmp_path / "newer", "3.0.0")
    ml.must("sign", newer)
    ml.must("publish", newer)

    done = api.run("can-i-deploy", "--model", f"{MODEL}:v3")
    served = api.refused("serve", f"{MODEL}:v3", "--port", "0")

    assert done.returncode == 1
    assert done.stdout.startswith(f"no: repo-api {contract} with churn-model 3.0.0\n")
    assert f"{PROPERTY} is required and may be left out" in done.stdout
    assert PROPERTY not in counterexample(done.stdout)
    assert f"{PROPERTY} is required and may be left out" in served
    assert counterexample(served) == counterexample(done.stdout)


def test_can_i_deploy_cannot_decide_without_the_registry(
    ml: Team, api: Team, registry: LocalRegistry, contract: str, release: Path
) -> None:
    ml.must("publish", release)
    api.must("predict")  # its cache holds the release now

    registry.down()
    done = api.run("can-i-deploy")

    assert done.returncode == UNDECIDED, contract
    assert done.stdout == ""
    assert "repo-api: could not decide: " in done.stderr
    assert "Traceback" not in done.stderr


def test_can_i_deploy_cannot_decide_without_a_contract(ml: Team, api: Team, release: Path) -> None:
    ml.must("publish", release)

    done = api.run("can-i-deploy")

    assert done.returncode == UNDECIDED
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("repo-api: could not decide: ")
    assert "the contract of this version is not released" in line


def test_can_i_deploy_cannot_decide_about_a_model_that_nobody_vouches_for(
    ml: Team, api: Team, keys: Path, contract: str, release: Path
) -> None:
    ml.must("publish", release)

    done = api.run("can-i-deploy", EDUSTREAM_TRUSTED_KEY=str(keys / "stranger" / "signing.pub"))

    assert done.returncode == UNDECIDED, contract
    (line,) = done.stderr.splitlines()
    assert line.startswith("repo-api: could not decide: ")


def test_a_release_that_breaks_the_contract_of_its_major_is_not_published(
    ml: Team, registry: LocalRegistry, contract: str, release: Path, tmp_path: Path
) -> None:
    ml.must("publish", release)
    newer = demanding(release, tmp_path / "newer", "2.1.0")
    ml.must("sign", newer)
    before = sorted(registry.storage.rglob("*"))

    line = ml.refused("publish", newer)

    assert f"version 2.1.0: breaks the contract of repo-api {contract}" in line
    assert f"{PROPERTY} is required and may be left out" in line
    shown = counterexample(line)
    assert PROPERTY not in shown
    required = json.loads((release / "input_schema.json").read_bytes())["required"]
    assert set(required) <= set(shown)
    assert sorted(registry.storage.rglob("*")) == before


def test_under_a_new_major_it_goes_out_and_says_who_is_left_behind(
    ml: Team, api: Team, registry: LocalRegistry, contract: str, release: Path, tmp_path: Path
) -> None:
    ml.must("publish", release)
    newer = demanding(release, tmp_path / "newer", "3.0.0")
    ml.must("sign", newer)

    said = ml.must("publish", newer)

    assert "left behind" in said
    assert f"repo-api {contract}" in said.partition("left behind")[2]
    assert "DEPLOY EXITOSO" in said
    assert registry.digest("v3") == registry.digest("v3.0.0")
    api.must("can-i-deploy")  # with the major that it keeps


def test_a_release_and_a_contract_are_held_against_each_other_once(
    ml: Team, registry: LocalRegistry, contract: str, release: Path
) -> None:
    first = imports_pact(ml, "publish", release)
    referrers = registry.referrers(registry.digest("v2"))

    again = imports_pact(ml, "publish", release)
    verified = imports_pact(ml, "contract", "verify", release, "--contracts", registry.address)

    assert (first, again, verified) == (True, False, False), contract
    assert len(referrers) == 1
    assert registry.referrers(registry.digest("v2")) == referrers


def test_without_contracts_nobody_depends_on_a_release(ml: Team, release: Path) -> None:
    assert "nobody depends on this model yet" in ml.must("publish", release)
