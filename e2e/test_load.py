"""Under load no request fails: not while releases follow each other, not while the registry fails.

A request that fails, or a connection that breaks, fails the test that the load runs in.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import (
    READY_SECONDS,
    LocalRegistry,
    Service,
    Team,
    damage,
    flip_a_bit,
    golden_examples,
    make_release,
    revise,
    serving,
)

CONNECTIONS = 32
SECONDS = 30
EVERY = 3  # seconds from one release to the next
SETTLED = 1.5  # seconds of load after which memory is read
MORE_MEMORY = 0.05
FEWEST = 1000
TOLERANCE = 1e-9
MODEL_FILE = "churn_model_v2.pkl"


class Client:
    """Asks for the same prediction again and again, on one connection that must last."""

    def __init__(self) -> None:
        """Ask nothing yet."""
        self.answers = 0
        self._changes: list[bytes] = []

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every answer that differs from the one before."""
        return [json.loads(content) for content in self._changes]

    @property
    def versions(self) -> tuple[str, ...]:
        """Which versions answered, one after the other."""
        return tuple(answer["version"] for answer in self.history)

    def ask(self, address: str, body: bytes, over: threading.Event) -> None:
        """Ask until it is over."""
        headers = {"Content-Type": "application/json"}
        before = b""
        with closing(HTTPConnection(address, timeout=READY_SECONDS)) as connection:
            connection.connect()
            connection.auto_open = 0  # never again
            while not over.is_set():
                connection.request("POST", "/predict", body, headers)
                answer = connection.getresponse()
                content = answer.read()
                assert answer.status == HTTPStatus.OK, content
                self.answers += 1
                if content != before:
                    self._changes.append(content)
                before = content


@contextmanager
def load(service: Service, record: Mapping[str, Any]) -> Iterator[list[Client]]:
    """Ask on all connections at once for as long as the block lasts."""
    over = threading.Event()
    clients = [Client() for _ in range(CONNECTIONS)]
    address, body = service.url.removeprefix("http://"), json.dumps(record).encode()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        asking = [pool.submit(client.ask, address, body, over) for client in clients]
        try:
            yield clients
        finally:
            over.set()
    for each in asking:
        each.result()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that must come true soon."""
    until = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.1)


def wait_for(service: Service, version: str) -> None:
    """Wait until a version is the one that answers."""
    wait_until(lambda: service.get("/model")["version"] == version)


def failed_updates(service: Service) -> float:
    """Read how many looks at the channel have failed."""
    text = requests.get(f"{service.url}/metrics", timeout=READY_SECONDS).text
    found = re.search(r'^repo_api_model_updates_total{outcome="failed"} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def resident(service: Service) -> int:
    """Read the memory that the backend has now: KiB (proc_pid_status(5), VmRSS)."""
    status = Path(f"/proc/{service.pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1])


def sign_newer(ml: Team, models: Iterable[Path], into: Path) -> dict[str, Path]:
    """Make 2.0.1, 2.0.2 and so on, each of the model of another release; by their versions."""
    made = {}
    for patch, model in enumerate(models, 1):
        version = f"2.0.{patch}"
        made[version] = revise(model, into / version, version=version)
        ml.must("sign", made[version])
    return made


def lose_everything(registry: LocalRegistry) -> None:
    """Kill the registry, and start it again with nothing in it."""
    registry.kill()
    registry.empty()
    registry.up()


@pytest.fixture(scope="module")
def retrained(
    programs: dict[str, Path], keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Train another model on the same learners; it is a release of the same version."""
    return make_release(programs, keys, tmp_path_factory.mktemp("retrained"), "--seed", "8")


@pytest.fixture
def record(release: Path, retrained: Path) -> dict[str, Any]:
    """Take the learner that both models were asked about: the one with the most gaps."""
    (asked, one), (also_asked, other) = (golden_examples(each)[-1] for each in (release, retrained))
    assert asked == also_asked
    assert abs(one - other) > TOLERANCE
    return asked


def test_releases_that_follow_each_other_cost_no_request_and_no_memory(
    ml: Team,
    api: Team,
    registry: LocalRegistry,
    release: Path,
    retrained: Path,
    record: dict[str, Any],
    tmp_path: Path,
) -> None:
    models = [(retrained, release)[number % 2] for number in range(SECONDS // EVERY)]
    newer = sign_newer(ml, models, tmp_path)
    ml.must("publish", release)

    with serving(api, "--watch", "1") as service, load(service, record) as clients:
        started = time.monotonic()
        for number, (version, folder) in enumerate(newer.items()):
            time.sleep(max(0.0, started + number * EVERY - time.monotonic()))
            ml.must("publish", folder)
            if number == 0:
                wait_for(service, version)
                time.sleep(SETTLED)
                after_first_swap = resident(service)
        wait_for(service, version)
        time.sleep(max(SETTLED, started + SECONDS - time.monotonic()))
        at_the_end = resident(service)

    published = {"2.0.0": release, **newer}
    expected = {
        version: (
            registry.digest(f"v{version}"),
            pytest.approx(golden_examples(folder)[-1][1], abs=TOLERANCE),
        )
        for version, folder in published.items()
    }
    order = [*published]
    for client in clients:
        for answer in client.history:
            assert (answer["digest"], answer["probability"]) == expected[answer["version"]]
        places = [order.index(version) for version in client.versions]
        assert places == sorted(places)
        assert client.versions[-1] == order[-1]
    assert {version for client in clients for version in client.versions} == set(order)
    assert sum(client.answers for client in clients) >= FEWEST
    assert at_the_end <= after_first_swap * (1 + MORE_MEMORY)


@pytest.mark.parametrize(
    ("fail", "problem"),
    [
        (LocalRegistry.kill, "the registry does not answer"),
        (lose_everything, "not released"),
    ],
    ids=["is killed and stays away", "comes back empty"],
)
def test_a_registry_that_fails_changes_no_answer_until_it_is_back(
    ml: Team,
    api: Team,
    registry: LocalRegistry,
    release: Path,
    record: dict[str, Any],
    tmp_path: Path,
    fail: Callable[[LocalRegistry], None],
    problem: str,
) -> None:
    newer = sign_newer(ml, [release], tmp_path)
    ml.must("publish", release)

    with serving(api, "--watch", "1") as service, load(service, record) as clients:
        fail(registry)
        wait_until(lambda: problem in (service.get("/model")["problem"] or ""))
        described, failures = service.get("/model"), failed_updates(service)
        registry.up()
        ml.must("publish", newer["2.0.1"])
        wait_for(service, "2.0.1")
        afterwards = service.get("/model")
        time.sleep(SETTLED)

    assert described["version"] == "2.0.0"
    assert failures >= 1
    assert afterwards["problem"] is None
    assert {client.versions for client in clients} == {("2.0.0", "2.0.1")}
    assert sum(client.answers for client in clients) >= FEWEST


def test_a_layer_that_the_registry_has_damaged_changes_no_answer(
    ml: Team,
    api: Team,
    registry: LocalRegistry,
    release: Path,
    retrained: Path,
    record: dict[str, Any],
    tmp_path: Path,
) -> None:
    newer = sign_newer(ml, [retrained, release], tmp_path)
    ml.must("publish", release)

    with serving(api, "--watch", "0") as service, load(service, record) as clients:
        reload = f"{service.url}/model/reload"
        ml.must("publish", newer["2.0.1"])
        damage(registry, registry.layers("v2")[MODEL_FILE], flip_a_bit)
        refused = requests.post(reload, timeout=READY_SECONDS)
        described, failures = service.get("/model"), failed_updates(service)
        ml.must("publish", newer["2.0.2"])
        taken = requests.post(reload, timeout=READY_SECONDS)
        time.sleep(SETTLED)

    assert refused.status_code == HTTPStatus.BAD_GATEWAY
    assert f"{MODEL_FILE}: expected sha256:" in refused.json()["detail"]
    assert described["version"] == "2.0.0"
    assert described["problem"] == refused.json()["detail"]
    assert failures == 1
    assert (taken.status_code, taken.json()["problem"]) == (HTTPStatus.OK, None)
    assert {client.versions for client in clients} == {("2.0.0", "2.0.2")}
    assert sum(client.answers for client in clients) >= FEWEST
