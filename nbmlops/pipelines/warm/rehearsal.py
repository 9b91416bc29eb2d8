"""What libraries do once, at their first use: done by the warm server beforehand, in a folder that is gone afterwards.

No thread, connection or file is left of it, and nothing of a user's: a process that is forked finds caches, no state.
Nothing here may use OpenMP, whose threads do not outlive a fork: no model is fitted.
"""

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Draft
from nbmlops.tracking.store import open_plain


def rehearse(shell: Any, place: Path) -> None:
    """Show a frame, look at one as estimators do, keep a run and an event; `place` is a folder for what they make."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        tempfile.tempdir = folder
        for part in (_show, _look_at, _keep_run, _keep_event):
            with contextlib.suppress(Exception):  # another release may do it otherwise: it takes its time later, then
                part(shell, Path(folder))
    tempfile.tempdir = None


def repeat(shell: Any, names: Sequence[str]) -> None:
    """Do what a notebook that imports these modules will, in a fork that has nothing to do yet.

    What is touched first in a fork is copied, which takes longer than the work itself: so it is copied meanwhile.
    """
    packages = {name.partition(".")[0] for name in names}
    for package, part in (("pandas", _show), ("sklearn", _look_at)):
        if package in packages:
            with contextlib.suppress(Exception):
                part(shell)


def _frame() -> Any:
    import pandas as pd

    return pd.DataFrame(
        {"n": [1.0, 2.0], "k": [1, 2], "s": ["a", "b"], "t": pd.to_datetime(["2013-01-01", "2013-01-02"])}
    )


def _show(shell: Any, *_: object) -> None:
    frame = _frame()
    for shown in (frame, frame.describe(), frame.mean(numeric_only=True), frame.groupby("s")["n"].sum()):
        shell.display_formatter.format(shown)


def _look_at(*_: object) -> None:
    """Discover the plug-ins of narwhals, by which scikit-learn knows a frame."""
    from sklearn.utils.validation import check_X_y

    frame = _frame()
    check_X_y(frame[["n", "k"]], frame["k"])


def _keep_run(_: Any, folder: Path) -> None:
    """Read MLflow's migrations for the newest one, which each opening of a store does, and compile its statements."""
    from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType
    from mlflow.store.db import utils
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)
    url, now = f"sqlite:///{folder}/mlflow.db", int(time.time() * 1000)
    _in_a_fork(lambda: open_plain(url))  # makes the tables, by migrations which set up logging
    store = SqlAlchemyStore(url, (folder / "artifacts").as_uri())
    try:
        experiments = [store.get_experiment_by_name("Default").experiment_id]
        run_id = store.create_run(*experiments, "nobody", now, [RunTag("k", "v")], "rehearsal").info.run_id
        store.log_batch(run_id, [Metric("m", 1.0, now, 0)], [Param("p", "1")], [RunTag("t", "1")])
        store.get_run(run_id)
        store.search_runs(experiments, "tags.t = '1'", ViewType.ACTIVE_ONLY, 10, ["metrics.m DESC"])
        store.update_run_info(run_id, RunStatus.FINISHED, now, None)
    finally:
        store.engine.dispose()
        SqlAlchemyStore._engine_map.pop(url, None)


def _in_a_fork(act: Callable[[], object]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _keep_event(_: Any, folder: Path) -> None:
    from nbmlops.ledger.jobs import Jobs

    ledger = Ledger(f"sqlite:///{folder}/ledger.db", folder)
    try:
        ledger.append(Draft("rehearse", "run", "cli", by_human=False, outcome="ok"))
        jobs = Jobs(ledger)
        jobs.put({"id": "a", "name": "a", "status": "FINISHED", "began_at": "2013-01-01", "record": {}})
        jobs.newest(1)
    finally:
        ledger.close()
