"""From input columns to blocks of figures and codes of categories, in numpy: what each scoring begins with.

Columns that are treated alike are worked on together: a block is ``(n_features, n_rows)``, so that each operation
is one call of numpy and each feature lies in one piece. One-hot columns are never made: what follows them works
with the codes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final

import numpy as np

from nbmlops.errors import DataError
from nbmlops.scoring.compiled import unreadable
from nbmlops.scoring.features import DOUBLE, UFUNCS, Coded, Column, Feature, Lookup, is_missing

_TEXTS: Final = "OUS"


@dataclass(frozen=True, eq=False)
class Block:
    """Features that are treated alike: the columns they come from, and the steps with a figure for each."""

    places: np.ndarray  # (n_features,): which feature of the model each is
    sources: tuple[int, ...]
    dtype: np.dtype
    steps: tuple[tuple[Any, ...], ...]
    names: tuple[str, ...]

    def figures(self, columns: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        """Compute the features, (n_features, n_rows)."""
        figures = np.empty((len(self.sources), n_rows), self.dtype)
        for row, source in enumerate(self.sources):
            try:
                figures[row] = columns[source]
            except (TypeError, ValueError) as exc:
                raise _no_figures(self.names[row], columns[source]) from exc
        for name, *given in self.steps:
            figures = _BLOCK_STEPS[name](self, figures, *given)
        return figures

    # Each takes the figures and what belongs to the step, and may work in place.

    def _operated(self, figures: np.ndarray, name: str, by: np.ndarray) -> np.ndarray:
        UFUNCS[name](figures, by, out=figures, casting="same_kind")
        return figures

    def _converted(self, figures: np.ndarray, dtype: str) -> np.ndarray:
        return figures.astype(dtype, copy=False)

    def _clipped(self, figures: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.clip(figures, low.astype(figures.dtype), high.astype(figures.dtype), out=figures)

    def _filled(self, figures: np.ndarray, missing: np.ndarray, fill: np.ndarray) -> np.ndarray:
        for row, mark in enumerate(missing[:, 0]):
            figures[row, is_missing(figures[row], mark)] = fill[row, 0]
        return figures

    def _told(self, figures: np.ndarray, missing: np.ndarray) -> np.ndarray:
        return np.stack([is_missing(row, mark) for row, mark in zip(figures, missing[:, 0], strict=True)]).astype(
            figures.dtype
        )

    def _checked(self, figures: np.ndarray, refuses: str) -> np.ndarray:
        good = np.isfinite(figures)
        if not good.all():
            bad = ~good if refuses == "both" else np.isinf(figures)
            if bad.any():
                raise self._refusal(figures, bad)
        return figures

    def _refusal(self, figures: np.ndarray, bad: np.ndarray) -> DataError:
        feature, row = np.argwhere(bad)[0]
        what = "nothing" if np.isnan(figures[feature, row]) else "infinity, or more than its precision holds,"
        return DataError(
            f"Column {self.names[feature]!r} has {what} in row {row}; the model takes finite numbers there.",
            "Send a finite number, or train the model with an imputer in its pipeline.",
        )


_BLOCK_STEPS: Final[dict[str, Callable[..., np.ndarray]]] = {
    "to": Block._converted,
    "refuse": Block._checked,
    "clip": Block._clipped,
    "fill": Block._filled,
    "tell missing": Block._told,
    **{name: (lambda block, figures, by, name=name: block._operated(figures, name, by)) for name in UFUNCS},
}


def _no_figures(name: str, column: np.ndarray) -> DataError:
    bad = next((value for value in column.tolist() if not _is_figure(value)), None)
    return DataError(f"Column {name!r} has {str(bad)[:40]!r}; the model takes numbers there.", "Send a number.")


def _is_figure(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


@dataclass(frozen=True, eq=False)
class Codes:
    """A lookup made ready: texts by a dict, figures by bisection."""

    lookup: Lookup
    name: str
    features: tuple[tuple[int, Coded], ...]  # the place in the model, and the feature
    block: Block | None = None  # where figures are worked on before they are looked up
    codes: dict[Any, int] = field(default_factory=dict)
    sorted: tuple[np.ndarray, np.ndarray] | None = None  # the categories and their codes, where all are figures
    nan_code: int = -1
    refused: np.ndarray | None = None  # (n_codes,) where some are refused

    @property
    def n_codes(self) -> int:
        """How many codes there are, the one for what is unknown included."""
        return len(self.lookup.categories) + 1

    def of(self, columns: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        """Look the column up: the code of each row, (n_rows,)."""
        column = self.block.figures(columns, n_rows)[0] if self.block else columns[self.lookup.source.source]
        if self.sorted is not None and column.dtype.kind not in _TEXTS:
            found = self._bisected(column, *self.sorted)
        else:
            found = self._looked_up(column)
        if self.refused is not None and (refused := self.refused[found]).any():
            raise self._refusal(column.tolist()[int(refused.argmax())])
        return found

    def _looked_up(self, column: np.ndarray) -> np.ndarray:
        unknown, values = self.n_codes - 1, column.tolist()
        try:
            if len(values) == 1:
                found = np.array([self.codes.get(values[0], unknown)], np.intp)
            else:
                found = np.fromiter(map(self.codes.get, values, repeat(unknown)), np.intp, len(values))
        except TypeError as exc:  # a list or a mapping
            raise DataError(f"Column {self.name!r} has something else than text or a number.") from exc
        if self.nan_code != unknown:
            for row in np.flatnonzero(found == unknown):
                if values[row] != values[row]:
                    found[row] = self.nan_code
        return found

    def _bisected(self, column: np.ndarray, figures: np.ndarray, order: np.ndarray) -> np.ndarray:
        at = np.minimum(figures.searchsorted(column), len(figures) - 1)
        found = np.where(figures[at] == column, order[at], self.n_codes - 1)
        if column.dtype.kind != "f":
            return found
        if self.nan_code != self.n_codes - 1:
            found[np.isnan(column)] = self.nan_code
        if np.isinf(column).any():
            raise DataError(f"Column {self.name!r} has infinity; the model takes finite numbers there.")
        return found

    def _refusal(self, bad: Any) -> DataError:
        known = [str(category) for category in self.lookup.categories]
        return DataError(
            f"Column {self.name!r} has {str(bad)[:40]!r}, which the model does not know.",
            f"It knows {', '.join(known[:12])}{', …' if len(known) > 12 else ''}.",
        )


@dataclass(frozen=True, eq=False)
class Program:
    """What is done to the columns before the head: blocks, lookups, and features that need no column at all."""

    blocks: tuple[Block, ...]
    lookups: tuple[Codes, ...]
    n_features: int

    @classmethod
    def of(cls, features: Sequence[Feature], names: Sequence[str]) -> "Program":
        """Group features into blocks and lookups."""
        grouped: dict[Any, list[tuple[int, Column]]] = {}
        coded: dict[int, list[tuple[int, Coded]]] = {}
        for place, feature in enumerate(features):
            if isinstance(feature, Coded):
                coded.setdefault(id(feature.lookup), []).append((place, feature))
            else:
                grouped.setdefault(_treatment(feature), []).append((place, feature))
        blocks = tuple(_block(members, names) for members in grouped.values())
        return cls(blocks, tuple(_codes(members, names) for members in coded.values()), len(features))


def _treatment(column: Column) -> tuple[Any, ...]:
    """Tell apart what cannot be worked on together."""
    if not column.steps or column.steps[0][0] != "to":
        raise unreadable("a column reaches the model as it came")
    return tuple((name, *(_kind(figure) for figure in given)) for name, *given in column.steps)


def _kind(figure: Any) -> str:
    return figure if isinstance(figure, str) else np.asarray(figure).dtype.str


def _block(members: Sequence[tuple[int, Column]], names: Sequence[str]) -> Block:
    columns = [column for _, column in members]
    return Block(
        np.array([place for place, _ in members], np.intp),
        tuple(column.source for column in columns),
        np.dtype(columns[0].steps[0][1]),
        tuple(_stacked([column.steps[at] for column in columns]) for at in range(1, len(columns[0].steps))),
        tuple(names[column.source] for column in columns),
    )


def _stacked(steps: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Join one step of many columns: figures become (n_features, 1)."""
    name, *first = steps[0]
    return name, *(
        figure if isinstance(figure, str) else np.array([step[1 + at] for step in steps])[:, None]
        for at, figure in enumerate(first)
    )


def _codes(members: Sequence[tuple[int, Coded]], names: Sequence[str]) -> Codes:
    lookup = members[0][1].lookup
    source, categories, unknown = lookup.source, lookup.categories, len(lookup.categories)
    name = names[source.source]
    codes = {category: code for code, category in reversed(list(enumerate(categories))) if category == category}  # noqa: PLR0124
    nan_code = next((code for code, category in enumerate(categories) if category != category), unknown)  # noqa: PLR0124
    refused = _refused(lookup, [feature for _, feature in members])
    fills = [step for step in source.steps if step[0] == "fill-text"]
    if fills:
        codes, nan_code = _after_fills(fills, codes, nan_code, unknown)
        return Codes(lookup, name, tuple(members), None, codes, None, nan_code, refused)
    block = _block([(0, source)], names) if source.steps else None
    return Codes(lookup, name, tuple(members), block, codes, _sorted_figures(categories), nan_code, refused)


def _after_fills(
    fills: Sequence[tuple[Any, ...]], codes: Mapping[Any, int], nan_code: int, unknown: int
) -> tuple[dict[Any, int], int]:
    """Give the codes that None and NaN have once they are filled; the first fill of each counts."""
    filled = {missing: codes.get(fill, unknown) for _, missing, fill in reversed(fills)}
    return {**codes, **({None: filled["none"]} if "none" in filled else {})}, filled.get("nan", nan_code)


def _sorted_figures(categories: Sequence[Any]) -> tuple[np.ndarray, np.ndarray] | None:
    known = [(value, code) for code, value in enumerate(categories) if value == value]  # noqa: PLR0124
    if not known or not all(type(value) in {int, float} for value, _ in known):
        return None
    exact = all(type(value) is int for value, _ in known)
    figures = np.array([value for value, _ in known], np.int64 if exact else DOUBLE)
    order = np.argsort(figures, kind="stable")
    return figures[order], np.array([code for _, code in known], np.intp)[order]


def _refused(lookup: Lookup, features: Sequence[Coded]) -> np.ndarray | None:
    refused = np.zeros(len(lookup.categories) + 1, bool)
    refused[-1] = lookup.refuses_unknown
    for feature in features:
        if feature.refused.any():
            refused |= feature.refused[feature.selected]
    return refused if refused.any() else None
