"""The proof that a compiled model answers as the model itself does: labels identical, figures within a tolerance.

Both are asked for the rows of a table, then for the same rows with one thing after another gone wrong in them:
nothing where a figure or text should be, infinities, a category that was never seen. What the model refuses, its
compiled form has to refuse. Needs scikit-learn (through the model) and pandas.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from nbmlops.errors import DataError
from nbmlops.scoring.compiled import Compiled
from nbmlops.scoring.scorer import Scorer

TOLERANCE: Final = 1e-6
_N_CHANGED_ROWS: Final = 50
_N_CHANGED_COLUMNS: Final = 60
_NEVER_SEEN: Final = "\N{SYMBOL FOR SUBSTITUTE}never seen"


@dataclass(frozen=True)
class Agreement:
    """How a compiled model's answers compare with the model's own.

    Parameters
    ----------
    n_rows
        How many rows were compared, those with changes included.
    n_tables
        How many tables they came in: one as given, the others with changes.
    largest
        The largest difference of a probability, or of a value relative to ``max(1, |value|)``.
    difference
        What differs, in words; empty where nothing does.
    tolerance
        The largest difference that counts as none.
    """

    n_rows: int
    n_tables: int
    largest: float
    difference: str = ""
    tolerance: float = TOLERANCE

    @property
    def agrees(self) -> bool:
        """Whether the compiled form may answer for the model."""
        return not self.difference

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        if self.difference:
            return f"its compiled form answers differently: {self.difference}"
        return f"answers agree on {self.n_rows} rows, to {self.largest:.1g}"


def agreement(model: Any, compiled: Compiled, rows: Any) -> Agreement:
    """Compare a model with its compiled form on rows, as they are and with changes.

    Parameters
    ----------
    model
        The fitted estimator that was compiled.
    compiled
        What `compile_model` made of it.
    rows
        A pandas DataFrame with at least the model's columns, or an array (n_rows, n_inputs).
        Figures that are whole stay so: nothing is put where their type has no place for it.

    Returns
    -------
    Agreement
        The first difference ends the comparison.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from nbmlops.scoring.compile import compile_model
    >>> rows = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
    >>> model = LogisticRegression().fit(rows, [0, 0, 1, 1])
    >>> agreement(model, compile_model(model), rows).agrees
    True
    """
    from threadpoolctl import threadpool_limits

    if hasattr(rows, "columns") and set(compiled.inputs) <= set(rows.columns):
        rows = rows[list(compiled.inputs)]
    scorer, n_rows, n_tables, largest = Scorer(compiled), 0, 0, 0.0
    # Small tables by the hundred: on a busy machine threads that wait for each other take most of the time.
    with threadpool_limits(1), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for what, table in _tables(rows):
            n_rows, n_tables = n_rows + len(table), n_tables + 1
            apart, difference = _compared(model, scorer, table, must_answer=n_tables == 1)
            largest = max(largest, apart)
            if difference:
                return Agreement(n_rows, n_tables, largest, f"{difference}{what}")
    return Agreement(n_rows, n_tables, largest)


def columns_of(rows: Any) -> Any:
    """Give a DataFrame's columns as a `Scorer` takes them: text as objects, figures as they are; arrays stay."""
    if isinstance(rows, np.ndarray):
        return rows
    return {str(name): _array_of(rows[name]) for name in rows.columns}


def _array_of(column: Any) -> np.ndarray:
    is_plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf"
    return np.asarray(column.to_numpy() if is_plain else column.to_numpy(dtype=object))


def _compared(model: Any, scorer: Scorer, table: Any, *, must_answer: bool) -> tuple[float, str]:
    """Ask both; give the largest difference and, where it is too large, what differs."""
    native, refusal = _asked(lambda: _answers(model, scorer, table))
    ours, our_refusal = _asked(lambda: _our_answers(scorer, table))
    if native is None or ours is None:
        same = native is None and ours is None and not must_answer
        return 0.0, "" if same else f"it refuses rows ({refusal or our_refusal})"
    largest = 0.0
    for expected, given in zip(native, ours, strict=True):
        apart, difference = _difference(np.asarray(expected), np.asarray(given))
        largest = max(largest, apart)
        if difference:
            return largest, difference
    return largest, ""


def _asked(ask: Callable[[], list[np.ndarray]]) -> tuple[list[np.ndarray] | None, str]:
    try:
        return ask(), ""
    except (ValueError, TypeError, DataError) as exc:  # how scikit-learn, and how the scorer refuses rows
        return None, str(exc).partition("\n")[0][:200]


def _answers(model: Any, scorer: Scorer, table: Any) -> list[np.ndarray]:
    predict = getattr(model, scorer.compiled.predict_fn)
    return [predict(table)] + ([model.predict_proba(table)] if scorer.has_scores else [])


def _our_answers(scorer: Scorer, table: Any) -> list[np.ndarray]:
    columns = columns_of(table)
    scores = scorer.scores(columns)
    return [scorer.predict(columns)] + ([] if scores is None else [scores])


def _difference(expected: np.ndarray, given: np.ndarray) -> tuple[float, str]:
    if expected.shape != given.shape or expected.dtype != given.dtype:
        return 0.0, f"{given.dtype}{given.shape} instead of {expected.dtype}{expected.shape}"
    if expected.dtype.kind != "f":
        wrong = int((expected != given).sum())
        return 0.0, f"{wrong} of {len(expected)} labels" if wrong else ""
    scale = np.maximum(1.0, np.abs(expected))
    apart = np.where((expected == given) | (np.isnan(expected) & np.isnan(given)), 0.0, abs(expected - given) / scale)
    largest = float(apart.max(initial=0.0))
    return largest, "" if largest <= TOLERANCE else f"figures are {largest:.2g} apart"


def _tables(rows: Any) -> Iterator[tuple[str, Any]]:
    """Give the rows as they are, one by one, then each column with each change in every second row."""
    yield "", rows
    few = rows[:_N_CHANGED_ROWS]
    for row in range(min(len(rows), 5)):
        yield ", in a row by itself", rows[row : row + 1]
    places = np.linspace(0, rows.shape[1] - 1, min(rows.shape[1], _N_CHANGED_COLUMNS)).astype(int)
    for place in np.unique(places):
        for change in _changes(few, place):
            yield f", with {change!r} in column {_named(rows, place)}", _changed(few, place, change)


def _named(rows: Any, place: int) -> str:
    return repr(str(rows.columns[place]) if hasattr(rows, "columns") else place)


def _changes(rows: Any, place: int) -> list[Any]:
    """List what can go wrong in a column of its type."""
    dtype = rows.dtype if isinstance(rows, np.ndarray) else rows.dtypes.iloc[place]
    kind = dtype.kind if isinstance(dtype, np.dtype) else "O"
    if kind == "f":
        return [np.nan, np.inf, -np.inf, 0.0, -1e9]
    if kind in "iu":
        return [0, 101, -7] if kind == "i" else [0, 101]
    return [None, np.nan, _NEVER_SEEN] if kind == "O" else []


def _changed(rows: Any, place: int, change: Any) -> Any:
    changed = rows.copy()
    if isinstance(rows, np.ndarray):
        changed[::2, place] = change
        return changed
    column = rows.iloc[:, place]
    values = column.to_numpy(dtype=object).copy() if column.dtype.kind == "O" else column.to_numpy().copy()
    values[::2] = change
    changed[rows.columns[place]] = _typed(values, column.dtype)
    return changed


def _typed(values: np.ndarray, dtype: Any) -> Any:
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):  # what was never seen has no place in it; requests bring plain text
        return values
    return pd.array(values, dtype=dtype) if not isinstance(dtype, np.dtype) else values
