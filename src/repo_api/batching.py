"""Owns the micro-batch: records that arrive in one turn of the event loop are scored together.

Which model scores, and when another takes its place, is left to `watch`.
"""

import asyncio

import numpy as np
from prometheus_client import Histogram

from repo_api.model import Model

_LIMIT = 128
"""Rows of a batch; at about 20 microseconds a row, the event loop waits 2.5 ms at most."""


class Batcher:
    """Scores single records with one model, together with what else arrives now.

    There is no timer: a lone record waits for nothing.
    """

    def __init__(self, model: Model, sizes: Histogram) -> None:
        """Score with `model`, and note the batches' sizes."""
        self.model = model
        self._sizes = sizes
        self._rows: list[list[float]] = []
        self._answers: list[asyncio.Future[float]] = []

    def score_alone(self, row: list[float]) -> float:
        """Score an encoded record at once, where no other can arrive in this turn."""
        self._sizes.observe(1)
        return float(self.model.score(np.array([row], np.float64))[0])

    def score(self, row: list[float]) -> asyncio.Future[float]:
        """Put an encoded record into the next batch; its probability follows."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[float] = loop.create_future()
        self._rows.append(row)
        self._answers.append(answer)
        if len(self._rows) == 1:
            # Runs after every request that this turn of the loop has read.
            loop.call_soon(self._flush)
        elif len(self._rows) == _LIMIT:
            self._flush()
        return answer

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        answers, self._answers = self._answers, []
        if not rows:  # the batch was full before its turn came
            return
        self._sizes.observe(len(rows))
        try:
            probabilities = self.model.score(np.array(rows, np.float64)).tolist()
        except Exception as error:  # noqa: BLE001  whoever waits must be told
            for answer in answers:
                if not answer.done():
                    answer.set_exception(error)
            return
        for answer, probability in zip(answers, probabilities, strict=True):
            if not answer.done():  # its client went away
                answer.set_result(probability)
