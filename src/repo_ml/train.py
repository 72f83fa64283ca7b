"""Owns the estimator: how it is fitted, what is measured of it, where its threshold lies.

The only module that imports scikit-learn. Files and formats are left to `package`.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: TID251
from sklearn.metrics import (  # noqa: TID251
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
)
from sklearn.model_selection import StratifiedKFold, train_test_split  # noqa: TID251
from threadpoolctl import threadpool_limits

from repo_ml.errors import DataError
from repo_ml.progress import Advance, rounds
from repo_ml.release import Scores, Trained, Training
from repo_ml.schema import InputSchema

ROUNDS = 100
FOLDS = 5
HELD_OUT = 0.2
GOLDEN = 8
_STEP = 50  # rounds between two movements of the progress bar

Matrix = NDArray[np.float64]
Outcome = NDArray[np.bool_]


def train(training: Training, *, seed: int, baseline: InputSchema | None = None) -> Trained:
    """Measure by cross-validation, then fit on four fifths of the records and measure on the rest.

    What is fitted is what is released. The threshold is the one with the
    highest F1 over the cross-validated probabilities, midway to the next lower
    one, as the released estimator's differ a little. The same records and
    seed give the same estimator, byte for byte.

    Args:
        training: Records that fit their schema, and their outcome.
        seed: Decides the split, the folds and the estimator.
        baseline: The schema before this one, to say what the new inputs bring.

    Raises:
        DataError: There are too few records of an outcome to split.
    """
    rows, outcome = training.schema.encode(training.records), training.outcome
    fewest = int(min(outcome.sum(), (~outcome).sum()))
    if fewest < 2 * FOLDS:
        raise DataError(
            f"expected at least {2 * FOLDS} records of each outcome, got {fewest}; "
            f"that is too few to cross-validate"
        )
    seen, held = train_test_split(
        np.arange(len(rows)), test_size=HELD_OUT, random_state=seed, stratify=outcome
    )
    fits = FOLDS + 1 + (FOLDS if baseline else 0)
    # one thread: the same sums in the same order, on however many cores
    with threadpool_limits(1), rounds("training", fits * ROUNDS) as advance:
        folded = _cross_validate(training.schema, rows, outcome, seed, advance)
        before = None
        if baseline:
            before = _cross_validate(
                baseline, baseline.encode(training.records), outcome, seed, advance
            )
        estimator = _fit(training.schema, rows[seen], outcome[seen], seed, advance)
    probability = estimator.predict_proba(rows)[:, 1]
    return Trained(
        estimator=estimator,
        schema=training.schema,
        target=training.target,
        rows=len(rows),
        base_rate=float(outcome.mean()),
        cross_validation=_scores(outcome, folded),
        held_out=_scores(outcome[held], probability[held]),
        baseline_auc=None if before is None else _rounded(roc_auc_score(outcome, before)),
        threshold=_threshold(outcome, folded),
        held_out_outcome=outcome[held],
        held_out_probability=probability[held],
        golden_examples=tuple(
            (training.records[i], float(probability[i])) for i in _golden(rows, probability)
        ),
    )


def _fit(
    schema: InputSchema, rows: Matrix, outcome: Outcome, seed: int, advance: Advance
) -> HistGradientBoostingClassifier:
    """Fit in steps, so that progress can be shown; the result is that of one fit."""
    estimator = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_leaf_nodes=6,
        min_samples_leaf=50,
        l2_regularization=5.0,
        categorical_features=[i for i, p in enumerate(schema.properties) if p.kind == "string"],
        early_stopping=False,
        warm_start=True,
        random_state=seed,
    )
    # scikit-learn cannot bin a column without a value; a constant one says as little
    rows = np.where(np.isnan(rows).all(axis=0), 0.0, rows)
    for done in range(_STEP, ROUNDS + 1, _STEP):
        estimator.set_params(max_iter=done).fit(rows, outcome.astype(int))
        advance(_STEP)
    return estimator


def _cross_validate(
    schema: InputSchema, rows: Matrix, outcome: Outcome, seed: int, advance: Advance
) -> Matrix:
    """Give each record the probability by an estimator that has not seen it: shape (n,)."""
    probability = np.empty(len(rows))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, left_out in folds.split(rows, outcome):
        estimator = _fit(schema, rows[fitted], outcome[fitted], seed, advance)
        probability[left_out] = estimator.predict_proba(rows[left_out])[:, 1]
    return probability


def _scores(outcome: Outcome, probability: Matrix) -> Scores:
    return Scores(
        auc=_rounded(roc_auc_score(outcome, probability)),
        average_precision=_rounded(average_precision_score(outcome, probability)),
        brier=_rounded(brier_score_loss(outcome, probability)),
        log_loss=_rounded(log_loss(outcome, probability)),
    )


def _threshold(outcome: Outcome, probability: Matrix) -> float:
    precision, recall, thresholds = precision_recall_curve(outcome, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(np.argmax(f1[:-1]))
    return _rounded((thresholds[best] + thresholds[max(best - 1, 0)]) / 2)


def _golden(rows: Matrix, probability: Matrix) -> list[int]:
    """Choose records over the whole range of probabilities, one with missing values if any is."""
    ranked = np.argsort(probability, kind="stable")
    chosen = [int(i) for i in ranked[np.linspace(0, len(ranked) - 1, GOLDEN - 1).astype(int)]]
    return [*chosen, int(np.isnan(rows).sum(axis=1).argmax())]


def _rounded(figure: float) -> float:
    return round(float(figure), 4)
