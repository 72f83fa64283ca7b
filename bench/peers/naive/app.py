"""The service as a tutorial writes it: FastAPI, pydantic, and the pickled estimator."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal, get_args

import joblib  # type: ignore[import-untyped]
from fastapi import FastAPI
from pydantic import BaseModel

Education = Literal[
    "No Formal quals",
    "Lower Than A Level",
    "A Level or Equivalent",
    "HE Qualification",
    "Post Graduate Qualification",
]
Deprivation = Literal[
    "0-10%",
    "10-20%",
    "20-30%",
    "30-40%",
    "40-50%",
    "50-60%",
    "60-70%",
    "70-80%",
    "80-90%",
    "90-100%",
]
Age = Literal["0-35", "35-55", "55<="]

EDUCATIONS, DEPRIVATIONS, AGES = get_args(Education), get_args(Deprivation), get_args(Age)
NOT_A_NUMBER = float("nan")


class Learner(BaseModel):
    """What the model is told of a learner."""

    highest_education: Education
    imd_band: Deprivation | None = None
    age_band: Age
    num_of_prev_attempts: int
    studied_credits: int
    registration_day: int | None = None
    clicks_28d: int
    active_days_28d: int
    last_active_day: int | None = None
    assessments_submitted_28d: int | None = None
    mean_score_28d: float | None = None

    def row(self) -> list[float]:
        """Encode the learner as the estimator was trained: enums by position, null as NaN."""
        values = (
            EDUCATIONS.index(self.highest_education),
            None if self.imd_band is None else DEPRIVATIONS.index(self.imd_band),
            AGES.index(self.age_band),
            self.num_of_prev_attempts,
            self.studied_credits,
            self.registration_day,
            self.clicks_28d,
            self.active_days_28d,
            self.last_active_day,
            self.assessments_submitted_28d,
            self.mean_score_28d,
        )
        return [NOT_A_NUMBER if value is None else value for value in values]


class Prediction(BaseModel):
    """What the model says of a learner."""

    probability: float
    decision: bool


RELEASE = Path(os.environ["RELEASE"])
THRESHOLD = json.loads((RELEASE / "release.json").read_bytes())["threshold"]

model = joblib.load(RELEASE / "churn_model_v2.pkl")
app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    """Say that the service is there."""
    return {"status": "ok"}


@app.post("/predict")
def predict(learner: Learner) -> Prediction:
    """Predict for one learner."""
    probability = model.predict_proba([learner.row()])[0, 1]
    return Prediction(probability=probability, decision=probability >= THRESHOLD)


@app.post("/predict/batch")
def predict_batch(learners: list[Learner]) -> list[Prediction]:
    """Predict for several learners."""
    probabilities = model.predict_proba([learner.row() for learner in learners])[:, 1]
    return [Prediction(probability=p, decision=p >= THRESHOLD) for p in probabilities]
