"""Serving, measured: every server alone, in turn, round after round."""

from __future__ import annotations

import csv
import http.client
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from machine import ROOT, BenchError, Load, family, load, make_environment, resident, run, say
from peers import MODEL_FILE, PEERS, Peer, Place, Record, Row

BATCH = 100
SCHEMA = ROOT / "repo-ml" / "src" / "repo_ml" / "schemas" / "v2.json"
TOLERANCE = 1e-9
START_SECONDS, STOP_SECONDS = 120, 15
CHECKED = 20
REFERENCE = """
import json, sys, joblib
rows = json.load(sys.stdin)
print(json.dumps(joblib.load(sys.argv[1]).predict_proba(rows)[:, 1].tolist()))
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """Learners as JSON and as rows, and what the estimator itself says of them."""

    records: list[Record]
    rows: list[Row]
    probabilities: list[float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How thorough a run is; `seconds` are those of one load."""

    rounds: int
    seconds: int
    connections: Sequence[int]


@dataclass(frozen=True, slots=True)
class Served:
    """A server in one round: seconds to be ready, MiB resident after the load, and the loads.

    The key of a load is (connections, records a request).
    """

    ready: float
    memory: float
    loads: dict[tuple[int, int], Load]


def draw_sample(learners: Path, schema: Path, release: Path, python: Path) -> Sample:
    """Take the learners of whom everything is known, and ask the estimator of each."""
    properties = json.loads(schema.read_bytes())["properties"]
    records, rows = [], []
    with learners.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            cells = {name: line[name] for name in properties}
            if all(cells.values()):
                record = {name: value(cells[name], raw) for name, raw in properties.items()}
                records.append(record)
                rows.append([code(record[name], raw) for name, raw in properties.items()])
    done = subprocess.run(
        [python, "-c", REFERENCE, release / MODEL_FILE],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        check=True,
    )
    return Sample(records, rows, json.loads(done.stdout))


def value(cell: str, raw: dict[str, Any]) -> str | float:
    """Read a cell of the CSV."""
    if "enum" in raw:
        return cell
    return int(cell) if "integer" in raw["type"] else float(cell)


def code(value: str | float, raw: dict[str, Any]) -> float:
    """Encode a value as the input schema says."""
    return float(raw["enum"].index(value) if "enum" in raw else value)


def measure(
    peer: Peer,
    place: Place,
    sample: Sample,
    loads: Sequence[tuple[int, int]],
    seconds: int,
) -> Served:
    """Start a server, check its answers, load it, and stop it."""
    started = time.perf_counter()
    with running(peer, place) as (process, is_ready):
        while not is_ready():
            if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                words = (place.scratch / "log").read_text(encoding="utf-8")[-2000:]
                raise BenchError(f"{peer.name} does not become ready\n{words}")
            time.sleep(0.005)
        ready = time.perf_counter() - started
        if peer.serves:
            check(peer, place, sample)
        measured = {}
        for connections, size in loads:
            bodies, path = write_bodies(peer, place, sample, size)
            url = f"http://127.0.0.1:{place.port}{path}"
            load(url, bodies, connections, 1)  # to warm up
            found = load(url, bodies, connections, seconds)
            if found.failed:
                raise BenchError(f"{peer.name}: {found.failed} requests failed")
            measured[connections, size] = found
        return Served(ready, resident(process.pid), measured)


@contextmanager
def running(
    peer: Peer, place: Place
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], bool]]]:
    """Run a server until the block ends, with all processes that it starts."""
    with (place.scratch / "log").open("wb") as log:
        process = subprocess.Popen(
            peer.command(place),
            cwd=place.scratch,
            env=peer.environment(place),
            stdout=log,
            stderr=log,
        )

    def is_ready() -> bool:
        try:
            return ask(place.port, "GET", peer.ready)[0] == http.client.OK
        except OSError:
            return False

    try:
        yield process, is_ready
    finally:
        members = family(process.pid)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # for what ended to come to rest


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Send one request, and return the status and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def check(peer: Peer, place: Place, sample: Sample) -> None:
    """Hold answers against the estimator's own; who is fast and wrong is not measured."""
    records, rows = sample.records[:CHECKED], sample.rows[:CHECKED]
    got = []
    for record, row in zip(records, rows, strict=True):
        _, answer = ask(place.port, "POST", peer.one, peer.one_body(record, row))
        got += peer.probabilities(json.loads(answer))
    _, answer = ask(place.port, "POST", peer.batch, peer.batch_body(records, rows))
    got += peer.probabilities(json.loads(answer))
    expected = sample.probabilities[:CHECKED] * 2
    if len(got) != len(expected) or any(
        abs(a - b) > TOLERANCE for a, b in zip(got, expected, strict=True)
    ):
        raise BenchError(f"{peer.name} gives other probabilities than the estimator")


def write_bodies(peer: Peer, place: Place, sample: Sample, size: int) -> tuple[Path, str]:
    """Write the bodies of requests with `size` records, a line each; return also the path."""
    if size == 1:
        bodies = [
            peer.one_body(record, row)
            for record, row in zip(sample.records, sample.rows, strict=True)
        ]
    else:
        starts = range(0, len(sample.records) - size + 1, size)
        bodies = [
            peer.batch_body(sample.records[at : at + size], sample.rows[at : at + size])
            for at in starts
        ]
    file = place.scratch / f"bodies-{size}.jsonl"
    file.write_text("".join(f"{json.dumps(body)}\n" for body in bodies), encoding="utf-8")
    return file, peer.one if size == 1 else peer.batch


def repo_api(environment: dict[str, str]) -> Peer:
    """This API, as its team runs it."""
    return Peer(
        name="repo-api",
        prepare=lambda place: run([place.program("repo-api"), "pull"], environment=environment),
        command=lambda place: [place.program("repo-api"), "serve", "--port", str(place.port)],
        environment=lambda _place: environment,
        ready="/health/ready",
        one="/predict",
        batch="/predict/batch",
        one_body=lambda record, _row: record,
        batch_body=lambda records, _rows: records,
        probabilities=lambda answer: [
            each["probability"] for each in (answer if isinstance(answer, list) else [answer])
        ],
    )


def measure_all(own: Peer, own_place: Place, sample: Sample, plan: Plan) -> dict[str, list[Served]]:
    """Measure every server in every round, one at a time; what was found, by its name."""
    loads = [(connections, size) for size in (1, BATCH) for connections in plan.connections]
    found: dict[str, list[Served]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        places = []
        for peer in (own, *PEERS):
            scratch = Path(folder, peer.name.replace(" ", "-"))
            scratch.mkdir()
            python = make_environment(*peer.needs) if peer.needs else own_place.python
            place = replace(own_place, python=python, scratch=scratch)
            peer.prepare(place)
            places.append((peer, place))
        for number in range(1, plan.rounds + 1):
            for peer, place in places:
                say(f"serving, round {number} of {plan.rounds}: {peer.name}")
                # A batch costs the constant nothing.
                asked = loads if peer.serves else [each for each in loads if each[1] == 1]
                served = measure(peer, place, sample, asked, plan.seconds)
                found.setdefault(peer.name, []).append(served)
    return found
