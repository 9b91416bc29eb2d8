"""Runs are read here: the verbs `runs` and `compare`, and what a card and Python's own analyses need.

A database whose schema is known is read by SQL, without MLflow; any other store is asked through MLflow's client.
"""

import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.errors import NotFoundError, UsageError, nearest
from nbmlops.project import Project, patient
from nbmlops.tracking import plugin
from nbmlops.tracking.comparison import Comparison, compare_runs
from nbmlops.tracking.runs import STATUSES, Curve, Run, Runs, Selection, equals, finite_or_infinite, link, run_from
from nbmlops.tracking.store import plain
from nbmlops.verb import NotebookPath, RunRef, verb

if TYPE_CHECKING:
    import pandas as pd

    from nbmlops.tracking.mlflow import Tracking
    from nbmlops.tracking.sql import History, Point

MOST_POINTS = 60  # of a curve on a card
MOST_CURVES = 24  # that a server is asked for, one request each
CURVES_OF_A_RUN = 3  # in a list
MOST_RUNS = 1_000_000_000
PAGE = 1000  # runs that MLflow is asked for at once
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@verb
def runs(
    project: Project,
    *,
    where: str = "",
    sort: str = "",
    limit: int = 20,
    offset: int = 0,
    status: str = "",
    name: str = "",
    notebook: NotebookPath = "",
    here: bool = False,
    mine: bool = False,
    since: str = "",
    curves: bool = False,
) -> Runs:
    """List the newest runs.

    Parameters
    ----------
    where
        MLflow's filter, for instance ``metrics.auc > 0.8``.
    sort
        A metric, best first; ``-NAME`` for lowest first.
    limit
        How many at most, 1 to 1,000.
    offset
        How many to leave out first, 0 or more: the runs of the pages before.
    status
        Only RUNNING, FINISHED, FAILED, KILLED or SCHEDULED ones.
    name
        Only runs of this name.
    notebook
        Only runs of this notebook or script: its path, seen from the working folder or the project's.
    here
        Only runs of the notebook or script that asks.
    mine
        Only my own runs.
    since
        Only runs that began since then: ``90m``, ``24h``, ``7d``, ``2w``, or a date such as ``2013-06-30``.
    curves
        Tell of each run how its metrics went: at most 3, of 60 values or fewer. A server, which is asked for each,
        tells the first 24.

    Returns
    -------
    Runs
        Newest first unless sorted; ``to_frame()`` makes a DataFrame of them.

    Raises
    ------
    UsageError
        MLflow does not understand the filter, there is no such status or time, or this is no notebook.
    NotFoundError
        No run has the metric to sort by.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> ops.runs(name="nobody")
    ()

    Plain code
    ----------
    import mlflow

    mlflow.set_tracking_uri($tracking)
    print(mlflow.search_runs(experiment_names=[$experiment], filter_string=$where, max_results=$limit))
    """
    if not 1 <= limit <= 1000:
        raise UsageError(f"--limit must be from 1 to 1000, not {limit}.")
    if not 0 <= offset <= MOST_RUNS:
        raise UsageError(f"--offset must be from 0 to {MOST_RUNS}, not {offset}.")
    if here and notebook:
        raise UsageError("--here and --notebook exclude each other.", "Give one of them.")
    if status and status not in STATUSES:
        raise UsageError(f"No run has the status {status!r}.", nearest(status.upper(), STATUSES))
    chosen = Selection(
        status=status,
        name=name,
        user=_user() if mine else "",
        sources=_spellings(project, notebook or _own_path(project)) if notebook or here else (),
        since=moment(since, datetime.now().astimezone()) if since else None,
        metric=sort.lstrip("-"),
        lowest_first=sort.startswith("-"),
        limit=limit,
        offset=offset,
    )
    found = _chosen(project, chosen, where)
    listed = Runs(_with_curves(project, tuple(found), chosen.metric) if curves else found)
    listed.metric = chosen.metric
    if chosen.metric and listed and not offset and not any(chosen.metric in run.metrics for run in listed):
        known = {each for run in listed for each in run.metrics}
        raise NotFoundError(f"None of these runs has the metric {chosen.metric!r}.", nearest(chosen.metric, known))
    return listed


@verb
def compare(project: Project, runs: list[RunRef] = [], *, against: RunRef | None = None) -> Comparison:
    """Show what differs between runs.

    Parameters
    ----------
    runs
        Ids, unique prefixes of ids, or names; bare: the last two that finished.
    against
        What they are compared with: a run, ``NAME@ALIAS`` for the run of a model's version, or an
        alias alone, for instance ``champion``. It stands first; without `runs` the last that finished is meant.

    Returns
    -------
    Comparison
        Metrics first, the widest relative gap first; what is equal is left out.

    Raises
    ------
    NotFoundError
        A run does not exist, or there are not two to compare.
    UsageError
        Several models have the alias.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> for depth in (3, 4):
    ...     _ = ops.track(f"depth {depth}", parameters={"depth": depth}), ops.end()
    >>> [row.values for row in ops.compare(["depth 3", "depth 4"]).differences]
    [('3', '4')]

    Plain code
    ----------
    import mlflow

    client = mlflow.MlflowClient($tracking)
    for run_id in $runs:
        run = client.get_run(run_id)
        print(run.info.run_name, run.data.params, run.data.metrics)
    """
    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    if len(runs) == 1 and against is None:
        raise UsageError("compare needs two runs or more.", "Say with what: --against RUN, or --against champion")
    wanted = 1 if against else 2
    chosen = [tracking.find(each) for each in runs]
    if not runs:
        chosen = tracking.newest(wanted, "attributes.status = 'FINISHED'")[::-1]
    if len(chosen) < wanted:
        many = f"compare needs two finished runs, and there are {len(chosen)}."
        raise NotFoundError(many if against is None else "There is no finished run.", "Track one: `track NAME`")
    return compare_runs([_against(tracking, against, chosen[-1]), *chosen] if against else chosen)


# ----------------------------------------------------------- for analyses in Python
def frame(uri: str, experiment: str, where: str = "") -> "pd.DataFrame":
    """Read all runs of an experiment into a DataFrame: the columns and values of ``mlflow.search_runs``, faster.

    Parameters
    ----------
    uri
        A tracking store.
    experiment
        An experiment's name.
    where
        MLflow's filter. With one, as for a server, MLflow's client is asked, which takes its time.

    Returns
    -------
    DataFrame
        A row a run, the newest first; ``run_id``, ``experiment_id``, ``status``, ``artifact_uri``, ``start_time``
        and ``end_time`` (UTC), then ``metrics.*``, ``params.*`` and ``tags.*``; what a run lacks is missing.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> _ = ops.track("baseline"), ops.log({"auc": 0.8}), ops.end()
    >>> settings = ops.project.settings
    >>> frame(settings.tracking.value, settings.name.value)["metrics.auc"].tolist()
    [0.8]
    """
    from nbmlops.tracking import sql
    from nbmlops.tracking.mlflow import translated

    _deliver(uri)
    with translated("The table of runs"):
        found = None if where else sql.frame(uri, experiment)
        return _frame_by_client(uri, experiment, where) if found is None else found


def history(uri: str, run_id: str, metric: str) -> "History":
    """Read every value that a metric of a run had, faster than MLflow's client and with its values and order.

    Parameters
    ----------
    uri
        A tracking store.
    run_id
        The run's whole id.
    metric
        The metric's name.

    Returns
    -------
    History
        Arrays ``steps``, ``timestamps_ms`` and ``values``, empty where there is no such metric; ``to_frame()``.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> run = ops.track("baseline")
    >>> _ = ops.log({"loss": 0.5}), ops.log({"loss": 0.25}, step=1), ops.end()
    >>> history(ops.project.settings.tracking.value, run.run_id, "loss").values
    array([0.5 , 0.25])
    """
    from nbmlops.tracking import sql
    from nbmlops.tracking.mlflow import translated

    _deliver(uri)
    with translated(f"The history of {metric}"):
        found = sql.history(uri, run_id, metric)
        if found is None:
            points = _client(uri).get_metric_history(run_id, metric)
            found = sql.history_of([(each.step, each.timestamp, each.value, False) for each in points])
    return found


def in_full(project: Project, run: Run) -> Run:
    """Add to a run what its card draws and tells beside it: curves of its metrics, changes since the attempt before."""
    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    changes: tuple[Any, ...] = ()
    if run.previous_id:
        try:
            changes = compare_runs([tracking.find(run.previous_id), run]).differences
        except NotFoundError:  # deleted since
            changes = ()
    (drawn,) = _drawn(project.settings.tracking.value, [run])
    return replace(drawn, changes=changes)


# ---------------------------------------------------------------------- which runs
def moment(words: str, now: datetime) -> datetime:
    """Read a time that is so long ago, or a date.

    Parameters
    ----------
    words
        ``90m``, ``24h``, ``7d``, ``2w``, or ISO 8601; a time without a zone is this machine's.
    now
        An aware time.

    Raises
    ------
    UsageError
        It is neither.

    Examples
    --------
    >>> moment("24h", datetime.fromisoformat("2013-07-02T00:00:00+00:00")).isoformat()
    '2013-07-01T00:00:00+00:00'
    """
    number, unit = words[:-1], words[-1:]
    try:
        if unit in _UNITS and number.isdecimal():
            return now - timedelta(**{_UNITS[unit]: int(number)})
        return datetime.fromisoformat(words).astimezone()
    except (ValueError, OverflowError) as exc:
        raise UsageError(f"{words!r} is no time.", "Say 90m, 24h, 7d, 2w, or a date: 2013-06-30") from exc


def _chosen(project: Project, chosen: Selection, where: str) -> Iterable[Run]:
    from nbmlops.tracking import sql
    from nbmlops.tracking.mlflow import translated

    settings = project.settings
    uri, experiment = settings.tracking.value, settings.name.value
    _deliver(uri)
    with translated("The list of runs"):
        rows = None if where else sql.newest(uri, experiment, chosen)
    if rows is None:
        return _asked(project, chosen, where)
    return (
        run_from(
            row.run_id,
            row.name,
            row.status,
            (row.start_time, row.end_time),
            (row.metrics, row.params, row.tags),
            experiment=experiment,
            url=link(uri, row.experiment_id, row.run_id),
        )
        for row in rows
    )


def _asked(project: Project, chosen: Selection, where: str) -> Iterable[Run]:
    """Ask MLflow's client, which knows no "or" and no offset: one question for each spelling of a notebook's path."""
    from nbmlops.tracking.mlflow import Tracking, translated

    tracking = project.open(Tracking)
    direction = "ASC" if chosen.lowest_first else "DESC"
    order = f"metrics.`{chosen.metric}` {direction}" if chosen.metric else "attributes.start_time DESC"
    conditions = list(_conditions(chosen, where))
    questions = [
        [*conditions, equals(f"tags.`{tag}`", source)]
        for tag in ("nbmlops.notebook", "mlflow.source.name")
        for source in chosen.sources
    ] or [conditions]
    last = chosen.offset + chosen.limit
    with translated("The list of runs"):
        answers = [_first(tracking, chosen.name, " and ".join(question), order, last) for question in questions]
    found = {run.run_id: run for answer in answers for run in answer}
    ordered = found.values() if len(answers) == 1 else sorted(found.values(), key=_place(chosen))
    return list(ordered)[chosen.offset : last]


def _first(tracking: "Tracking", name: str, where: str, order: str, n: int) -> list[Run]:
    """Ask for the first runs, of a name unless that is empty: MLflow's filter may find others, too."""
    pages = _pages(tracking.client, tracking.experiment_id, where, order=order, size=min(n, PAGE))
    runs = map(tracking.as_run, pages)
    return list(itertools.islice((run for run in runs if name in ("", run.name)), n))


def _conditions(chosen: Selection, where: str) -> Iterable[str]:
    if where:
        yield where
    if chosen.status:
        yield f"attributes.status = '{chosen.status}'"
    if chosen.name:
        yield equals("attributes.run_name", chosen.name)
    if chosen.user:
        yield equals("tags.`mlflow.user`", chosen.user)
    if chosen.since:
        yield f"attributes.start_time >= {int(chosen.since.timestamp() * 1000)}"


def _place(chosen: Selection) -> Callable[[Run], Any]:
    """Give the key that sorts runs as MLflow does: by the metric, NaN and then nothing at the end; the newest first."""

    def place(run: Run) -> tuple[int, float, float, str]:
        value = run.metrics.get(chosen.metric)
        rank = 2 if value is None else int(value != value)  # noqa: PLR0124  # NaN differs from itself
        ordered = 0.0 if value is None or rank else value if chosen.lowest_first else -value
        return rank, ordered, -run.started_at.timestamp() if run.started_at else 0.0, run.run_id

    return place


def _user() -> str:
    from nbmlops.project import actor

    return actor()


def _own_path(project: Project) -> str:
    """Give the path of the calling notebook or script."""
    from nbmlops.tracking.capture.ipython import source_path

    path = source_path() if project.surface not in ("cli", "rest") else ""
    if not path:
        raise UsageError("This is no notebook whose runs could be listed.", "Name it: --notebook PATH")
    return path


def _spellings(project: Project, notebook: str) -> tuple[str, ...]:
    """Spell the path of a notebook or script in every way in which a run may name it.

    One that is nowhere any more may have been seen from either folder. A script that logs with plain MLflow is named
    as it was called.
    """
    given = os.path.expanduser(notebook)  # pathlib's raises for a user that does not exist
    seen = [Path(os.path.normpath(top / given)) for top in (project.folder, project.root)]
    paths = [path for path in seen if path.exists()][:1] or seen
    tops = [project.root] if given.endswith(".ipynb") else [project.root, project.folder]
    inside = [path.relative_to(top) for path in paths for top in tops if path.is_relative_to(top)]
    return tuple(dict.fromkeys(str(each) for each in (*paths, *inside)))


# --------------------------------------------------------------- MLflow's client
def _client(uri: str) -> Any:
    """Connect to a store itself, wherever this process' own MLflow is aimed."""
    from nbmlops.tracking.store import load_store

    return load_store(uri).MlflowClient(plain(uri))


def _frame_by_client(uri: str, experiment: str, where: str) -> "pd.DataFrame":
    from nbmlops.tracking import sql

    client = _client(uri)
    known = client.get_experiment_by_name(experiment)
    runs = list(_pages(client, known.experiment_id, where)) if known else []
    names = ("run_id", "experiment_id", "status", "artifact_uri")
    info = {name: [getattr(run.info, name) for run in runs] for name in names}
    times = {name: [getattr(run.info, name) for run in runs] for name in ("start_time", "end_time")}
    held: dict[str, dict[str, list[Any]]] = {}
    for kind, missing in (("metrics", math.nan), ("params", None), ("tags", None)):
        tables = [getattr(run.data, kind) for run in runs]
        held[kind] = {key: [table.get(key, missing) for table in tables] for key in set().union(*tables)}
    return sql.assembled(info, times, held)


def _pages(client: Any, experiment_id: str, where: str, *, order: str = "", size: int = PAGE) -> Iterator[Any]:
    page: Any = None
    by = [order] if order else None
    while page is None or page.token:
        token = page and page.token
        page = client.search_runs([experiment_id], where, max_results=size, order_by=by, page_token=token)
        yield from page


def _deliver(uri: str) -> None:
    """Let the store have what this process has logged, so that it is read too."""
    for store in plugin.opened:
        if plain(store.uri) == patient(plain(uri)):
            store.outbox.flush()


# ------------------------------------------------------------------- beside a run
def _with_curves(project: Project, runs: Sequence[Run], metric: str) -> Iterator[Run]:
    """Add to runs of a list how their metrics went: the one they are sorted by, then those that most of them have."""
    return _drawn(project.settings.tracking.value, runs, each=CURVES_OF_A_RUN, first=metric)


def _drawn(uri: str, runs: Sequence[Run], *, each: int | None = None, first: str = "") -> Iterator[Run]:
    """Add to runs how their metrics went: of each that has several values the curve, and the steps below it."""
    from nbmlops.tracking import sql
    from nbmlops.tracking.mlflow import translated

    _deliver(uri)
    with translated("The history of the metrics"):
        ids = [run.run_id for run in runs]
        found: Mapping[str, Mapping[str, Sequence[Point]]] | None
        found = sql.curves(uri, ids, MOST_POINTS, each=each, first=first)
    if found is None:
        found = _asked_curves(uri, runs, each, first)
    for run in runs:
        several = {name: points for name, points in found.get(run.run_id, {}).items() if len(points) > 1}
        curves = {name: Curve(finite_or_infinite(value) for _, value in points) for name, points in several.items()}
        steps = {name: tuple(step for step, _ in points) for name, points in several.items()}
        yield replace(run, curves=curves, steps=steps)


def _asked_curves(
    uri: str, runs: Sequence[Run], each: int | None, first: str
) -> "Mapping[str, Mapping[str, Sequence[Point]]]":
    """Ask MLflow's client for as many histories as one waits for, those of the first runs."""
    from nbmlops.tracking.sql import Point

    n_of = Counter(name for run in runs for name in run.metrics)
    wanted = (
        (run.run_id, name)
        for run in runs
        for name in sorted(run.metrics, key=lambda name: (name != first, -n_of[name], name))[:each]
    )
    found: dict[str, dict[str, list[Point]]] = {}
    for run_id, name in itertools.islice(wanted, MOST_CURVES):
        told = history(uri, run_id, name)
        thin = slice(None, None, len(told.values) // MOST_POINTS + 1)
        points = zip(told.steps[thin].tolist(), told.values[thin].tolist(), strict=True)
        found.setdefault(run_id, {})[name] = [Point(*each) for each in points]
    return found


def _against(tracking: "Tracking", what: str, run: Run) -> Run:
    """Find the run that others are compared with: of a model's version by alias, else by id or name."""
    from nbmlops.tracking.mlflow import translated

    model, _, alias = what.rpartition("@")
    with translated(what):
        aliases = {each.name: each.aliases for each in tracking.client.search_registered_models()}
        holders = [name for name in aliases if alias in aliases[name] and model in ("", name)]
        if not holders:
            return tracking.find(what)
        own = {each.name for each in tracking.client.search_model_versions(f"run_id = '{run.run_id}'")}
        of_run = [name for name in holders if name in own] or holders
        if len(of_run) > 1:
            raise UsageError(f"{len(of_run)} models have a {alias}.", f"Say which: --against {of_run[0]}@{alias}")
        version = tracking.client.get_model_version_by_alias(of_run[0], alias)
        if not version.run_id:
            raise NotFoundError(f"{of_run[0]}/{version.version} was registered without a run.", "Name a run.")
        return tracking.find(version.run_id)
