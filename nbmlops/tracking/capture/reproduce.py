"""The verb `reproduce`: a run's code rebuilt, run again, and its metrics compared."""

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nbmlops.errors import ConflictError, GateError, UsageError
from nbmlops.project import Project
from nbmlops.strict_json import plain
from nbmlops.tracking.capture import environment, facts
from nbmlops.tracking.capture.kept import Kept, kept
from nbmlops.tracking.capture.rebuild import Ended, environment_of, rebuilt, run_again
from nbmlops.tracking.capture.reproduction import Reproduction, around, metrics_again, packages_that_differ
from nbmlops.tracking.mlflow import Tracking, translated
from nbmlops.verb import RunRef, verb

MOST_PACKAGES = 8  # that are named, of those that differ


@verb
def reproduce(
    project: Project,
    run: RunRef,
    *,
    tolerance: float = 1e-6,
    env: bool = False,
    timeout: float | None = None,
    dry_run: bool = False,
) -> Reproduction:
    """Rebuild a run's code, run it again in a fresh kernel, and compare the metrics.

    The commit is checked out into a clean worktree of a temporary folder, with the changes that
    the run kept and copies of the files that git ignores. A headless run's notebook is run
    with the same parameters; of any other run the cells that were executed, in their order. What
    runs there has MLflow and ledger of its own: nothing is registered or promoted in the project's.
    The run gets the tag ``nbmlops.reproduced``, yes or no.

    Parameters
    ----------
    run
        Id, unique prefix of it, or name.
    tolerance
        How far a metric may be from what it was, relative: ``|now - was| / max(|was|, |now|)``.
    env
        Rebuild the environment too, from the lock that the run kept.
    timeout
        Seconds that the notebook may take.
    dry_run
        Say from what it would be rebuilt, and run nothing.

    Returns
    -------
    Reproduction
        Every metric then and now, and what is different around it.

    Raises
    ------
    GateError
        It was not reproduced: a metric differs, or the notebook failed; with the report.
    ConflictError
        The run did not finish, keeps no source, or cannot be rebuilt.
    NotFoundError
        There is no such run.
    UsageError
        The tolerance is below 0, or the prefix of the id fits several runs.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> ops.reproduce("nobody")
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: There is no run 'nobody'.

    Plain code
    ----------
    import subprocess

    import mlflow
    import papermill

    client = mlflow.MlflowClient($tracking)
    run = client.get_run($run)
    commit = run.data.tags["mlflow.source.git.commit"]
    subprocess.run(["git", "worktree", "add", "--detach", "/tmp/again", commit], check=True)
    notebook = "/tmp/again/" + run.data.tags["mlflow.source.name"]
    mlflow.set_tracking_uri("sqlite:////tmp/again.db")
    papermill.execute_notebook(notebook, "/tmp/again.ipynb", parameters=run.data.params)
    print(run.data.metrics, mlflow.search_runs())
    """
    if not tolerance >= 0:
        raise UsageError(f"--tolerance must be from 0, not {tolerance:g}.")
    tracking = project.open(Tracking)
    found = tracking.find(run)
    if found.status != "FINISHED":
        raise ConflictError(f"Run {found.name} ({found.run_id[:8]}) is {found.status}: only one that FINISHED can be.")
    made_from = kept(tracking, found)
    report = _again(project, made_from, tolerance, env, timeout, dry_run)
    if dry_run:
        return report
    with translated("The run's tag"):
        tracking.client.set_tag(found.run_id, "nbmlops.reproduced", "yes" if report.reproduced else "no")
    if not report.reproduced:
        raise GateError(report.headline, f"Its card: `show {found.run_id[:8]}`", report=report)
    return report


def _again(
    project: Project, made_from: Kept, tolerance: float, env: bool, timeout: float | None, dry_run: bool
) -> Reproduction:
    run, started, lock = made_from.run, time.monotonic(), made_from.texts.get(facts.LOCK, "")
    with rebuilt(project, made_from) as place:
        if dry_run:
            return Reproduction(run.run_id, run.name, None, place.basis, run.commit, tolerance)
        python = environment_of(lock, place.scratch, project.notify) if env else Path(sys.executable)
        ended = run_again(place, made_from, python, timeout, project.notify)
    was, now, around_it = _compared(project, made_from, ended) if ended.run_id else ({}, {}, [])
    metrics = metrics_again(was, now, tolerance)
    return Reproduction(
        run.run_id,
        run.name,
        reproduced=not ended.cause and all(row.status == "ok" for row in metrics),
        basis=place.basis,
        commit=run.commit,
        tolerance=tolerance,
        metrics=metrics,
        cause=ended.cause,
        notes=(*place.notes, *around_it, *([] if env else _packages(lock)), *_secrets(made_from.secrets)),
        duration_s=round(time.monotonic() - started, 3),
    )


def _compared(project: Project, made_from: Kept, ended: Ended) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """Give the metrics of the run and of the run again, their nested runs' too, and which data is another now."""
    run = plain(made_from.run)
    below = project.open(Tracking).newest(1000, f"tags.`mlflow.parentRunId` = '{made_from.run.run_id}'")
    again = _counterpart(made_from, ended)
    was = _metrics(run, _children(run, plain(below)))
    return was, _metrics(again, _children(again, ended.runs)), around(run["data"], again["data"], "data")


def _counterpart(made_from: Kept, ended: Ended) -> Mapping[str, Any]:
    """Find the run again: the notebook's own, or the last under it of the name, for one that its cells tracked."""
    top = next(run for run in ended.runs if run["run_id"] == ended.run_id)
    if made_from.notebook is not None:
        return top
    tracked = _children(top, ended.runs)
    named = [run for run in tracked if run["name"] == made_from.run.name]
    found: Mapping[str, Any] = (named or tracked or [top])[-1]
    return found


def _children(run: Mapping[str, Any], runs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    below = [each for each in runs if each["parent_id"] == run["run_id"]]
    return sorted(below, key=lambda each: str(each["started_at"]))


def _metrics(run: Mapping[str, Any], children: list[Mapping[str, Any]]) -> dict[str, float]:
    """Give a run's metrics by name, and its nested runs' by their place: their names may be made up."""
    own = {name: float(value) for name, value in run["metrics"].items() if not name.startswith("system/")}
    for place, child in enumerate(children, start=1):
        own |= {f"run {place} below: {name}": value for name, value in _metrics(child, []).items()}
    return own


def _packages(lock: str) -> list[str]:
    differ = packages_that_differ(lock, environment.lock()) if lock else []
    more = [f"{len(differ) - MOST_PACKAGES} more packages differ"] if len(differ) > MOST_PACKAGES else []
    return [*differ[:MOST_PACKAGES], *more]


def _secrets(names: list[str]) -> list[str]:
    return [f"{', '.join(names)}: secret, so not kept; the notebook's default was used"] if names else []
