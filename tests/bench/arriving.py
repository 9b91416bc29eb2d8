"""How fast many metrics are in MLflow, and how much memory that takes, beside MLflow's client."""

import contextlib
import functools
import json
import sqlite3
import time
from pathlib import Path

import psutil
from contest import Bench, Figures
from places import project, server, start

OURS = """
import time
import nbmlops
ops = nbmlops.open()
ops.track("many")
began = time.time()
for i in range({n}):
    nbmlops.log(loss=0.5, step=i)
"""
MLFLOW = """
import os, time
os.environ["MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS"] = "1"
import mlflow
from mlflow.entities import Metric
mlflow.set_tracking_uri({uri!r})
mlflow.set_experiment("bench")
run_id = mlflow.start_run().info.run_id
began = time.time()
"""
BATCHES = """
client = mlflow.MlflowClient()
for first in range(0, {n}, 1000):
    at = int(time.time() * 1000)
    client.log_batch(run_id, [Metric("loss", 0.5, at, i) for i in range(first, min(first + 1000, {n}))])
"""
BUFFERED = """
for i in range({n}):
    mlflow.log_metric("loss", 0.5, step=i, synchronous=False)
"""
ENDING = """
import json, resource
print(json.dumps([began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]), flush=True)
time.sleep(600)
"""
SQLITE = "sqlite:///.nbmlops/mlflow.db"


def arrive(script: str, n: int, over_http: bool) -> Figures:
    """Run a script that logs n metrics, and time from its first call until all are in the database."""
    with project() as folder, server(folder) if over_http else contextlib.nullcontext(SQLITE) as uri:
        if over_http:
            (folder / "nbmlops.toml").write_text(f'[project]\nname = "bench"\n[stores]\ntracking = "{uri}"\n')
        with start(script.format(n=n, uri=uri) + ENDING, folder) as process:
            return _watched(process, folder, n)


def _watched(process: "psutil.Popen", folder: Path, n: int) -> Figures:
    """Look at the database until all is there; the sender's memory is looked at meanwhile."""
    peak = 0.0
    database = folder / ".nbmlops" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        while connection.execute("SELECT count(*) FROM metrics").fetchone()[0] < n:
            if process.poll() is not None:
                raise RuntimeError(process.stderr.read())
            peak = max(peak, _sender_mb(process.pid))
            time.sleep(0.05)
    arrived = time.time()
    began, own = json.loads(process.stdout.readline())
    process.kill()
    return {"metrics a second": n / (arrived - began), "MB, the caller": own, "MB, the sender": peak}


def _sender_mb(pid: int) -> float:
    """Give the peak memory of a process' sender, once it has one."""
    with contextlib.suppress(psutil.Error, OSError):
        for child in psutil.Process(pid).children():
            if "nbmlops.tracking.journal.sender" in child.cmdline():
                status = Path(f"/proc/{child.pid}/status").read_text()
                return float(status.partition("VmHWM:")[2].split()[0]) / 1024
    return 0.0


def _bench(name: str, n: int, over_http: bool, promise: str) -> Bench:
    here = functools.partial(arrive, over_http=over_http)
    return Bench(
        f"{n:,} metrics until all are in MLflow, {name}",
        ours=functools.partial(here, OURS, n),
        peers={
            "`log_batch` of 1,000": functools.partial(here, MLFLOW + BATCHES, n),
            "buffered asynchronous": functools.partial(here, MLFLOW + BUFFERED, n),
        },
        promise=promise,
        turns=2,
    )


BENCHES = (
    _bench("SQLite", 100_000, False, "≥ 0.75 of hand-written batches, ≥ 2.5 of asynchronous"),
    _bench("over HTTP", 20_000, True, "≥ 0.75 of hand-written batches, ≥ 2.5 of asynchronous"),
)
