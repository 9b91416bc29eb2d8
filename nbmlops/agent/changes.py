"""Whether anything of a project has changed: a short text for each part of it, which is another after every change.

Looking costs a fraction of a millisecond where the stores are SQLite files; nothing of what changed is read, no MLflow
is imported, and nothing is written. What is seen how fast:

========= ============================================================ =====================================
stamp     stands for                                                   seen
========= ============================================================ =====================================
runs      MLflow's store, and the journals on their way there          at every look; Postgres within 2 s, a
                                                                       server within 5 s
ledger    all tables of nbmlops' own database                          at every look; Postgres within 0.2 s
endpoints what servers are told, and what they have counted            at every look; counts within 1 s
jobs      the logs of the jobs that were written to last               at every look
policy    ``nbmlops.toml``                                             at every look
========= ============================================================ =====================================
"""

import functools
import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nbmlops.errors import NbmlopsError
from nbmlops.pipelines.jobs import LOG
from nbmlops.project import FILE, STATE, Project
from nbmlops.serving.counters import glance
from nbmlops.serving.instructions import COUNTERS, WORKERS
from nbmlops.serving.instructions import FILE as INSTRUCTIONS

AWAY = "away"  # begins the stamp of a store that is out of reach
KEYS = ("runs", "ledger", "endpoints", "jobs", "policy")
LEDGER_EVERY_S, DATABASE_EVERY_S, SERVER_EVERY_S = 0.2, 2.0, 5.0  # between looks at what is behind a network
COUNTS_EVERY_S = 1.0  # a server that is asked counts all the time
RANK_EVERY_S = 5.0  # after which a job that goes on is seen among the newest
N_JOBS, N_RUNS, N_MODELS = 16, 20, 100
CONNECT_S = 5  # that a database may take
CLOSE_S = 1.0  # that a look that is under way may take
FIRST_S = 0.3  # that the first look waits for a store behind a network
TICK_NS = 20_000_000  # of a file system's clock, at most: two changes within one leave the same time
EVENTS = "nbmlops_events"
LEDGER_TABLES = (  # as in ledger/tables.py, which would load SQLAlchemy
    EVENTS,
    "nbmlops_alerts",
    "nbmlops_endpoints",
    "nbmlops_firings",
    "nbmlops_heard",
    "nbmlops_jobs",
    "nbmlops_moves",
    "nbmlops_pauses",
    "nbmlops_results",
    "nbmlops_seen",
    "nbmlops_steps",
)
MLFLOW_TABLES = (
    "runs",
    "latest_metrics",
    "params",
    "tags",
    "registered_models",
    "registered_model_tags",
    "registered_model_aliases",
    "model_versions",
    "model_version_tags",
)


def stamps(project: Project) -> dict[str, str]:
    """Look at a project once.

    Returns
    -------
    dict
        A text for each of `KEYS`, equal to one of before as long as nothing has changed; of a store that is out of
        reach it begins with ``away``. Empty where there is no project (any more).

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> before = stamps(ops.project)
    >>> _ = ops.track("baseline"), ops.end()
    >>> stamps(ops.project)["runs"] == before["runs"]
    False
    """
    look = Look(project)
    try:
        return look.stamps()
    finally:
        look.close()


class Look:
    """Looks at one project again and again; what is dear to look at is looked at less often."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._far: dict[tuple[str, str], _Far] = {}
        self._newest = _Newest()
        self._counted = ("", 0.0)

    def stamps(self) -> dict[str, str]:
        """Look now, as `stamps` does."""
        if not self._project.exists:
            return {}
        root = self._project.root
        try:
            settings = self._project.settings
            tracking, ledger = settings.tracking.value, settings.ledger.value
        except NbmlopsError:  # nbmlops.toml cannot be read: nobody knows which stores there are
            return dict.fromkeys(KEYS, "") | {"policy": _digest(_file(root / FILE))}
        state = root / STATE
        return {
            "runs": f"{self._store('runs', tracking)} {_digest(_journals(state / 'journal'))}",
            "ledger": self._store("ledger", ledger),
            "endpoints": _digest((_told(state / "endpoints"), self._counts(state / "endpoints"))),
            "jobs": _digest(self._newest.sizes(state / "jobs")),
            "policy": _digest(_file(root / FILE)),
        }

    def close(self) -> None:
        """Let the connections go."""
        for store in self._far.values():
            store.close()
        self._far.clear()

    def _store(self, what: str, url: str) -> str:
        if url.startswith("sqlite"):
            return _digest(_sqlite(Path(url.partition(":///")[2].partition("?")[0])))
        if (what, url) not in self._far:
            self._far[what, url] = _far(self._project, what, url)
        return self._far[what, url].stamp()

    def _counts(self, folder: Path) -> str:
        """Give what servers have counted; each second: a busy server does all the time."""
        seen, due_at = self._counted
        if time.monotonic() >= due_at:
            counters = sorted(folder.glob(f"*/{WORKERS}/*/{COUNTERS}"))
            seen = _digest([(str(path), glance(path)) for path in counters])
            self._counted = (seen, time.monotonic() + COUNTS_EVERY_S)
        return seen


# ------------------------------------------------------------------------ files
def _sqlite(path: Path) -> tuple[Any, ...]:
    """Look at a database and what is written ahead of it: the empty file that readers make is none."""
    ahead = _file(path.with_name(f"{path.name}-wal"))
    return (_file(path), ahead if ahead and ahead[0] else ())


def _file(path: Path) -> tuple[Any, ...]:
    """Give a file's size and time, and whether a change just after this look could leave both as they are."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_size, found.st_mtime_ns, 0 <= time.time_ns() - found.st_mtime_ns < TICK_NS)


def _journals(folder: Path) -> list[tuple[str, int]]:
    return sorted((entry.name, _size(entry)) for entry in _entries(folder) if entry.name.endswith(".jsonl"))


def _told(folder: Path) -> list[tuple[str, Any]]:
    return sorted((entry.name, _file(Path(entry.path, INSTRUCTIONS))) for entry in _entries(folder))


class _Newest:
    """The jobs whose logs were written to last: those of the others are looked at again only after a while."""

    def __init__(self) -> None:
        self._folder: tuple[Any, ...] = ()
        self._due_at = 0.0
        self._logs: list[Path] = []

    def sizes(self, folder: Path) -> list[tuple[str, int]]:
        """Give the sizes of their logs."""
        found, now = _file(folder), time.monotonic()
        if found != self._folder or now >= self._due_at:
            self._folder, self._due_at = found, now + RANK_EVERY_S
            logs = [Path(entry.path, LOG) for entry in _entries(folder)]
            self._logs = sorted(sorted(logs, key=_written_at)[-N_JOBS:])
        return [(log.parent.name, log.stat().st_size) for log in self._logs if log.exists()]


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return ()


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _digest(found: Any) -> str:
    return hashlib.blake2b(repr(found).encode(), digest_size=8).hexdigest()


# ------------------------------------------------------------- behind a network
class _Far:
    """A store behind a network, looked at in a thread: one that is silent delays no look at anything else."""

    def __init__(self, see: Callable[[], str], every_s: float, close: Callable[[], None] = lambda: None) -> None:
        self._see = see
        self._close = close
        self._every_s = every_s
        self._due_at = 0.0
        self._seen = ""
        self._looking: threading.Thread | None = None

    def stamp(self) -> str:
        """Give what was seen last; empty as long as that is nothing."""
        if time.monotonic() >= self._due_at and not (self._looking and self._looking.is_alive()):
            self._due_at = time.monotonic() + self._every_s
            self._looking = threading.Thread(target=self._look, daemon=True)
            self._looking.start()
            if not self._seen:
                self._looking.join(FIRST_S)
        return self._seen

    def close(self) -> None:
        """End, when the look that is under way has."""
        if self._looking:
            self._looking.join(CLOSE_S)
        self._close()

    def _look(self) -> None:
        try:
            self._seen = self._see()
        except Exception as exc:  # noqa: BLE001  # whatever a driver raises, the store cannot be looked at now
            self._seen = f"{AWAY}: {type(exc).__name__}"


def _far(project: Project, what: str, url: str) -> _Far:
    if url.startswith("http"):
        return _Far(lambda: _by_client(project), SERVER_EVERY_S)
    is_ledger = what == "ledger"
    written = _Written(url, LEDGER_TABLES if is_ledger else MLFLOW_TABLES)
    return _Far(written.seen, LEDGER_EVERY_S if is_ledger else DATABASE_EVERY_S, written.close)


class _Written:
    """Tables of a Postgres database, told by the transactions that wrote their rows.

    Each row names its transaction, so that the sum of these is another after each insert, update and delete; it is
    computed only where any transaction of the whole server ended since the last look.
    """

    def __init__(self, url: str, tables: Sequence[str]) -> None:
        self._url, self._tables = url, tables
        self._seen = ("", "")

    @functools.cached_property
    def _engine(self) -> Any:
        """Prepare to connect; at the first look, for a driver may be missing."""
        import sqlalchemy as sa

        url = sa.make_url(self._url)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        patience = {"connect_timeout": CONNECT_S}
        return sa.create_engine(
            url, pool_size=1, pool_pre_ping=True, isolation_level="AUTOCOMMIT", connect_args=patience
        )

    def seen(self) -> str:
        """Look."""
        with self._engine.connect() as connection:
            ended = str(connection.exec_driver_sql("SELECT CAST(pg_current_snapshot() AS text)").scalar())
            if ended != self._seen[0]:
                found = [tuple(connection.exec_driver_sql(_rows(table)).one()) for table in self._tables]
                self._seen = (ended, _digest(found))
        return self._seen[1]

    def close(self) -> None:
        """Let the connection go."""
        if "_engine" in vars(self):
            self._engine.dispose()


def _rows(table: str) -> str:
    """Word the question for a table's rows; events are many, and only ever added."""
    what = "max(seq)" if table == EVENTS else "count(*), sum(CAST(CAST(xmin AS text) AS bigint))"
    return f"SELECT {what} FROM {table}"  # noqa: S608  # the names are ours


def _by_client(project: Project) -> str:
    """Ask a server for the newest runs, and for the models with their aliases."""
    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    newest = tracking.client.search_runs([tracking.experiment_id], max_results=N_RUNS)
    models = tracking.client.search_registered_models(max_results=N_MODELS)
    return _digest(([run.to_dictionary() for run in newest], [dict(model) for model in models]))
