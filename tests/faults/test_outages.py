"""Stores that die, fall silent, or have no space left, in the middle of a run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbmlops.errors import StoreError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Draft
from nbmlops.project import Project
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.mlflow import PATIENCE, Tracking
from tests.tracking.conftest import end_server, serving

PATIENCE_S = 30


def test_a_server_that_dies_in_mid_run_is_told_of_and_the_run_goes_on_when_it_is_back(
    folder: Path, empty_mlflow: Path
) -> None:
    place = folder / "server"
    place.mkdir()
    shutil.copy(empty_mlflow, place / "mlflow.db")
    with serving(place) as (url, process):
        ops = Operations(folder, tracking=url)
        ops.track("long")
        ops.log({"loss": 1.0}, step=0)

        os.killpg(process.pid, signal.SIGSTOP)  # silent: it accepts and never answers
        began = time.monotonic()
        ops.log({"loss": 0.7}, step=1)  # kept in the journal
        end_server(process)  # gone
        ops.log({"loss": 0.5}, step=2)
        assert time.monotonic() - began < PATIENCE_S
        with pytest.raises(StoreError, match="Connection refused"):
            ops.sync()
    with serving(place, port=int(url.rpartition(":")[2])):
        ops.log({"loss": 0.25}, step=3)
        ended = ops.end()
        assert (ended.name, ended.status, ended.metrics) == ("long", "FINISHED", {"loss": 0.25})
        ops.sync()
        history = ops.project.open(Tracking).client.get_metric_history(ended.run_id, "loss")
        assert sorted(point.step for point in history) == [0, 1, 2, 3]


def test_a_silent_server_is_given_up_in_time() -> None:
    tries = 1 + int(PATIENCE["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    assert tries * int(PATIENCE["MLFLOW_HTTP_REQUEST_TIMEOUT"]) < PATIENCE_S


# The limit on a file's size stands for a disk without space: the write itself fails, also for root.
FULL_DISK = """
import resource, sys
from pathlib import Path
from nbmlops.errors import StoreError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Draft
from nbmlops.project import Project

ledger = Project().open(Ledger)
event = Draft("drift", "drift/a", "python", False, "ok", result={"much": "x" * 3000})
ledger.append(event)
written = max(path.stat().st_size for path in Path(".nbmlops").glob("ledger.db*"))
resource.setrlimit(resource.RLIMIT_FSIZE, (written + 200_000, resource.RLIM_INFINITY))
appended = 1
try:
    for _ in range(1000):
        ledger.append(event)
        appended += 1
except StoreError as exc:
    print(exc)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(appended, ledger.check_chain())
ledger.append(event)
"""


def test_a_full_disk_is_told_of_and_leaves_a_whole_chain(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *said, counts = done.stdout.splitlines()
    assert "The ledger at sqlite" in said[0]
    assert "is out of reach: " in said[0]
    appended, whole = (int(count) for count in counts.split())
    assert 1 < appended < 1000
    assert whole == appended
    assert Project(folder).open(Ledger).check_chain() == appended + 1


def test_a_read_only_ledger_is_told_of_and_can_still_be_checked(folder: Path) -> None:
    heads = folder / "heads"
    heads.mkdir()
    path = folder / ".nbmlops" / "ledger.db"
    event = Draft("drift", "drift/a", "python", False, "ok")
    writable = Ledger(f"sqlite:///{path}", heads)
    writable.append(event)
    read_only = Ledger(f"sqlite:///file:{path}?mode=ro&uri=true", heads)
    with pytest.raises(StoreError, match="out of reach: attempt to write a readonly database"):
        read_only.append(event)
    assert read_only.check_chain() == 1
    writable.append(event)
    assert writable.check_chain() == read_only.check_chain() == 2
