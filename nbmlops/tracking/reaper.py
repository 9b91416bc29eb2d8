"""The reaper: runs that are RUNNING in the store although their process is known to be gone get their end."""

from collections.abc import Callable

from nbmlops.project import Project
from nbmlops.tracking.journal import sync
from nbmlops.tracking.journal.delivery import GONE
from nbmlops.tracking.owner import owner_is_dead
from nbmlops.tracking.runs import Run

PATIENCE_S = 30.0  # with another process that delivers a journal now


def dead(project: Project) -> list[Run]:
    """List the project's runs that are RUNNING and whose process is gone; see `owner_is_dead`.

    Raises
    ------
    StoreError
        The tracking store is out of reach.
    """
    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    tracking.reach()
    return [run for run, tags in tracking.running() if owner_is_dead(tags)]


def reap(project: Project, patience_s: float = PATIENCE_S, progress: Callable[[str], object] = str) -> list[Run]:
    """End the runs whose process is gone: as their journals tell, and else FAILED.

    Parameters
    ----------
    project
        Whose runs.
    patience_s
        Seconds to wait for another process that delivers a journal now.
    progress
        Takes a line for each file that is uploaded.

    Returns
    -------
    list of Run
        Those that were RUNNING, as they have ended.

    Raises
    ------
    StoreError
        The tracking store is out of reach.
    """
    from nbmlops.tracking.mlflow import Tracking

    found = dead(project)
    if not found:
        return []
    with sync.Stores([project.settings.tracking.value]) as stores:
        sync.sweep(sync.folder_of(project), stores, patience_s=patience_s, progress=progress)
    for run in dead(project):
        _end(project, run)
    tracking = project.open(Tracking)
    return [tracking.find(run.run_id) for run in found]


def _end(project: Project, run: Run) -> None:
    from nbmlops.tracking.mlflow import Tracking, translated

    client = project.open(Tracking).client
    with translated("The run's end"):
        alive_at = client.get_run(run.run_id).data.tags.get("nbmlops.alive_at")
        client.set_tag(run.run_id, "nbmlops.error", GONE)
        client.set_terminated(run.run_id, "FAILED", end_time=int(alive_at) * 1000 if alive_at else None)
