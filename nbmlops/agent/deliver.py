"""What `sync` does: every journal brought to its store, then the runs ended that nobody is left to end."""

from collections.abc import Callable
from pathlib import Path

from nbmlops.agent.cards import Synced
from nbmlops.agent.waiting import Rejected, rejected_in
from nbmlops.errors import NbmlopsError, StoreError
from nbmlops.project import Project
from nbmlops.registry.moving import catch_up
from nbmlops.scrub import scrub_text
from nbmlops.tracking import reaper
from nbmlops.tracking.journal import sync
from nbmlops.tracking.journal.delivery import Delivered
from nbmlops.verb import counted


def folders(project: Project) -> list[Path]:
    """Name the folders of journals: the project's, and the user's own."""
    return list(dict.fromkeys([sync.folder_of(project), sync.folder_of(None)]))


def planned(project: Project) -> Synced:
    """Count what would be delivered, and name the runs that would be ended."""
    found = [sync.waiting(folder) for folder in folders(project)]
    rejected = sum(each.rejected for each in found)
    why = next((each.error for each in found if each.error), "")
    ended, trouble = _dead(project)
    records = sum(each.records for each in found)
    return Synced(records, 0, rejected, _refused(project), tuple(ended), 0, scrub_text(why or trouble), dry_run=True)


def delivered(project: Project, *, retry: bool = False) -> Synced:
    """Deliver, then end dead runs; a store that is out of reach keeps no other waiting."""
    gone, trouble = _dead(project)
    uploaded: list[str] = []

    def progress(line: str) -> None:
        uploaded.append(line)
        project.notify(line)

    with sync.Stores([project.settings.tracking.value] if project.exists else []) as stores:
        done = [each for folder in folders(project) for each in _swept(project, folder, stores, retry, progress)]
    if gone and not trouble:
        _, trouble = _reaped(project)
    if project.exists:
        _, untold = _tried(lambda: [f"{each.model}@{each.alias}" for each in catch_up(project)])
        _, unheard = _tried(lambda: _alerted(project))
        trouble = trouble or untold or unheard
    left = [sync.waiting(folder) for folder in folders(project)]
    return Synced(
        records=sum(each.records for each in done) - len(uploaded),  # which count as records of their own
        files=len(uploaded),
        rejected=sum(each.rejected for each in left),
        refused=_refused(project),
        ended=tuple(gone),
        left=sum(each.records for each in left),
        why=scrub_text(next((each.error for each in left if each.error), trouble)),
    )


def _swept(
    project: Project, folder: Path, stores: sync.Stores, retry: bool, progress: Callable[[str], None]
) -> list[Delivered]:
    if retry and (count := sync.retry_rejected(folder)):
        project.notify(f"tried again: {counted(count, 'rejected record')}")
    waiting = sync.waiting(folder)
    if waiting.records:
        project.notify(f"{counted(waiting.records, 'record')} in {counted(waiting.journals, 'journal')} of {folder}")
    return sync.sweep(folder, stores, progress=progress)


def _alerted(project: Project) -> list[str]:
    """Deliver what alerts are to tell, also what waits for its next attempt.

    Raises
    ------
    StoreError
        Somebody has not taken one; it is tried again.
    """
    from nbmlops.monitoring.telling import told

    done = told(project, at_once=True)
    if untaken := [each for each in done if not each.is_taken]:
        raise StoreError(f"alert {untaken[0].alert}: {untaken[0].said}")
    return [each.alert for each in done]


def _refused(project: Project) -> tuple[Rejected, ...]:
    return tuple(each for folder in folders(project) for each in rejected_in(folder))


def _dead(project: Project) -> tuple[list[str], str]:
    """Name the runs that are to be ended, or say why that cannot be known."""
    return _tried(lambda: [run.name for run in reaper.dead(project)]) if project.exists else ([], "")


def _reaped(project: Project) -> tuple[list[str], str]:
    return _tried(lambda: [run.name for run in reaper.reap(project)])


def _tried(act: Callable[[], list[str]]) -> tuple[list[str], str]:
    try:
        return act(), ""
    except NbmlopsError as exc:
        return [], exc.message
