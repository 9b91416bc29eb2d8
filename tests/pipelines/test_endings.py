"""Whatever ends a headless run: exit code, run, event, job, notebook, JUnit and message name one cell and one cause."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import psutil
import pytest

from nbmlops.errors import NbmlopsError, StoreError
from nbmlops.ledger.database import Ledger
from nbmlops.pipelines import jobs
from nbmlops.pipelines.execution.process import Worker
from nbmlops.pipelines.verbs import run
from nbmlops.project import Project
from nbmlops.tracking.mlflow import Tracking

from .conftest import WriteNotebook

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guard's means are Linux's")

MARK = "TEST_OF_ENDINGS"  # in the environment of every process that a test starts
GONE_S = 5.0
# What a cell may leave behind: a child, one in a group of its own, a grandchild without a parent, a fork of Python.
BEHIND = """\
import os, subprocess, time
subprocess.Popen(["sleep", "1000"])
subprocess.Popen(["sleep", "1000"], process_group=0)
subprocess.run(["sh", "-c", "sleep 1000 & sleep 1000 &"])
if os.fork() == 0:
    time.sleep(1000)"""


@dataclass(frozen=True)
class Kind:
    """What a cell does, and what must be told of it everywhere."""

    source: str
    exit_code: int
    cause: str
    said: str
    status: str = "FAILED"
    cell_timeout: str = "never"


MEMORY = """\
import resource
have = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (have + (64 << 20), resource.RLIM_INFINITY))
block = bytearray(1 << 30)"""
STUBBORN = """\
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        pass"""
PLIANT = """\
try:
    time.sleep(60)
except KeyboardInterrupt:
    pass"""
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
DEAF_IN_C = "import ctypes, signal; signal.signal(2, signal.SIG_IGN); ctypes.PyDLL(None).sleep(60)"  # holds the GIL
REGEX = "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')"
TALKATIVE = "while True: print('x' * 10)"
LATE = "ran longer than 0.5 s and was ended"

KINDS = {
    "raises": Kind("1 / 0", 3, "raised", "ZeroDivisionError: division by zero"),
    "error of ours": Kind("from nbmlops.errors import GateError; raise GateError('no')", 4, "raised", "no (it.ipynb"),
    "sys.exit(3)": Kind("import sys; sys.exit(3)", 3, "exited", "SystemExit: 3"),
    "os._exit(0)": Kind("os._exit(0)", 8, "died", "the kernel exited with code 0"),
    "SIGKILL": Kind("os.kill(os.getpid(), 9)", 8, "killed", "(SIGKILL), which is what a system out of memory does"),
    "SIGTERM": Kind("os.kill(os.getpid(), 15); time.sleep(9)", 8, "killed", "ended by SIGTERM", "KILLED"),
    "segfault": Kind("import ctypes; ctypes.string_at(0)", 8, "killed", "ended by SIGSEGV"),
    "no memory": Kind(MEMORY, 3, "raised", "MemoryError"),
    "hangs": Kind("time.sleep(60)", 8, "timeout", LATE, cell_timeout="0.5s"),
    "swallows interrupts": Kind(STUBBORN, 8, "timeout", LATE, cell_timeout="0.5s"),
    "swallows one interrupt": Kind(PLIANT, 8, "timeout", LATE, cell_timeout="0.5s"),
    "ignores interrupts": Kind(DEAF, 8, "timeout", LATE, cell_timeout="0.5s"),
    "hangs in C": Kind(DEAF_IN_C, 8, "timeout", LATE, cell_timeout="0.5s"),
    "hangs in a regex": Kind(REGEX, 8, "timeout", LATE, cell_timeout="0.5s"),
    "awaits for ever": Kind("import asyncio; await asyncio.Event().wait()", 8, "timeout", LATE, cell_timeout="0.5s"),
    "prints for ever": Kind(TALKATIVE, 8, "timeout", LATE, cell_timeout="0.5s"),
}


# ------------------------------------------------------------------------ what is seen
def marked(mark: str) -> list[psutil.Process]:
    """List the processes that live, and were started below this test's."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def eventually(is_so: Callable[[], object], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Mark every process that this test starts; at its end none may live."""
    monkeypatch.setenv(MARK, str(tmp_path))
    yield str(tmp_path)
    ended = eventually(lambda: not marked(str(tmp_path)), GONE_S)
    left = marked(str(tmp_path))
    for process in left:
        process.kill()
    assert ended, [each.info for each in left]


def notebook_of(path: Path) -> list[str]:
    """Check that a notebook is a valid one of strict JSON; give its code cells' statuses."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads(path.read_text(), parse_constant=refuse)
    nbformat.validate(content)
    return [cell["metadata"]["papermill"]["status"] for cell in content["cells"] if cell["cell_type"] == "code"]


def assert_all_tell_it(project: Project, kind: Kind, error_name: str, cell: str) -> None:
    """Compare what every record says of the only run."""
    tracking = project.open(Tracking)
    (found,) = tracking.client.search_runs([tracking.experiment_id])
    tags = found.data.tags
    assert (found.info.status, tags["nbmlops.cause"], tags["nbmlops.cell"]) == (kind.status, kind.cause, cell)
    assert kind.said in tags["nbmlops.error"]
    assert tags["nbmlops.error"].startswith(error_name)
    (job,) = jobs.newest(project)
    assert (job.status, job.cell, job.exit_code, job.run_id) == (kind.status, cell, kind.exit_code, found.info.run_id)
    assert kind.said in job.message
    (event,) = project.open(Ledger).events(verbs=("run",))
    assert (event.outcome, kind.said in str(event), cell in str(event)) == (error_name, True, True)
    output = project.root / "out.ipynb"
    assert notebook_of(output) == ["completed", "failed", "pending"]
    assert kind.said in output.read_text().replace("\\n", "\n")
    cases = list(ElementTree.parse(project.root / "junit.xml").iter("testcase"))
    assert [[each.tag for each in case] for case in cases] == [[], ["failure"], ["skipped"]]
    assert kind.said in str(cases[1][0].get("message")) + str(cases[1][0].text)


# ----------------------------------------------------------------------- kinds of ends
@pytest.mark.parametrize("name", KINDS)
def test_every_record_of_a_failed_run_names_the_same_cell_and_cause(
    project: Project, write_notebook: WriteNotebook, mark: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbmlops.pipelines.execution.process.GRACE_S", 0.5)
    assert_told(project, write_notebook, KINDS[name])


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("_", range(10))
def test_every_time(project: Project, write_notebook: WriteNotebook, mark: str, name: str, _: int) -> None:
    assert_told(project, write_notebook, KINDS[name])


def assert_told(project: Project, write_notebook: WriteNotebook, kind: Kind) -> None:
    notebook = write_notebook("it.ipynb", BEHIND, kind.source, "open('after', 'w')")
    with pytest.raises(NbmlopsError) as caught:
        run(project, str(notebook), output="out.ipynb", cell_timeout=kind.cell_timeout, junit="junit.xml")
    error = caught.value
    assert (error.exit_code, kind.said in error.message) == (kind.exit_code, True), error.message
    cell = jobs.newest(project)[0].cell
    assert cell.startswith("cell 3")
    assert any(line[:70] in cell for line in kind.source.splitlines())
    assert cell in error.message
    assert_all_tell_it(project, kind, type(error).__name__, cell)
    assert not (notebook.parent / "after").exists()


# ----------------------------------------------------------- from outside, by the command
SLEEPS = BEHIND + "\nprint('so far', flush=True)\nopen('begun', 'w')\ntime.sleep(60)"


@contextlib.contextmanager
def command(project: Project, notebook: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a notebook by the command line; begins when its cell is at work."""
    words = ("run", str(notebook), "-o", "out.ipynb", "--junit", "junit.xml", *words)
    line = [sys.executable, "-m", "nbmlops.surfaces.cli", *words]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert eventually((notebook.parent / "begun").exists, 60), process.communicate(timeout=5)
        yield process
    finally:
        process.kill()
        process.communicate()


def guard_of(process: subprocess.Popen[str]) -> psutil.Process:
    (found,) = (each for each in psutil.Process(process.pid).children() if "execution.worker" in str(each.cmdline()))
    return found


@pytest.mark.parametrize(
    ("signum", "times", "code", "cause"),
    [
        (signal.SIGTERM, 1, 143, "terminated"),
        (signal.SIGINT, 1, 130, "interrupted"),
        (signal.SIGINT, 3, 130, "interrupted"),
    ],
)
def test_a_runner_that_is_told_to_end_tells_it_everywhere(
    project: Project, write_notebook: WriteNotebook, mark: str, signum: int, times: int, code: int, cause: str
) -> None:
    notebook = write_notebook("it.ipynb", "before = 1", SLEEPS, "open('after', 'w')")
    with command(project, notebook) as process:
        for _ in range(times):
            process.send_signal(signum)
            time.sleep(0.02)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == code, said
    kind = Kind(SLEEPS, code, cause, f"it.ipynb was {cause} from outside", status="KILLED")
    tracking = project.open(Tracking)
    (found,) = tracking.client.search_runs([tracking.experiment_id])
    (job,) = jobs.newest(project)
    assert (found.info.status, found.data.tags["nbmlops.cause"]) == ("KILLED", cause)
    assert (job.status, kind.said in job.message, job.cell) == ("KILLED", True, found.data.tags["nbmlops.cell"])
    assert job.cell.startswith("cell 3")
    assert job.exit_code == code
    assert notebook_of(project.root / "out.ipynb") == ["completed", "failed", "pending"]
    assert [bool(list(case)) for case in ElementTree.parse(project.root / "junit.xml").iter("testcase")] == [
        False,
        True,
        True,
    ]
    assert project.open(Ledger).events(verbs=("run",))[0].outcome != "ok"
    assert not (notebook.parent / "after").exists()


TOLD_TO_END_AS_IT_BEGINS = """
import os, signal, sys
from nbmlops.pipelines import jobs
from nbmlops.surfaces.cli import main
put = jobs.put
def told_to_end(project, job):
    put(project, job)
    if job.status == "RUNNING":
        os.kill(os.getpid(), signal.SIGTERM)
jobs.put = told_to_end
sys.exit(main(["run", sys.argv[1]]))
"""


@pytest.mark.parametrize("what", ["it.ipynb", "nightly"])
def test_a_job_that_is_told_to_end_as_soon_as_it_is_known_has_its_end(
    project: Project, write_notebook: WriteNotebook, what: str
) -> None:
    notebook = write_notebook("it.ipynb", "open('after', 'w')")
    with (project.root / "nbmlops.toml").open("a") as file:
        file.write(f"[[pipelines.nightly.steps]]\nname = 'it'\nnotebook = '{notebook.relative_to(project.root)}'\n")
    words = [sys.executable, "-P", "-c", TOLD_TO_END_AS_IT_BEGINS, str(notebook) if what == "it.ipynb" else what]
    environment = {**os.environ, "NBMLOPS_WARM": "off"}
    done = subprocess.run(words, cwd=project.root, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 143, done.stderr
    assert [job.status for job in jobs.newest(project)] == ["KILLED"]
    assert not (notebook.parent / "after").exists()


def test_a_runner_that_is_killed_leaves_a_readable_part_and_the_earlier_output(
    project: Project, write_notebook: WriteNotebook, mark: str
) -> None:
    notebook = write_notebook("it.ipynb", "before = 1", SLEEPS, "open('after', 'w')")
    earlier = project.root / "out.ipynb"
    earlier.write_text("good")
    with command(project, notebook) as process:
        process.kill()
        process.wait()
        assert eventually(lambda: not marked(mark), GONE_S)
    assert notebook_of(project.root / "out.partial.ipynb") == ["completed", "failed", "pending"]
    assert "so far" in (project.root / "out.partial.ipynb").read_text()
    assert earlier.read_text() == "good"
    assert [job.status for job in jobs.newest(project)] == ["LOST"]
    assert not (notebook.parent / "after").exists()


def test_a_guard_that_is_killed_takes_all_with_it(project: Project, write_notebook: WriteNotebook, mark: str) -> None:
    notebook = write_notebook("it.ipynb", "before = 1", SLEEPS, "open('after', 'w')")
    with command(project, notebook) as process:
        guard_of(process).kill()
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 8, said
    assert "(SIGKILL), which is what a system out of memory does (cell 3" in said
    assert notebook_of(project.root / "out.ipynb") == ["completed", "failed", "pending"]
    assert [job.status for job in jobs.newest(project)] == ["FAILED"]


def test_a_server_that_a_cell_starts_in_a_session_of_its_own_stays_and_the_runner_is_as_it_was(
    project: Project, write_notebook: WriteNotebook
) -> None:
    serve = "import subprocess\nserver = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    notebook = write_notebook("it.ipynb", serve + "open('pid', 'w').write(str(server.pid))")
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert run(project, str(notebook)).status == "FINISHED"
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    server = psutil.Process(int((notebook.parent / "pid").read_text()))
    assert server.is_running()
    server.kill()
    server.kill()


# ----------------------------------------------------------------------------- full disks
FLOOD = "for _ in range(3000): print('x' * 1000)"


def test_a_disk_that_is_filled_by_the_log_ends_the_run_at_once_and_truly(
    project: Project, write_notebook: WriteNotebook, mark: str, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "folder_of", lambda *_: small_disk)
    notebook = write_notebook("it.ipynb", "before = 1", FLOOD + "\ntime.sleep(60)", "open('after', 'w')")
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\) \(cell 3"):
        run(project, str(notebook), output="out.ipynb")
    assert notebook_of(project.root / "out.ipynb") == ["completed", "failed", "pending"]
    tracking = project.open(Tracking)
    (found,) = tracking.client.search_runs([tracking.experiment_id])
    assert (found.info.status, found.data.tags["nbmlops.cause"]) == ("FAILED", "broken")
    assert [job.status for job in jobs.newest(project)] == ["FAILED"]


def test_a_log_that_cannot_be_begun_begins_no_run(
    project: Project, write_notebook: WriteNotebook, mark: str, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "folder_of", lambda *_: small_disk)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb") as file:
        file.write(bytes(2 << 20))
    notebook = write_notebook("it.ipynb", "open('after', 'w')")
    with pytest.raises(StoreError, match="No space left on device"):
        run(project, str(notebook), output="out.ipynb")
    tracking = project.open(Tracking)
    assert tracking.client.search_runs([tracking.experiment_id]) == []
    assert jobs.newest(project) == []
    assert not (notebook.parent / "after").exists()


def test_an_output_that_finds_no_space_fails_the_run_and_keeps_the_earlier_one(
    project: Project, write_notebook: WriteNotebook, mark: str, small_disk: Path
) -> None:
    earlier = small_disk / "out.ipynb"
    earlier.write_text("good")
    notebook = write_notebook("it.ipynb", FLOOD)
    with pytest.raises(StoreError, match=r"out.ipynb cannot be written: No space left on device"):
        run(project, str(notebook), output=str(earlier))
    assert [each.name for each in small_disk.iterdir()] == ["out.ipynb"]
    assert earlier.read_text() == "good"
    tracking = project.open(Tracking)
    (found,) = tracking.client.search_runs([tracking.experiment_id])
    assert found.info.status == "FAILED"
    (job,) = jobs.newest(project)
    assert (job.status, job.exit_code) == ("FAILED", 10)
    assert "No space left on device" in job.message


# ------------------------------------------------------------------ the process of the cells
def heard(*sources: str, kernel: str = "") -> list[dict[str, Any]]:
    cells = [{"index": i, "id": None, "source": each, "may_fail": False} for i, each in enumerate(sources)]
    job = {"folder": os.getcwd(), "kernel": kernel, "cells": cells, "snapshot": {}, "environment": {}, "profile": ""}
    with Worker() as worker:
        return list(worker.execute(job, 60.0, None))


def test_a_process_that_a_cell_forks_and_forgets_runs_no_further_cell(folder: Path, mark: str) -> None:
    events = heard("import os; child = os.fork()", "print('once')")
    assert [each["content"]["text"] for each in events if each["event"] == "output"] == ["once\n"]
    assert [each["event"] for each in events].count("end") == 1


def test_leaving_before_there_is_a_job_takes_no_time(mark: str) -> None:
    began = time.monotonic()
    with Worker():
        pass
    assert time.monotonic() - began < 2.5  # it was 3 s where the order came before there was a group to signal


def test_what_a_kernel_leaves_behind_ends_with_it(
    folder: Path, mark: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = tmp_path / "kernels" / "another"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Another", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    events = heard(
        "import subprocess, os\nchild = subprocess.Popen(['sleep', '1000'])", "os._exit(5)", kernel="another"
    )
    assert events[-1] == {"event": "gone", "code": 5}
