"""Owns several processes that answer on one port: starts them, replaces the dead, stops them all.

What a worker does is passed in; it talks to its supervisor over a pipe.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from repo_api.errors import ReleaseError, SetupError
from repo_api.metrics import MULTIPROCESS

_LOG = logging.getLogger(__name__)
_SECONDS_TO_STOP = 9.5
_SECONDS_BETWEEN_TRIES = 5.0


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker answers requests, with this release."""

    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker has no model to answer with; it ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reload:
    """A client asked a worker for the newest release; the supervisor tells the others."""


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    ready: bool = False


def supervise(
    count: int, work: Callable[[Connection], None], on_ready: Callable[[Ready], None]
) -> None:
    """Keep `count` processes at work until SIGTERM or SIGINT; must run in the main thread.

    Args:
        count: How many processes.
        work: What each does, with its end of a pipe: it sends `Ready` or `Failed`,
            may send and receive `Reload`, and ends when the pipe does. Picklable.
        on_ready: Is called once, when all of them are ready for the first time.

    Raises:
        ReleaseError: A worker could not become ready for the first time.
    """
    with tempfile.TemporaryDirectory(prefix="repo-api-") as figures, _signals() as signals:
        os.environ[MULTIPROCESS] = figures
        supervisor = _Supervisor(work, on_ready)
        try:
            supervisor.run(count, signals)
        finally:
            supervisor.stop()


class _Supervisor:
    """The workers that run, and when those that are missing are due."""

    def __init__(
        self, work: Callable[[Connection], None], on_ready: Callable[[Ready], None]
    ) -> None:
        self._work = work
        self._on_ready = on_ready
        self._workers: list[_Worker] = []
        self._due: list[float] = []
        self._announced = False

    def run(self, count: int, signals: socket.socket) -> None:
        """Start the workers and stay until a signal comes."""
        self._due = [time.monotonic()] * count
        while True:
            for due in [due for due in self._due if due <= time.monotonic()]:
                self._due.remove(due)
                self._workers.append(self._start())
            sources: list[Any] = [signals, *(worker.pipe for worker in self._workers)]
            pause = max(0.0, min(self._due) - time.monotonic()) if self._due else None
            happened = wait(sources, pause)
            if signals in happened:
                return
            for worker in [worker for worker in self._workers if worker.pipe in happened]:
                self._hear(worker)

    def stop(self) -> None:
        """Tell all workers to finish, and kill those that do not."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()

    def _start(self) -> _Worker:
        # Not forked: scikit-learn's threads would not survive it.
        spawn = multiprocessing.get_context("spawn")
        pipe, its_pipe = spawn.Pipe()
        process = spawn.Process(target=self._work, args=(its_pipe,))
        process.start()
        its_pipe.close()  # so that its end is our end of file
        return _Worker(process, pipe)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._replace(worker)
            return
        match message:
            case Ready():
                worker.ready = True
                if not (self._announced or self._due) and all(w.ready for w in self._workers):
                    self._announced = True
                    self._on_ready(message)
            case Failed(reason) if self._announced:
                _LOG.warning("worker %s has no model: %s", worker.process.pid, reason)
            case Failed(reason):
                raise ReleaseError(reason)
            case Reload():
                for other in self._workers:
                    if other is not worker:
                        with contextlib.suppress(OSError):  # its end is heard in its turn
                            other.pipe.send(message)

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        code = worker.process.exitcode
        if not self._announced:
            raise SetupError(f"a worker died before it was ready, with exit code {code}")
        _LOG.warning("worker %s died with exit code %s; replaced", worker.process.pid, code)
        mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
        self._due.append(time.monotonic() + (0.0 if worker.ready else _SECONDS_BETWEEN_TRIES))


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """Give a socket that can be read once SIGTERM or SIGINT has come."""
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)  # noqa: FBT003  the standard library's signature
        before = {
            number: signal.signal(number, lambda *_: None)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        descriptor = signal.set_wakeup_fd(sender.fileno())
        try:
            yield receiver
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, previous in before.items():
                signal.signal(number, previous)
