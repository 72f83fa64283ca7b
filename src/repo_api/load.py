"""Owns the third step: a verified release becomes a model that keeps its producer's promise.

Only this file imports joblib, and it unpickles nothing that was not verified. Answering with
the model is left to `predict` and `serve`.
"""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib  # noqa: TID251
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import InconsistentVersionWarning  # noqa: TID251

from repo_api.errors import FormatError, InputError, IntegrityError
from repo_api.model import Model, Score
from repo_api.records import RecordReader
from repo_api.release import SCHEMA_FILE, GoldenExample, VerifiedRelease
from repo_api.schema import Matrix, Schema, read_input_schema
from repo_api.trees import TOLERANCE, agree, compile_trees

_LOG = logging.getLogger(__name__)


def load(verified: VerifiedRelease) -> Model:
    """Unpickle the estimator, compile it, and replay the golden examples.

    Raises:
        FormatError: The estimator, its schema or a golden example cannot be read.
        IntegrityError: A golden example gives another probability, by more than 1e-9.
    """
    description = verified.description
    schema = read_input_schema(verified.folder / SCHEMA_FILE)
    estimator = _unpickle(verified.folder / description.model_file, schema)

    engine, score = _choose_engine(str(verified.reference), estimator, schema)
    _replay(str(verified.reference), description.golden_examples, schema, score)
    return Model(
        description.name,
        str(description.version),
        verified.digest,
        description.threshold,
        schema,
        engine,
        score,
    )


def _unpickle(path: Path, schema: Schema) -> Any:  # noqa: ANN401  a pickle may hold anything
    try:
        with warnings.catch_warnings():
            # `verify` compared the versions; the golden examples judge what it let pass.
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            estimator = joblib.load(path)
    except Exception as error:  # a pickle may raise anything
        raise FormatError(f"{path.name}: does not unpickle: {error!r}") from error
    columns = len(schema.properties)
    if (
        not hasattr(estimator, "predict_proba")
        or getattr(estimator, "n_features_in_", columns) != columns
        or list(getattr(estimator, "classes_", ())) != [0, 1]
    ):
        raise FormatError(
            f"{path.name}: expected a classifier of the classes 0 and 1 over the {columns} "
            f"properties of {SCHEMA_FILE}, got {type(estimator).__name__}"
        )
    return estimator


def _choose_engine(subject: str, estimator: Any, schema: Schema) -> tuple[str, Score]:  # noqa: ANN401
    """Take the compiled trees if there are any and they answer as scikit-learn does."""

    def score(matrix: Matrix) -> NDArray[np.float64]:
        probabilities: NDArray[np.float64] = estimator.predict_proba(matrix)[:, 1]
        return probabilities

    compiled = compile_trees(estimator, len(schema.properties))
    if compiled is None:
        _LOG.warning("%s: treelite cannot compile it; scikit-learn answers, slower", subject)
    elif not agree(compiled, score, schema):
        _LOG.warning("%s: treelite answers otherwise; scikit-learn answers, slower", subject)
    else:
        return "treelite", compiled
    return "scikit-learn", score


def _replay(subject: str, examples: Sequence[GoldenExample], schema: Schema, score: Score) -> None:
    """Check that the model answers here as it did where it was trained."""
    reader = RecordReader(schema, schema)
    try:
        rows = np.array([reader.check(example.record) for example in examples], np.float64)
    except InputError as error:
        raise FormatError(f"{subject}: a golden example does not fit: {error}") from error
    for number, (example, got) in enumerate(zip(examples, score(rows).tolist(), strict=True), 1):
        if not abs(got - example.probability) <= TOLERANCE:
            raise IntegrityError(
                f"{subject}: golden example {number}", repr(example.probability), repr(got)
            )
