"""Delivery, measured: from `publish` returning to the first answer by the new model.

And growth, on paper, from the cost of the request that a waiting API sends.
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from machine import BenchError, run, say
from peers import Peer, Place
from serving import ask, running
from stage import ML, Stage, program

WATCH_SECONDS = 1.0
LIMIT_SECONDS = 30
LOOKS = 2000


def make_versions(stage: Stage, release: Path, into: Path, count: int) -> list[Path]:
    """Copy a release under newer versions, and sign each."""
    made = []
    for number in range(1, count + 1):
        folder = into / f"churn-model-2.0.{number}"
        shutil.copytree(release, folder)
        (folder / "model.sig").unlink()
        file = folder / "release.json"
        description = json.loads(file.read_bytes()) | {"version": f"2.0.{number}"}
        file.write_text(json.dumps(description), encoding="utf-8")
        run([program(ML, "repo-ml"), "sign", folder], cwd=ML, environment=stage.environment)
        made.append(folder)
    return made


def measure(
    stage: Stage, own: Peer, place: Place, versions: list[Path], record: object
) -> dict[str, list[float]]:
    """Publish versions one after the other to an API that runs; seconds, by how it was told."""
    found: dict[str, list[float]] = {"told": [], "watching": []}
    half = len(versions) // 2
    for how, those in (("told", versions[:half]), ("watching", versions[half:])):
        watch = f"{WATCH_SECONDS if how == 'watching' else 0}"
        with running(replace(own, command=watching(own, watch)), place) as (_, is_ready):
            wait_until(is_ready)
            for folder in those:
                say(f"delivery, {how}: {folder.name}")
                time.sleep(random.uniform(0, WATCH_SECONDS))  # noqa: S311  anywhere between two looks
                run(
                    [program(ML, "repo-ml"), "publish", folder],
                    cwd=ML,
                    environment=stage.environment,
                )
                returned = time.perf_counter()
                if how == "told":
                    status, said = ask(place.port, "POST", "/model/reload")
                    if status != http.client.OK:
                        raise BenchError(f"/model/reload answers {status} {said!r}")
                version = folder.name.rpartition("-")[2]
                wait_until(partial(answers, place, record, version))
                found[how].append(time.perf_counter() - returned)
    return found


def watching(own: Peer, seconds: str) -> Callable[[Place], list[str]]:
    """Let the API look at its channel every so many seconds; 0 never looks."""
    return lambda place: [*own.command(place), "--watch", seconds]


def answers(place: Place, record: object, version: str) -> bool:
    """Ask for a prediction, and tell whether this version gave it."""
    status, answer = ask(place.port, "POST", "/predict", record)
    if status != http.client.OK:
        raise BenchError(f"/predict answers {status}")
    return bool(json.loads(answer)["version"] == version)


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again."""
    until = time.perf_counter() + LIMIT_SECONDS
    while not holds():
        if time.perf_counter() > until:
            raise BenchError(f"nothing happened within {LIMIT_SECONDS} s")
        time.sleep(0.002)


def seconds_of_a_look(stage: Stage) -> float:
    """Ask again and again which digest the channel stands for, and return the median seconds."""
    host, _, port = stage.registry.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    path = "/v2/edustream/churn-model/manifests/v2"
    headers = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    taken = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        connection.request("HEAD", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        taken.append(time.perf_counter() - started)
        if answer.status != http.client.OK:
            raise BenchError(f"the registry answers {answer.status}")
    connection.close()
    return median(taken)
