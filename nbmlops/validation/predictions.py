"""What a verified model says about a table: labels, values and scores, through MLflow's python function."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbmlops.errors import DataError, UsageError
from nbmlops.registry.loader import load_model
from nbmlops.validation.metrics import Array, Metric

if TYPE_CHECKING:
    import pandas as pd


class Predictions:
    """One model's predictions for one table; each kind is computed once, when it is first asked for."""

    def __init__(self, folder: Path, table: "pd.DataFrame", truth: Array) -> None:
        self._model = load_model(folder)
        self._native = _native(self._model)
        self._features = _inputs(self._model, self._native, table)
        self._truth = truth
        self._kept: dict[str, Array] = {}

    def measure(self, metric: Metric) -> float:
        """Measure a metric of the model on the table."""
        with _translated(metric.name):
            return metric.measure(self.truth_for(metric), self.for_(metric), None)

    def for_(self, metric: Metric) -> Array:
        """Predict what a metric needs: scores, or labels and values, ``(n_rows,)``."""
        kind = "scores" if metric.needs == "scores" else "labels"
        if kind not in self._kept:
            with _translated("the model's prediction"):
                self._kept[kind] = self._scores() if kind == "scores" else self._labels()
        return self._kept[kind]

    def truth_for(self, metric: Metric) -> Array:
        """Give the truth as a metric needs it: as it is, or 1 where it is the positive class and 0 elsewhere."""
        if metric.needs != "scores":
            return self._truth
        truth = np.asarray(self._truth == self._positive(metric), dtype=int)
        if len(np.unique(truth)) < 2:
            raise DataError(f"{metric.name} needs rows of both classes; the target has only {self._truth[0]}.")
        return truth

    def _positive(self, metric: Metric) -> Any:
        classes = getattr(self._native, "classes_", np.unique(self._truth))
        if len(classes) != 2:
            raise UsageError(
                f"{metric.name} judges models of two classes; this one has {len(classes)}.",
                "Use accuracy, balanced_accuracy, f1, precision or recall.",
            )
        return classes[1]

    def _labels(self) -> Array:
        return np.asarray(self._model.predict(self._features)).ravel()

    def _scores(self) -> Array:
        if hasattr(self._native, "predict_proba"):
            return np.asarray(self._native.predict_proba(self._features)[:, 1])
        if hasattr(self._native, "decision_function"):
            return np.asarray(self._native.decision_function(self._features))
        return self._labels().astype(float)


def _native(model: Any) -> Any:
    """Take the scikit-learn model out; None for other flavors."""
    with contextlib.suppress(Exception):  # a flavor without a raw model raises whatever it likes
        return model.get_raw_model()
    return None


def _inputs(model: Any, native: Any, table: "pd.DataFrame") -> "pd.DataFrame":
    """Keep the columns that the model was trained on, as its signature names them, or else scikit-learn."""
    schema = model.metadata.get_input_schema()
    named = schema is not None and schema.has_input_names()
    wanted = schema.input_names() if named else list(getattr(native, "feature_names_in_", table.columns))
    required = schema.required_input_names() if named else wanted
    if missing := [name for name in required if name not in table.columns]:
        raise DataError(
            f"The data lacks columns that the model needs: {', '.join(missing)}.",
            f"It has: {', '.join(map(str, table.columns))}.",
        )
    return table[[name for name in wanted if name in table.columns]]


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn what a model or a metric raises over a table into an error about the data."""
    try:
        yield
    except (DataError, UsageError):
        raise
    except Exception as exc:
        cause = str(exc).strip() or type(exc).__name__
        raise DataError(
            f"{what} failed on this data: {cause[:500]}", "The data must fit the model's signature."
        ) from exc
