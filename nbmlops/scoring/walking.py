"""Trees walked level by level, all rows and all trees at once; for ensembles too large for `bitmasks`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nbmlops.scoring.bitmasks import goes_left
from nbmlops.scoring.program import Codes, Program
from nbmlops.scoring.trees import Trees

_PAIRS_AT_ONCE: Final = 131_072  # rows times trees: more gain nothing and cost memory
_LEVELS_AT_ONCE: Final = 4  # between two looks at who has arrived


@dataclass(frozen=True, eq=False)
class Table:
    """The figures that nodes compare, a column each, and where each node looks.

    A feature of a lookup is a figure for each code. A categorical node is made a comparison of its own: a column
    that is 0 for the codes that it sends left and 1 for the others.
    """

    column: np.ndarray  # of each internal node
    threshold: np.ndarray
    n_columns: int
    figures: tuple[tuple[int, np.ndarray, np.ndarray], ...]  # block, rows, columns
    codes: tuple[tuple[int, np.ndarray, np.ndarray], ...]  # lookup, (n_codes, n), columns

    @classmethod
    def of(cls, trees: Trees, program: Program) -> "Table":
        """Give every feature that a node looks at a column."""
        column, threshold = np.zeros(len(trees.feature), np.intp), trees.threshold.copy()
        figures, looked_up, n_columns = [], [], 0
        for at, block in enumerate(program.blocks):
            rows = np.flatnonzero(np.isin(block.places, trees.feature))
            for offset, row in enumerate(rows):
                column[trees.feature == block.places[row]] = n_columns + offset
            figures.append((at, rows, np.arange(n_columns, n_columns + len(rows))))
            n_columns += len(rows)
        for at, codes in enumerate(program.lookups):
            table = _compared(trees, codes, column, threshold, n_columns)
            looked_up.append((at, table, np.arange(n_columns, n_columns + table.shape[1])))
            n_columns += table.shape[1]
        # ONNX Runtime wants a column even where every tree is a single leaf
        return cls(column, threshold, max(n_columns, 1), tuple(figures), tuple(looked_up))

    def filled(self, blocks: Sequence[np.ndarray], codes: Sequence[np.ndarray], rows: slice) -> np.ndarray:
        """Lay out some of the rows, (n_rows, n_columns)."""
        n_rows = len(range(*rows.indices(rows.stop)))
        table = np.empty((n_rows, self.n_columns))
        for at, places, columns in self.figures:
            table[:, columns] = blocks[at][places, rows].T
        for at, figures, columns in self.codes:
            table[:, columns] = figures.take(codes[at][rows], axis=0)
        return table


@dataclass(frozen=True, eq=False)
class Walk:
    """An ensemble to be walked: roots first, then the children of each node side by side.

    So a step is ``first_child[node] + (figure > threshold[node])``; a leaf leads to itself.
    """

    table: Table
    column: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    first_child: np.ndarray
    leaf: np.ndarray  # of each place, -1 where it is none
    n_trees: int
    values: np.ndarray
    turns: int

    @classmethod
    def of(cls, trees: Trees, program: Program) -> "Walk":
        """Put nodes and leaves in their places."""
        table, n_trees = Table.of(trees, program), len(trees.roots)
        content = np.concatenate([trees.roots, np.column_stack([trees.left, trees.right]).ravel()]).astype(np.intp)
        inner = content >= 0
        column, threshold = np.zeros(len(content), np.intp), np.full(len(content), np.inf)
        missing_left, first_child = np.ones(len(content), bool), np.arange(len(content))
        nodes = content[inner]
        column[inner], threshold[inner] = table.column[nodes], table.threshold[nodes]
        missing_left[inner], first_child[inner] = trees.missing_left[nodes], n_trees + 2 * nodes
        leaf = np.where(inner, -1, ~content)
        values, turns = trees.values, trees.n_classes_a_round
        return cls(table, column, threshold, missing_left, first_child, leaf, n_trees, values, turns)

    def raw(self, blocks: Sequence[np.ndarray], codes: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        """Sum the trees' values, (n_outputs, n_rows)."""
        raw = np.empty((self.values.shape[1] * self.turns, n_rows))
        at_once = max(1, _PAIRS_AT_ONCE // self.n_trees)
        for start in range(0, n_rows, at_once):
            rows = slice(start, min(start + at_once, n_rows))
            raw[:, rows] = self._summed(self._leaves(self.table.filled(blocks, codes, rows)))
        return raw

    def _leaves(self, table: np.ndarray) -> np.ndarray:
        """Walk down; give the leaf of each row and tree, (n_rows, n_trees)."""
        n_rows, n_columns = table.shape
        figures, has_missing = table.ravel(), bool(np.isnan(table).any())
        nodes = np.tile(np.arange(self.n_trees), n_rows)
        rows = np.repeat(np.arange(0, n_rows * n_columns, n_columns), self.n_trees)
        arrived, walkers = np.empty(len(nodes), np.intp), np.arange(len(nodes))
        while nodes.size:
            for _ in range(_LEVELS_AT_ONCE):
                nodes = self._stepped(nodes, figures, rows, has_missing)
            leaf = self.leaf.take(nodes)
            if (leaf >= 0).all():
                arrived[walkers] = leaf
                break
            arrived[walkers] = leaf  # of those who walk on it is written again
            on = np.flatnonzero(leaf < 0)
            walkers, nodes, rows = walkers.take(on), nodes.take(on), rows.take(on)
        return arrived.reshape(n_rows, self.n_trees)

    def _stepped(self, nodes: np.ndarray, figures: np.ndarray, rows: np.ndarray, has_missing: bool) -> np.ndarray:
        """Go down one level."""
        figure = figures.take(rows + self.column.take(nodes))
        right = figure > self.threshold.take(nodes)
        if has_missing:
            right |= np.isnan(figure) & ~self.missing_left.take(nodes)
        return np.asarray(self.first_child.take(nodes) + right)

    def _summed(self, leaves: np.ndarray) -> np.ndarray:
        """Add up each row's leaves in the order of the trees, (n_outputs, n_rows)."""
        turns = [self.values[leaves[:, turn :: self.turns]] for turn in range(self.turns)]
        return np.concatenate([np.add.accumulate(values, axis=1)[:, -1].T for values in turns])


def _compared(trees: Trees, codes: Codes, column: np.ndarray, threshold: np.ndarray, first: int) -> np.ndarray:
    """Give what nodes compare for each code, (n_codes, n); tell the nodes which column is theirs."""
    columns: list[np.ndarray] = []
    for place, coded in codes.features:
        nodes = np.flatnonzero(trees.feature == place)
        categorical = nodes[trees.bits_of[nodes] >= 0]
        numeric = nodes[trees.bits_of[nodes] < 0]
        if numeric.size:
            column[numeric] = first + len(columns)
            columns.append(coded.figures.astype(np.float64)[coded.selected])
        column[categorical] = first + len(columns) + np.arange(len(categorical))
        threshold[categorical] = 0.5
        columns += list(1.0 - goes_left(trees, categorical, coded.figures.astype(np.float64))[:, coded.selected])
    return np.column_stack(columns) if columns else np.empty((codes.n_codes, 0))
