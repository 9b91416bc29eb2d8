"""Trees walked level by level, all rows and all trees at once; for ensembles too large for `bitmasks`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nbmlops.scoring.bitmasks import goes_left
from nbmlops.scoring.program import Codes, Program
from nbmlops.scoring.trees import Trees

_PAIRS_AT_ONCE: Final = 65_536  # rows times trees that fit a core's cache


@dataclass(frozen=True, eq=False)
class Walk:
    """An ensemble to be walked.

    A feature of a lookup is a figure for each code. A categorical node is made a comparison of its own: a feature
    that is 0 for the codes that it sends left and 1 for the others.
    """

    feature: np.ndarray  # of each node, the column of the table that a walk looks into
    threshold: np.ndarray
    missing_left: np.ndarray
    children: np.ndarray  # (2 * n_nodes,): left, right, left, right...
    roots: np.ndarray
    values: np.ndarray
    turns: int
    n_columns: int
    figures: tuple[tuple[int, np.ndarray, np.ndarray], ...]  # block, rows, columns
    codes: tuple[tuple[int, np.ndarray, np.ndarray], ...]  # lookup, (n_codes, n), columns

    @classmethod
    def of(cls, trees: Trees, program: Program) -> "Walk":
        """Give every feature that a node looks at a column."""
        feature, threshold = np.zeros_like(trees.feature), trees.threshold.copy()
        figures, looked_up, n_columns = [], [], 0
        for at, block in enumerate(program.blocks):
            rows = np.flatnonzero(np.isin(block.places, trees.feature))
            for offset, row in enumerate(rows):
                feature[trees.feature == block.places[row]] = n_columns + offset
            figures.append((at, rows, np.arange(n_columns, n_columns + len(rows))))
            n_columns += len(rows)
        for at, codes in enumerate(program.lookups):
            table = _compared(trees, codes, feature, threshold, n_columns)
            looked_up.append((at, table, np.arange(n_columns, n_columns + table.shape[1])))
            n_columns += table.shape[1]
        children = np.column_stack([trees.left, trees.right]).ravel()
        return cls(
            feature,
            threshold,
            trees.missing_left,
            children,
            trees.roots,
            trees.values,
            trees.n_classes_a_round,
            max(n_columns, 1),  # ONNX Runtime wants one, even where every tree is a single leaf
            tuple(figures),
            tuple(looked_up),
        )

    def raw(self, blocks: Sequence[np.ndarray], codes: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        """Sum the trees' values, (n_outputs, n_rows)."""
        raw = np.empty((self.values.shape[1] * self.turns, n_rows))
        at_once = max(1, _PAIRS_AT_ONCE // len(self.roots))
        for start in range(0, n_rows, at_once):
            rows = slice(start, start + at_once)
            some = len(range(*rows.indices(n_rows)))
            table = self.table([block[:, rows] for block in blocks], [code[rows] for code in codes], some)
            raw[:, rows] = self._summed(self._leaves(table))
        return raw

    def table(self, blocks: Sequence[np.ndarray], codes: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        """Lay out the figures that nodes compare, (n_rows, n_columns)."""
        table = np.empty((n_rows, self.n_columns))
        for at, rows, columns in self.figures:
            table[:, columns] = blocks[at][rows].T
        for at, figures, columns in self.codes:
            table[:, columns] = figures[codes[at]]
        return table

    def _leaves(self, table: np.ndarray) -> np.ndarray:
        """Walk down; give the leaf of each row and tree, (n_rows, n_trees)."""
        n_rows, n_trees = len(table), len(self.roots)
        figures, has_missing = table.ravel(), bool(np.isnan(table).any())
        reached = np.tile(self.roots, n_rows)
        walkers = np.flatnonzero(reached >= 0)
        nodes, rows = reached[walkers], (walkers // n_trees) * self.n_columns
        while nodes.size:
            figure = figures.take(rows + self.feature.take(nodes))
            right = ~(figure <= self.threshold.take(nodes))
            if has_missing:
                right &= ~(np.isnan(figure) & self.missing_left.take(nodes))
            nodes = self.children.take(2 * nodes + right)
            ended = nodes < 0
            reached[walkers[ended]] = nodes[ended]
            on = ~ended
            walkers, nodes, rows = walkers[on], nodes[on], rows[on]
        return ~reached.reshape(n_rows, n_trees)

    def _summed(self, leaves: np.ndarray) -> np.ndarray:
        """Add up each row's leaves in the order of the trees, (n_outputs, n_rows)."""
        turns = [self.values[leaves[:, turn :: self.turns]] for turn in range(self.turns)]
        return np.concatenate([np.add.accumulate(values, axis=1)[:, -1].T for values in turns])


def _compared(trees: Trees, codes: Codes, feature: np.ndarray, threshold: np.ndarray, first: int) -> np.ndarray:
    """Give what nodes compare for each code, (n_codes, n); tell the nodes which column is theirs."""
    columns: list[np.ndarray] = []
    for place, coded in codes.features:
        nodes = np.flatnonzero(trees.feature == place)
        categorical = nodes[trees.bits_of[nodes] >= 0]
        numeric = nodes[trees.bits_of[nodes] < 0]
        if numeric.size:
            feature[numeric] = first + len(columns)
            columns.append(coded.figures.astype(np.float64)[coded.selected])
        feature[categorical] = first + len(columns) + np.arange(len(categorical))
        threshold[categorical] = 0.5
        columns += list(1.0 - goes_left(trees, categorical, coded.figures.astype(np.float64))[:, coded.selected])
    return np.column_stack(columns) if columns else np.empty((codes.n_codes, 0))
