"""Training: the same each time, measured on what was not seen, a threshold by its rule."""

import pickle

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from conftest import schema_of
from repo_ml.errors import DataError
from repo_ml.release import Trained, Training
from repo_ml.train import FOLDS, GOLDEN, train


def _outcomes(churned: int, stayed: int) -> Training:
    return Training(
        schema=schema_of({"a": {"type": "number"}}),
        target="churned",
        records=tuple({"a": n} for n in range(churned + stayed)),
        outcome=np.arange(churned + stayed) < churned,
    )


def test_same_records_and_seed_give_the_same_bytes(training: Training, trained: Trained) -> None:
    again = train(training, seed=7)

    assert pickle.dumps(again.estimator) == pickle.dumps(trained.estimator)
    assert again.cross_validation == trained.cross_validation
    assert again.threshold == trained.threshold
    assert again.golden_examples == trained.golden_examples


def test_scores_are_those_of_a_forecast_that_is_worth_something(trained: Trained) -> None:
    for scores in (trained.cross_validation, trained.held_out):
        assert 0.62 < scores.auc < 0.85
        assert trained.base_rate < scores.average_precision < 0.7
        assert 0.1 < scores.brier < trained.base_rate * (1 - trained.base_rate) + 0.01
        assert 0.3 < scores.log_loss < 0.55
    assert trained.baseline_auc is not None
    assert trained.baseline_auc < trained.cross_validation.auc - 0.05


def test_held_out_fifth_was_not_fitted(training: Training, trained: Trained) -> None:
    held_out = roc_auc_score(trained.held_out_outcome, trained.held_out_probability)

    assert len(trained.held_out_outcome) == len(training.records) / 5
    assert trained.held_out.auc == pytest.approx(held_out, abs=1e-4)
    assert trained.held_out_outcome.mean() == pytest.approx(trained.base_rate, abs=0.01)


def test_threshold_separates_what_can_be_separated() -> None:
    trained = train(_outcomes(200, 300), seed=7)
    rows = trained.schema.encode([{"a": n} for n in range(500)])
    probability = trained.estimator.predict_proba(rows)[:, 1]  # type: ignore[attr-defined]

    f1 = f1_score(np.arange(500) < 200, probability >= trained.threshold)

    assert f1 > 0.97
    assert trained.baseline_auc is None


def test_golden_examples_give_their_probability_again(trained: Trained) -> None:
    records = [record for record, _ in trained.golden_examples]

    rows = trained.schema.encode(records)
    again = trained.estimator.predict_proba(rows)[:, 1]  # type: ignore[attr-defined]

    assert again.tolist() == [probability for _, probability in trained.golden_examples]


def test_golden_examples_reach_from_the_least_to_the_most(
    training: Training, trained: Trained
) -> None:
    rows = training.schema.encode(training.records)
    everyone = trained.estimator.predict_proba(rows)[:, 1]  # type: ignore[attr-defined]

    probabilities = [probability for _, probability in trained.golden_examples]

    assert len(probabilities) == GOLDEN
    assert probabilities[0] == everyone.min()
    assert probabilities[-2] == everyone.max()
    assert probabilities[:-1] == sorted(probabilities[:-1])


def test_last_golden_example_has_missing_values(trained: Trained) -> None:
    record, _ = trained.golden_examples[-1]

    assert None in record.values()


def test_columns_without_a_value_and_the_longest_enum_are_no_obstacle() -> None:
    members = [f"m{n}" for n in range(255)]
    schema = schema_of(
        {
            "never": {"type": ["number", "null"]},
            "longest": {"type": "string", "enum": members},
            "flag": {"type": "boolean"},
        }
    )
    records = tuple({"longest": members[n % 255], "flag": n % 3 == 0} for n in range(300))

    trained = train(Training(schema, "y", records, np.arange(300) % 3 == 0), seed=7)

    assert trained.cross_validation.auc == 1


def test_too_few_of_an_outcome_are_refused() -> None:
    with pytest.raises(DataError, match=r"at least 10 records of each outcome, got 9"):
        train(_outcomes(2 * FOLDS - 1, 50), seed=7)
