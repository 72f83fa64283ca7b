"""Owns the made-up learners: a process that is written down, so that no download is needed.

A learner has a hidden *engagement*, standard normal, a little higher with
more education and with less deprivation. What is seen follows from it:
active days are binomial in its logistic, clicks are negative binomial given
the active days, scores are normal around it. Leaving is Bernoulli with the
logistic of a sum in which engagement weighs most, then previous attempts and
credits. About one learner in five leaves.
"""

import numpy as np
import polars as pl  # noqa: TID251
from numpy.typing import NDArray

_EDUCATION = {
    "No Formal quals": 0.01,
    "Lower Than A Level": 0.40,
    "A Level or Equivalent": 0.43,
    "HE Qualification": 0.15,
    "Post Graduate Qualification": 0.01,
}
_AGE = {"0-35": 0.70, "35-55": 0.29, "55<=": 0.01}
_CREDITS = {30: 0.22, 60: 0.45, 90: 0.14, 120: 0.17, 240: 0.02}
_BAND_UNKNOWN = 0.035
_WINDOW = 28  # days


def synthetic(learners: int, seed: int) -> pl.DataFrame:
    """Draw learners: one row each, the properties of the newest schema and `churned`.

    Args:
        learners: How many.
        seed: The same seed gives the same learners.
    """
    draw = np.random.default_rng(seed)
    education = draw.choice(len(_EDUCATION), learners, p=list(_EDUCATION.values()))
    band = draw.integers(0, 10, learners)
    attempts = draw.poisson(0.16, learners).clip(0, 6)
    credit = draw.choice(list(_CREDITS), learners, p=list(_CREDITS.values()))
    registered = draw.normal(-65, 45, learners).clip(-300, 20).round().astype(int)
    engagement = draw.normal(0.15 * (education - 2) + 0.05 * (band - 4.5), 1)

    active = draw.binomial(_WINDOW, _logistic(engagement - 0.7))
    clicks = np.where(
        active > 0, draw.negative_binomial(1.5, 1.5 / (1.5 + 14 * (active + 0.01))), 0
    )
    clicks = np.maximum(clicks, active)
    last = np.where(active > 0, draw.binomial(_WINDOW - 1, _logistic(0.4 * active - 0.5)), 0)
    last = np.maximum(last, active - 1)
    submitted = draw.binomial(2, _logistic(engagement + 0.6))
    score = draw.normal(72 + 7 * engagement, 11).clip(0, 100).round(1)

    leaving = -1.75 - 0.95 * engagement + 0.35 * attempts + 0.004 * (credit - 60)
    churned = draw.random(learners) < _logistic(leaving)

    frame = pl.DataFrame(
        {
            "highest_education": np.array(list(_EDUCATION))[education],
            "imd_band": [f"{10 * b}-{10 * b + 10}%" for b in band],
            "age_band": draw.choice(list(_AGE), learners, p=list(_AGE.values())),
            "num_of_prev_attempts": attempts,
            "studied_credits": credit,
            "registration_day": registered,
            "clicks_28d": clicks,
            "active_days_28d": active,
            "last_active_day": last,
            "assessments_submitted_28d": submitted,
            "mean_score_28d": score,
            "churned": churned.astype(int),
            "band_unknown": draw.random(learners) < _BAND_UNKNOWN,
        }
    )
    return frame.select(
        pl.exclude("band_unknown", "imd_band", "last_active_day", "mean_score_28d", "churned"),
        pl.when(~pl.col("band_unknown")).then("imd_band"),
        pl.when(pl.col("active_days_28d") > 0).then("last_active_day"),
        pl.when(pl.col("assessments_submitted_28d") > 0).then("mean_score_28d"),
        "churned",
    )


def _logistic(x: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))
