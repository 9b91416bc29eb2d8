"""Reading a store of 10,000 runs, and a history of 10,000 points, beside MLflow's client on the same database."""

import atexit
import contextlib
import functools
import random
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from contest import Bench, Figures

N_RUNS, N_POINTS, N_EACH = 10_000, 10_000, 6  # metrics, params and tags of a run
BEGAN_MS = 1_700_000_000_000


@functools.cache
def store() -> tuple[str, str]:
    """Make a store once for all turns; give its URL and the id of the run with the long history."""
    from nbmlops.tracking.mlflow import Tracking

    folder = Path(tempfile.mkdtemp(prefix="nbmlops-bench-"))
    atexit.register(shutil.rmtree, folder)
    uri = f"sqlite:///{folder}/mlflow.db"
    number = Tracking(uri, "many", folder).experiment_id
    ids = [uuid.UUID(int=random.Random(seed).getrandbits(128)).hex for seed in range(N_RUNS)]
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        _insert(connection, "runs", _runs(ids, number))
        _insert(connection, "latest_metrics", _held(ids, lambda: {"value": random.random(), **_at(0)}))
        _insert(connection, "params", _held(ids, lambda: {"value": f"{random.randrange(9)}"}))
        _insert(connection, "tags", _held(ids, lambda: {"value": f"{random.randrange(9)}"}))
        loss = ({"run_uuid": ids[0], "key": "loss", "value": 1 / (i + 1), **_at(i)} for i in range(N_POINTS))
        _insert(connection, "metrics", loss)
    return f"{uri}?timeout=60", ids[0]


def _at(step: int) -> dict[str, int]:
    return {"timestamp": BEGAN_MS + step, "step": step, "is_nan": 0}


def _runs(ids: list[str], experiment: str) -> Iterator[dict[str, Any]]:
    for i, run_id in enumerate(ids):
        yield {
            "run_uuid": run_id,
            "name": f"run-{i}",
            "source_type": "UNKNOWN",
            "user_id": "ann",
            "status": "FINISHED",
            "start_time": BEGAN_MS + i,
            "end_time": BEGAN_MS + i + 500,
            "lifecycle_stage": "active",
            "artifact_uri": f"file:///nowhere/{run_id}",
            "experiment_id": experiment,
        }


def _held(ids: list[str], value: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return ({"run_uuid": run_id, "key": f"key{i}", **value()} for run_id in ids for i in range(N_EACH))


def _insert(connection: sqlite3.Connection, table: str, rows: Iterator[dict[str, Any]]) -> None:
    first = next(rows)
    names = ", ".join(first)
    places = ", ".join(f":{name}" for name in first)
    statement = f"INSERT INTO {table} ({names}) VALUES ({places})"
    connection.execute(statement, first)
    connection.executemany(statement, rows)


def timed(read: Callable[[], Any], n: int) -> Figures:
    """Time one reading, and see that it read all."""
    started = time.perf_counter()
    found = read()
    seconds = time.perf_counter() - started
    assert len(found) == n
    return {"ms": seconds * 1000}


def our_history() -> Figures:
    """Read the history by SQL."""
    from nbmlops.tracking.reading import history

    uri, run_id = store()
    return timed(lambda: history(uri, run_id, "loss").values, N_POINTS)


def client_history() -> Figures:
    """Read the history with MLflow's client."""
    client = _mlflow().MlflowClient()
    return timed(lambda: client.get_metric_history(store()[1], "loss"), N_POINTS)


def our_frame() -> Figures:
    """Read all runs by SQL."""
    from nbmlops.tracking.reading import frame

    return timed(lambda: frame(store()[0], "many"), N_RUNS)


def client_frame() -> Figures:
    """Read all runs with MLflow's client."""
    return timed(lambda: _mlflow().search_runs(experiment_names=["many"]), N_RUNS)


def our_list() -> Figures:
    """Read the newest 50 runs by SQL."""
    from nbmlops.tracking import sql
    from nbmlops.tracking.runs import Selection

    return timed(lambda: sql.newest(store()[0], "many", Selection(limit=50)), 50)


def client_list() -> Figures:
    """Read the newest 50 runs with MLflow's client."""
    mlflow = _mlflow()
    numbers = [mlflow.get_experiment_by_name("many").experiment_id]
    return timed(lambda: mlflow.MlflowClient().search_runs(numbers, max_results=50), 50)


def _mlflow() -> Any:
    import mlflow

    mlflow.set_tracking_uri(store()[0])
    return mlflow


BENCHES = (
    Bench(
        "a metric's history of 10,000 points",
        ours=our_history,
        peers={"`MlflowClient.get_metric_history`": client_history},
        promise="at least 20 times as fast",
    ),
    Bench(
        "10,000 runs into a DataFrame",
        ours=our_frame,
        peers={"`mlflow.search_runs`": client_frame},
        promise="at least 10 times as fast",
        turns=3,
    ),
    Bench("the newest 50 of 10,000 runs", ours=our_list, peers={"`MlflowClient.search_runs`": client_list}),
)
