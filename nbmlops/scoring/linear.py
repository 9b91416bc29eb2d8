"""Linear models: one product for each block of figures, one row of a table for each looked-up column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbmlops.scoring.compiled import unreadable
from nbmlops.scoring.program import Program


@dataclass(frozen=True, eq=False)
class Linear:
    """``coef @ features + intercept``, with the features of lookups summed beforehand."""

    weights: tuple[np.ndarray, ...]  # for each block (n_outputs, n_features)
    tables: tuple[np.ndarray, ...]  # for each lookup (n_outputs, n_codes)
    intercept: np.ndarray  # (n_outputs, 1)

    @classmethod
    def of(cls, head: dict[str, Any], program: Program) -> "Linear":
        """Read the head's figures.

        Raises
        ------
        Unreadable
            There is not one coefficient for each output and feature.
        """
        coef, intercept = head["coef"], head["intercept"]
        if coef.ndim != 2 or coef.shape[1] != program.n_features or intercept.shape != coef.shape[:1]:
            raise unreadable("it has not one coefficient for each feature")
        coef = coef.astype(np.float64)
        return cls(
            tuple(np.ascontiguousarray(coef[:, block.places]) for block in program.blocks),
            tuple(_table(coef, codes.features, codes.n_codes) for codes in program.lookups),
            intercept.astype(np.float64)[:, None],
        )

    def raw(self, blocks: Sequence[np.ndarray], codes: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        """Compute the decision or value, (n_outputs, n_rows)."""
        total = np.zeros((len(self.intercept), n_rows))
        for weights, figures in zip(self.weights, blocks, strict=True):
            total += weights @ figures
        for table, code in zip(self.tables, codes, strict=True):
            total += table.take(code, axis=1)
        total += self.intercept
        return total


def _table(coef: np.ndarray, features: Sequence[tuple[int, Any]], n_codes: int) -> np.ndarray:
    """Sum what the features of one lookup add, for each of its codes."""
    table = np.zeros((len(coef), n_codes))
    for place, feature in features:
        figures = np.where(feature.refused, 0.0, feature.figures)
        table += coef[:, place : place + 1] * figures[feature.selected]
    return table
