"""How long a person waits for the first tracked run of a notebook, beside plain MLflow."""

import functools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contest import Bench, Figures
from jupyter_client.manager import start_new_kernel

READING_S = 8.0  # a person reads the notebook after loading the extension; MLflow is imported meanwhile


@functools.cache
def project() -> tempfile.TemporaryDirectory[str]:
    """Make one project for all turns; it goes when the benches end."""
    folder = tempfile.TemporaryDirectory(prefix="nbmlops-bench-")
    subprocess.run([Path(sys.executable).with_name("nbmlops"), "init", "bench", "--quiet"], cwd=folder.name, check=True)
    return folder


def first_run(*cells: str, pause_s: float = 0.0) -> Figures:
    """Time the last cell of a fresh kernel; the others run before, and then the person reads."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=project().name)
    try:
        for cell in cells[:-1]:
            client.execute_interactive(cell, output_hook=_drop, timeout=120)
        time.sleep(pause_s)
        started = time.perf_counter()
        reply = client.execute_interactive(cells[-1], output_hook=_drop, timeout=120)
        seconds = time.perf_counter() - started
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if reply["content"]["status"] != "ok":
        raise RuntimeError(reply["content"]["evalue"])
    return {"s": seconds}


def _drop(_: object) -> None: ...


TRACK = "%mlops track first"
PLAIN = """
import mlflow
mlflow.set_tracking_uri("sqlite:///.nbmlops/mlflow.db")
mlflow.set_experiment("bench")
mlflow.start_run(run_name="first")
"""
BENCHES = (
    Bench(
        "the first run of a notebook, some seconds after `%load_ext`",
        ours=functools.partial(first_run, "%load_ext nbmlops", TRACK, pause_s=READING_S),
        peers={
            "the same, at once": functools.partial(first_run, "%load_ext nbmlops", TRACK),
            "plain MLflow, imported in the cell": functools.partial(first_run, PLAIN),
        },
        promise="at most 1/3 of plain MLflow",
        turns=3,
    ),
)
