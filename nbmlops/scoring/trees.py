"""Ensembles of trees as flat arrays: what a head holds, checked, and how both ways of walking see it.

Internal nodes of all trees stand in one list, each before its children; leaves in another, tree by tree and from
left to right. A child is the number of an internal node, or ``~number`` of a leaf. A row goes left where its figure
is at most the threshold, or where it is missing and the node sends what is missing to the left; at a categorical
node it goes left where the bit of its category is set.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nbmlops.scoring.compiled import unreadable

N_CATEGORIES = 256


@dataclass(frozen=True, eq=False)
class Trees:
    """All trees of an ensemble.

    Parameters
    ----------
    feature, threshold, missing_left
        Of each internal node.
    left, right
        Its children.
    roots
        Of each tree, an internal node or ``~leaf``.
    values
        Of each leaf and output, (n_leaves, n_outputs).
    n_classes_a_round
        Into how many outputs the trees go in turn: more than 1 only for boosting with many classes.
    bits
        Which of 256 categories go left, (n_categorical_nodes, 256).
    bits_of
        The row of `bits` of each internal node, -1 where it compares figures.
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    roots: np.ndarray
    values: np.ndarray
    n_classes_a_round: int
    bits: np.ndarray
    bits_of: np.ndarray

    @classmethod
    def of(cls, head: dict[str, Any], n_features: int) -> "Trees":
        """Read the head's arrays.

        Raises
        ------
        Unreadable
            They do not make trees: a child that there is not or that comes before its parent, a feature that
            there is not, leaves out of order.
        """
        trees = cls(**{name: head[name] for name in cls.__dataclass_fields__})
        nodes = (trees.feature, trees.threshold, trees.missing_left, trees.left, trees.right, trees.bits_of)
        n_nodes, n_leaves = len(trees.feature), len(trees.values)
        children = np.concatenate([trees.left, trees.right])
        numbers = np.concatenate([children, trees.roots])
        whole = (trees.feature, trees.left, trees.right, trees.roots, trees.bits_of)
        good = (
            all(array.ndim == 1 and len(array) == n_nodes for array in nodes)
            and all(array.dtype.kind == "i" for array in whole)
            and trees.values.ndim == 2
            and trees.values.dtype == trees.threshold.dtype == np.float64
            and trees.missing_left.dtype == trees.bits.dtype == bool
            and trees.bits.shape == (len(trees.bits), N_CATEGORIES)
            and type(trees.n_classes_a_round) is int
            and 1 <= trees.n_classes_a_round <= len(trees.roots)
            and len(trees.roots) % trees.n_classes_a_round == 0
            and _within(trees.feature, 0, n_features)
            and _within(trees.bits_of, -1, len(trees.bits))
            and _within(numbers, -n_leaves, n_nodes)
            and len(numbers) == n_nodes + n_leaves == np.count_nonzero(np.bincount(numbers + np.int64(n_leaves)))
            and bool((np.where(children >= 0, children, n_nodes) > np.tile(np.arange(n_nodes), 2)).all())
        )
        if not good:
            raise unreadable("its trees do not hold together")
        return trees

    @property
    def n_outputs(self) -> int:
        """How many figures they give for a row."""
        return int(self.values.shape[1]) * self.n_classes_a_round

    def leaf_ranges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give, for each internal node, the first leaf of its left, the first and the end of its right."""
        first, middle = _followed(self.left, self.left), _followed(self.right, self.left)
        return first, middle, _followed(self.right, self.right) + 1

    def leaf_starts(self) -> np.ndarray:
        """Give the first leaf of each tree and, last, the number of all, (n_trees + 1,)."""
        return np.append(_followed(self.roots, self.left), len(self.values))


def _within(array: np.ndarray, low: int, high: int) -> bool:
    return not array.size or bool(array.min() >= low and array.max() < high)


def _followed(start: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Step from each node in one direction down to a leaf; give the leaves."""
    at = start.astype(np.int64)
    while (inner := at >= 0).any():
        at[inner] = step[at[inner]]
    return ~at
