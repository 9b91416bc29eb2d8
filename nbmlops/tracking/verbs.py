"""The verbs that make runs: `track`, `end`, `log`, `autolog`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nbmlops.errors import ConflictError, NbmlopsError, NotFoundError, UsageError
from nbmlops.project import Project
from nbmlops.tracking.runs import Run
from nbmlops.verb import MACHINE_ONLY, Numbers, Pairs, Result, RunRef, is_number, verb

_NO_RUN = "Begin one: `track NAME`. Or name one: --run ID"


@dataclass(frozen=True)
class Logged(Result):
    """What a call of `log` wrote, and to which run."""

    run_id: str = field(metadata=MACHINE_ONLY)
    metrics: int = field(metadata=MACHINE_ONLY)
    params: int = field(metadata=MACHINE_ONLY)
    tags: int = field(metadata=MACHINE_ONLY)
    artifacts: int = field(metadata=MACHINE_ONLY)

    @property
    def headline(self) -> str:
        """What was logged."""
        counts = {"metric": self.metrics, "param": self.params, "tag": self.tags, "artifact": self.artifacts}
        told = (f"{n} {what}{'s' * (n > 1)}" for what, n in counts.items() if n)
        return f"Logged to run {self.run_id[:8]}: {', '.join(told)}"


@dataclass(frozen=True)
class Autolog(Result):
    """Whether fits of this process log themselves."""

    is_on: bool

    @property
    def headline(self) -> str:
        """On or off."""
        return f"Autologging of scikit-learn is {'on' if self.is_on else 'off'}"


@verb
def track(project: Project, name: str | None = None, *, parameters: Pairs = {}, tags: Pairs = {}) -> Run:
    """Track what follows as one run, until `end` or the cell's end.

    A run that was left open ends first: FAILED if a cell has failed since it
    began, else FINISHED. Inside a notebook that `run` executes, the new run
    lies under the notebook's own.

    Parameters
    ----------
    name
        Name of the run; MLflow makes one up without it.
    parameters
        Parameters to log, ``name=value``.
    tags
        Tags to set, ``name=value``.

    Returns
    -------
    Run
        The run that has begun.

    Raises
    ------
    UsageError
        Called where there is no Python process to track: a terminal, REST; or MLflow refused a
        parameter or tag, and the run has ended FAILED.
    StoreError
        The tracking store is out of reach.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> ops.track("baseline", parameters={"depth": 3}).params
    {'depth': '3'}
    >>> ops.end().status
    'FINISHED'

    Plain code
    ----------
    import mlflow

    mlflow.set_tracking_uri($tracking)
    mlflow.set_experiment($experiment)
    mlflow.start_run(run_name=$name)
    mlflow.log_params($parameters)
    mlflow.set_tags($tags)
    """
    _needs_process(project, "track", "In a notebook: %%mlops track NAME. Headlessly: `run NOTEBOOK`")
    from nbmlops.tracking import session
    from nbmlops.tracking.mlflow import Tracking

    begun = session.begin(project, name)
    tracking = project.open(Tracking)
    try:
        tracking.log(begun.info.run_id, {}, parameters, tags, 0, [])
    except NbmlopsError as exc:  # a run that is refused its parameters is not left open
        session.failed(exc)
        session.end(project, "FAILED")
        raise
    return tracking.as_run(tracking.client.get_run(begun.info.run_id))


@verb
def end(
    project: Project, *, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED", run: RunRef | None = None
) -> Run:
    """End the active run.

    Parameters
    ----------
    status
        How it ended.
    run
        Another run than this process's active one.

    Returns
    -------
    Run
        The run, ended.

    Raises
    ------
    ConflictError
        No run is active.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> run = ops.track("given up")
    >>> ops.end(status="KILLED").status
    'KILLED'

    Plain code
    ----------
    import mlflow

    mlflow.end_run($status)
    """
    from nbmlops.tracking import session
    from nbmlops.tracking.mlflow import Tracking, translated

    tracking = project.open(Tracking)
    active = None if project.surface in ("cli", "rest") else tracking.mlflow.active_run()
    if run is not None:
        run_id = tracking.find(run).run_id
    elif active is not None:
        run_id = active.info.run_id
    else:
        raise ConflictError("No run is active here.", _NO_RUN)
    if active and run_id == active.info.run_id:
        return tracking.as_run(session.end(project, status))
    with translated("The run's end"):
        tracking.client.set_terminated(run_id, status)
    return tracking.as_run(tracking.client.get_run(run_id))


@verb
def log(
    project: Project,
    metrics: Numbers = {},
    *,
    parameters: Pairs = {},
    tags: Pairs = {},
    artifacts: list[str] = [],
    step: int = 0,
    run: RunRef | None = None,
) -> Logged:
    """Log metrics, parameters, tags and files to the active run.

    Parameters
    ----------
    metrics
        Metrics, ``name=number``; in a notebook the number may be a variable's name.
    parameters
        Parameters, ``name=value``; MLflow refuses to change one.
    tags
        Tags, ``name=value``.
    artifacts
        Files or folders to keep with the run.
    step
        Step of the metrics, counted from 0.
    run
        Another run than this process's active one.

    Returns
    -------
    Logged
        What was written.

    Raises
    ------
    ConflictError
        No run is active and none is named.
    UsageError
        Nothing to log, or MLflow refused a value.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> run = ops.track("baseline")
    >>> ops.log({"auc": 0.81}, parameters={"depth": 3}).headline  # doctest: +ELLIPSIS
    'Logged to run ...: 1 metric, 1 param'

    Plain code
    ----------
    import mlflow

    mlflow.log_metrics($metrics, step=$step)
    mlflow.log_params($parameters)
    mlflow.set_tags($tags)
    for path in $artifacts:
        mlflow.log_artifact(path)
    """
    from nbmlops.tracking.mlflow import Tracking

    if not (metrics or parameters or tags or artifacts):
        raise UsageError("There is nothing to log.", "Give metrics (auc=0.8), -p name=value, --tags or --artifacts.")
    if wrong := [name for name, value in metrics.items() if not is_number(value)]:
        raise UsageError(f"The metric {wrong[0]} is {metrics[wrong[0]]!r}, which is no number.", "Text: -p name=value")
    run_id = _meant(project, run)
    project.open(Tracking).log(run_id, metrics, parameters, tags, step, [_file(project, each) for each in artifacts])
    return Logged(run_id, len(metrics), len(parameters), len(tags), len(artifacts))


@verb
def autolog(project: Project, *, off: bool = False, models: bool = False) -> Autolog:
    """Log every fit of this process by itself.

    Parameters
    ----------
    off
        Stop it.
    models
        Save each fitted model too; that costs seconds a fit.

    Returns
    -------
    Autolog
        Whether it is on.

    Raises
    ------
    UsageError
        Called where there is no Python process to watch: a terminal, REST.

    Examples
    --------
    >>> getfixture("ops").autolog(off=True).is_on
    False

    Plain code
    ----------
    import mlflow

    mlflow.set_tracking_uri($tracking)
    mlflow.set_experiment($experiment)
    mlflow.sklearn.autolog(disable=$off, log_models=$models, log_datasets=False)
    """
    _needs_process(project, "autolog", "Use it in a notebook: %mlops autolog")
    from nbmlops.tracking.mlflow import Tracking, translated

    mlflow: Any = project.open(Tracking).mlflow
    with translated("Autologging"):
        mlflow.set_experiment(experiment_id=project.open(Tracking).experiment_id)
        mlflow.sklearn.autolog(disable=off, log_models=models, log_datasets=False, silent=True)
    return Autolog(not off)


def _meant(project: Project, run: str | None) -> str:
    """Find the run to write to: the one named, the active one, or the headless notebook's."""
    import os

    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    if run is not None:
        return tracking.find(run).run_id
    if project.surface not in ("cli", "rest"):
        if active := tracking.mlflow.active_run():
            return str(active.info.run_id)
        if headless := os.environ.get("NBMLOPS_RUN"):
            return headless
    raise ConflictError("No run is active here.", _NO_RUN)


def _needs_process(project: Project, name: str, hint: str) -> None:
    if project.surface in ("cli", "rest"):
        raise UsageError(
            f"{name} acts on the Python process that calls it, and a {project.surface} call has none.", hint
        )


def _file(project: Project, name: str) -> Path:
    path = project.path(name)
    if not path.exists():
        raise NotFoundError(f"There is no file {path}.")
    return path
