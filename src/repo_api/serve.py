"""Owns the fourth step, answering HTTP: the address, the server, and its orderly end.

How a model is brought is passed in; the routes are in `app`, the writing of an answer in `wire`,
several processes in `workers`.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import uvicorn  # noqa: TID251
import uvloop  # noqa: TID251

from repo_api.app import make_app
from repo_api.errors import ReleaseError, SetupError
from repo_api.metrics import Metrics
from repo_api.model import Model
from repo_api.schema import Schema
from repo_api.watch import Watch
from repo_api.wire import OneWriteProtocol
from repo_api.workers import Failed, Ready, Reload, supervise

_BACKLOG = 2048
_SECONDS_TO_FINISH = 8
"""For what is in flight when the service is told to stop; it must be gone within 10 s."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a process needs to answer on its own; picklable, for there may be several.

    `latest` asks which digest the channel stands for; `bring` pulls, verifies and loads it;
    `watch` is the time between two looks at the channel in seconds, 0 for never.
    """

    latest: Callable[[], str]
    bring: Callable[[], Model]
    request_schema: Schema
    watch: float


def run(service: Service, *, host: str, port: int, workers: int) -> None:
    """Answer HTTP requests until SIGTERM or SIGINT; must run in the main thread.

    The address is taken before anything is pulled. It answers at once, but is
    ready only when the model is there, and then says so on standard output.

    Raises:
        SetupError: The address cannot be listened on.
        ReleaseError: There is no model to answer with.
    """
    logging.getLogger("repo_api").setLevel(logging.INFO)
    with _listen(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listener.getsockname()[1]}"

        def say(ready: Ready) -> None:
            sys.stdout.write(
                f"modelo v{ready.version} cargado y listo, {ready.digest}, {address}\n"
            )
            sys.stdout.flush()

        if workers == 1:
            _answer(service, listener, say)
        else:
            supervise(workers, _Work(service, listener), say)


@dataclass(frozen=True, slots=True)
class _Work:
    """What one of several processes does; picklable."""

    service: Service
    listener: socket.socket

    def __call__(self, pipe: Connection) -> None:
        logging.basicConfig(format="repo-api[%(process)d]: %(levelname)s: %(message)s")
        logging.getLogger("repo_api").setLevel(logging.INFO)
        try:
            _answer(self.service, self.listener, pipe.send, pipe)
        except ReleaseError as error:
            pipe.send(Failed(str(error)))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        # `create_server` adds to `strerror` what it tried, which the message says already.
        reason = os.strerror(error.errno) if error.errno else str(error)
        advice = "; pass another --port" if error.errno == errno.EADDRINUSE else ""
        raise SetupError(f"{host}:{port}: cannot listen: {reason}{advice}") from error


def _answer(
    service: Service,
    listener: socket.socket,
    on_ready: Callable[[Ready], None],
    supervisor: Connection | None = None,
) -> None:
    """Answer in this process until told to stop.

    Raises:
        ReleaseError: There is no model to answer with.
    """
    # uvicorn raises the signal again after its orderly end: ignored, the exit code is 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        busy = runner.run(_run_server(service, listener, on_ready, supervisor))
    if busy:
        # A pull in a thread, which nothing can interrupt: the interpreter would wait for it.
        # The cache is made for a process that ends at any moment.
        os._exit(0)


async def _run_server(
    service: Service,
    listener: socket.socket,
    on_ready: Callable[[Ready], None],
    supervisor: Connection | None,
) -> bool:
    """Run server and watch side by side; return whether the watch has left a thread at work."""
    metrics = Metrics()
    watch = Watch(service.latest, service.bring, service.request_schema, metrics)

    def tell_the_others() -> None:
        if supervisor:
            with contextlib.suppress(OSError):  # it is gone, and so is this worker soon
                supervisor.send(Reload())

    def in_flight() -> int:
        return len(server.server_state.tasks)

    app = make_app(
        watch, metrics, service.request_schema, on_reload=tell_the_others, in_flight=in_flight
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            interface="asgi3",
            http=OneWriteProtocol,
            ws="none",
            lifespan="off",
            backlog=_BACKLOG,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
    )

    def stop_without_model(watching: asyncio.Task[None]) -> None:
        if not watching.cancelled() and watching.exception():
            server.should_exit = True

    def be_ready(model: Model) -> None:
        # What was imported to load the model stays: a collection that walks through it
        # would stop every request for a tenth of a second.
        gc.collect()
        gc.freeze()
        on_ready(Ready(model.version, model.digest))

    watching = asyncio.create_task(watch.run(service.watch, be_ready))
    watching.add_done_callback(stop_without_model)
    if supervisor:
        _obey(supervisor, server, watch)
    await server.serve(sockets=[listener])
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return watch.busy


def _obey(supervisor: Connection, server: uvicorn.Server, watch: Watch) -> None:
    """Look at the channel when the supervisor says so, and stop when it is gone."""
    loop = asyncio.get_running_loop()
    looks = set()

    def hear() -> None:
        try:
            supervisor.recv()  # there is but one message, `Reload`
        except (EOFError, ConnectionResetError):
            loop.remove_reader(supervisor.fileno())
            server.should_exit = True
            return
        look = loop.create_task(watch.check())
        looks.add(look)  # the loop itself keeps no task alive
        look.add_done_callback(looks.discard)

    loop.add_reader(supervisor.fileno(), hear)
