"""toxw: where the submodules come from, and the environment that it makes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT, commit, git, run_pins

Serve = Callable[[Path], tuple[str, Callable[[], None]]]


@pytest.fixture
def toxw(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load the script as a module."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("toxw", str(ROOT / "toxw"))
    spec = spec_from_loader("toxw", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def assert_at_its_pins(clone: Path, address: str) -> None:
    """Check what is checked out, and where it would be fetched from."""
    for name in ("repo-ml", "repo-api"):
        pinned = git(clone, "rev-parse", f"HEAD:{name}")
        assert git(clone / name, "rev-parse", "HEAD") == pinned
        assert git(clone / name, "remote", "get-url", "origin").rstrip("/.") == address
    assert git(clone, "status", "--porcelain") == ""


def test_submodules_come_from_a_plain_folder(
    toxw: ModuleType, superproject: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(superproject), "clone")

    toxw.initialise_submodules(tmp_path / "clone")

    assert_at_its_pins(tmp_path / "clone", str(superproject))
    assert "protocol.file" not in git(tmp_path / "clone", "config", "--list")


@pytest.mark.parametrize("depth", [[], ["--depth=1"]])
def test_submodules_come_from_a_server(
    toxw: ModuleType, superproject: Path, tmp_path: Path, serve: Serve, depth: list[str]
) -> None:
    base, _ = serve(superproject.parent)
    git(tmp_path, "clone", "--quiet", *depth, f"{base}/edustream", "clone")

    toxw.initialise_submodules(tmp_path / "clone")

    assert_at_its_pins(tmp_path / "clone", f"{base}/edustream")


@pytest.mark.parametrize("head", ["main", "--detach"])
def test_submodules_come_from_the_clone_when_the_address_is_gone(
    toxw: ModuleType,
    superproject: Path,
    tmp_path: Path,
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    head: str,
) -> None:
    clone = tmp_path / "clone"
    base, stop = serve(superproject.parent)
    git(tmp_path, "clone", "--quiet", f"{base}/edustream", "clone")
    git(clone, "checkout", "--quiet", head)
    if head == "--detach":
        git(clone, "branch", "--quiet", "-D", "main")
    stop()

    toxw.initialise_submodules(clone)

    assert_at_its_pins(clone, f"{base}/edustream")
    assert "repo-ml: git://" in capsys.readouterr().err


def test_a_folder_that_is_gone_does_no_harm_either(
    toxw: ModuleType, superproject: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(superproject), "clone")
    shutil.rmtree(superproject)

    toxw.initialise_submodules(tmp_path / "clone")

    assert_at_its_pins(tmp_path / "clone", str(superproject))


def test_a_shallow_clone_of_a_gone_address_is_told_what_to_do(
    toxw: ModuleType, superproject: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{superproject}", "clone")
    shutil.rmtree(superproject)

    with pytest.raises(toxw.ToxwError, match=r"this clone is shallow.*Next: "):
        toxw.initialise_submodules(tmp_path / "clone")


def test_a_submodule_that_is_checked_out_is_never_moved(
    toxw: ModuleType, superproject: Path
) -> None:
    ahead = commit(superproject / "repo-ml", "Not yet pinned")

    toxw.initialise_submodules(superproject)

    assert git(superproject / "repo-ml", "rev-parse", "HEAD") == ahead


def test_a_folder_that_is_no_clone_is_left_to_tox(toxw: ModuleType, tmp_path: Path) -> None:
    toxw.initialise_submodules(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_the_environment_is_made_once_and_anew_when_the_pins_change(
    toxw: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toxw, "PINS", ("iniconfig==2.1.0",))
    python = toxw.environment(tmp_path)
    made = python.lstat().st_ctime_ns

    assert toxw.environment(tmp_path).lstat().st_ctime_ns == made

    monkeypatch.setattr(toxw, "PINS", ("iniconfig==2.3.0",))
    toxw.environment(tmp_path)
    listed = [str(python), "-m", "pip", "list", "--disable-pip-version-check"]
    found = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    assert "2.3.0" in found


def test_it_becomes_tox_in_the_folder_that_it_was_called_from(
    superproject: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(superproject), "clone")
    (tmp_path / "clone" / "tox.ini").write_text("[tox]\nenv_list = outer\n", encoding="utf-8")
    inner = tmp_path / "clone" / "repo-ml"
    run = [str(tmp_path / "clone" / "toxw"), "list", "--no-desc"]
    subprocess.run(run, cwd=tmp_path / "clone", capture_output=True, text=True, check=True)
    (inner / "tox.ini").write_text("[tox]\nenv_list = inner\n", encoding="utf-8")

    done = subprocess.run(run, cwd=inner, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["inner"]
    assert run_pins(tmp_path / "clone", "check").returncode == 0


def test_a_python_without_ensurepip_gets_one_line(
    toxw: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)

    with pytest.raises(toxw.ToxwError, match="apt-get install python3-venv"):
        toxw.environment(tmp_path)


def test_a_python_that_is_too_old_gets_one_line(
    toxw: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toxw, "OLDEST_PYTHON", (9, 9))

    with pytest.raises(SystemExit, match=r"this is Python 3.*, and 9\.9 or newer is needed"):
        toxw.main()
