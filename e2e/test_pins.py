"""tools/pins.py, on real repositories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import GITMODULES, commit, git, run_pins

Serve = Callable[[Path], tuple[str, Callable[[], None]]]


def set_pin(superproject: Path, name: str, pinned: str) -> None:
    """Move a gitlink by hand, as pins.py never would."""
    git(superproject, "update-index", "--add", "--cacheinfo", f"160000,{pinned},{name}")
    git(superproject, "commit", "--quiet", "-m", "By hand")


def refusal(superproject: Path, *arguments: str) -> str:
    """Run pins.py, which must fail without a traceback, and return what it says."""
    done = run_pins(superproject, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("pins: error: ")
    return done.stderr


def test_check_passes_where_every_pin_is_carried(superproject: Path) -> None:
    done = run_pins(superproject, "check")

    assert done.returncode == 0, done.stderr
    assert "in order" in done.stdout


def test_check_refuses_a_missing_gitlink(superproject: Path) -> None:
    git(superproject, "rm", "--quiet", "--cached", "repo-ml")
    git(superproject, "commit", "--quiet", "-m", "Without")

    assert "repo-ml: .gitmodules names it, but there is no gitlink" in refusal(
        superproject, "check"
    )


def test_check_refuses_a_gitlink_that_gitmodules_does_not_name(superproject: Path) -> None:
    modules = GITMODULES.format(name="repo-ml")
    (superproject / ".gitmodules").write_text(modules, encoding="utf-8")
    git(superproject, "commit", "--quiet", "-am", "One only")

    assert "repo-api: pinned, but .gitmodules does not name it" in refusal(superproject, "check")


def test_check_refuses_a_superproject_without_gitmodules(superproject: Path) -> None:
    git(superproject, "rm", "--quiet", ".gitmodules")
    git(superproject, "commit", "--quiet", "-m", "None")

    assert "no .gitmodules is committed" in refusal(superproject, "check")


def test_check_refuses_a_pin_that_the_history_does_not_carry(superproject: Path) -> None:
    set_pin(superproject, "repo-ml", commit(superproject / "repo-ml", "Second"))

    said = refusal(superproject, "check")

    assert "repo-ml: the pinned commit" in said
    assert "is not an ancestor of HEAD" in said


def test_check_refuses_two_submodules_with_a_common_history(superproject: Path) -> None:
    set_pin(superproject, "repo-api", git(superproject / "repo-ml", "rev-parse", "HEAD"))

    assert "repo-api: its history shares commit" in refusal(superproject, "check")


def test_check_refuses_a_pin_of_the_superproject_itself(superproject: Path) -> None:
    set_pin(superproject, "repo-ml", git(superproject, "rev-parse", "HEAD"))

    assert "with the superproject" in refusal(superproject, "check")


def test_check_refuses_a_shallow_clone(superproject: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{superproject}", "shallow")

    assert "git fetch --unshallow" in refusal(tmp_path / "shallow", "check")


def test_bump_makes_one_merge_commit_titled_after_what_came_in(superproject: Path) -> None:
    before = git(superproject, "rev-parse", "HEAD")
    commit(superproject / "repo-ml", "Second")
    new = commit(superproject / "repo-ml", "Third")

    done = run_pins(superproject, "bump", "repo-ml")

    assert done.returncode == 0, done.stderr
    assert git(superproject, "rev-parse", "HEAD^1", "HEAD^2").split() == [before, new]
    assert git(superproject, "rev-parse", "HEAD:repo-ml") == new
    assert git(superproject, "log", "-1", "--format=%B").split("\n") == [
        "repo-ml: Third",
        "",
        "- Second",
    ]
    assert git(superproject, "status", "--porcelain") == ""
    assert run_pins(superproject, "check").returncode == 0


def test_bump_leaves_unstaged_work_in_the_superproject_alone(superproject: Path) -> None:
    (superproject / "toxw").write_text("changed", encoding="utf-8")
    commit(superproject / "repo-ml", "Second")

    done = run_pins(superproject, "bump", "repo-ml")

    assert done.returncode == 0, done.stderr
    assert git(superproject, "diff", "--name-only") == "toxw"


def test_bump_says_that_there_is_nothing_to_do(superproject: Path) -> None:
    before = git(superproject, "rev-parse", "HEAD")

    done = run_pins(superproject, "bump", "repo-ml")

    assert "already pinned" in done.stdout
    assert git(superproject, "rev-parse", "HEAD") == before


def test_bump_refuses_uncommitted_changes_in_the_submodule(superproject: Path) -> None:
    (superproject / "repo-ml" / "content.txt").write_text("changed", encoding="utf-8")

    assert "repo-ml: uncommitted changes" in refusal(superproject, "bump", "repo-ml")


def test_bump_refuses_staged_changes_in_the_superproject(superproject: Path) -> None:
    commit(superproject / "repo-ml", "Second")
    (superproject / "toxw").write_text("changed", encoding="utf-8")
    git(superproject, "add", "toxw")

    assert "the superproject has staged changes" in refusal(superproject, "bump", "repo-ml")


def test_bump_refuses_to_lose_the_commit_pinned_before(superproject: Path) -> None:
    git(superproject / "repo-ml", "commit", "--quiet", "--amend", "-m", "Another first")

    assert "does not build on the pinned commit" in refusal(superproject, "bump", "repo-ml")


def test_bump_refuses_a_submodule_that_nobody_knows(superproject: Path) -> None:
    assert "Next: name one of repo-ml, repo-api" in refusal(superproject, "bump", "repo-x")


def test_bump_refuses_a_submodule_that_is_not_initialised(
    superproject: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(superproject), "clone")

    assert "repo-ml: not initialised" in refusal(tmp_path / "clone", "bump", "repo-ml")


def test_bump_leaves_no_half_merge_behind_when_the_commit_is_refused(superproject: Path) -> None:
    hook = superproject / ".git" / "hooks" / "commit-msg"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    commit(superproject / "repo-ml", "Second")

    refusal(superproject, "bump", "repo-ml")

    assert not (superproject / ".git" / "MERGE_HEAD").exists()
    assert git(superproject, "diff", "--cached", "--name-only") == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("nothing", "at its pin"),
        ("commit", "1 ahead"),
        ("edit", "dirty"),
        ("both", "1 ahead, dirty"),
    ],
)
def test_status_tells_how_a_submodule_differs(
    superproject: Path, change: str, expected: str
) -> None:
    if change in {"commit", "both"}:
        commit(superproject / "repo-ml", "Second")
    if change in {"edit", "both"}:
        (superproject / "repo-ml" / "content.txt").write_text("changed", encoding="utf-8")

    row = run_pins(superproject, "status").stdout.splitlines()[1]

    assert row.startswith("repo-ml")
    assert row.endswith(f"  {expected}")


def test_status_tells_what_is_behind_and_what_is_not_initialised(
    superproject: Path, tmp_path: Path
) -> None:
    first = git(superproject / "repo-ml", "rev-parse", "HEAD")
    commit(superproject / "repo-ml", "Second")
    run_pins(superproject, "bump", "repo-ml")
    git(superproject / "repo-ml", "checkout", "--quiet", first)
    git(tmp_path, "clone", "--quiet", str(superproject), "clone")

    assert "1 behind" in run_pins(superproject, "status").stdout
    assert "not initialised" in run_pins(tmp_path / "clone", "status").stdout


def test_split_gives_each_history_an_address_that_can_be_cloned(
    superproject: Path, tmp_path: Path, serve: Serve
) -> None:
    for name in ("repo-ml", "repo-api", "edustream"):
        git(tmp_path, "init", "--quiet", "--bare", f"apart/{name}.git")
    base, _ = serve(tmp_path / "apart")

    done = run_pins(superproject, "split", base)

    assert done.returncode == 0, done.stderr
    git(tmp_path, "clone", "--quiet", "--recurse-submodules", f"{base}/edustream.git", "clone")
    for name in ("repo-ml", "repo-api"):
        pinned = git(superproject / name, "rev-parse", "HEAD")
        assert git(tmp_path / "clone" / name, "rev-parse", "HEAD") == pinned
        assert git(tmp_path / "clone" / name, "remote", "get-url", "origin") == f"{base}/{name}.git"
        assert git(tmp_path / "apart" / f"{name}.git", "rev-list", "--all") == pinned
    assert run_pins(tmp_path / "clone", "check").returncode == 0
    assert git(superproject, "status", "--porcelain") == ""


def test_split_says_which_address_is_missing(
    superproject: Path, tmp_path: Path, serve: Serve
) -> None:
    (tmp_path / "apart").mkdir()
    base, _ = serve(tmp_path / "apart")

    assert f"make sure that {base}/repo-ml.git exists" in refusal(superproject, "split", base)
