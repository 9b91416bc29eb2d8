"""A command as a run: what it logs, how it ends, what passes through, and what kills it or its wrapper."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from nbmlops.errors import NotFoundError
from nbmlops.surfaces.cli import main
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.mlflow import Tracking

TRAIN = """
import sys, mlflow, nbmlops
nbmlops.log(rows=3)
with mlflow.start_run():
    mlflow.log_metric("auc", 0.5)
nbmlops.open().track("inner")
print("trained", flush=True)
sys.exit(3)
"""


def test_what_a_script_logs_is_the_runs_and_its_own_end_hides_nothing(
    ops: Operations, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "train.py").write_text(TRAIN)
    run = ops.track("train", parameters={"depth": 3}, command=[sys.executable, "train.py"])
    assert (run.status, run.error, run.exit_code) == ("FAILED", "exit code 3", 3)
    assert (run.metrics, run.params, run.source) == ({"auc": 0.5, "rows": 3.0}, {"depth": "3"}, "train.py")
    (inner,) = ops.runs(name="inner")
    assert (inner.parent_id, inner.status) == (run.run_id, "FAILED")
    assert capfd.readouterr().out == "trained\n"
    client = ops.project.open(Tracking).client
    kept = {name: client.download_artifacts(run.run_id, f"nbmlops/{name}") for name in ("output.log", "source.py")}
    assert Path(kept["output.log"]).read_text() == "trained\n"
    assert "nbmlops.log(rows=3)" in Path(kept["source.py"]).read_text()


@pytest.mark.parametrize(
    ("script", "status", "error", "exit_code"),
    [
        ("exit 0", "FINISHED", "", 0),
        ("exit 4", "FAILED", "exit code 4", 4),
        ("kill -9 $$", "FAILED", "killed by SIGKILL", 137),
        ("kill -INT $$", "KILLED", "killed by SIGINT", 130),
        ("exit 143", "KILLED", "exit code 143", 143),
    ],
)
def test_the_commands_end_is_the_runs(
    script: str, status: str, error: str, exit_code: int, ops: Operations, folder: Path
) -> None:
    run = ops.track("shell", command=["bash", "-c", script])
    assert (run.status, run.error.partition(",")[0], run.exit_code) == (status, error, exit_code)


def test_signals_are_passed_on_and_a_command_that_ends_well_after_one_has_ended_well(ops: Operations) -> None:
    before = signal.getsignal(signal.SIGTERM)
    wait = "trap 'exit 0' TERM; sleep 60 & wait"
    for script, status in ((wait, "FINISHED"), ("sleep 60", "KILLED")):
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        assert ops.track("told", command=["bash", "-c", script]).status == status
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_command_line_gives_the_commands_exit_code_and_keeps_stdout_its_own(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["track", "shell", "-p", "a=1", "--", "bash", "-c", "echo --json; exit 5"]) == 5
        out, err = capfd.readouterr()
        assert out == "--json\n"
        assert "FAILED" in err
        assert main(["track", "shell", "--json", "--", "bash", "-c", "echo hello"]) == 0
        out, err = capfd.readouterr()
        assert '"exit_code": 0' in out
        assert "hello\n" in err
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_command_that_is_not_there_begins_no_run(ops: Operations) -> None:
    with pytest.raises(NotFoundError, match="no-such-command"):
        ops.track("x", command=["no-such-command"])
    assert ops.runs() == ()


def test_a_wrapper_that_is_killed_takes_its_command_along_and_its_run_is_ended(ops: Operations, folder: Path) -> None:
    words = ["track", "killed", "--", "bash", "-c", "echo $$ > pid; exec sleep 60"]
    with subprocess.Popen([sys.executable, "-m", "nbmlops.surfaces.cli", *words], stderr=subprocess.DEVNULL) as wrapper:
        _wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip() != "")
        wrapper.kill()
    _wait_for(lambda: not psutil.pid_exists(int((folder / "pid").read_text())))
    ops.sync()
    assert ops.runs(name="killed")[0].status == "FAILED"


def _wait_for(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)
