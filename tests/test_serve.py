"""Tests of the serving over a real socket: address, start, reload, workers, and orderly end."""

import contextlib
import errno
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import SCHEMA, fake_model, record
from repo_api.errors import ContractError, ReleaseError, SetupError
from repo_api.metrics import MULTIPROCESS
from repo_api.model import Model
from repo_api.schema import Matrix
from repo_api.serve import Service, run

T = TypeVar("T")


# What a service asks for is picklable: functions of a module, and a file for the channel.


def latest(channel: Path) -> str:
    return f"sha256:{channel.read_text()}"


def bring(channel: Path) -> Model:
    version = channel.read_text()
    if version == "none":
        raise ContractError("the model does not fit")
    if version == "crash":
        os._exit(7)
    return fake_model(version, score_slowly if version == "0.0.1" else score)


def score(rows: Matrix) -> NDArray[np.float64]:
    return rows[:, 0] / 1000


SCORING = threading.Event()


def score_slowly(rows: Matrix) -> NDArray[np.float64]:
    SCORING.set()
    time.sleep(0.5)
    return score(rows)


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    path = tmp_path / "channel"
    path.write_text("2.0.0")
    return path


@pytest.fixture(autouse=True)
def _signals_and_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what `run` does to the process, which is all its own outside of tests."""
    monkeypatch.setenv(MULTIPROCESS, "")
    monkeypatch.delenv(MULTIPROCESS)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one that comes too late ends no test run
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


class Serving:
    """Serves in this thread while another one acts as a client."""

    def __init__(self, channel: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Serve what `channel` stands for."""
        self.printed = ""
        self._service = Service(partial(latest, channel), partial(bring, channel), SCHEMA, 0)
        self._capsys = capsys

    def __call__(self, act: Callable[[httpx.Client], T], workers: int = 1) -> T:
        """Act once all workers are ready, then stop by SIGTERM."""
        port = free_port()
        results: list[T] = []

        def talk() -> None:
            try:
                wait_until(self._is_ready)
                with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                    results.append(act(client))
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        talking = threading.Thread(target=talk)
        talking.start()
        try:
            run(self._service, host="127.0.0.1", port=port, workers=workers)
        finally:
            talking.join()
        return results[0]

    def _is_ready(self) -> bool:
        self.printed += self._capsys.readouterr().out
        return "listo" in self.printed


@pytest.fixture
def while_serving(channel: Path, capsys: pytest.CaptureFixture[str]) -> Serving:
    return Serving(channel, capsys)


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.1)
    pytest.fail("it did not happen in time")


def workers_alive() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


def versions(client: httpx.Client) -> set[str]:
    """Ask over connections of their own, so that every worker has its turn."""
    return {
        httpx.get(f"{client.base_url}/model", headers={"connection": "close"}).json()["version"]
        for _ in range(20)
    }


def test_it_answers_and_says_when_it_is_ready(while_serving: Serving) -> None:
    response = while_serving(lambda client: client.post("/predict", json=record(600)))

    assert response.json()["probability"] == 0.6
    assert "server" not in response.headers
    line = "modelo v2.0.0 cargado y listo, sha256:2.0.0, http://127.0.0.1:"
    assert while_serving.printed.startswith(line)


def test_a_taken_port_is_found_before_anything_is_pulled(channel: Path) -> None:
    channel.unlink()
    service = Service(partial(latest, channel), partial(bring, channel), SCHEMA, 0)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError) as refusal:
            run(service, host="127.0.0.1", port=port, workers=1)

    reason = os.strerror(errno.EADDRINUSE)
    assert str(refusal.value) == (f"127.0.0.1:{port}: cannot listen: {reason}; pass another --port")


def test_an_address_of_another_machine_is_refused(channel: Path) -> None:
    service = Service(partial(latest, channel), partial(bring, channel), SCHEMA, 0)

    with pytest.raises(SetupError, match=r"192.0.2.7:8000: cannot listen"):
        run(service, host="192.0.2.7", port=8000, workers=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_without_a_model_it_does_not_start(channel: Path, workers: int) -> None:
    channel.write_text("none")
    service = Service(partial(latest, channel), partial(bring, channel), SCHEMA, 0)

    with pytest.raises(ReleaseError, match=r"^the model does not fit$"):
        run(service, host="127.0.0.1", port=free_port(), workers=workers)


def test_a_worker_that_dies_at_the_start_ends_the_service(channel: Path) -> None:
    channel.write_text("crash")
    service = Service(partial(latest, channel), partial(bring, channel), SCHEMA, 0)

    with pytest.raises(SetupError, match="died before it was ready, with exit code 7"):
        run(service, host="127.0.0.1", port=free_port(), workers=2)


def test_what_is_in_flight_is_finished(channel: Path, while_serving: Serving) -> None:
    channel.write_text("0.0.1")
    answers: list[httpx.Response] = []

    def act(client: httpx.Client) -> threading.Thread:
        url = f"{client.base_url}/predict"
        asking = threading.Thread(target=lambda: answers.append(httpx.post(url, json=record(600))))
        asking.start()
        assert SCORING.wait(30)
        return asking

    asking = while_serving(act)

    asking.join()
    assert answers[0].json()["probability"] == 0.6


def test_workers_share_a_port_and_their_figures(while_serving: Serving) -> None:
    def act(client: httpx.Client) -> str:
        for _ in range(20):
            httpx.post(f"{client.base_url}/predict", json=record(1))
        return client.get("/metrics").text

    metrics = while_serving(act, workers=2)

    assert 'repo_api_request_seconds_count{path="/predict",status="200"} 20.0' in metrics
    assert while_serving.printed.count("cargado y listo") == 1


def test_a_worker_that_dies_is_replaced(while_serving: Serving) -> None:
    def act(client: httpx.Client) -> tuple[set[int | None], set[int | None]]:
        before = workers_alive()
        victim = next(pid for pid in before if pid)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(workers_alive() - {victim}) == 2)
        wait_until(lambda: httpx.get(f"{client.base_url}/health/ready").status_code == 200)
        return before, workers_alive()

    before, after = while_serving(act, workers=2)

    assert len(before & after) == 1
    assert len(after) == 2


def test_reload_reaches_every_worker(channel: Path, while_serving: Serving) -> None:
    def act(client: httpx.Client) -> None:
        wait_until(lambda: versions(client) == {"2.0.0"})
        channel.write_text("2.1.0")
        assert client.post("/model/reload").json()["version"] == "2.1.0"
        wait_until(lambda: versions(client) == {"2.1.0"})

    while_serving(act, workers=2)
