"""Opening MLflow's own store for a plain URL, quietly, in bounded time, and with its tables made once."""

import contextlib
import fcntl
import functools
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbmlops.importing import SQL_STORES, imported
from nbmlops.project import BUSY_TIMEOUT_S, find, patient

PREFIX = "nbmlops+"
# Without these MLflow asks a silent server again and again, for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "12"}
# Standard output is for results, and progress is told in our own words.
_SILENCE = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}

_roots: dict[str, Path] = {}  # of projects, by the plain URL of their store


def plain(uri: str) -> str:
    """Give the store's own URL behind a journaled one.

    Examples
    --------
    >>> plain("nbmlops+http://127.0.0.1:5000")
    'http://127.0.0.1:5000'
    """
    return uri.removeprefix(PREFIX)


def journaled(uri: str) -> str:
    """Give the URL under which MLflow finds the journal in front of a store.

    Examples
    --------
    >>> journaled("sqlite:////p/mlflow.db")
    'nbmlops+sqlite:////p/mlflow.db?timeout=60'
    """
    return PREFIX + patient(plain(uri))


def is_journaled(uri: str) -> bool:
    """Say whether a journal is in front of a store."""
    return uri.startswith(PREFIX)


def belongs(uri: str, root: Path) -> None:
    """Take note that this process uses a store for a project, wherever its working folder is when it does."""
    _roots[patient(plain(uri))] = root


def root_of(uri: str) -> Path | None:
    """Find the project's folder that a store belongs to: the one that it was opened for, or that it lies in."""
    if known := _roots.get(patient(plain(uri))):
        return known
    path = Path(plain(uri).removeprefix("sqlite:///").partition("?")[0])
    return find(path.parent) if uri.startswith("sqlite:///") else None


_first_use = threading.RLock()
set_by_us: set[str] = set()  # variables of this process that nobody else had set


def quiet_mlflow() -> Any:
    """Import MLflow, quiet and impatient."""
    for variable, value in (PATIENCE | _SILENCE).items():
        if variable not in os.environ:
            os.environ[variable] = value
            set_by_us.add(variable)
    imported("mlflow")
    import mlflow

    for noisy in map(logging.getLogger, ("alembic", "mlflow.store.db.utils")):
        if noisy.level == logging.NOTSET:
            noisy.setLevel(logging.WARNING)
    with _first_use:
        _fill_registries()
    return mlflow


@functools.cache
def _fill_registries() -> None:
    """Have MLflow know the kinds of model registries: while it fills its table, other threads already read it."""
    from mlflow.tracking._model_registry.utils import _get_store_registry

    _get_store_registry()


def load_store(uri: str) -> Any:
    """Import MLflow, and what it needs for the store of a URL."""
    mlflow = quiet_mlflow()
    if not plain(uri).startswith("http"):
        imported(*SQL_STORES)
    return mlflow


def open_plain(uri: str, artifacts: str | None = None) -> Any:
    """Open MLflow's own tracking store for a plain URL; tables that are missing are made, by one process alone.

    Artifacts of an embedded store lie beside it, unless told otherwise: MLflow would put them into the
    folder that some process happens to work in.
    """
    load_store(uri)
    from mlflow.tracking._tracking_service.utils import _get_store

    path = _embedded(uri)
    with _tables_made_once(uri):
        return _get_store(patient(uri), artifacts or (path and (path.parent / "artifacts").as_uri()))


def knock(uri: str, timeout_s: int = 10) -> None:
    """Connect once to a database server: MLflow by itself asks a silent one again and again, for two minutes."""
    if uri.startswith("postgresql"):
        import sqlalchemy as sa

        engine = sa.create_engine(uri, poolclass=sa.NullPool, connect_args={"connect_timeout": timeout_s})
        engine.connect().close()


@contextlib.contextmanager
def _tables_made_once(uri: str) -> Iterator[None]:
    """Let one process make an embedded store's tables while others wait: MLflow lets them race, and most would die.

    Once the tables are there all go on together, and readers while one writes: the file remembers that (WAL).
    """
    if (path := _embedded(uri)) is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
            has_tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            fcntl.flock(lock, fcntl.LOCK_SH if has_tables else fcntl.LOCK_EX)
            connection.execute("PRAGMA journal_mode=WAL")
        yield


def _embedded(uri: str) -> Path | None:
    """Give the file of an embedded store."""
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    return path.absolute() if uri.startswith("sqlite:///") and path.name != ":memory:" else None
