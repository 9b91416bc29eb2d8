"""Metrics of the current run, from the caller's thread straight into the journal: what `nbmlops.log` does.

The first call finds out where a run's metrics go; later ones read a few attributes and write a line.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbmlops.errors import ConflictError, UsageError
from nbmlops.tracking import plugin
from nbmlops.tracking.journal import metric
from nbmlops.verb import is_number

NO_RUN = "Begin one: `track NAME`. Or name one: --run ID"

Write = Callable[[bytes], None]

_checked: set[str] = set()  # names that MLflow's rules allow
_writers: dict[str, Write | None] = {}  # by run


@dataclass(frozen=True, slots=True)
class Way:
    """Where a run's metrics go: `write` takes them as lines of the journal; without one, MLflow's client does."""

    run: Any
    run_id: str
    write: Write | None


def _nowhere() -> Any:
    """Stand for ``mlflow.active_run`` until MLflow is there."""


@dataclass(slots=True)
class _Process:
    """What this process has found out: how to ask for the active run, and the way of the last one."""

    active_run: Callable[[], Any] = _nowhere
    last: Way = Way(None, "", None)


_process = _Process()


def log_metrics(metrics: Mapping[str, Any], step: int = 0) -> None:
    """Log metrics to the current run: this thread's active one, else the process', else the headless notebook's.

    Parameters
    ----------
    metrics
        Real numbers by name, NaN and infinities included.
    step
        A whole number.

    Raises
    ------
    ConflictError
        No run is active.
    UsageError
        A value is no number, or MLflow does not allow a name. Nothing of the call is logged then.
    StoreError
        The journal cannot be written.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> run = ops.track("baseline")
    >>> log_metrics({"auc": 0.81, "loss": float("nan")}, step=3)
    >>> ops.end().metrics
    {'auc': 0.81, 'loss': nan}
    """
    run, way = _process.active_run(), _process.last
    if run is None or run is not way.run:
        way = _way()
    at_ms = time.time_ns() // 1_000_000
    if type(step) is not int:
        step = _whole(step)
    lines = b""
    for key, value in metrics.items():
        kind = type(value)
        if key not in _checked:
            key = _check(key)  # noqa: PLW2901  # as it may be kept
        number = value if kind is float else float(value) if kind is int else _number(key, value)
        lines += metric(way.run_id, key, number, at_ms, step)
    if way.write is None:
        _by_client(way.run_id, metrics, at_ms, step)
    elif lines:
        way.write(lines)


def current_run_id() -> str:
    """Give the id of the run that is meant where none is named; "" where there is none."""
    _find_mlflow()
    active = _process.active_run() or _of_any_thread()
    return str(active.info.run_id) if active is not None else os.environ.get("NBMLOPS_RUN", "")


def _way() -> Way:
    """Find out where the metrics go now that the run is not the last one's."""
    run_id = current_run_id()
    if not run_id:
        raise ConflictError("No run is active here.", NO_RUN)
    if run_id not in _writers:
        _writers[run_id] = _writer_of(run_id)
    _process.last = Way(_process.active_run(), run_id, _writers[run_id])
    return _process.last


def _find_mlflow() -> None:
    """Import MLflow where a run can be active at all."""
    if _process.active_run is _nowhere and ("mlflow" in sys.modules or os.environ.get("NBMLOPS_RUN")):
        from nbmlops.tracking.store import quiet_mlflow

        _process.active_run = quiet_mlflow().active_run


def _of_any_thread() -> Any:
    """Find the newest run that is active in another thread of this process: a worker's metrics are that one's."""
    fluent = sys.modules.get("mlflow.tracking.fluent")
    return fluent._get_latest_active_run() if fluent else None


def _writer_of(run_id: str) -> Write | None:
    """Find the journal of the store that a run lives in; None where there is none, or where the run takes nothing."""
    from mlflow import get_tracking_uri
    from mlflow.tracking._tracking_service.utils import _get_store

    from nbmlops.tracking.plugin.stores import JournaledStore

    own = next((store for store in plugin.opened if run_id in store.begun), None)
    store = own or _get_store(get_tracking_uri())
    if isinstance(store, JournaledStore) and store.params_of(run_id) is not None:
        return store.outbox.write
    return None


def _by_client(run_id: str, metrics: Mapping[str, Any], at_ms: int, step: int) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from nbmlops.tracking.mlflow import translated

    with translated("The log"):
        MlflowClient().log_batch(run_id, [Metric(key, float(value), at_ms, step) for key, value in metrics.items()])


def _check(key: str) -> str:
    """Check a metric's name by MLflow's own rules, once; give it as it is kept, without secrets."""
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_length_limit, _validate_metric_name

    from nbmlops.tracking.mlflow import translated
    from nbmlops.tracking.plugin.wording import without_secrets

    with translated("The log"):
        _validate_metric_name(key)
        _validate_length_limit("Metric name", MAX_ENTITY_KEY_LENGTH, key)
    if (kept := without_secrets(key)) == key:
        _checked.add(key)
    return kept


def _number(key: str, value: Any) -> float:
    if not is_number(value):
        raise UsageError(f"The metric {key} is {value!r}, which is no number.", "Text: -p name=value")
    return float(value)


def _whole(step: Any) -> int:
    try:
        if (whole := int(step)) == step:
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"The step must be a whole number, not {step!r}.")
