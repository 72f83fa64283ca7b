"""Tests of the loading: what is refused, and that the compiled trees answer as the estimator."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from conftest import CHANNEL, GOLDEN_ROWS, INPUT_SCHEMA, MODEL_FILE, MakeRelease
from repo_api.errors import FormatError, IntegrityError
from repo_api.load import load
from repo_api.release import DESCRIPTION_FILE, SCHEMA_FILE, Description, VerifiedRelease
from repo_api.schema import Matrix, Schema
from repo_api.trees import agree, compile_trees, draw

DIGEST = f"sha256:{'0' * 64}"
SCHEMA = Schema.from_json(json.dumps(INPUT_SCHEMA).encode(), SCHEMA_FILE)


def verified(folder: Path) -> VerifiedRelease:
    description = Description.from_json((folder / DESCRIPTION_FILE).read_bytes())
    return VerifiedRelease(folder, CHANNEL, DIGEST, description)


def rows_and_classes() -> tuple[Matrix, NDArray[np.int64]]:
    rows = draw(SCHEMA, 500, np.random.default_rng(1))
    return rows, (rows[:, 2] < 400).astype(np.int64)


def test_a_model_is_loaded_with_what_its_release_says(make_release: MakeRelease) -> None:
    model = load(verified(make_release()))

    assert (model.name, model.version, model.digest) == ("churn-model", "2.0.0", DIGEST)
    assert (model.threshold, model.engine) == (0.5, "treelite")
    assert model.schema.properties == SCHEMA.properties


def test_compiled_trees_answer_as_the_estimator(
    make_release: MakeRelease, model_file: Path
) -> None:
    rows = draw(SCHEMA, 10_000, np.random.default_rng(3))

    probabilities = load(verified(make_release())).score(rows)

    expected = joblib.load(model_file).predict_proba(rows)[:, 1]
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-9)


def test_a_matrix_may_have_any_layout(make_release: MakeRelease) -> None:
    score = load(verified(make_release())).score
    rows = draw(SCHEMA, 7, np.random.default_rng(3))

    np.testing.assert_array_equal(score(np.asfortranarray(rows)), score(rows))


@pytest.mark.parametrize("leaves", [2, 31, 64, 65, 100])
def test_trees_of_any_size_answer_as_the_estimator(leaves: int) -> None:
    """Up to 64 leaves are bits of a word; what has more takes another way."""
    generator = np.random.default_rng(1)
    rows = draw(SCHEMA, 5000, generator)
    classes = generator.integers(0, 2, 5000)
    estimator = HistGradientBoostingClassifier(
        max_iter=5,
        max_leaf_nodes=leaves,
        min_samples_leaf=2,
        categorical_features=[known.codes is not None for known in SCHEMA.properties],
    ).fit(rows, classes)

    score = compile_trees(estimator, rows.shape[1])

    assert score is not None
    expected = estimator.predict_proba(rows)[:, 1]
    np.testing.assert_allclose(score(rows), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(score(rows[:1]), score(rows)[:1])


def test_a_value_on_a_cut_and_one_beyond_all_go_where_the_estimator_sends_them() -> None:
    rows = np.array([[0.0], [1.0], [np.nan]] * 20)
    classes = np.array([0, 1, 1] * 20)
    estimator = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=1).fit(rows, classes)
    edges = np.array([[0.5], [np.nextafter(0.5, 1)], [np.inf], [-np.inf], [np.nan], [1e300]])

    score = compile_trees(estimator, 1)

    assert score is not None
    expected = estimator.predict_proba(edges)[:, 1]
    np.testing.assert_allclose(score(edges), expected, rtol=0, atol=1e-12)


def test_a_forest_is_compiled_too() -> None:
    rows, classes = rows_and_classes()
    rows = np.nan_to_num(rows)
    forest = RandomForestClassifier(5, random_state=0).fit(rows, classes)

    score = compile_trees(forest, 4)

    assert score is not None
    expected = forest.predict_proba(rows)[:, 1]
    np.testing.assert_allclose(score(rows), expected, rtol=0, atol=1e-6)


def test_trees_that_answer_otherwise_are_noticed() -> None:
    rows, classes = rows_and_classes()
    score = compile_trees(HistGradientBoostingClassifier(max_iter=3).fit(rows, classes), 4)
    assert score is not None

    assert agree(score, score, SCHEMA)
    assert not agree(score, lambda matrix: score(matrix) + 2e-9, SCHEMA)
    assert not agree(lambda matrix: score(matrix) * np.nan, score, SCHEMA)


def test_an_estimator_without_trees_is_served_by_scikit_learn(
    make_release: MakeRelease, description: Mapping[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rows, classes = rows_and_classes()
    estimator = LogisticRegression(max_iter=1000).fit(np.nan_to_num(rows), classes)
    example = {**description["golden_examples"][1]}
    row = np.array(GOLDEN_ROWS[1:2])
    example["probability"] = float(estimator.predict_proba(row)[0, 1])
    folder = make_release(golden_examples=[example])
    joblib.dump(estimator, folder / MODEL_FILE)
    schema = {**INPUT_SCHEMA, "required": [*INPUT_SCHEMA["properties"]]}
    (folder / SCHEMA_FILE).write_text(json.dumps(schema), encoding="utf-8")

    with caplog.at_level(logging.WARNING):
        model = load(verified(folder))

    assert model.engine == "scikit-learn"
    assert "treelite cannot compile it" in caplog.text
    assert model.score(row).tolist() == [example["probability"]]


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x04cno_such_module\nname\n."])
def test_what_does_not_unpickle_is_refused(make_release: MakeRelease, content: bytes) -> None:
    folder = make_release()
    (folder / MODEL_FILE).write_bytes(content)

    with pytest.raises(FormatError, match="does not unpickle"):
        load(verified(folder))


@pytest.mark.parametrize(
    "estimator",
    [
        {"no": "estimator"},
        LogisticRegression().fit([[0.0], [1.0]], [0, 1]),
        LogisticRegression().fit([[0.0] * 4, [1.0] * 4], ["no", "yes"]),
    ],
)
def test_what_is_no_classifier_of_these_columns_is_refused(
    make_release: MakeRelease, estimator: object
) -> None:
    folder = make_release()
    joblib.dump(estimator, folder / MODEL_FILE)

    with pytest.raises(FormatError, match="expected a classifier of the classes 0 and 1"):
        load(verified(folder))


def test_a_golden_example_with_another_probability_is_refused(
    make_release: MakeRelease, description: Mapping[str, Any]
) -> None:
    first, second, *_ = description["golden_examples"]
    moved = {**second, "probability": second["probability"] + 2e-9}

    with pytest.raises(IntegrityError, match=r"golden example 2: expected 0.*, got 0"):
        load(verified(make_release(golden_examples=[first, moved])))


def test_a_golden_example_that_promises_nothing_is_refused(
    make_release: MakeRelease, description: Mapping[str, Any]
) -> None:
    example = {**description["golden_examples"][0], "probability": float("nan")}

    with pytest.raises(IntegrityError, match="golden example 1: expected nan"):
        load(verified(make_release(golden_examples=[example])))


def test_a_golden_example_that_does_not_fit_is_refused(make_release: MakeRelease) -> None:
    examples = [{"input": {"age_band": "0-35"}, "probability": 0.5}]

    with pytest.raises(FormatError, match="golden example does not fit: studied_credits"):
        load(verified(make_release(golden_examples=examples)))


def test_a_release_without_a_schema_is_refused(make_release: MakeRelease) -> None:
    folder = make_release()
    (folder / SCHEMA_FILE).unlink()

    with pytest.raises(FormatError, match=r"input_schema.json: expected in the release"):
        load(verified(folder))
