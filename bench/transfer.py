"""Transfer, measured: whole programs, in turn, against one registry on this machine."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from machine import Cost, cost, make_environment, run, say
from peers import MODEL_FILE, PEERS_FOLDER
from stage import API, ML, Stage, program, registry_command

MIB = 1 << 20
SMALL = "7 small files"
REPOSITORY = "edustream/churn-model"
# A blob is known by what it hashes to: without both, a single command would not do.
CURL_PUSH = """
set -e
digest=sha256:$(sha256sum "$2" | cut -d' ' -f1)
upload=$(curl -fsS -X POST -D - -o /dev/null "$1/blobs/uploads/" |
    tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
curl -fsS -X PUT -T "$2" -H 'Content-Type: application/octet-stream' "$upload&digest=$digest"
"""
CURL_PULL = """
set -eo pipefail
test "$(curl -fsS "$1/blobs/$2" | tee "$3" | sha256sum | cut -d' ' -f1)" = "${2#sha256:}"
"""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that transfers: how it pushes a folder, and pulls into another.

    One that `lacks_manifest` moves the largest file alone, and writes nothing to pull it by.
    """

    name: str
    push: Callable[[Path], Cost]
    pull: Callable[[Path], Cost]
    lacks_manifest: bool = False


Transferred = dict[str, list[Cost]]
"""What was measured in every round, by `push`, `pull` and `pull again`."""


def make_release(stage: Stage, release: Path, into: Path, size: int) -> Path:
    """Copy a release with a model of so many random bytes, and sign it."""
    shutil.copytree(release, into)
    (into / "model.sig").unlink()
    with (into / MODEL_FILE).open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    run([program(ML, "repo-ml"), "sign", into], cwd=ML, environment=stage.environment)
    return into


def make_tools(stage: Stage) -> tuple[Tool, ...]:
    """Make the tools that are compared, all of them for the registry of a stage."""
    reference = f"{stage.registry}/{REPOSITORY}:v2.0.0"
    address = f"http://{stage.registry}/v2/{REPOSITORY}"
    python = make_environment("oras-py", PEERS_FOLDER / "oras-py" / "requirements.txt")
    script = PEERS_FOLDER / "oras-py" / "transfer.py"
    own = stage.environment

    def own_push(folder: Path) -> Cost:
        return cost([program(ML, "repo-ml"), "publish", folder], cwd=ML, environment=own)

    def own_pull(into: Path) -> Cost:
        environment = own | {"EDUSTREAM_CACHE": str(into)}
        return cost([program(API, "repo-api"), "pull"], cwd=API, environment=environment)

    def oras_push(folder: Path) -> Cost:
        files = sorted(path.name for path in folder.iterdir())
        return cost(["oras", "push", "--plain-http", reference, *files], cwd=folder)

    def oras_pull(into: Path) -> Cost:
        return cost(["oras", "pull", "--plain-http", reference], cwd=into)

    def oras_py(verb: str) -> Callable[[Path], Cost]:
        return lambda folder: cost([python, script, verb, reference, folder], cwd=folder)

    def curl_push(folder: Path) -> Cost:
        file = largest(folder)
        return cost(["bash", "-c", CURL_PUSH, "bash", address, file], cwd=folder)

    def curl_pull(into: Path) -> Cost:
        manifest = json.loads(run(["curl", "-fsS", *MANIFEST, f"{address}/manifests/v2.0.0"]))
        layer = max(manifest["layers"], key=lambda each: int(each["size"]))
        command = ["bash", "-c", CURL_PULL, "bash", address, layer["digest"], "layer"]
        return cost(command, cwd=into)

    return (
        Tool("repo-ml, repo-api", own_push, own_pull),
        Tool("oras", oras_push, oras_pull),
        Tool("oras-py", oras_py("push"), oras_py("pull")),
        Tool("curl, sha256sum", curl_push, curl_pull, lacks_manifest=True),
    )


MANIFEST = ("-H", "Accept: application/vnd.oci.image.manifest.v1+json")


def largest(folder: Path) -> Path:
    """Find the largest file."""
    return max(folder.iterdir(), key=lambda path: path.stat().st_size)


def measure_all(
    stage: Stage, release: Path, sizes: dict[str, int], rounds: int
) -> dict[str, dict[str, Transferred]]:
    """Measure every tool with every size, in turn; by size, then by tool.

    `sizes` are bytes of the model's file by what they are called; 0 leaves the release as it is.
    """
    tools = make_tools(stage)
    found: dict[str, dict[str, Transferred]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for called, size in sizes.items():
            folder = make_release(stage, release, Path(scratch, "made"), size) if size else release
            by_tool = found.setdefault(called, {tool.name: {} for tool in tools})
            for number in range(1, rounds + 1):
                for tool in tools:
                    say(f"transfer, round {number} of {rounds}: {called}, {tool.name}")
                    measure(stage, tool, folder, Path(scratch, "pulled"), by_tool[tool.name])
            if size:
                shutil.rmtree(folder)
    return found


def measure(stage: Stage, tool: Tool, folder: Path, into: Path, found: Transferred) -> None:
    """Push to an empty registry, pull into an empty folder, and pull again."""
    run(registry_command("reset"), environment=stage.environment)
    into.mkdir()
    found.setdefault("push", []).append(tool.push(folder))
    if tool.lacks_manifest:
        oras = ["oras", "push", "--plain-http", f"{stage.registry}/{REPOSITORY}:v2.0.0"]
        run([*oras, *(path.name for path in folder.iterdir())], cwd=folder)
    for what in ("pull", "pull again"):
        found.setdefault(what, []).append(tool.pull(into))
    shutil.rmtree(into)
