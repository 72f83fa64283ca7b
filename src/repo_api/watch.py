"""Owns which model answers: the first one, and a newer one when the channel moves.

How a model is brought, and how the channel is asked, are passed in. Answering is left to `app`.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from packaging.version import Version

from repo_api.batching import Batcher
from repo_api.errors import DowngradeError, ReleaseError
from repo_api.metrics import Metrics
from repo_api.model import Model
from repo_api.schema import Schema

_T = TypeVar("_T")

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 3600.0
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class _Refused:
    """A release that could not be taken, and when it may be tried again (the loop's clock)."""

    digest: str
    pause: float
    until: float


class Watch:
    """Holds the model that answers; swaps it in one assignment, and keeps it if anything fails."""

    def __init__(
        self,
        latest: Callable[[], str],
        bring: Callable[[], Model],
        request_schema: Schema,
        metrics: Metrics,
    ) -> None:
        """Hold no model yet.

        Args:
            latest: Asks which digest the channel stands for, by one request.
            bring: Pulls, verifies and loads what the channel stands for.
            request_schema: What the records fit that the model is asked about.
            metrics: Where looks and swaps are counted.
        """
        self.current: Batcher | None = None
        self.problem: str | None = None
        self._step: Future[Any] | None = None
        self._latest = latest
        self._bring = bring
        self._request_schema = request_schema
        self._metrics = metrics
        self._refused: _Refused | None = None
        self._lock = asyncio.Lock()
        # One thread for all looks: each new thread would keep memory of its own.
        self._thread = ThreadPoolExecutor(1, "watch")

    @property
    def busy(self) -> bool:
        """Whether a step runs in the thread, which nothing can interrupt."""
        return self._step is not None and not self._step.done()

    async def run(self, seconds: float, on_ready: Callable[[Model], None]) -> None:
        """Bring the first model, then look at the channel again and again.

        Args:
            seconds: Between two looks, give or take a tenth, so that replicas
                that started together do not ask together; 0 never looks.
            on_ready: Is called once, with the first model.

        Raises:
            ReleaseError: There is no first model.
        """
        model = await self._in_thread(self._bring)
        self._take(model)
        on_ready(model)
        while seconds:
            await asyncio.sleep(seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311
            await self.check(pause=seconds)

    async def check(self, *, pause: float = 0.0) -> None:
        """Look at the channel once, and take a new release that passes every step.

        A failure is kept in `problem`, in the log and in the metrics, and the
        model that answers stays.

        Args:
            pause: Before a release that failed is tried again; it doubles every
                time, up to an hour. 0 tries it now.
        """
        async with self._lock:
            digest = None
            try:
                digest = await self._in_thread(self._latest)
                if self._is_settled(digest, pause):
                    return
                self._take(await self._in_thread(self._bring))
            except ReleaseError as error:
                self._refuse(digest, pause, str(error))
                _LOG.warning("%s; the model that serves stays", error)
            except Exception as error:  # noqa: BLE001  whatever it is, the old model can still answer
                self._refuse(digest, pause, repr(error))
                _LOG.exception("a bug kept a new release out; the model that serves stays")

    def _is_settled(self, digest: str, pause: float) -> bool:
        """Tell whether this digest serves already, or has failed and must wait."""
        if self.current and digest == self.current.model.digest:
            self.problem = self._refused = None
            self._metrics.updates.labels("unchanged").inc()
            return True
        refused = self._refused
        return bool(
            refused
            and pause
            and refused.digest == digest
            and asyncio.get_running_loop().time() < refused.until
        )

    def _take(self, model: Model) -> None:
        """Let a model answer from now on; requests under way keep the one they began with."""
        old = self.current.model if self.current else None
        if old and Version(model.version) < Version(old.version):
            raise DowngradeError(
                f"{model.digest}: expected version {old.version}, which serves, "
                f"or a newer one, got {model.version}; restart to go back"
            )
        self.problem = self._refused = None
        if old and model.digest == old.digest:
            return
        self.current = Batcher(model, self._request_schema, self._metrics.observe_prediction)
        self._metrics.serve(model, instead_of=old)
        if old:
            self._metrics.updates.labels("swapped").inc()
            _LOG.info("version %s serves instead of %s", model.version, old.version)

    def _refuse(self, digest: str | None, pause: float, problem: str) -> None:
        self.problem = problem
        self._metrics.updates.labels("failed").inc()
        if digest is None:
            return
        if self._refused and self._refused.digest == digest:
            pause = min(max(pause, 2 * self._refused.pause), _LONGEST_PAUSE)
        until = asyncio.get_running_loop().time() + pause
        self._refused = _Refused(digest, pause, until)

    async def _in_thread(self, step: Callable[[], _T]) -> _T:
        self._step = step_under_way = self._thread.submit(step)
        return await asyncio.wrap_future(step_under_way)
