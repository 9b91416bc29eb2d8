"""All journals of a folder brought to the stores they name: what the sender does in a loop, and `sync` once."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nbmlops.project import Project, patient
from nbmlops.tracking import journal
from nbmlops.tracking.journal import Sent, delivery, unsent
from nbmlops.tracking.journal.delivery import Delivered, RejectedError, Target, UnreachableError, Uploads, drain
from nbmlops.tracking.owner import LEASE_S
from nbmlops.tracking.store import knock, open_plain, plain

FOLDER = "journal"


@dataclass(frozen=True)
class Waiting:
    """What a folder of journals holds that its stores do not have yet, or have refused."""

    records: int
    rejected: int
    journals: int
    error: str = ""


def folder_of(project: Project | None) -> Path:
    """Give the folder of journals: the project's, or the user's own where there is none."""
    if project and project.exists:
        return project.state(FOLDER)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "nbmlops", FOLDER)


def open_target(url: str, timeout_s: float = 20.0) -> Target:
    """Open the store of a plain URL for deliveries."""
    if url.startswith("http"):
        from nbmlops.tracking.journal.target_http import HttpTarget

        return HttpTarget(url, timeout_s)
    from nbmlops.tracking.journal.target_sql import SqlTarget

    try:
        knock(url)
        return SqlTarget(open_plain(url))
    except Exception as exc:
        raise UnreachableError(f"{type(exc).__name__}: {exc}".partition("\n")[0]) from exc


class Stores:
    """The stores that a sweep talks to; each is opened once.

    Parameters
    ----------
    known
        URLs that may hold a password: a journal does not write one down.
    """

    def __init__(self, known: Iterable[str] = (), timeout_s: float = 20.0) -> None:
        variables = (os.environ.get(name, "") for name in ("NBMLOPS_TRACKING", "MLFLOW_TRACKING_URI"))
        self._known = [patient(plain(url)) for url in (*known, *variables) if url]
        self._open: dict[str, Target] = {}
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let all connections go."""
        for target in self._open.values():
            target.close()

    def of(self, path: Path) -> Callable[[], Target]:
        """Give the call that opens the store which a journal is meant for."""
        return lambda: self._opened(self._url(path))

    def _url(self, path: Path) -> str:
        header = journal.header_of(path)
        if header is None:
            raise UnreachableError(f"the first line of {path.name} cannot be read, so its store is not known")
        same = (url for url in self._known if journal.portable(url, path.parent) == header.target)
        return next(same, header.target.replace("{project}", path.parent.parent.parent.as_posix()))

    def _opened(self, url: str) -> Target:
        if url not in self._open:
            self._open[url] = open_target(url, self._timeout_s)
        return self._open[url]


def sweep(
    folder: Path,
    stores: Stores,
    *,
    deadline: float = float("inf"),
    patience_s: float = 30.0,
    uploads: Uploads = "all",
    progress: Callable[[str], object] = str,
    is_due: Callable[[Path], bool] = Path.exists,
) -> list[Delivered]:
    """Deliver every journal of a folder; one whose writer has ended and which is delivered is removed.

    Parameters
    ----------
    folder
        The folder of journals.
    stores
        The stores that they name.
    deadline
        Moment of ``time.monotonic()`` after which nothing further is begun.
    patience_s
        Seconds to wait for another process that delivers a journal now.
    uploads
        Whether artifacts go too; see `drain`.
    progress
        Takes a line for each file that is uploaded.
    is_due
        Says which journals have their turn.

    Returns
    -------
    list of Delivered
        One for each journal that had something to deliver.
    """
    done = []
    journal.tidy(folder)
    for path in filter(is_due, journal.journals(folder)):
        if time.monotonic() > deadline:
            break
        is_finished = not journal.has_writer(path)  # asked first: it may write its last between two questions
        if unsent(path):
            target = stores.of(path)
            with contextlib.suppress(OSError, UnreachableError):
                target()  # that may take MLflow's import, seconds in which a read must not wait for the journal
            done.append(
                drain(path, target, patience_s=patience_s, deadline=deadline, uploads=uploads, progress=progress)
            )
        if is_finished:
            finish(path, stores.of(path))
    return done


def beat(folder: Path, stores: Stores) -> None:
    """Show of all runs that processes of this machine have open that they live."""
    for path in journal.journals(folder):
        if journal.has_writer(path):
            with contextlib.suppress(OSError, UnreachableError):
                delivery.beat(path, stores.of(path))


def retry_rejected(folder: Path) -> int:
    """Put all refused records back behind their journals, for the next sweep to deliver; give their number."""
    return sum(journal.retry(path.with_suffix(".jsonl")) for path in sorted(folder.glob("*.rejected")))


def waiting(folder: Path) -> Waiting:
    """Count what waits, over all journals of a folder."""
    paths = journal.journals(folder)
    counts = [unsent(path) for path in paths]
    known = [Sent.of(path) for path, count in zip(paths, counts, strict=True) if count]
    errors = (sent.error or sent.upload_error for sent in known)
    rejected = sum(path.read_bytes().count(b"\n") for path in folder.glob("*.rejected"))
    return Waiting(sum(counts), rejected, sum(1 for count in counts if count), next(filter(None, errors), ""))


def finish(path: Path, target: Callable[[], Target]) -> None:
    """Give the runs that its writer left open their end, then remove a journal that has served."""
    with contextlib.suppress(OSError, UnreachableError, RejectedError), journal.delivering(path, 0) as is_mine:
        if not is_mine or not path.exists():
            return
        sent, left = Sent.of(path), unsent(path)
        if left > len(sent.files) or not _is_over(path):
            return
        if sent.open:
            delivery.end_orphans(path, target)
        if not left:
            journal.discard(path)


def _is_over(path: Path) -> bool:
    """Say whether a journal's writer is known to have ended: of another machine's, only silence can tell."""
    header = journal.header_of(path)
    if header is None or header.host == socket.gethostname():
        return True
    return time.time() - path.stat().st_mtime > LEASE_S
