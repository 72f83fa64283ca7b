"""Owns the micro-batch: records that arrive in one turn of the event loop are answered together.

Which model answers, and when another takes its place, is left to `watch`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import msgspec
import numpy as np

from repo_api.errors import InputError
from repo_api.model import Model
from repo_api.records import RecordReader, Row
from repo_api.schema import Schema

_LIMIT = 128
"""Records of a batch: what bounds the time that the event loop waits for one."""

_encode = msgspec.json.Encoder().encode

Answer = bytes | InputError
"""A prediction as JSON, or what is wrong with the record."""


@dataclass(slots=True)
class _Batch:
    """Records as they came and when, by `perf_counter`; then the answers, or why there are none."""

    bodies: list[bytes] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    failure: Exception | None = None


class Batcher:
    """Answers records with one model, single ones together with what else arrives now.

    There is no timer: a lone record waits for nothing. Each step is done for a whole
    batch before the next, which keeps the processor's caches warm.
    """

    def __init__(
        self, model: Model, request_schema: Schema, observe: Callable[[float], None]
    ) -> None:
        """Answer with `model` what fits `request_schema`; `observe` is told its seconds."""
        self.model = model
        self.reader = RecordReader(request_schema, model.schema)
        self._observe = observe
        self._open = _Batch()

    def answer_alone(self, body: bytes, started: float) -> Answer:
        """Answer a record at once, where no other can arrive in this turn."""
        return self._answer([body], [started])[0]

    async def answer(self, body: bytes, started: float) -> Answer:
        """Answer a record with all others of this turn."""
        batch = self._open
        place = len(batch.bodies)
        batch.bodies.append(body)
        batch.started.append(started)
        if place + 1 == _LIMIT:
            self._open = _Batch()
        await asyncio.sleep(0)  # until every request that this turn has read is in a batch
        if not batch.answers:  # whoever is back first answers for all
            if batch.failure:
                raise batch.failure
            if batch is self._open:
                self._open = _Batch()
            try:
                batch.answers = self._answer(batch.bodies, batch.started)
            except Exception as error:
                batch.failure = error
                raise
        return batch.answers[place]

    def _answer(self, bodies: list[bytes], started: list[float]) -> list[Answer]:
        try:
            rows = [self.reader.one(body) for body in bodies]
        except InputError:
            read = [self._read(body) for body in bodies]
        else:
            return self._score(rows, started)
        fit = [
            (row, moment)
            for row, moment in zip(read, started, strict=True)
            if not isinstance(row, InputError)
        ]
        scored = iter(self._score(*map(list, zip(*fit, strict=True))) if fit else ())
        return [row if isinstance(row, InputError) else next(scored) for row in read]

    def _read(self, body: bytes) -> Row | InputError:
        try:
            return self.reader.one(body)
        except InputError as error:
            return error

    def _score(self, rows: list[Row], started: list[float]) -> list[Answer]:
        probabilities = self.model.score(np.array(rows, np.float64)).tolist()
        answers: list[Answer] = [_encode(self.model.answer(each)) for each in probabilities]
        now = perf_counter()
        for moment in started:
            self._observe(now - moment)
        return answers
