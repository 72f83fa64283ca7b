"""Tests of the micro-batch: what is answered together, and who is told what."""

import asyncio
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import SCHEMA, fake_model, record
from repo_api.batching import Answer, Batcher
from repo_api.errors import InputError
from repo_api.model import Score
from repo_api.schema import Matrix


class Sizes:
    """Scores, and notes how many rows it was given at a time."""

    def __init__(self) -> None:
        """Note nothing yet."""
        self.seen: list[int] = []

    def __call__(self, rows: Matrix) -> NDArray[np.float64]:
        """Give a thousandth of the first column."""
        self.seen.append(len(rows))
        return rows[:, 0] / 1000


class Asked:
    """A batcher, what its model was given, and the times that it told."""

    def __init__(self, score: Score | None = None) -> None:
        """Ask a model that gives a thousandth of the clicks."""
        self.sizes = Sizes()
        self.seconds: list[float] = []
        self.batcher = Batcher(fake_model(score=score or self.sizes), SCHEMA, self.seconds.append)

    async def answer(self, clicks: int) -> Answer:
        """Ask about a visitor, who came at the beginning of time."""
        return await self.batcher.answer(body(clicks), 0.0)


def body(clicks: int) -> bytes:
    return json.dumps(record(clicks)).encode()


def probability(answer: Answer) -> float:
    assert isinstance(answer, bytes)
    found: float = json.loads(answer)["probability"]
    return found


def test_records_of_one_turn_are_scored_together() -> None:
    asked = Asked()

    async def main() -> list[Answer]:
        return await asyncio.gather(*map(asked.answer, (3, 1, 2)))

    assert [*map(probability, asyncio.run(main()))] == [0.003, 0.001, 0.002]
    assert asked.sizes.seen == [3]


def test_a_record_may_be_answered_without_waiting_for_the_turn_to_end() -> None:
    asked = Asked()

    assert probability(asked.batcher.answer_alone(body(5), 0.0)) == 0.005
    assert asked.sizes.seen == [1]


def test_a_batch_is_bounded() -> None:
    asked = Asked()

    async def main() -> list[Answer]:
        return await asyncio.gather(*map(asked.answer, range(300)))

    answers = asyncio.run(main())

    assert [*map(probability, answers)] == [clicks / 1000 for clicks in range(300)]
    assert asked.sizes.seen == [128, 128, 44]


def test_the_next_turn_is_another_batch() -> None:
    asked = Asked()

    async def main() -> list[Answer]:
        first = asyncio.ensure_future(asked.answer(1))
        await asyncio.sleep(0)
        return await asyncio.gather(first, *map(asked.answer, (2, 3)))

    assert [*map(probability, asyncio.run(main()))] == [0.001, 0.002, 0.003]
    assert asked.sizes.seen == [1, 2]


def test_a_record_that_does_not_fit_is_no_concern_of_the_others() -> None:
    asked = Asked()

    async def main() -> list[Answer]:
        return await asyncio.gather(*map(asked.answer, (-1, 1, -2, -3, 2, -4)))

    answers = asyncio.run(main())

    fit = [place for place, answer in enumerate(answers) if isinstance(answer, bytes)]
    assert fit == [1, 4]
    assert [probability(answers[place]) for place in fit] == [0.001, 0.002]
    assert asked.sizes.seen == [2]
    assert len(asked.seconds) == 2


def test_a_batch_in_which_nothing_fits_is_not_scored() -> None:
    asked = Asked()

    assert isinstance(asked.batcher.answer_alone(body(-1), 0.0), InputError)
    assert asked.sizes.seen == []


def test_the_seconds_of_every_answer_are_told_and_of_no_refusal() -> None:
    asked = Asked()

    for clicks in (1, -1):
        asked.batcher.answer_alone(body(clicks), 0.0)

    (seconds,) = asked.seconds
    assert seconds > 0


def test_a_client_that_went_away_does_not_disturb_the_others() -> None:
    asked = Asked()

    async def main() -> Answer:
        gone, stays = (asyncio.ensure_future(asked.answer(clicks)) for clicks in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert probability(asyncio.run(main())) == 0.002


def test_everybody_who_waits_is_told_of_a_failure() -> None:
    seen = []

    def fail(rows: Matrix) -> NDArray[np.float64]:
        seen.append(len(rows))
        raise ZeroDivisionError

    asked = Asked(fail)

    async def main() -> None:
        for waiting in [asyncio.ensure_future(asked.answer(clicks)) for clicks in (1, 2)]:
            with pytest.raises(ZeroDivisionError):
                await waiting

    asyncio.run(main())

    assert seen == [2]
