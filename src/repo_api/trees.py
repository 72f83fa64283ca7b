"""Owns the compiled form of a tree ensemble, and the proof that it answers as scikit-learn does.

Only this file imports treelite. Which of the two answers is left to `load`.
"""

import ctypes
from typing import Any

import numpy as np
import treelite
import treelite.gtil
import treelite.sklearn
from numpy.typing import NDArray
from treelite.core import _LIB, _check_call
from treelite.gtil.gtil import GTILConfig

from repo_api.model import Score
from repo_api.schema import Matrix, Property, Schema

TOLERANCE = 1e-9
_ROWS = 10_000
_MISSING_SHARE = 0.1


def compile_trees(estimator: Any, columns: int) -> Score | None:  # noqa: ANN401  it is unpickled
    """Compile an estimator, or return None if treelite does not know its kind.

    Args:
        estimator: A fitted scikit-learn classifier of two classes.
        columns: How many columns its rows have.
    """
    try:
        with np.errstate(invalid="ignore"):  # it casts the NaN among the categories, unused
            trees = treelite.sklearn.import_model(estimator)
    except (treelite.TreeliteError, NotImplementedError, AttributeError, TypeError, ValueError):
        return None
    types = (trees.input_type, trees.output_type)
    if types != ("float64", "float64") or trees.num_feature != columns:
        return None
    # Boosted trees give the probability of class 1 alone, a forest those of both classes.
    width = treelite.gtil.predict(trees, np.zeros((1, columns))).size
    # One thread: a micro-batch is too small to share, and workers are processes.
    config = GTILConfig(predict_type="default", nthread=1)

    def score(matrix: Matrix) -> NDArray[np.float64]:
        # treelite's C API. Its Python wrapper does the same in four times the time: for one
        # row it parses a configuration, asks for the output's shape and converts five types.
        rows = np.ascontiguousarray(matrix)
        probabilities = np.zeros((len(rows), width))
        _check_call(
            _LIB.TreeliteGTILPredict(
                trees.handle,
                ctypes.c_void_p(rows.ctypes.data),
                b"float64",
                ctypes.c_uint64(len(rows)),
                ctypes.c_void_p(probabilities.ctypes.data),
                config.handle,
            )
        )
        return probabilities[:, -1]

    return score


def agree(compiled: Score, reference: Score, schema: Schema) -> bool:
    """Compare two scores on 10,000 random rows of a schema, to 1e-9."""
    rows = draw(schema, _ROWS, np.random.default_rng(0))
    return bool(np.abs(compiled(rows) - reference(rows)).max() <= TOLERANCE)


def draw(schema: Schema, rows: int, generator: np.random.Generator) -> Matrix:
    """Draw encoded records, float64, shape (rows, properties); NaN where a schema allows none."""
    return np.column_stack([_draw(known, rows, generator) for known in schema.properties])


def _draw(known: Property, rows: int, generator: np.random.Generator) -> NDArray[np.float64]:
    low = -1e3 if known.minimum is None else known.minimum
    high = max(low, 1e3) if known.maximum is None else known.maximum
    if known.codes is not None:
        values = generator.choice(list(known.codes.values()), rows).astype(np.float64)
    elif known.type == "boolean":
        values = generator.integers(0, 2, rows).astype(np.float64)
    else:
        values = generator.uniform(low, high, rows)
        if known.type == "integer":
            values = values.round()
    if known.nullable or not known.required:
        values[generator.random(rows) < _MISSING_SHARE] = np.nan
    return values
