"""Owns the model as the verbs after `load` see it: what it answers, and how to ask it."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from repo_api.schema import Matrix, Schema

Score = Callable[[Matrix], NDArray[np.float64]]
"""From encoded records, float64, shape (n, columns), to probabilities, float64, shape (n,)."""


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """The answer for one record, and which model gave it."""

    probability: float
    decision: bool
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Model:
    """A release that was verified and gives the probabilities that its producer promised.

    `engine` names the library that scores: `treelite` or `scikit-learn`.
    """

    name: str
    version: str
    digest: str
    threshold: float
    schema: Schema
    engine: str
    score: Score

    def answer(self, probability: float) -> Prediction:
        """Decide by the release's threshold."""
        return Prediction(probability, probability >= self.threshold, self.version, self.digest)
