"""The project's own verbs: `init`, `status`, `doctor`, `sync`, `export`, and `show`, which looks at every layer."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from nbmlops.agent import ahead
from nbmlops.agent.cards import (
    Attention,
    Champion,
    Diagnosis,
    EndpointRow,
    Initialised,
    LastDrift,
    SettingRow,
    Status,
    Synced,
    VersionCard,
    attention_of,
    newest_reports,
)
from nbmlops.agent.waiting import waiting_of
from nbmlops.errors import ConflictError, NbmlopsError, NotFoundError, StoreError, UsageError, nearest
from nbmlops.pipelines import jobs
from nbmlops.pipelines.flow.card import PipelineCard
from nbmlops.pipelines.flow.declared import declared
from nbmlops.pipelines.in_full import JobInFull, job_in_full
from nbmlops.project import FILE, STATE, Project
from nbmlops.registry.versions import CHAMPION
from nbmlops.scrub import scrub_text
from nbmlops.serving.endpoints import Endpoint
from nbmlops.tracking.runs import Run
from nbmlops.verb import AnyRef, Pairs, Rows, verb


@verb
def init(
    project: Project, name: str | None = None, *, tracking: str = "", ledger: str = "", dry_run: bool = False
) -> Initialised:
    """Make the current folder a project.

    Writes a commented ``nbmlops.toml`` and an entry in ``.gitignore``, then reaches
    both stores. Nothing that exists is overwritten; when a store is out of
    reach, no file is left behind.

    Parameters
    ----------
    name
        Name of the project; the folder's without it.
    tracking
        Where runs and models live: SQLite, Postgres or the http address of an MLflow server.
    ledger
        Where nbmlops' own records live: SQLite or Postgres.
    dry_run
        Only tell what would be made.

    Returns
    -------
    Initialised
        What was made, and what was there.

    Raises
    ------
    ConflictError
        The folder is a project already, and the arguments ask for another.
    StoreError
        A store is out of reach.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> ops.init(dry_run=True).kept
    ('nbmlops.toml', '.gitignore')

    Plain code
    ----------
    import mlflow

    mlflow.set_tracking_uri($tracking)
    mlflow.set_experiment($name or $experiment)
    """
    from nbmlops.agent import files

    folder = project.folder
    _refuse_password("--tracking", tracking)
    _refuse_password("--ledger", ledger)
    asked = {"name": name or "", "tracking": tracking, "ledger": ledger}
    if (folder / FILE).exists():
        _refuse_another(folder, asked)
    lacking = files.missing(folder)
    kept = tuple(file for file in (FILE, ".gitignore") if file not in lacking)
    if dry_run:
        title = name or (Project(folder).settings.name.value if FILE in kept else folder.name)
        return Initialised(title, str(folder), tracking, ledger, lacking, kept, dry_run=True)
    has_state = (folder / STATE).exists()
    is_new = FILE in lacking and files.create(folder / FILE, files.policy_text(name or folder.name, tracking, ledger))
    if not is_new:
        _refuse_another(folder, asked)  # another process may have made it this very moment
    made = Project(folder, surface=project.surface, notify=project.notify)
    try:
        _reach(made)
    except BaseException:
        if is_new:
            files.remove(folder, with_state=not has_state)
        raise
    if ".gitignore" in lacking:
        files.add_ignore(folder / ".gitignore")
    settings = made.settings
    stores = scrub_text(settings.tracking.value), scrub_text(settings.ledger.value)
    return Initialised(settings.name.value, str(folder), *stores, lacking, kept)


@verb
def status(project: Project) -> Status:
    """Show the project on one card: what lives, and what needs attention.

    Returns
    -------
    Status
        What needs attention, runs, champions, endpoints, the last drift report, what the
        journal has not delivered, and every setting with its source. A store out of reach
        is told of, not raised.

    Raises
    ------
    NotFoundError
        There is no project here.

    Examples
    --------
    >>> getfixture("ops").status().headline
    'flights: all is well'

    Plain code
    ----------
    import mlflow

    client = mlflow.MlflowClient($tracking)
    print(client.search_runs([e.experiment_id for e in client.search_experiments()], "attributes.status = 'RUNNING'"))
    print(client.search_registered_models())
    """
    from nbmlops.tracking.owner import owner_is_dead

    found = project.settings
    states = {
        "tracking": _state(lambda: _tracking(project).reach()),
        "ledger": _state(lambda: _ledger(project).reach()),
    }
    settings = tuple(
        SettingRow(key, scrub_text(setting.value), setting.source, states.get(key, ""))
        for key, setting in (
            ("name", found.name),
            ("tracking", found.tracking),
            ("ledger", found.ledger),
            ("journal", found.journal),
            ("capture", found.capture),
        )
    )
    active: tuple[Run, ...] = ()
    champions: tuple[Champion, ...] = ()
    endpoints: tuple[EndpointRow, ...] = ()
    drift = None
    orphans: tuple[Run, ...] = ()
    if states["tracking"] == "answers":
        running = _tracking(project).running()
        orphans = tuple(run for run, tags in running if owner_is_dead(tags))
        active = tuple(run for run, tags in running if not owner_is_dead(tags))
    if set(states.values()) == {"answers"}:
        champions = _champions(project)
    if states["ledger"] == "answers":
        endpoints = _endpoints(project)
        drift = _last_drift(project)
    unsent = waiting_of(project)
    scheduled = ahead.ahead_of(project) if states["ledger"] == "answers" else ()
    attention = attention_of(settings, orphans, endpoints, drift, unsent) + ahead.attention_of(project, scheduled)
    attention += _untold(project) if states["ledger"] == "answers" else ()
    name, root = found.name.value, str(project.root)
    return Status(attention, name, root, active, champions, endpoints, drift, settings, unsent, scheduled)


@verb
def doctor(project: Project, *, fix: bool = False) -> Diagnosis:
    """Check stores, git, kernel, versions, disk and leftovers; mend with --fix.

    Parameters
    ----------
    fix
        Mend what can be mended: end runs whose process is gone, start endpoints that
        died, stop servers that nothing owns, add the ignore entry.

    Returns
    -------
    Diagnosis
        Every check with what was found and what mends it, the worst first.

    Examples
    --------
    >>> getfixture("ops").doctor().passed
    True

    Plain code
    ----------
    import mlflow

    client = mlflow.MlflowClient($tracking)
    print(client.search_experiments())
    """
    from nbmlops.agent import checks

    mended = checks.mend(project) if fix else ()
    order = {"fail": 0, "warn": 1, "ok": 2}
    found = sorted(checks.check_all(project), key=lambda check: order[check.status])
    return Diagnosis(all(check.status != "fail" for check in found), tuple(found), mended)


@verb
def sync(project: Project, *, retry: bool = False, dry_run: bool = False) -> Synced:
    """Deliver what the journals hold, and end the runs whose process is gone.

    Delivers every journal of the project and of the user's own folder, each to
    the store that it names, in order and exactly once. A record that a store
    refuses is kept aside with the reason, and holds up no other.

    Parameters
    ----------
    retry
        Try rejected records once more.
    dry_run
        Only count what waits.

    Returns
    -------
    Synced
        What was sent, uploaded and rejected, the runs that were ended, and what is left.

    Raises
    ------
    StoreError
        Something could not be delivered; it stays in the journal.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> run = ops.track("baseline")
    >>> ops.sync().left
    0

    Plain code
    ----------
    import mlflow

    mlflow.flush_async_logging()
    """
    from nbmlops.agent import deliver

    done = deliver.planned(project) if dry_run else deliver.delivered(project, retry=retry)
    if done.left and not dry_run:
        raise StoreError(f"{done.headline}. Nothing is lost: it stays in the journal.", "Why: `doctor`")
    return done


@verb
def export(
    project: Project,
    what: AnyRef,
    *,
    to: Literal[
        "py",
        "notebook",
        "bundle",
        "github",
        "gitlab",
        "jenkins",
        "airflow",
        "kfp",
        "k8s",
        "cron",
        "systemd",
        "docker",
        "kserve",
    ] = "py",
    output: str | None = None,
    parameters: Pairs = {},
    schedule: str | None = None,
    tz: str = "",
    image: str = "",
    force: bool = False,
) -> Any:
    """Write a run as code, or the files by which others run or serve what is named.

    Parameters
    ----------
    what
        A run; for CI and orchestrators the path of a notebook or the name of a pipeline, or ``agent``; for ``docker``,
        ``kserve`` and ``k8s`` a model version, or an endpoint with the versions that it serves.
    to
        ``py``: the executed cells as a script without magics. ``notebook``: as a notebook. ``bundle``: a
        zip archive with its parameters, metrics, files, source, changes, environment and commit.
        ``github``, ``gitlab``, ``jenkins``: a workflow file that runs the notebook or pipeline.
        ``airflow``, ``kfp``: a Python file with a task for each step. ``k8s``: a CronJob or Job; of a model or
        endpoint Deployment, Service and PodDisruptionBudget. ``cron``: a crontab. ``systemd``: service and timer; of
        ``agent`` the unit that keeps it alive. ``docker``: a folder from which an image is built that serves the
        model without this project. ``kserve``: an InferenceService; of an endpoint with two versions one for each.
    output
        Path of the file or folder. Without it a name in the working folder, or where the CI system looks for it;
        a .gitlab-ci.yml that is there stays, and the workflow is written beside it. A file that is there is refused.
    parameters
        Values that every run is given, ``name=value``; a secret as ``name=env:VARIABLE``.
    schedule
        When it runs by itself, as cron has it: "30 2 * * *". Without it as nbmlops.toml declares of a pipeline.
    tz
        Time zone of the schedule; without it the one that is declared, or UTC.
    image
        Container image; that of a notebook or pipeline has nbmlops, and the project's folder as its working folder,
        that of a model is what ``docker`` wrote. One without a tag gets the version as its tag.
    force
        Overwrite a file that differs.

    Returns
    -------
    Exported, WorkflowFile or ServedFiles
        The file, with its size or with what is left to do by hand.

    Raises
    ------
    UsageError
        The file of a run is there already, or a parameter or the schedule is not right.
    ConflictError
        The run keeps no source, or the file is there and differs.
    NotFoundError
        There is no such run or notebook.
    StoreError
        The file cannot be written, or the run's store is out of reach.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> run = ops.track("baseline")
    >>> run = ops.end()
    >>> ops.export("baseline", to="bundle")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    nbmlops.errors.ConflictError: Run baseline (...) keeps no source...

    Plain code
    ----------
    import mlflow

    mlflow.artifacts.download_artifacts(run_id=$what, dst_path=$output)
    """
    from nbmlops.agent.exported import exported
    from nbmlops.agent.runnable import Asked

    return exported(project, what, to, output, Asked(parameters, schedule, tz, force, image))


@verb
def show(project: Project, what: AnyRef | None = None) -> Run | VersionCard | Endpoint | JobInFull | PipelineCard:
    """Show one run, model, endpoint, job, or a pipeline drawn.

    Parameters
    ----------
    what
        ``name/version``, ``name@alias``, an endpoint, a model's name, a pipeline's, a run's id or name,
        or a job's id; bare: the newest run.

    Returns
    -------
    Run, VersionCard, Endpoint, JobInFull or PipelineCard
        The thing, whole; a pipeline as its steps hang together.

    Raises
    ------
    NotFoundError
        Nothing has that name; the hint names the nearest.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> run = ops.track("baseline")
    >>> ops.show().name
    'baseline'

    Plain code
    ----------
    import mlflow

    print(mlflow.MlflowClient($tracking).get_run($what))
    """
    from nbmlops.tracking.reading import in_full

    if what is None:
        newest = _tracking(project).newest(1)
        if not newest:
            raise NotFoundError("There is no run yet.", "Track one: `track NAME`")
        return in_full(project, newest[0])
    endpoints = {each.name: each for each in _endpoint_rows(project)}
    if what in endpoints:
        return endpoints[what]
    if what in project.settings.pipelines:
        return PipelineCard.of(declared(project.settings, what))
    if re.fullmatch("[0-9a-f]{6,12}", what) and (found := jobs.newest(project, 2, job=what)):
        return job_in_full(project, found[0])
    models = _registry(project).names()
    if re.split("[/@]", what)[0] in models:
        return _version_card(project, what)
    try:
        return in_full(project, _tracking(project).find(what))
    except NotFoundError as exc:
        known = [
            *endpoints,
            *models,
            *project.settings.pipelines,
            *(run.name for run in _tracking(project).newest(1000)),
        ]
        raise NotFoundError(f"There is no run, model or endpoint {what!r}.", nearest(what, known)) from exc


# -------------------------------------------------------------------- the parts
def _tracking(project: Project) -> Any:
    from nbmlops.tracking.mlflow import Tracking

    return project.open(Tracking)


def _ledger(project: Project) -> Any:
    from nbmlops.ledger.database import Ledger

    return project.open(Ledger)


def _registry(project: Project) -> Any:
    from nbmlops.registry.mlflow import Registry

    return project.open(Registry)


def _endpoint_rows(project: Project) -> Rows[Endpoint]:
    from nbmlops.serving.verbs import endpoints

    return endpoints(project)


def _reach(project: Project) -> None:
    project.notify(f"tracking store {scrub_text(project.settings.tracking.value)}")
    _tracking(project).reach()
    _ = _tracking(project).experiment_id
    project.notify(f"ledger {scrub_text(project.settings.ledger.value)}")
    _ledger(project).close()


def _state(reach: Callable[[], Any]) -> str:
    try:
        reach()
    except NbmlopsError as exc:
        return exc.message
    return "answers"


def _champions(project: Project) -> tuple[Champion, ...]:
    from nbmlops.registry.reading import models

    return tuple(
        Champion(model.name, alias, str(version), model.gate if str(version) == model.judged else "")
        for model in models(project)
        for alias, version in model.aliases.items()
        if alias == CHAMPION
    )


def _endpoints(project: Project) -> tuple[EndpointRow, ...]:
    return tuple(EndpointRow(e.name, f"{e.model}/{e.version}", e.url, e.status) for e in _endpoint_rows(project))


def _untold(project: Project) -> tuple[Attention, ...]:
    from nbmlops.agent.alerting import attention_of

    return attention_of(project)


def _last_drift(project: Project) -> LastDrift | None:
    newest = _ledger(project).events(verbs=("drift",), limit=10)
    for event in newest:
        report = event.result if isinstance(event.result, dict) else {}
        if "drifted" in report:
            columns = [row["name"] for row in report["columns"] if row["drifted"]]
            what = f"{report['current']} against {report['reference']}: {', '.join(columns[:5]) or 'no column'} drifted"
            return LastDrift(event.at, report["drifted"], what)
    return None


def _version_card(project: Project, what: str) -> VersionCard:
    from nbmlops.registry.reading import judgements
    from nbmlops.registry.verbs import history

    registry = _registry(project)
    version = registry.resolve(what)
    aliases = registry.aliases(version.name)
    past = tuple(row for row in history(project, version.name) if row.version == version.version)
    about = (version.version, version.digest)
    records = [event.result for event in judgements(project, version.name)]
    reports = [record for record in records if (record["version"], record["digest"]) == about]
    return VersionCard(
        model=version.name,
        version=version.version,
        aliases=tuple(alias for alias, number in sorted(aliases.items()) if number == version.version),
        digest=version.digest,
        run_id=version.run_id,
        registered_at=version.registered_at,
        history=past,
        reports=newest_reports(reports),
    )


def _refuse_password(option: str, url: str) -> None:
    if scrub_text(url) != url:
        raise UsageError(
            f"{option} holds a password, and {FILE} is kept in git.",
            f"Put the address into a variable and name that: {option} env:NAME",
        )


def _refuse_another(folder: Path, asked: dict[str, str]) -> None:
    have, wanted = Project(folder).settings, Project(folder, overrides=asked).settings
    for key in asked:
        value = getattr(have, key).value
        if value != getattr(wanted, key).value:
            raise ConflictError(
                f"{folder / FILE} exists and has {key} = {scrub_text(value)!r}; init never overwrites it.",
                f"Edit {key} in that file.",
            )
