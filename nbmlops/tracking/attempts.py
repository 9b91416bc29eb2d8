"""Attempts: a run of a name that the same notebook has run before is the next attempt at it, linked to the one before.

The store knows the one before; when it does not answer, what this process has begun itself must do.
"""

from collections.abc import Mapping
from typing import Any

from nbmlops.tracking.journal.delivery import UnreachableError
from nbmlops.tracking.mlflow import Tracking, translated
from nbmlops.tracking.plugin.overlay import OFFLINE
from nbmlops.tracking.runs import Selection, equals
from nbmlops.tracking.store import is_journaled

Before = tuple[str, int]  # a run's id, and which attempt it is

_begun: dict[tuple[str, str, str], Before] = {}  # by store, source and name: the last one of this process


def link_tags(tracking: Tracking, name: str, source: str) -> dict[str, str]:
    """Word as tags which attempt a run of this name, begun from this source, will be; none for the first.

    Parameters
    ----------
    tracking
        The project's MLflow.
    name
        The run's name.
    source
        What the runs of the same notebook have as ``mlflow.source.name``.
    """
    try:
        before = _asked(tracking, name, source)
    except UnreachableError:
        before = _begun.get((tracking.uri, source, name))
    return {"nbmlops.attempt": str(before[1] + 1), "nbmlops.previous": before[0]} if before else {}


def began(tracking: Tracking, run: Any, source: str) -> None:
    """Remember a run that has begun, for the attempt after it."""
    _begun[tracking.uri, source, run.info.run_name] = _as_before(run.info.run_id, run.data.tags)


def _asked(tracking: Tracking, name: str, source: str) -> Before | None:
    """Ask the store for the newest run of this name and source, in bounded time where there is a journal."""
    if not is_journaled(tracking.uri):
        with translated("The attempt before"):
            return found(tracking, name, source)
    store = tracking.store
    if store.outbox.line.is_cut or tracking.experiment_id.startswith(OFFLINE):
        raise UnreachableError("it gave no answer a moment ago")
    if (tracking.uri, source, name) in _begun:
        store.outbox.flush(1.0)  # it may have begun offline
    answer: Before | None = store.outbox.line.ask(lambda: found(tracking, name, source), store.patience_s())
    return answer


def found(tracking: Tracking, name: str, source: str) -> Before | None:
    """Look for the newest run of a name and source in the store itself, however long that takes."""
    from nbmlops.tracking import sql

    rows = sql.newest(tracking.url, tracking.experiment, Selection(name=name, sources=(source,), limit=1))
    if rows is not None:
        return _as_before(rows[0].run_id, rows[0].tags) if rows else None
    return _found_by_client(tracking, name, source)


def _found_by_client(tracking: Tracking, name: str, source: str) -> Before | None:
    from mlflow import MlflowClient

    # the name last: MLflow takes a backslash at its end for an escape as long as another quote follows
    same = f"{equals('tags.`mlflow.source.name`', source)} and {equals('attributes.run_name', name)}"
    runs = MlflowClient(tracking.url).search_runs(
        [tracking.experiment_id], same, max_results=10, order_by=["attributes.start_time DESC"]
    )
    return next((_as_before(run.info.run_id, run.data.tags) for run in runs if run.info.run_name == name), None)


def _as_before(run_id: str, tags: Mapping[str, str]) -> Before:
    attempt = tags.get("nbmlops.attempt", "")
    return run_id, int(attempt) if attempt.isdecimal() else 1
