"""Tests of the micro-batch: what is scored together, and who is told what."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from fakes import SCHEMA, fake_model
from repo_api.batching import Batcher
from repo_api.metrics import Metrics
from repo_api.schema import Matrix


class Sizes:
    """Scores, and notes how many rows it was given at a time."""

    def __init__(self) -> None:
        """Note nothing yet."""
        self.seen: list[int] = []

    def __call__(self, rows: Matrix) -> NDArray[np.float64]:
        """Give the first column back."""
        self.seen.append(len(rows))
        return rows[:, 0]


def test_records_of_one_turn_are_scored_together() -> None:
    sizes = Sizes()

    async def main() -> list[float]:
        batcher = Batcher(fake_model(score=sizes), SCHEMA, Metrics().rows)
        return await asyncio.gather(*(batcher.score([clicks]) for clicks in (3.0, 1.0, 2.0)))

    assert asyncio.run(main()) == [3.0, 1.0, 2.0]
    assert sizes.seen == [3]


def test_a_record_may_be_scored_without_waiting_for_the_turn_to_end() -> None:
    metrics = Metrics()

    assert Batcher(fake_model(score=Sizes()), SCHEMA, metrics.rows).score_alone([1.0]) == 1.0
    assert b"repo_api_batch_rows_count 1.0" in metrics.exposition()


def test_a_batch_is_bounded() -> None:
    sizes = Sizes()

    async def main() -> list[float]:
        batcher = Batcher(fake_model(score=sizes), SCHEMA, Metrics().rows)
        return await asyncio.gather(*(batcher.score([float(row)]) for row in range(300)))

    assert asyncio.run(main()) == list(range(300))
    assert sizes.seen == [128, 128, 44]


def test_the_next_turn_is_another_batch() -> None:
    sizes = Sizes()

    async def main() -> list[float]:
        batcher = Batcher(fake_model(score=sizes), SCHEMA, Metrics().rows)
        first = asyncio.ensure_future(batcher.score([1.0]))
        await asyncio.sleep(0)
        others = (batcher.score([row]) for row in (2.0, 3.0))
        return await asyncio.gather(first, *others)

    assert asyncio.run(main()) == [1.0, 2.0, 3.0]
    assert sizes.seen == [1, 2]


def test_a_client_that_went_away_does_not_disturb_the_others() -> None:
    async def main() -> float:
        batcher = Batcher(fake_model(score=Sizes()), SCHEMA, Metrics().rows)
        gone, stays = (asyncio.ensure_future(batcher.score([row])) for row in (1.0, 2.0))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(main()) == 2.0


def test_everybody_who_waits_is_told_of_a_failure() -> None:
    def fail(_rows: Matrix) -> NDArray[np.float64]:
        raise ZeroDivisionError

    async def main() -> list[BaseException | float]:
        batcher = Batcher(fake_model(score=fail), SCHEMA, Metrics().rows)
        waiting = (batcher.score([1.0]) for _ in range(2))
        return await asyncio.gather(*waiting, return_exceptions=True)

    answers = asyncio.run(main())

    assert [type(answer) for answer in answers] == [ZeroDivisionError] * 2
