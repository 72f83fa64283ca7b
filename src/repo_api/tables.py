"""Owns boosted trees as tables of bits: a few array operations find the leaves of all rows.

After QuickScorer (Lucchese et al., SIGIR 2015, doi:10.1145/2766462.2767733). Which trees
there are, and the proof that the answer is the same, are left to `trees`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from repo_api.model import Score
from repo_api.schema import Matrix

MOST_LEAVES = 64
"""Of a tree; each is a bit."""

_CATEGORICAL = 2
"""The type of a node that tests for membership."""

Tree = Mapping[str, NDArray[Any]]
"""A tree by treelite's names, an array each with an element for every node."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Split:
    """A test of a column's value; `left` and `right` are the leaves on either side, as bits."""

    tree: int
    column: int
    threshold: float
    categories: NDArray[Any] | None
    missing_left: bool
    left: int
    right: int

    def cuts(self) -> _Floats:
        """List values; from one to the next, the test turns out the same."""
        if self.categories is None:
            return np.array([self.threshold])
        return np.arange(self.categories.max(initial=0) + 1.0)

    def excludes(self, values: _Floats) -> NDArray[np.uint64]:
        """Give the leaves, as bits, that cannot be reached with each of the values."""
        if self.categories is None:
            left = values <= self.threshold
        else:
            left = np.isin(values, self.categories)
        left = np.where(np.isnan(values), self.missing_left, left)
        return np.where(left, np.uint64(self.right), np.uint64(self.left))


def make_tables(trees: Sequence[Tree], columns: int, base: float) -> Score:
    """Make a score of trees whose leaves add up to log-odds.

    Between two cuts, a value decides every split on its column in the same way. For each
    such interval, a line of the table has the leaves of every tree that are still possible;
    the lines of a row's values have exactly one leaf of each tree in common.
    """
    splits: list[_Split] = []
    leaves: list[list[float]] = []
    for tree in trees:
        leaves.append([])
        _walk(tree, 0, splits, leaves)
    every = np.array([2 ** len(values) - 1 for values in leaves], np.uint64)
    bits = np.min_scalar_type(every.max())

    cuts, lines = [], []
    for column in range(columns):
        own = [split for split in splits if split.column == column]
        # Beyond all others are two: what is greater than they are, and what is missing.
        values = np.unique(np.concatenate([[np.inf, np.nan], *(split.cuts() for split in own)]))
        possible = np.tile(every, (len(values), 1))
        for split in own:
            possible[:, split.tree] &= ~split.excludes(values)
        cuts.append(values)
        lines.append(possible.astype(bits))
    return _compose(cuts, lines, leaves, base)


def _walk(tree: Tree, node: int, splits: list[_Split], leaves: list[list[float]]) -> int:
    """Collect what is below a node of the last tree; return the leaves there, as bits."""
    if tree["cleft"][node] < 0:
        leaves[-1].append(tree["leaf_value"][node])
        return 1 << (len(leaves[-1]) - 1)
    children = tree["cleft"][node], tree["cright"][node]
    left, right = (_walk(tree, child, splits, leaves) for child in children)
    listed = slice(tree["category_list_begin"][node], tree["category_list_end"][node])
    split = _Split(
        len(leaves) - 1,
        tree["split_index"][node],
        tree["threshold"][node],
        tree["category_list"][listed] if tree["node_type"][node] == _CATEGORICAL else None,
        bool(tree["default_left"][node]),
        left,
        right,
    )
    splits.append(split)
    return left | right


def _compose(
    cuts: Sequence[_Floats],
    lines: Sequence[NDArray[Any]],
    leaves: Sequence[Sequence[float]],
    base: float,
) -> Score:
    """Lay the columns' tables end to end, so that one search serves them all."""
    all_cuts = np.unique(np.concatenate(cuts))
    table = np.concatenate(lines)
    first_line = np.cumsum([0, *(len(values) for values in cuts[:-1])])
    line_at = np.concatenate(
        [
            first + np.searchsorted(values, all_cuts)
            for first, values in zip(first_line, cuts, strict=True)
        ]
    )
    first_cut = np.arange(len(cuts))[:, np.newaxis] * len(all_cuts)
    value_at = np.concatenate(leaves)
    first_value = np.cumsum([0, *(len(values) for values in leaves[:-1])])

    def score(matrix: Matrix) -> _Floats:
        line = line_at.take(all_cuts.searchsorted(matrix.T) + first_cut)
        leaf = np.bitwise_and.reduce(table.take(line, axis=0))
        place = np.bitwise_count(leaf - 1)  # of the one bit that is left
        values = value_at.take(place + first_value)
        probabilities: _Floats = expit(np.add.reduce(values, axis=1) + base)
        return probabilities

    return score
