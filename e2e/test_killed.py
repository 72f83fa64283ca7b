"""A pull that is killed leaves nothing that the next start, or another process, trips over."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import LocalRegistry, Team, revise

SEED = 7
LAYER = 128 << 20  # large enough that its transfer is a good part of a pull
KILLS = 50
KILLS_OF_A_CACHE = 10  # in a row, so that damage could add up
IN_TRANSFER = 5  # of all kills, at the least: else the test shows nothing
PAIRS = 10


@dataclass(frozen=True, slots=True)
class Killed:
    """What was found after a kill that came after some seconds.

    `next_start` is what the next start said; `damaged` are blobs before and after it.
    """

    after: float
    in_transfer: bool
    damaged: list[Path]
    next_start: subprocess.CompletedProcess[str]


def pulling(api: Team, cache: Path) -> subprocess.Popen[str]:
    """Start to pull into a cache."""
    return subprocess.Popen(
        [api.program, "pull"],
        cwd=api.folder,
        env={**api.environment, "EDUSTREAM_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def seconds_of_a_pull(api: Team, cache: Path) -> float:
    """Pull undisturbed into an empty cache, which is deleted, and tell how long it took."""
    started = time.monotonic()
    api.must("pull", EDUSTREAM_CACHE=str(cache))
    took = time.monotonic() - started
    shutil.rmtree(cache)
    return took


def kill(process: subprocess.Popen[str], after: float) -> bool:
    """Kill a process after some seconds, and tell whether it was still at work."""
    try:
        _, errors = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
    assert process.returncode in {0, -signal.SIGKILL}, errors
    return process.returncode != 0


def unchecked(cache: Path) -> int:
    """Count the bytes that came and were not yet checked."""
    return sum(path.stat().st_size for path in cache.glob("partial/*"))


def damaged(cache: Path) -> list[Path]:
    """Find the blobs that are not what their name says."""
    found = []
    for path in cache.glob("blobs/sha256/*"):
        with path.open("rb") as blob:
            if hashlib.file_digest(blob, "sha256").hexdigest() != path.name:
                found.append(path)
    return found


def copy_or_link(source: str, target: str) -> None:
    """Copy what the next start goes on writing to, and link what it does not."""
    (shutil.copy2 if Path(source).parent.name == "partial" else os.link)(source, target)


def start_again(api: Team, cache: Path, *, after: float, in_transfer: bool) -> Killed:
    """Verify the release on a copy of a cache, so that this stays as the kill has left it."""
    before = damaged(cache)
    copy = cache.with_name("copy")
    shutil.copytree(cache, copy, copy_function=copy_or_link)
    next_start = api.run("verify", EDUSTREAM_CACHE=str(copy))
    found = Killed(after, in_transfer, before + damaged(copy), next_start)
    shutil.rmtree(copy)
    return found


@pytest.fixture
def large(release: Path, ml: Team, tmp_path: Path) -> Iterator[Path]:
    """Publish a release whose transfer takes a while."""
    folder = revise(release, tmp_path / "large")
    (folder / "churn_model_v2.pkl").write_bytes(os.urandom(LAYER))
    ml.must("sign", folder)
    ml.must("publish", folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.usefixtures("large")
def test_a_pull_killed_at_any_moment_does_no_harm_to_the_next_start(
    api: Team, registry: LocalRegistry, cache: Path
) -> None:
    dice = random.Random(SEED)  # noqa: S311  no secret
    duration = seconds_of_a_pull(api, cache)
    cache.mkdir()

    kills: list[Killed] = []
    while len(kills) < KILLS:
        before = unchecked(cache)
        after = dice.uniform(0, duration)
        was_at_work = kill(pulling(api, cache), after)
        if was_at_work:
            arrived = unchecked(cache) > before
            kills.append(start_again(api, cache, after=after, in_transfer=arrived))
        if not was_at_work or len(kills) % KILLS_OF_A_CACHE == 0:
            shutil.rmtree(cache)
            cache.mkdir()

    for number, each in enumerate(kills):
        told = f"seed {SEED}, kill {number} after {each.after:.3f} s: {each.next_start.stderr}"
        assert not each.damaged, told
        assert each.next_start.returncode == 0, told
        assert registry.digest("v2") in each.next_start.stdout, told
    assert sum(each.in_transfer for each in kills) >= IN_TRANSFER


@pytest.mark.usefixtures("large")
def test_a_pull_that_is_killed_does_no_harm_to_another_into_the_same_cache(
    api: Team, registry: LocalRegistry, cache: Path
) -> None:
    dice = random.Random(SEED)  # noqa: S311  no secret
    duration = seconds_of_a_pull(api, cache)
    digest = registry.digest("v2")

    killed = 0
    for pair in range(PAIRS):
        after = dice.uniform(0, duration)
        both = pulling(api, cache), pulling(api, cache)
        survivor, victim = both if pair % 2 else reversed(both)
        killed += kill(victim, after)
        pulled, errors = survivor.communicate()

        told = f"seed {SEED}, pair {pair}, one killed after {after:.3f} s: {errors}"
        assert survivor.returncode == 0, told
        assert digest in pulled, told
        assert not damaged(cache), told
        assert digest in api.must("verify"), told
        shutil.rmtree(cache)
    assert killed >= PAIRS // 2
