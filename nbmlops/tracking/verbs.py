"""The verbs that make runs: `track`, `end`, `log`, `autolog`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nbmlops.errors import ConflictError, NbmlopsError, NotFoundError, UsageError
from nbmlops.project import Project
from nbmlops.tracking import plugin
from nbmlops.tracking.log import NO_RUN, current_run_id
from nbmlops.tracking.runs import Run
from nbmlops.verb import (
    MACHINE_ONLY,
    Command,
    Figures,
    Numbers,
    Pairs,
    Result,
    RunRef,
    Tables,
    is_number,
    verb,
)

CARD_S = 2.0  # that a run's card waits for what was just logged to be in the store


@dataclass(frozen=True)
class Logged(Result):
    """What a call of `log` wrote, and to which run."""

    run_id: str = field(metadata=MACHINE_ONLY)
    metrics: int = field(metadata=MACHINE_ONLY)
    params: int = field(metadata=MACHINE_ONLY)
    tags: int = field(metadata=MACHINE_ONLY)
    artifacts: int = field(metadata=MACHINE_ONLY)
    figures: int = field(default=0, metadata=MACHINE_ONLY)
    tables: int = field(default=0, metadata=MACHINE_ONLY)
    texts: int = field(default=0, metadata=MACHINE_ONLY)

    @property
    def headline(self) -> str:
        """What was logged."""
        counts = {"metric": self.metrics, "param": self.params, "tag": self.tags, "artifact": self.artifacts}
        counts |= {"figure": self.figures, "table": self.tables, "text": self.texts}
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
def track(
    project: Project,
    name: str | None = None,
    *,
    parameters: Pairs = {},
    tags: Pairs = {},
    nested: bool = False,
    auto: bool = False,
    system: bool = False,
    live: str = "",
    command: Command = [],
) -> Run:
    """Track what follows as one run, until `end` or the cell's end.

    A run that was left open ends first: FAILED if a cell has failed since it
    began, else FINISHED. A run of a name that this notebook has run before is the
    next attempt at it, linked to the one before. Inside a notebook that `run`
    executes, the new run lies under the notebook's own.

    On a terminal, ``track NAME -- COMMAND`` runs a command as the run: what it logs goes there, and its
    end is the run's.

    Parameters
    ----------
    name
        Name of the run; MLflow makes one up without it.
    parameters
        Parameters to log, ``name=value``.
    tags
        Tags to set, ``name=value``.
    nested
        Lie under the run that is active, which goes on.
    auto
        Log every fit by itself until the run ends.
    system
        Log the machine's load too, every second: CPU, memory, disk, network, GPU.
    live
        In a notebook: the metric whose curve is drawn while the cell runs.
    command
        Words of a command to run as the run.

    Returns
    -------
    Run
        The run that has begun; with a command, the run as it ended, with the command's exit code.

    Raises
    ------
    UsageError
        Called where there is no Python process to track: a terminal without a command, REST; or MLflow refused a
        parameter or tag, and the run has ended FAILED.
    NotFoundError
        There is no such command.
    StoreError
        The tracking store is out of reach, and the journal is off.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> ops.track("baseline", parameters={"depth": 3}).params
    {'depth': '3'}
    >>> ops.end().status
    'FINISHED'
    >>> ops.track("baseline", parameters={"depth": 4}).attempt
    2

    Plain code
    ----------
    import mlflow

    mlflow.set_tracking_uri($tracking)
    mlflow.set_experiment($experiment)
    mlflow.start_run(run_name=$name, nested=$nested, log_system_metrics=$system)
    mlflow.log_params($parameters)
    mlflow.set_tags($tags)
    """
    _check_track(project, name, parameters, live, command)
    if command:
        from nbmlops.tracking.command import run_command

        return run_command(project, name, command, parameters, tags, has_system=system)
    from nbmlops.tracking.capture.facts import source_tags

    source = source_tags(project.root)["mlflow.source.name"]
    begun = begin(project, name, source, parameters, tags, nested=nested, has_system=system)
    if auto:
        _automatic.begin(project, begun.run_id)
    return begun


def begin(
    project: Project,
    name: str | None,
    source: str,
    parameters: Mapping[str, Any],
    tags: Mapping[str, Any],
    *,
    nested: bool = False,
    has_system: bool = False,
    more: Mapping[str, str] = {},
) -> Run:
    """Begin a run as the next attempt of its name at its source; `more` are tags that MLflow makes at its creation."""
    from nbmlops.tracking import attempts, session, system
    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    linked = attempts.link_tags(tracking, name, source) if name else {}
    begun = session.begin(project, name, nested=nested, tags={**linked, **more})
    run_id = begun.info.run_id
    attempts.began(tracking, begun, source)
    try:
        tracking.log(run_id, {}, parameters, tags, 0, [])
    except NbmlopsError as exc:  # a run that is refused its parameters is not left open
        session.failed(exc)
        session.end(project, "FAILED")
        raise
    if has_system:
        system.watch(run_id, tracking.uri)
    return tracking.as_run(tracking.client.get_run(run_id))


def _check_track(
    project: Project, name: str | None, parameters: Mapping[str, Any], live: str, command: list[str]
) -> None:
    if name and "=" in name and parameters and not command:  # of `-p a=1 b=2` the second would be the name
        raise UsageError(f"{name!r} is no name of a run.", "Options are repeated: -p a=1 -p b=2")
    if live and project.surface != "magic":
        raise UsageError("--live draws in a notebook alone.", f"There: %%mlops track --live {live}")
    if project.surface == "rest" or not command:
        hint = "In a notebook: %%mlops track NAME. Headlessly: `run NOTEBOOK`, or `track NAME -- COMMAND`"
        _needs_process(project, "track", hint)


class _Automatic:
    """Autologging for the length of a run."""

    def __init__(self) -> None:
        self.run_id = ""

    def begin(self, project: Project, run_id: str) -> None:
        """Switch it on for a run, unless it is on for good."""
        from mlflow.utils.autologging_utils import autologging_is_disabled

        from nbmlops.tracking import autolog

        if self.run_id or autologging_is_disabled("sklearn"):
            self.run_id = run_id
            autolog.on(project)

    def end(self, run_id: str) -> None:
        """Switch it off with its run."""
        if self.run_id and self.run_id == run_id:
            from nbmlops.tracking import autolog

            self.run_id = ""
            autolog.off()


_automatic = _Automatic()


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
        The run, ended, with its metrics' curves and what changed since the attempt before.

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
        raise ConflictError("No run is active here.", NO_RUN)
    if active and run_id == active.info.run_id:
        _automatic.end(run_id)
        return card(project, tracking.as_run(session.end(project, status)))
    with translated("The run's end"):
        tracking.client.set_terminated(run_id, status)
    return card(project, tracking.as_run(tracking.client.get_run(run_id)))


def end_cell(project: Project, run_id: str, error: BaseException | None) -> Run | None:
    """End the run of a cell that has ended, and what it left open in it; give its card, none of a cell that failed."""
    from nbmlops.tracking import session
    from nbmlops.tracking.mlflow import Tracking

    _automatic.end(run_id)
    tracking = project.open(Tracking)
    status, has_failed = "FINISHED", error is not None and not session.is_leaving(error)
    if error is not None and has_failed and run_id in _open_runs():  # else it has its end already
        session.failed(error)
        status = session.Failure(error).status
    while run_id in _open_runs():
        session.end(project, status)
    return None if has_failed else card(project, tracking.as_run(tracking.client.get_run(run_id)))


def _open_runs() -> list[str]:
    from mlflow.tracking.fluent import _active_run_stack

    return [run.info.run_id for run in _active_run_stack.get()]


def card(project: Project, run: Run) -> Run:
    """Add to an ended run what its card draws and tells beside it, or what the store does not have of it yet."""
    from nbmlops.errors import StoreError
    from nbmlops.tracking.mlflow import Tracking
    from nbmlops.tracking.reading import in_full

    if unsent := _unsent(project.open(Tracking).uri):
        return replace(run, unsent=unsent)
    try:
        return in_full(project, run)
    except StoreError:
        return run


def _unsent(uri: str) -> int:
    """Count the records that a store lacks after a short wait."""
    from nbmlops.tracking.journal import unsent

    stores = [store for store in plugin.opened if uri.endswith(store.uri)]
    return sum(unsent(store.outbox.writer.path) for store in stores if not store.outbox.flush(CARD_S))


@verb
def log(
    project: Project,
    metrics: Numbers = {},
    *,
    parameters: Pairs = {},
    tags: Pairs = {},
    figures: Figures = {},
    tables: Tables = {},
    text: Pairs = {},
    artifacts: list[str] = [],
    step: int = 0,
    run: RunRef | None = None,
) -> Logged:
    """Log metrics, params, tags, figures, tables, texts and files to the active run.

    Parameters
    ----------
    metrics
        Metrics, ``name=number``; in a notebook the number may be a variable's name.
    parameters
        Parameters, ``name=value``; MLflow refuses to change one.
    tags
        Tags, ``name=value``.
    figures
        Figures of matplotlib or plotly, kept as ``figures/NAME.png`` or ``.html``: a variable, ``NAME=VARIABLE``, or
        a picture's path.
    tables
        Tables, kept as ``tables/NAME.parquet``, their digests as the tags ``nbmlops.data.NAME``: a DataFrame's
        variable, ``NAME=VARIABLE``, or a file's path.
    text
        Texts, ``name=text``, kept as ``texts/NAME.txt``.
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
    NotFoundError
        There is no such file.
    DataError
        A table cannot be kept.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> run = ops.track("baseline")
    >>> ops.log({"auc": 0.81}, parameters={"depth": 3}).headline  # doctest: +ELLIPSIS
    'Logged to run ...: 1 metric, 1 param'
    >>> ops.log(text={"note": "noisy labels"}, tables={"delays": [{"late": 3}]}).headline  # doctest: +ELLIPSIS
    'Logged to run ...: 1 table, 1 text'

    Plain code
    ----------
    import mlflow

    mlflow.log_metrics($metrics, step=$step)
    mlflow.log_params($parameters)
    mlflow.set_tags($tags)
    for name, figure in $figures.items():
        mlflow.log_figure(figure, f"figures/{name}.png")
    for name, table in $tables.items():
        mlflow.log_table(table, f"tables/{name}.json")
    for name, text in $text.items():
        mlflow.log_text(text, f"texts/{name}.txt")
    for path in $artifacts:
        mlflow.log_artifact(path)
    """
    from nbmlops.tracking.mlflow import Tracking

    if not (metrics or parameters or tags or artifacts or figures or tables or text):
        raise UsageError(
            "There is nothing to log.",
            "Give metrics (auc=0.8), -p name=value, --tags, --figures, --tables, --text or --artifacts.",
        )
    if wrong := [name for name, value in metrics.items() if not is_number(value)]:
        raise UsageError(f"The metric {wrong[0]} is {metrics[wrong[0]]!r}, which is no number.", "Text: -p name=value")
    run_id = _meant(project, run)
    paths = [_file(project, each) for each in artifacts]
    keep = _files_of(project, run_id, figures, tables, text) if figures or tables or text else {}
    project.open(Tracking).log(run_id, metrics, parameters, {**tags, **keep}, step, paths)
    counts = (metrics, parameters, tags, artifacts, figures, tables, text)
    return Logged(run_id, *(len(each) for each in counts))


def _files_of(
    project: Project, run_id: str, figures: Mapping[str, Any], tables: Mapping[str, Any], text: Mapping[str, Any]
) -> dict[str, str]:
    """Keep figures, tables and texts with a run; give the tables' digests as tags."""
    import tempfile

    from nbmlops.tracking import logged
    from nbmlops.tracking.mlflow import Tracking, translated

    client = project.open(Tracking).client
    digests = logged.digests(project, tables) if tables else {}
    with tempfile.TemporaryDirectory(prefix="nbmlops-") as scratch:
        for path, folder in list(logged.files(project, Path(scratch), figures, tables, text)):
            with translated("The file"):
                client.log_artifact(run_id, str(path), folder)
    return digests


@verb
def autolog(project: Project, *, off: bool = False, no_models: bool = False) -> Autolog:
    """Log every fit of this process by itself.

    Parameters
    ----------
    off
        Stop it.
    no_models
        Do not keep the fitted models.

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
    mlflow.sklearn.autolog(disable=$off, log_models=not $no_models, log_datasets=False)
    """
    _needs_process(project, "autolog", "Use it in a notebook: %mlops autolog")
    from nbmlops.tracking import autolog

    if off:
        autolog.off()
    else:
        autolog.on(project, models=not no_models)
    return Autolog(not off)


def _meant(project: Project, run: str | None) -> str:
    """Find the run to write to: the one named, the active one, or the headless notebook's."""
    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    if run is not None:
        return tracking.find(run).run_id
    if project.surface not in ("cli", "rest") and tracking.mlflow and (current := current_run_id()):
        return current
    raise ConflictError("No run is active here.", NO_RUN)


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
