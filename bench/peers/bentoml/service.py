"""The estimator as a BentoML service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import bentoml
import joblib  # type: ignore[import-untyped]
from bentoml.validators import ContentType

# Without its type said, BentoML works it out from a JSON Schema at every answer.
Probabilities = Annotated[list[float], ContentType("application/json")]


@bentoml.service(
    workers=1,
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    monitoring={"enabled": False},
)
class Churn:
    """Probabilities from encoded rows; shape (n, 11)."""

    def __init__(self) -> None:
        """Load the estimator."""
        self.model = joblib.load(Path(os.environ["RELEASE"]) / "churn_model_v2.pkl")

    @bentoml.api(batchable=True)  # type: ignore[untyped-decorator]
    async def predict(self, rows: list[list[float]]) -> Probabilities:
        """Predict for the rows of concurrent requests together."""
        return self.predict_rows(rows)

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict_batch(self, rows: list[list[float]]) -> Probabilities:
        """Predict for many rows of one request."""
        return self.predict_rows(rows)

    def predict_rows(self, rows: list[list[float]]) -> list[float]:
        """Ask the estimator."""
        probabilities: list[float] = self.model.predict_proba(rows)[:, 1].tolist()
        return probabilities
