"""The metrics that a gate can name: what each needs of a model, and whether more is better. Pure; weights allowed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np
from sklearn import metrics as sk

from nbmlops.errors import UsageError, nearest

Array = np.ndarray[Any, np.dtype[Any]]


class Measure(Protocol):
    """How a metric's figure comes about."""

    def __call__(self, truth: Array, predicted: Array, weights: Array | None, classes: Array | None = None, /) -> float:
        """Measure; the arrays are ``(n_rows,)``. Models are compared over the same `classes`, ``(n_classes,)``."""
        ...


@dataclass(frozen=True)
class Metric:
    """One metric.

    `needs` tells what it is computed from: ``scores`` (truth 0 or 1, probability of 1 in
    [0, 1]), ``labels`` (classes) or ``values`` (numbers).
    """

    name: str
    needs: Literal["scores", "labels", "values"]
    higher_is_better: bool
    measure: Measure


def metric(name: str) -> Metric:
    """Find a metric by its name.

    Raises
    ------
    UsageError
        There is none; the hint names the nearest.

    Examples
    --------
    >>> metric("mae").measure(np.array([1.0, 2.0]), np.array([1.0, 4.0]), None)
    1.0
    >>> metric("mae").measure(np.array([1.0, 2.0]), np.array([1.0, 4.0]), np.array([3, 1]))
    0.5
    """
    if name not in METRICS:
        raise UsageError(f"There is no metric {name!r}.", nearest(name, METRICS))
    return METRICS[name]


def _weighted(function: Callable[..., Any], **fixed: Any) -> Measure:
    return lambda truth, predicted, weights, _classes=None: float(
        function(truth, predicted, sample_weight=weights, **fixed)
    )


def _of_classes(function: Callable[..., Any]) -> Measure:
    """Up to two classes: the figure of the last in sorted order; more: the plain mean over them. 0 where undefined.

    Without `classes`, those that the truth and the predictions have.
    """

    def measure(truth: Array, predicted: Array, weights: Array | None, classes: Array | None = None) -> float:
        known = np.union1d(truth, predicted) if classes is None else classes
        binary = {"average": "binary", "pos_label": known[-1]}
        way = {"average": "macro", "labels": known} if len(known) > 2 else binary
        return float(function(truth, predicted, sample_weight=weights, zero_division=0.0, **way))

    return measure


METRICS: dict[str, Metric] = {
    entry.name: entry
    for entry in (
        Metric("roc_auc", "scores", True, _weighted(sk.roc_auc_score)),
        Metric("average_precision", "scores", True, _weighted(sk.average_precision_score)),
        Metric("log_loss", "scores", False, _weighted(sk.log_loss, labels=[0, 1])),
        Metric("brier_score", "scores", False, _weighted(sk.brier_score_loss)),
        Metric("accuracy", "labels", True, _weighted(sk.accuracy_score)),
        Metric("balanced_accuracy", "labels", True, _weighted(sk.balanced_accuracy_score)),
        Metric("f1", "labels", True, _of_classes(sk.f1_score)),
        Metric("precision", "labels", True, _of_classes(sk.precision_score)),
        Metric("recall", "labels", True, _of_classes(sk.recall_score)),
        Metric("mae", "values", False, _weighted(sk.mean_absolute_error)),
        Metric("rmse", "values", False, _weighted(sk.root_mean_squared_error)),
        Metric("mse", "values", False, _weighted(sk.mean_squared_error)),
        Metric("r2", "values", True, _weighted(cast(Callable[..., Any], sk.r2_score))),
    )
}
