"""Runs that go on without who asked for them: checked before, begun when told, ended by themselves, and never in CI."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbmlops.errors import ConflictError, KernelError, NbmlopsError, UsageError
from nbmlops.pipelines import detaching, jobs
from nbmlops.pipelines.jobs import Job
from nbmlops.pipelines.reading import logs
from nbmlops.pipelines.verbs import cancel, resume, run
from nbmlops.project import Project

from .conftest import WriteNotebook
from .test_endings import eventually

WAIT = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
PIPELINE = """
[[pipelines.nightly.steps]]
name = "wait"
notebook = "notebooks/wait.ipynb"
"""


@pytest.fixture(autouse=True)
def on_a_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a person works, whatever runs these tests."""
    monkeypatch.delenv("CI", raising=False)


def ended(project: Project, job: Job) -> Job:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (now := jobs.find(project, job.job)).status != jobs.RUNNING:
            return now
        time.sleep(0.05)
    raise AssertionError(f"{job.job} goes on")


def test_a_detached_run_is_told_as_soon_as_it_runs_and_ends_by_itself(
    project: Project, write_notebook: WriteNotebook
) -> None:
    notebook = write_notebook("wait.ipynb", f"print('month', month)\n{WAIT}", tagged="month = 1")
    job = run(project, str(notebook), parameters={"month": "3"}, cell_timeout="1m", detach=True)
    assert isinstance(job, Job)
    assert (job.status, job.parameters, job.notebook) == ("RUNNING", {"month": 3}, "notebooks/wait.ipynb")
    assert int(job.owner["nbmlops.pid"]) != os.getpid()
    (notebook.parent / "go").touch()
    assert ended(project, job).status == "FINISHED"
    assert "month 3" in str(logs(project, job.job))


def test_a_detached_run_outlives_the_command_that_started_it(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("wait.ipynb", f"open('begun', 'x').close()\n{WAIT}")
    words = [sys.executable, "-P", "-m", "nbmlops.surfaces.cli", "run", str(notebook), "--detach", "--json"]
    said = subprocess.run(words, cwd=project.root, capture_output=True, text=True, timeout=100, check=True)
    job = jobs.find(project, json.loads(said.stdout)["job"])
    assert job.status == "RUNNING"
    assert eventually((notebook.parent / "begun").exists, 30)
    assert cancel(project, job.job).status == "KILLED"


def test_parameters_are_checked_before_anything_is_detached(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("wait.ipynb", WAIT, tagged="month = 1")
    with pytest.raises(UsageError, match="mont"):
        run(project, str(notebook), parameters={"mont": 3}, detach=True)
    with pytest.raises(UsageError, match="month"):
        run(project, str(notebook), parameters={"month": "March"}, detach=True)
    assert jobs.newest(project) == []


def test_a_secret_goes_as_a_reference_and_its_own_value_is_refused(
    project: Project, write_notebook: WriteNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "kanarienvogel")
    notebook = write_notebook("secret.ipynb", WAIT, tagged="token = ''")
    with pytest.raises(UsageError, match="secret's own value"):
        run(project, str(notebook), parameters={"token": "kanarienvogel"}, detach=True)
    job = run(project, str(notebook), parameters={"token": "env:TOKEN"}, detach=True)
    assert isinstance(job, Job)
    argv = Path("/proc", job.owner["nbmlops.pid"], "cmdline").read_text()
    (notebook.parent / "go").touch()
    assert ended(project, job).status == "FINISHED"
    folder = jobs.known_folder(project, job.job)
    assert "TOKEN" not in argv
    assert json.loads((folder / detaching.PARAMETERS).read_text()) == {"token": "env:TOKEN"}
    assert (folder / detaching.PARAMETERS).stat().st_mode & 0o077 == 0
    assert not [path for path in folder.iterdir() if b"kanarienvogel" in path.read_bytes()]


def test_a_pipeline_is_detached_and_goes_on_detached(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("wait.ipynb", WAIT)
    with (project.root / "nbmlops.toml").open("a") as file:
        file.write(PIPELINE)
    project = Project(project.root)
    job = run(project, "nightly", detach=True)
    assert isinstance(job, Job)
    assert (job.name, job.status) == ("nightly", "RUNNING")
    with pytest.raises(ConflictError, match="runs already"):  # found by the process, and told by its exit code
        run(project, "nightly", detach=True)
    assert cancel(project, job.job).status == "KILLED"
    (notebook.parent / "go").touch()
    again = resume(project, job.job, detach=True)
    assert isinstance(again, Job)
    assert again.resumed == job.job
    assert ended(project, again).status == "FINISHED"


def test_a_failed_notebook_is_resumed_detached(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("gate.ipynb", "import pathlib\nif not pathlib.Path('go').exists(): raise RuntimeError")
    with pytest.raises(NbmlopsError):
        run(project, str(notebook))
    failed = jobs.newest(project)[0]
    (notebook.parent / "go").touch()
    job = resume(project, failed.job, detach=True)
    assert isinstance(job, Job)
    assert (job.resumed, ended(project, job).status) == (failed.job, "FINISHED")


def test_a_process_that_ends_before_its_job_begins_is_told_with_its_last_words(project: Project) -> None:
    with pytest.raises(UsageError, match="no-such-option"):
        detaching.started(project, "0f3a0f3a0f3a", ("jobs",), {"--no-such-option": True}, {})


def test_a_run_that_does_not_begin_in_time_is_told_with_where_to_read(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detaching, "START_S", 0.0)
    with pytest.raises(KernelError, match="has not begun"):
        detaching.started(project, "0f3a0f3a0f3b", ("jobs",), {}, {})


def test_nothing_is_detached_under_ci(
    project: Project, write_notebook: WriteNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(UsageError, match="nothing is detached"):
        run(project, str(write_notebook("wait.ipynb", WAIT)), detach=True)
    assert jobs.newest(project) == []


def test_a_matrix_is_many_jobs_and_is_not_detached(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("wait.ipynb", WAIT, tagged="month = 1")
    with pytest.raises(UsageError, match="--detach"):
        run(project, str(notebook), matrix={"month": "1,2"}, detach=True)
