"""Tests of the micro-batch: what is scored together, and who is told what."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from fakes import fake_model
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
        batcher = Batcher(fake_model(score=sizes), Metrics().rows)
        return await asyncio.gather(*(batcher.score([clicks]) for clicks in (3.0, 1.0, 2.0)))

    assert asyncio.run(main()) == [3.0, 1.0, 2.0]
    assert sizes.seen == [3]


def test_a_lone_record_waits_for_no_other() -> None:
    sizes = Sizes()

    async def main() -> None:
        batcher = Batcher(fake_model(score=sizes), Metrics().rows)
        answer = batcher.score([1.0])
        await asyncio.sleep(0)
        assert answer.done()

    asyncio.run(main())

    assert sizes.seen == [1]


def test_a_record_may_be_scored_without_waiting_for_the_turn_to_end() -> None:
    metrics = Metrics()

    assert Batcher(fake_model(score=Sizes()), metrics.rows).score_alone([1.0]) == 1.0
    assert b"repo_api_batch_rows_count 1.0" in metrics.exposition()


def test_a_batch_is_bounded() -> None:
    sizes = Sizes()

    async def main() -> list[float]:
        batcher = Batcher(fake_model(score=sizes), Metrics().rows)
        return await asyncio.gather(*(batcher.score([float(row)]) for row in range(300)))

    assert asyncio.run(main()) == list(range(300))
    assert sizes.seen == [128, 128, 44]


def test_a_full_batch_leaves_nothing_behind() -> None:
    sizes = Sizes()

    async def main() -> None:
        batcher = Batcher(fake_model(score=sizes), Metrics().rows)
        await asyncio.gather(*(batcher.score([1.0]) for _ in range(128)))

    asyncio.run(main())

    assert sizes.seen == [128]


def test_a_client_that_went_away_does_not_disturb_the_others() -> None:
    async def main() -> float:
        batcher = Batcher(fake_model(score=Sizes()), Metrics().rows)
        gone, stays = batcher.score([1.0]), batcher.score([2.0])
        gone.cancel()
        return await stays

    assert asyncio.run(main()) == 2.0


def test_everybody_who_waits_is_told_of_a_failure() -> None:
    def fail(_rows: Matrix) -> NDArray[np.float64]:
        raise ZeroDivisionError

    async def main() -> list[BaseException | float]:
        batcher = Batcher(fake_model(score=fail), Metrics().rows)
        gone, *waiting = (batcher.score([1.0]) for _ in range(3))
        gone.cancel()
        return await asyncio.gather(*waiting, return_exceptions=True)

    answers = asyncio.run(main())

    assert [type(answer) for answer in answers] == [ZeroDivisionError] * 2
