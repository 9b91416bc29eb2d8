"""Libraries whose modules import one another: one thread at a time imports them, for another would see them half made.

Python lets two threads that wait for each other's imports go on with what is there, and then a name is missing.
"""

import importlib
import os
import threading

ALEMBIC = ("alembic.command", "alembic.config")
SQL_STORES = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")

_done: set[str] = set()
_one_at_a_time = threading.RLock()


def imported(*names: str) -> None:
    """Import modules by their names, unless that is done.

    Examples
    --------
    >>> import sys
    >>> imported("json.tool")
    >>> "json.tool" in sys.modules
    True
    """
    if _done.issuperset(names):
        return
    with _one_at_a_time:
        for name in names:
            importlib.import_module(name)
        _done.update(names)


def _renew() -> None:
    """Let a forked process import: the thread that did is not in it."""
    global _one_at_a_time  # noqa: PLW0603
    _one_at_a_time = threading.RLock()


os.register_at_fork(after_in_child=_renew)
