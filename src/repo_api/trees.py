"""Owns the compiled form of a tree ensemble, and the proof that it answers as scikit-learn does.

Only this file imports treelite. Which of the two answers is left to `load`.
"""

from typing import Any

import numpy as np
import treelite  # noqa: TID251
import treelite.gtil  # noqa: TID251
import treelite.sklearn  # noqa: TID251
from numpy.typing import NDArray

from repo_api.model import Score
from repo_api.schema import Matrix, Property, Schema
from repo_api.tables import MOST_LEAVES, make_tables

TOLERANCE = 1e-9
_ROWS = 10_000
_MISSING_SHARE = 0.1
_FIELDS = (
    "category_list",
    "category_list_begin",
    "category_list_end",
    "category_list_right_child",
    "cleft",
    "cright",
    "default_left",
    "leaf_value",
    "node_type",
    "split_index",
    "threshold",
)


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
    if tables := _tables(trees):
        return tables

    def score(matrix: Matrix) -> NDArray[np.float64]:
        # Boosted trees give the probability of class 1 alone, a forest those of both classes.
        # One thread: a micro-batch is too small to share, and workers are processes.
        probabilities: NDArray[np.float64] = treelite.gtil.predict(trees, matrix, nthread=1)
        return probabilities.reshape(len(matrix), -1)[:, -1]

    return score


def _tables(model: treelite.Model) -> Score | None:
    """Make tables of small boosted trees: a row takes two thirds of the time, 32 rows a ninth."""
    about = model.get_header_accessor()
    trees = [
        {name: tree.get_field(name) for name in _FIELDS}
        for tree in map(model.get_tree_accessor, range(model.num_tree))
    ]
    if (
        about.get_field("postprocessor") != "sigmoid"
        or about.get_field("sigmoid_alpha") != 1
        or about.get_field("average_tree_output")
        or any(len(tree["cleft"]) >= 2 * MOST_LEAVES for tree in trees)
        or any(tree["category_list_right_child"].any() for tree in trees)
    ):
        return None
    base = about.get_field("base_scores")[0]
    return make_tables(trees, model.num_feature, float(base))


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
