"""Owns what the service counts, and how Prometheus reads it; counting is left to who acts."""

import functools
import os
from time import perf_counter

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send  # noqa: TID251

from repo_api.model import Model

CONTENT_TYPE = CONTENT_TYPE_LATEST
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Where set, prometheus-client adds up the workers' figures in files of this folder."""

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 10)


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        """Start them at zero."""
        self._registry = registry = CollectorRegistry()
        seconds = Histogram(
            "repo_api_request_seconds",
            "From a request's head until it is answered; of a prediction, until that is made.",
            ["path", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._seconds = functools.cache(seconds.labels)  # it locks and checks each time
        self.observe_prediction = self._seconds("/predict", 200).observe
        """Note the seconds from a record's arrival until its answer is there."""

        self.updates = Counter(
            "repo_api_model_updates",
            "Looks at the channel: unchanged, swapped, or failed and kept the old model.",
            ["outcome"],
            registry=registry,
        )
        self._serving = Gauge(
            "repo_api_model_serving",
            "1 for the model that answers.",
            ["version", "digest"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        ProcessCollector(registry=registry)

    def observe_request(self, path: str, status: int, started: float) -> None:
        """Note a request that is over; `started` is what `perf_counter` gave when it came."""
        self._seconds(path, status).observe(perf_counter() - started)

    def serve(self, model: Model, instead_of: Model | None) -> None:
        """Say which model answers now."""
        if instead_of:
            self._serving.labels(instead_of.version, instead_of.digest).set(0)
        self._serving.labels(model.version, model.digest).set(1)

    def exposition(self) -> bytes:
        """Write the figures, of all workers if there are several, in Prometheus' text format."""
        if MULTIPROCESS not in os.environ:
            return generate_latest(self._registry)
        all_workers = CollectorRegistry()
        MultiProcessCollector(all_workers)  # type: ignore[no-untyped-call]
        return generate_latest(all_workers)


class MeasureRequests:
    """ASGI middleware: times every request; a path that is none of ours counts as `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        """Wrap `app`, whose paths are `paths`."""
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note its status and time."""
        started = perf_counter()
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.observe_request(path, status, started)
