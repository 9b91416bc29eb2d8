"""What a verified model says about a table: labels, values and scores, through MLflow's python function."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

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

    def measure(self, metric: Metric, *others: Self) -> float:
        """Measure a metric of the model on the table, over the classes that it and the others know."""
        with _translated(metric.name):
            classes = self.classes_for(metric, *others)
            return metric.measure(self.truth_for(metric), self.for_(metric), None, classes)

    def for_(self, metric: Metric) -> Array:
        """Predict what a metric needs: scores, or labels and values, ``(n_rows,)``."""
        kind = "scores" if metric.needs == "scores" else "labels"
        if kind not in self._kept:
            with _translated("the model's prediction"):
                self._kept[kind] = self._scores() if kind == "scores" else self._labels()
        return self._kept[kind]

    def classes_for(self, metric: Metric, *others: Self) -> Array | None:
        """List the classes of a metric of labels, the same for every model that is compared.

        Those that the truth and the predictions have, and both of a model of two: one may be missing from the table.
        """
        if metric.needs != "labels":
            return None
        named = [np.asarray(getattr(model._native, "classes_", [])) for model in (self, *others)]
        found = [model.for_(metric) for model in (self, *others)]
        return np.unique(np.concatenate([self._truth, *found, *(pair for pair in named if len(pair) == 2)]))

    def truth_for(self, metric: Metric) -> Array:
        """Give the truth as a metric needs it: as it is, or 1 where it is the positive class and 0 elsewhere."""
        if metric.needs != "scores":
            return self._truth
        classes = self._two_classes(metric)
        if strange := [each for each in np.unique(self._truth).tolist() if each not in classes]:
            raise DataError(
                f"The target has {', '.join(map(repr, strange))}, which the model does not know.",
                f"Its classes: {', '.join(map(repr, classes))}.",
            )
        truth = np.asarray(self._truth == classes[1], dtype=int)
        if len(np.unique(truth)) < 2:
            raise DataError(f"{metric.name} needs rows of both classes; the target has only {self._truth[0]}.")
        return truth

    def _two_classes(self, metric: Metric) -> list[Any]:
        classes = list(np.asarray(getattr(self._native, "classes_", np.unique(self._truth))).tolist())
        if len(classes) != 2:
            raise UsageError(
                f"{metric.name} judges models of two classes; this one has {len(classes)}.",
                "Use accuracy, balanced_accuracy, f1, precision or recall.",
            )
        return classes

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
