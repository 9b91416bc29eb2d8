"""Every way of dying, in a kernel, under papermill and under `run`: the end of each run that was open then.

In each process three runs are open, one below the other, when it dies: ``span`` was begun by ``%mlops track``,
``plain`` by ``mlflow.start_run()``, ``cell`` by ``%%mlops track``, and ``with`` by ``with mlflow.start_run():``.
Processes die side by side, each in a project of its own; what is left of them is asked for test by test.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from nbmlops.project import Project
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.journal import sync
from nbmlops.tracking.journal.delivery import GONE
from nbmlops.tracking.mlflow import Tracking

AT_ONCE = 3
SETTINGS = '[project]\nname = "deaths"\n'
BEGIN = ("%load_ext nbmlops\nimport mlflow, os, signal, time", "%mlops track span")
PLAIN = "plain = mlflow.start_run(run_name='plain', nested=True)"
DYING = """\
%%mlops track cell --nested
with mlflow.start_run(run_name='with', nested=True):
    open('dying', 'w').close()
"""
OPEN = ("span", "plain", "cell", "with")
ENDED_BEFORE = {"cell": ("FINISHED", None), "with": ("FINISHED", None)}
WAIT = "time.sleep(60)"
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); bytearray(8 << 30)"
STUBBORN = "while True:\n        try: time.sleep(60)\n        except KeyboardInterrupt: open('asked', 'w').close()"


@dataclass(frozen=True)
class Death:
    """How a process dies: what its last cell does, what is done to it meanwhile, and how its runs end."""

    last: str
    status: str
    error: str | None
    then: str = ""  # done by the kernel's owner: to the busy kernel, or once it is idle


DEATHS = {
    "an exception": Death("raise ValueError('no flights')", "FAILED", "ValueError: no flights", "shut down idle"),
    "an interrupt": Death(WAIT, "KILLED", "KeyboardInterrupt", "interrupt, shut down"),
    "out of memory, by a limit": Death(LIMIT, "FAILED", "MemoryError", "shut down idle"),
    "out of memory, by the system": Death("os.kill(os.getpid(), signal.SIGKILL)", "FAILED", GONE),
    "SIGKILL": Death(WAIT, "FAILED", GONE, "kill"),
    "SIGTERM": Death("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", "KILLED", "TerminatedError: SIGTERM"),
    "SIGTERM, idle": Death("pass", "KILLED", "TerminatedError: SIGTERM", "terminate idle"),
    "os._exit(0)": Death("os._exit(0)", "FAILED", GONE),
    "a segmentation fault": Death("import ctypes; ctypes.string_at(0)", "FAILED", GONE),
    "shut down, idle": Death("pass", "FINISHED", None, "shut down idle"),
    "shut down, busy": Death(WAIT, "KILLED", "KeyboardInterrupt", "shut down"),
    "shut down, deaf to interrupts": Death(STUBBORN, "KILLED", "TerminatedError: SIGTERM", "shut down"),
    "restarted, idle": Death("pass", "FINISHED", None, "restart idle"),
    "restarted, busy": Death(WAIT, "KILLED", "KeyboardInterrupt", "restart"),
}
HEADLESS = ("an exception", "SIGTERM", "out of memory, by the system", "os._exit(0)")
INTERRUPTED = Death("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", "KILLED", "KeyboardInterrupt")


# ------------------------------------------------------------------------ in a kernel
class Kernel:
    """A real kernel over Unix sockets."""

    def __init__(self, folder: Path) -> None:
        self._sockets = tempfile.TemporaryDirectory(prefix="nbmlops-")
        place = f"{self._sockets.name}/kernel.json"
        self.manager = KernelManager(kernel_name="python3", transport="ipc", connection_file=place)
        quiet = subprocess.DEVNULL
        self.manager.start_kernel(cwd=str(folder), stdout=quiet, stderr=quiet, env={**os.environ})
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=100)

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.process.pid)  # type: ignore[union-attr]

    def run(self, cell: str) -> str:
        """Run a cell; give its error's class, empty if it raised none."""
        shown: list[dict[str, Any]] = []
        reply = self.client.execute_interactive(cell, timeout=100, output_hook=shown.append)
        return str(reply["content"].get("ename", ""))

    def end(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self._sockets.cleanup()
        if threading.current_thread() is not threading.main_thread():
            ensure_event_loop().close()  # which the client made for this thread


def dies(folder: Path, death: Death) -> None:
    """Begin the runs in a kernel, and let it die."""
    kernel = Kernel(folder)
    try:
        for cell in (*BEGIN, PLAIN):
            assert kernel.run(cell) == "", cell
        kernel.client.execute(DYING + f"    {death.last}")
        wait_until((folder / "dying").exists)
        is_idle = "idle" in death.then
        if is_idle:
            kernel.client.get_shell_msg(timeout=100)
        time.sleep(0.2)
        _do(kernel, death.then)
        process = kernel.manager.provisioner.process  # type: ignore[union-attr]
        wait_until(lambda: "restart" in death.then or process is None or process.poll() is not None)
    finally:
        kernel.end()


def _do(kernel: Kernel, then: str) -> None:
    if "interrupt" in then:
        kernel.manager.interrupt_kernel()
        kernel.client.get_shell_msg(timeout=100)
    if "kill" in then:
        os.kill(kernel.pid, signal.SIGKILL)
    if "terminate" in then:
        os.kill(kernel.pid, signal.SIGTERM)
    if "shut down" in then:
        kernel.manager.shutdown_kernel()
    if "restart" in then:
        kernel.manager.restart_kernel()


# ------------------------------------------------------------------------- headlessly
def headless(*command: str) -> Callable[[Path, Death], None]:
    """Give the call that lets a notebook die headlessly."""

    def executed(folder: Path, death: Death) -> None:
        cells = [*BEGIN, PLAIN, DYING + f"    {death.last}"]
        code = [
            {"cell_type": "code", "id": f"c{n}", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
            for n, cell in enumerate(cells)
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        content = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": code}
        (folder / "train.ipynb").write_text(json.dumps(content))
        words = [sys.executable, "-m", *command]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
        assert (folder / "dying").exists(), done.stderr
        assert done.returncode != 0

    return executed


PAPERMILL = headless("papermill", "train.ipynb", "out.ipynb", "--no-progress-bar")
RUN = headless("nbmlops.surfaces.cli", "run", "train.ipynb")
HOSTS: dict[str, tuple[Callable[[Path, Death], None], dict[str, Death]]] = {
    "kernel": (dies, DEATHS),
    "papermill": (PAPERMILL, {"an interrupt": INTERRUPTED} | {name: DEATHS[name] for name in HEADLESS}),
    "run": (RUN, {"an interrupt": INTERRUPTED} | {name: DEATHS[name] for name in HEADLESS}),
}
TABLE = [(host, name) for host, (_, deaths) in HOSTS.items() for name in deaths]
# The rest takes minutes, and a busy machine's patience.
QUICK = {
    *(("kernel", name) for name in ("an exception", "an interrupt", "SIGKILL", "SIGTERM", "os._exit(0)")),
    *((host, name) for host in ("papermill", "run") for name in ("an exception", "os._exit(0)")),
}
ROWS = [pytest.param(*case, id=": ".join(case), marks=() if case in QUICK else pytest.mark.soak) for case in TABLE]


@pytest.fixture(scope="module")
def died(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> Iterator[dict[tuple[str, str], Future[Path]]]:
    """The project's folder for each host and way of dying that is asked for, once it has died there."""
    asked = {item.callspec.id for item in request.session.items if hasattr(item, "callspec")}
    top = tmp_path_factory.mktemp("deaths")

    def die(host: str, name: str) -> Path:
        folder = top / f"{host}-{list(HOSTS[host][1]).index(name)}"
        (folder / ".nbmlops").mkdir(parents=True)
        shutil.copy(empty_mlflow, folder / ".nbmlops" / "mlflow.db")
        (folder / "nbmlops.toml").write_text(SETTINGS)
        act, deaths = HOSTS[host]
        act(folder, deaths[name])
        return folder

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {case: pool.submit(die, *case) for case in TABLE if ": ".join(case) in asked}


def wait_until(holds: Callable[[], Any], within_s: float = 100) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def ends(folder: Path) -> dict[str, tuple[str, str | None]]:
    """The status and the error of each run, as MLflow has them, by name."""
    tracking = Project(folder).open(Tracking)
    found = tracking.client.search_runs([tracking.experiment_id])
    return {run.info.run_name: (run.info.status, run.data.tags.get("nbmlops.error")) for run in found}


@pytest.mark.parametrize(("host", "name"), ROWS)
def test_a_run_ends_as_its_process_did(died: dict[tuple[str, str], Future[Path]], host: str, name: str) -> None:
    folder = died[host, name].result()
    death = HOSTS[host][1][name]
    if host != "run":  # which has ended them itself
        sync.sweep(folder / ".nbmlops" / "journal", sync.Stores())
    wanted = dict.fromkeys(OPEN, (death.status, death.error))
    if death.last == "pass":
        wanted |= ENDED_BEFORE
    found = ends(folder)
    if host == "run":
        own = found.pop("train")
        assert own[0] == death.status, own
    assert found == wanted


# ------------------------------------------------------------------- what goes on living
@pytest.fixture
def kernel(folder: Path) -> Iterator[Kernel]:
    kernel = Kernel(folder)
    yield kernel
    kernel.end()


def cell_of(folder: Path, name: str) -> tuple[str, str | None, str | None]:
    """The status, the error and the cell that a run names."""
    tracking = Project(folder).open(Tracking)
    run = tracking.client.get_run(tracking.find(name).run_id)
    return run.info.status, run.data.tags.get("nbmlops.error"), run.data.tags.get("nbmlops.cell")


def test_a_kernel_that_lives_has_truthful_runs(folder: Path, kernel: Kernel) -> None:
    """One kernel for all of it, as it takes seconds to start."""
    again = "import mlflow\nmlflow.start_run(run_name='again')\nif n == 1: 1 / 0"
    mended = "if n < 3: raise KeyError(n)"
    for cell, error in (
        ("n = 0\n%load_ext nbmlops\nimport mlflow; mlflow.start_run(run_name='first cell')\nint('x')", "ValueError"),
        (again, ""),  # left open, and ended as it is executed again
        ("n = 1", ""),
        (again, "ZeroDivisionError"),
        ("n = 2\nmlflow.start_run(run_name='mended')", ""),
        (mended, "KeyError"),
        ("n = 3", ""),
        (mended, ""),
        ("mlflow.end_run()\nmlflow.start_run(run_name='spoiled')", ""),
        ("[1][2]", "IndexError"),
        ("%mlops track next", ""),
        ("def f(x):\n    return 1 / x", ""),
        ("%%mlops track inside --nested\n\nf(0)", "ZeroDivisionError"),
    ):
        assert kernel.run(cell) == error, cell
    kernel.manager.interrupt_kernel()  # idle: nothing to interrupt
    os.kill(kernel.pid, signal.SIGSTOP)
    try:
        sync.sweep(folder / ".nbmlops" / "journal", sync.Stores())
        assert ends(folder)["next"] == ("RUNNING", None)  # stopped, and never declared dead
        assert Operations(folder).doctor(fix=True).mended == ()
    finally:
        os.kill(kernel.pid, signal.SIGCONT)
    assert kernel.run("%mlops end --status FINISHED") == ""
    kernel.manager.shutdown_kernel()
    sync.sweep(folder / ".nbmlops" / "journal", sync.Stores())

    invalid = "ValueError: invalid literal for int() with base 10: 'x'"
    assert cell_of(folder, "first cell") == ("FAILED", invalid, "[In 1], line 4: int('x')")
    tracking = Project(folder).open(Tracking)
    found = tracking.client.search_runs([tracking.experiment_id], "attributes.run_name = 'again'")
    assert sorted(run.info.status for run in found) == ["FAILED", "FINISHED"]
    zero = "ZeroDivisionError: division by zero"
    assert cell_of(folder, "again") == ("FAILED", zero, "[In 4], line 3: if n == 1: 1 / 0")
    assert cell_of(folder, "mended") == ("FINISHED", None, None)
    assert cell_of(folder, "spoiled") == ("FAILED", "IndexError: list index out of range", "[In 10], line 1: [1][2]")
    assert cell_of(folder, "inside") == ("FAILED", zero, "[In 13], line 3: f(0)")
    assert cell_of(folder, "next")[0] == "FINISHED"
