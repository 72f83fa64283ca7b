"""A layer of one GiB goes from the producer to the consumer, through little memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import LocalRegistry, Team, revise

MIB = 1 << 20
LAYER = 1024 * MIB
MOST = 150 * MIB
# What a process inherits of its parent's memory counts as its own peak: so a small one is between.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of ru_maxrss


def peak(team: Team, *arguments: str | Path) -> int:
    """Run a program, which must succeed, and return its peak resident memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, team.program, *arguments],
        cwd=team.folder,
        env=team.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1]) * UNIT


@pytest.fixture
def large(release: Path, tmp_path: Path, cache: Path) -> Iterator[Path]:
    """Make a release with a model of one GiB that no compression makes smaller."""
    folder = revise(release, tmp_path / "large")
    piece = os.urandom(16 * MIB)
    with (folder / "churn_model_v2.pkl").open("wb") as model:
        for _ in range(LAYER // len(piece)):
            model.write(piece)
    yield folder
    for used in (folder, cache):
        shutil.rmtree(used, ignore_errors=True)


def test_a_layer_of_one_gib_takes_little_memory_on_either_side(
    ml: Team, api: Team, registry: LocalRegistry, large: Path, cache: Path
) -> None:
    ml.must("sign", large)

    pushed = peak(ml, "publish", large)
    pulled = peak(api, "pull")

    digest = registry.layers("v2")["churn_model_v2.pkl"].removeprefix("sha256:")
    assert (cache / "blobs" / "sha256" / digest).stat().st_size == LAYER
    assert pushed < MOST
    assert pulled < MOST
