"""What the benchmark needs of this machine: programs, environments, and what a process cost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".tox" / "bench-peers"
NEXT = {
    "wrk": "Debian, Ubuntu: apt-get install wrk",
    "oras": "go install oras.land/oras/cmd/oras@v1.3.3, or https://oras.land",
    "curl": "Debian, Ubuntu: apt-get install curl",
}
# What a process inherits of its parent's memory counts as its own peak: so a small one is between.
MEASURE = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - started
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


class BenchError(Exception):
    """The benchmark cannot go on."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took: seconds, and the peak of its resident memory in MiB."""

    seconds: float
    peak: float


def say(text: str) -> None:
    """Tell the person at the terminal how far it is."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def check_programs() -> None:
    """Make sure of the programs that are measured, or measured with."""
    for name, how in NEXT.items():
        if shutil.which(name) is None:
            raise BenchError(f"{name} is missing. Next: {how}")


def make_environment(name: str, requirements: Path) -> Path:
    """Make a virtual environment of pinned requirements once, and return its Python."""
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "made-of"
    wanted = requirements.read_text(encoding="utf-8")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    say(f"installing {name}")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    run([*uv, "venv", "--clear", "--python", sys.executable, str(folder)])
    run([*uv, "pip", "install", "--compile-bytecode", "--python", str(python), "-r", requirements])
    stamp.write_text(wanted, encoding="utf-8")
    return python


def run(
    command: Sequence[str | Path], *, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> str:
    """Run a program that must succeed, and return what it prints."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = (done.stdout + done.stderr)[-2000:]
        raise BenchError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{words}")
    return done.stdout


def cost(
    command: Sequence[str | Path], *, cwd: Path, environment: dict[str, str] | None = None
) -> Cost:
    """Run a program that must succeed, and return what it took as a whole process."""
    said = run([sys.executable, "-c", MEASURE, *command], cwd=cwd, environment=environment)
    seconds, peak = said.split()
    unit = 1 if sys.platform == "darwin" else 1024  # bytes, of ru_maxrss
    return Cost(float(seconds), int(peak) * unit / (1 << 20))


def family(process: int) -> set[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended
                fields = (entry / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, new = set[int](), [process]
    while new:
        found.update(new)
        new = [child for parent in new for child in children.get(parent, [])]
    return found


def resident(process: int) -> float:
    """Return the resident memory of a process and its descendants in MiB; shared counts once."""
    total = 0
    for member in family(process):
        with suppress(OSError):  # it has ended
            lines = Path(f"/proc/{member}/smaps_rollup").read_text(encoding="ascii").splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw: requests a second, and seconds from request to answer."""

    per_second: float
    p50: float
    p99: float
    failed: int = 0


def load(url: str, bodies: Path, connections: int, seconds: int) -> Load:
    """Send the bodies of a file in turn, over connections that stay open."""
    script = str(Path(__file__).with_name("post.lua"))
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", script]
    *_, last = run(["wrk", *options, url, "--", str(bodies)]).strip().splitlines()
    return Load(**json.loads(last))
