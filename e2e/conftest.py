"""What the tests across repositories share: a real registry, real git, and what REQUIRE demands."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GITMODULES = """\
[submodule "{name}"]
	path = {name}
	url = ./
	branch = {name}
"""


def require(name: str) -> str:
    """Return what a test needs of this machine, or skip the test, with the reason.

    REQUIRE names what must be there, as in `REQUIRE=oras,container`: without it the
    test fails.

    Args:
        name: `container` for an engine that answers, `registry` for Distribution's
            program, or else the name of a program.
    """
    if found := find(name):
        return found
    reason = f"{name} is not on this machine"
    if name in os.environ.get("REQUIRE", "").split(","):
        pytest.fail(f"{reason}, and REQUIRE names it")
    pytest.skip(reason)


def find(name: str) -> str | None:
    """Return the program behind a name of `require`."""
    if name == "container":
        engines = (engine for engine in ("docker", "podman") if shutil.which(engine))
        return next((engine for engine in engines if answers(engine)), None)
    if name == "registry":
        return shutil.which("registry") or shutil.which("docker-registry")
    return shutil.which(name)


def answers(engine: str) -> bool:
    """Ask whether a container engine runs."""
    return subprocess.run([engine, "info"], capture_output=True, check=False).returncode == 0


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def run_registry(
    checkout: Path, where: int | str, command: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of a checkout's own registry.py, at a port or an address."""
    address = where if isinstance(where, str) else f"localhost:{where}"
    return subprocess.run(
        [sys.executable, "registry-config/registry.py", command],
        cwd=checkout,
        env=os.environ | {"EDUSTREAM_REGISTRY": address},
        capture_output=True,
        text=True,
        check=False,
    )


def copy_registry_config(checkout: Path) -> None:
    """Copy registry-config, so that data and keys of the real checkout stay as they are."""
    ignored = shutil.ignore_patterns(".data", "__pycache__")
    shutil.copytree(ROOT / "registry-config", checkout / "registry-config", ignore=ignored)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a real registry for all tests, by whatever this machine has; yield its address."""
    checkout, port = tmp_path_factory.mktemp("registry"), free_port()
    copy_registry_config(checkout)
    started = run_registry(checkout, port, "up")
    try:
        if "nothing here can run a registry" in started.stderr:
            pytest.skip(started.stderr)
        assert started.returncode == 0, started.stderr
        yield f"localhost:{port}"
    finally:
        run_registry(checkout, port, "down")


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(folder: Path, subject: str) -> str:
    """Make a commit that changes something, and return its id."""
    with (folder / "content.txt").open("a", encoding="utf-8") as content:
        content.write(f"{folder.name}: {subject}\n")
    git(folder, "add", "--all", "content.txt")
    git(folder, "commit", "--quiet", "-m", subject)
    return git(folder, "rev-parse", "HEAD")


def run_pins(superproject: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the superproject's own tools/pins.py."""
    return subprocess.run(
        [sys.executable, "tools/pins.py", *arguments],
        cwd=superproject,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def superproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a superproject with two submodules, each of one commit, pinned by pins.py."""
    settings = tmp_path / "gitconfig"
    settings.write_text(
        "[user]\n\tname = Test\n\temail = test@example.org\n"
        "[init]\n\tdefaultBranch = main\n[advice]\n\tdetachedHead = false\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "origin" / "edustream"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "pins.py", folder / "tools")
    shutil.copy(ROOT / "toxw", folder)
    (folder / ".gitignore").write_text(".toxw/\n", encoding="utf-8")
    modules = "".join(GITMODULES.format(name=name) for name in ("repo-ml", "repo-api"))
    (folder / ".gitmodules").write_text(modules, encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "tools", "toxw", ".gitignore", ".gitmodules")
    git(folder, "commit", "--quiet", "-m", "Superproject")
    for name in ("repo-ml", "repo-api"):
        (folder / name).mkdir()
        git(folder / name, "init", "--quiet")
        commit(folder / name, f"First of {name}")
        assert run_pins(folder, "bump", name).returncode == 0
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[Path], tuple[str, Callable[[], None]]]]:
    """Yield a function that serves a folder by git daemon: its address, and how to stop it."""
    with ExitStack() as running:

        def start(folder: Path) -> tuple[str, Callable[[], None]]:
            port = free_port()
            options = ["--export-all", "--enable=receive-pack", "--listen=127.0.0.1", "--reuseaddr"]
            process = subprocess.Popen(
                ["git", "daemon", *options, f"--port={port}", f"--base-path={folder}", str(folder)],
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

            def stop() -> None:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
                    process.wait()

            running.callback(stop)
            until = time.monotonic() + 10
            with socket.socket() as probe:
                while probe.connect_ex(("127.0.0.1", port)):
                    assert time.monotonic() < until, "git daemon does not answer"
                    time.sleep(0.05)
            return f"git://127.0.0.1:{port}", stop

        yield start
