"""Where the benches of tracking run: processes of their own, projects with empty stores, an MLflow server."""

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from contest import Figures

# Peers that do not fit beside ours, and one that does not fit beside those; tools/peers.sh makes both environments.
PEERS, MLSERVER = (Path(__file__).parents[2] / name / "bin" / "python" for name in (".venv-peers", ".venv-mlserver"))
QUIET = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "DVCLIVE_LOGLEVEL": "ERROR",
    "DVC_NO_ANALYTICS": "1",
}


@functools.cache
def _empty_store() -> Path:
    """Make MLflow's tables once: that takes seconds, and copying them none."""
    from nbmlops.tracking.mlflow import Tracking

    folder = Path(tempfile.mkdtemp(prefix="nbmlops-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Tracking(f"sqlite:///{folder}/mlflow.db", "bench", folder / "artifacts")
    return folder / "mlflow.db"


@contextlib.contextmanager
def project(tracking: str = "") -> Iterator[Path]:
    """Give a project's folder with an empty SQLite store, unless `tracking` is another one; it goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="nbmlops-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / ".nbmlops").mkdir()
        with contextlib.closing(sqlite3.connect(_empty_store())) as connection:
            connection.execute("VACUUM INTO ?", [str(folder / ".nbmlops" / "mlflow.db")])
        stores = f'[stores]\ntracking = "{tracking}"\n' if tracking else ""
        (folder / "nbmlops.toml").write_text(f'[project]\nname = "bench"\n{stores}')
        yield folder


def told_by(script: str, folder: Path, python: str = sys.executable) -> Figures:
    """Run a script in a folder, and read the figures that it prints last, as JSON."""
    with start(script, folder, python) as process:
        out, err = process.communicate(timeout=300)
    if process.returncode:
        raise RuntimeError(err)
    figures: dict[str, float] = json.loads(out.splitlines()[-1])
    return figures


def start(script: str, folder: Path, python: str = sys.executable) -> "subprocess.Popen[str]":
    """Start a script in a folder; what it starts ends with it."""
    environment = {**os.environ, **QUIET, "CI": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [python, "-W", "ignore", "-c", script], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
    )


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run a real MLflow server on a project's SQLite store; give its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{folder}/.nbmlops/mlflow.db", "--workers", "1"]
    files = ["--artifacts-destination", str(folder / "files")]
    words = [sys.executable, "-m", "mlflow", "server", *store, *files, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(words, env=os.environ | QUIET, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
