"""A stage for one run: a registry of its own, the two teams' programs, and nothing left behind.

Owns what the role play and the matrix have in common; the stories are theirs.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ML, API = ROOT / "repo-ml", ROOT / "repo-api"
CONTRACTS = ROOT / "contracts" / "repo-api"


class StageError(Exception):
    """It did not go as planned."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is there for this run only: ports, a cache, a folder for what is tried out."""

    folder: Path
    registry: str
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What every program on the stage sees; the keys come from each team's own `.env`."""
        return own_environment() | {
            "EDUSTREAM_REGISTRY": self.registry,
            "EDUSTREAM_CACHE": str(self.folder / "cache"),
            "PYTHONUNBUFFERED": "1",
        }


def own_environment() -> dict[str, str]:
    """Give the environment without what was meant for another registry or for an outer tox."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("EDUSTREAM_", "TOX_"))}


@contextmanager
def build_stage() -> Iterator[Stage]:
    """Take free ports and an empty cache, and leave nothing behind but the keys."""
    releases = ML / "releases"
    before = set(releases.iterdir()) if releases.exists() else set()
    with tempfile.TemporaryDirectory(prefix="edustream-") as folder:
        # What a registry that is down has kept is somebody's; a stage is emptied at its end.
        storage = ROOT / "registry-config" / ".data" / "5000" / "storage"
        kept = storage.exists() and any(storage.iterdir())
        stage = Stage(Path(folder), f"localhost:{free_port(0 if kept else 5000)}", free_port(8000))
        try:
            yield stage
        finally:
            for command in ("reset", "down"):
                run(stage.environment, ROOT, registry_command(command), quiet=True)
            for made in set(releases.iterdir()) - before if releases.exists() else ():
                shutil.rmtree(made)


def run(
    environment: dict[str, str],
    folder: Path,
    command: list[str],
    *,
    expected: int = 0,
    quiet: bool = False,
) -> str:
    """Run a program, show what it prints, and give it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = ""
    for line in process.stdout or ():
        said += line
        if not quiet:
            print(f"    {line}", end="", flush=True)
    if process.wait() != expected:
        shown = said if quiet else ""
        raise StageError(f"{' '.join(command)}: exit {process.returncode}, not {expected} {shown}")
    return said


def install_programs() -> None:
    """Make sure that each team's program is there as it is released."""
    for team in (ML, API):
        tox = [sys.executable, str(ROOT / "toxw"), "run", "-qq", "-c", str(team)]
        run(own_environment(), ROOT, [*tox, "-e", "app", "--notest"], quiet=True)


def contract_versions() -> list[Path]:
    """List the folders of the backend's released contracts, oldest first."""
    folders = [folder for folder in CONTRACTS.iterdir() if folder.is_dir()]
    return sorted(folders, key=lambda folder: [int(part) for part in folder.name.split(".")])


def registry_command(command: str) -> list[str]:
    """Give the command line of the registry's own program."""
    return [sys.executable, str(ROOT / "registry-config" / "registry.py"), command]


def program(team: Path, name: str) -> str:
    """Find a program in a team's own environment."""
    return str(team / ".tox" / "app" / "bin" / name)


def free_port(wanted: int) -> int:
    """Give the port that is wanted, or any other if somebody listens there; 0 wants none."""
    with socket.socket() as probe:
        if wanted and probe.connect_ex(("127.0.0.1", wanted)):
            return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def expect(words: str, said: str) -> None:
    """Check that the story goes as told."""
    if words not in said:
        raise StageError(f"expected {words!r}, got {said!r}")
