"""Scoring with a compiled model, in numpy alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from nbmlops.errors import DataError, UsageError, nearest
from nbmlops.scoring.bitmasks import Bitmasks
from nbmlops.scoring.compiled import Compiled, Unreadable, unreadable
from nbmlops.scoring.features import DOUBLE, SINGLE, common_dtype, features_of
from nbmlops.scoring.linear import Linear
from nbmlops.scoring.program import Program
from nbmlops.scoring.trees import Trees
from nbmlops.scoring.walking import Walk

Columns = Mapping[str, np.ndarray]
_MISFITS: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, MemoryError)


class Summing(Protocol):
    """What makes raw figures of blocks and codes: a linear model, or trees in one of two forms."""

    def raw(self, blocks: Sequence[np.ndarray], codes: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        """Compute the decision or value, (n_outputs, n_rows)."""
        ...


@dataclass(frozen=True, eq=False)
class _Ready:
    """A model made ready for inputs of certain types."""

    program: Program
    summing: Summing
    is_single: bool  # the model's own answer is of single precision


class Scorer:
    """Scores rows as the model's own ``predict`` would.

    Parameters
    ----------
    compiled
        What `compile_model` made.
    trees_by
        What walks its trees, if not numpy.

    Raises
    ------
    Unreadable
        Its steps or its head do not hold together.

    Examples
    --------
    >>> head = {"kind": "linear", "coef": np.array([[2.0]]), "intercept": np.array([1.0]), "decides": "value"}
    >>> line = Compiled(("x",), [{"op": "convert", "to": "double", "refuses": "both"}], head)
    >>> Scorer(line).predict({"x": np.array([0.0, 1.5])})
    array([1., 4.])
    """

    def __init__(self, compiled: Compiled, trees_by: Callable[[Trees, Program], Summing] | None = None) -> None:
        self.compiled = compiled
        self._trees_by = trees_by
        self.inputs = compiled.inputs
        head = compiled.head
        try:
            self.classes = _classes(head["classes"]) if "classes" in head else None
            self._divisor = float(head.get("divisor", 1))
            self._decide, self._probable = _DECIDES[head["decides"]], _LINKS[head.get("link", "none")]
            self._ready: dict[tuple[str, ...], _Ready] = {(): self._made_ready([DOUBLE] * len(self.inputs))}
            self._check_outputs()
        except _MISFITS as exc:
            raise unreadable(f"its figures do not hold together ({type(exc).__name__})") from exc

    def predict(self, columns: Columns | np.ndarray) -> np.ndarray:
        """Score rows.

        Parameters
        ----------
        columns
            One array for each input, by name, all of one length: figures (float64, float32, any integer, bool),
            or objects that hold text, with None or NaN where nothing is known. A model that was fitted on an array
            also takes columns of other names, in its order, or one array (n_rows, n_inputs), by itself or as the
            only value.

        Returns
        -------
        numpy.ndarray
            Labels or values, (n_rows,); for a model registered with ``predict_proba``, (n_rows, n_classes).

        Raises
        ------
        DataError
            A row that the model does not take: a missing or infinite figure where it needs a finite one, a category
            that it does not know and was not told to ignore.
        UsageError
            A column is missing.
        """
        raw = self._raw(columns)
        if self.compiled.predict_fn == "predict_proba":
            return self._probable(raw)
        return self._decide(raw, self.classes)

    def scores(self, columns: Columns | np.ndarray) -> np.ndarray | None:
        """Give the probability of each class, (n_rows, n_classes), in [0, 1]; None where the model has none."""
        return self._probable(self._raw(columns)) if self.has_scores else None

    @property
    def has_scores(self) -> bool:
        """Whether the model gives probabilities."""
        return self._probable is not _no_link

    @property
    def path(self) -> str:
        """How its head is computed: ``linear``, ``bitmasks``, ``walk`` or ``onnxtrees``."""
        return type(self._ready[()].summing).__name__.lower()

    def _raw(self, columns: Columns | np.ndarray) -> np.ndarray:
        given = self._given(columns)
        key = tuple(column.dtype.char for column in given) if any(c.dtype == SINGLE for c in given) else ()
        ready = self._ready.get(key) or self._added(key, given)
        n_rows = len(given[0]) if given else 0
        if not n_rows:
            raise DataError("There is no row to score.", "Send at least one.")
        with np.errstate(all="ignore"):
            blocks = [block.figures(given, n_rows) for block in ready.program.blocks]
            codes = [lookup.of(given, n_rows) for lookup in ready.program.lookups]
            raw = ready.summing.raw(blocks, codes, n_rows)
            if self._divisor != 1.0:
                raw /= self._divisor
            return raw.astype(np.float32) if ready.is_single else raw

    def _given(self, columns: Columns | np.ndarray) -> list[np.ndarray]:
        if isinstance(columns, np.ndarray):
            return self._placed([columns])
        if self.compiled.by_position and not columns.keys() >= set(self.inputs):
            return self._placed(list(columns.values()))
        try:
            return [columns[name] for name in self.inputs]
        except KeyError as exc:
            raise UsageError(f"There is no column {exc.args[0]!r}.", nearest(exc.args[0], columns)) from exc

    def _placed(self, given: list[np.ndarray]) -> list[np.ndarray]:
        """Take columns in their order, or the columns of an array."""
        if len(given) == 1 and given[0].ndim == 2:
            given = list(given[0].T)
        if len(given) != len(self.inputs):
            raise DataError(f"{len(given)} columns were given; the model takes {len(self.inputs)}.")
        return given

    def _added(self, key: tuple[str, ...], given: Sequence[np.ndarray]) -> _Ready:
        self._ready[key] = self._made_ready([column.dtype for column in given])
        return self._ready[key]

    def _made_ready(self, dtypes: Sequence[np.dtype]) -> _Ready:
        features, head = features_of(self.compiled.steps, dtypes), self.compiled.head
        program = Program.of(features, self.inputs)
        if head["kind"] == "linear":
            is_single = common_dtype(features) == SINGLE == np.result_type(head["coef"], head["intercept"])
            return _Ready(program, Linear.of(head, program), is_single)
        if head["kind"] != "trees":
            raise unreadable(f"it ends in {head['kind']!r}")
        trees = Trees.of(head, program.n_features)
        if self._trees_by:
            return _Ready(program, self._trees_by(trees, program), False)
        return _Ready(program, Bitmasks.of(trees, program) or Walk.of(trees, program), False)

    def _check_outputs(self) -> None:
        """See that there are as many raw figures as the decision needs."""
        head = self.compiled.head
        n_raw = head["values"].shape[1] * head["n_classes_a_round"] if head["kind"] == "trees" else len(head["coef"])
        n_classes = 0 if self.classes is None else len(self.classes)
        wanted = n_classes if head["decides"] == "highest" else 1
        if n_raw != wanted or (n_classes != 2 and wanted == 1 and n_classes):
            raise unreadable("it has not one figure for each class")


def program_of(compiled: Compiled) -> Program:
    """Give what precedes the head, for figures of double precision."""
    features = features_of(compiled.steps, [DOUBLE] * len(compiled.inputs))
    return Program.of(features, compiled.inputs)


def _classes(listed: Any) -> np.ndarray:
    """Give the labels in the type that they had."""
    kind, values = listed["dtype"], listed["values"]
    if not values or not all(isinstance(value, str | int | float | bool) for value in values):
        raise Unreadable("The labels of a compiled model are neither text nor figures.")
    return np.array(values, dtype={"object": object, "text": np.str_}.get(kind) or _NUMERIC[kind])


_NUMERIC: Final = {name: np.dtype(name) for name in ("<i8", "<i4", "<i2", "|i1", "|u1", "<u4", "<f8", "<f4", "|b1")}


def _value(raw: np.ndarray, _: None) -> np.ndarray:
    values: np.ndarray = raw[0]
    return values


def _exponential(raw: np.ndarray, _: None) -> np.ndarray:
    values: np.ndarray = np.exp(raw[0])
    return values


def _above_zero(raw: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return np.asarray(classes.take(raw[0] > 0))


def _at_least_zero(raw: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return np.asarray(classes.take(raw[0] >= 0))


def _highest(raw: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return np.asarray(classes.take(raw.argmax(axis=0)))


def _no_link(_: np.ndarray) -> np.ndarray:
    raise UsageError("The model gives no probabilities.", "Deploy it with `predict`.")


def _as_they_are(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw.T)


def _logistic(raw: np.ndarray) -> np.ndarray:
    """Give p = 1 / (1 + exp(-raw)) for the second of two classes, or of each of many, which then share 1."""
    with np.errstate(over="ignore"):
        p = 1.0 / (1.0 + np.exp(-raw))
    return _shared(p)


def _twice_logistic(raw: np.ndarray) -> np.ndarray:
    return _logistic(2 * raw)


def _huber(raw: np.ndarray) -> np.ndarray:
    return _shared((np.clip(raw, -1, 1) + 1) / 2)


def _shared(p: np.ndarray) -> np.ndarray:
    """Complete (n_classes or 1, n_rows) to probabilities that add up to 1; all alike where all are 0."""
    if len(p) == 1:
        return np.stack([1 - p[0], p[0]], axis=1)
    total = p.sum(axis=0)
    p[:, total == 0] = 1
    return np.ascontiguousarray((p / np.where(total == 0, len(p), total)).T)


def _softmax(raw: np.ndarray) -> np.ndarray:
    p = np.exp(raw - raw.max(axis=0))
    return np.ascontiguousarray((p / p.sum(axis=0)).T)


_DECIDES: Final[dict[str, Callable[..., np.ndarray]]] = {
    "value": _value,
    "exponential": _exponential,
    "above zero": _above_zero,
    "at least zero": _at_least_zero,
    "highest": _highest,
}
_LINKS: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "none": _no_link,
    "as they are": _as_they_are,
    "logistic": _logistic,
    "twice logistic": _twice_logistic,
    "huber": _huber,
    "softmax": _softmax,
}
