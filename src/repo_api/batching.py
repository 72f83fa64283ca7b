"""Owns the micro-batch: records that arrive in one turn of the event loop are scored together.

Which model scores, and when another takes its place, is left to `watch`.
"""

import asyncio
from dataclasses import dataclass, field

import numpy as np
from prometheus_client import Histogram

from repo_api.model import Model
from repo_api.records import RecordReader, Row
from repo_api.schema import Schema

_LIMIT = 128
"""Rows of a batch; at about 20 microseconds a row, the event loop waits 2.5 ms at most."""


@dataclass(slots=True)
class _Batch:
    """Rows, and once they were scored the probability of each."""

    rows: list[Row] = field(default_factory=list)
    probabilities: list[float] | None = None


class Batcher:
    """Reads records for one model, and scores single ones together with what else arrives now.

    There is no timer: a lone record waits for nothing.
    """

    def __init__(self, model: Model, request_schema: Schema, sizes: Histogram) -> None:
        """Score with `model` what fits `request_schema`, and note the batches' sizes."""
        self.model = model
        self.reader = RecordReader(request_schema, model.schema)
        self._sizes = sizes
        self._open = _Batch()

    def score_alone(self, row: Row) -> float:
        """Score an encoded record at once, where no other can arrive in this turn."""
        return self._score([row])[0]

    async def score(self, row: Row) -> float:
        """Score an encoded record with all others of this turn."""
        batch = self._open
        place = len(batch.rows)
        batch.rows.append(row)
        if place + 1 == _LIMIT:
            self._open = _Batch()
        await asyncio.sleep(0)  # until every request that this turn has read is in a batch
        if batch.probabilities is None:  # whoever is back first scores for all
            if batch is self._open:
                self._open = _Batch()
            batch.probabilities = self._score(batch.rows)
        return batch.probabilities[place]

    def _score(self, rows: list[Row]) -> list[float]:
        self._sizes.observe(len(rows))
        probabilities: list[float] = self.model.score(np.array(rows, np.float64)).tolist()
        return probabilities
