"""Papermill with our engine: its own command, output and errors; our runs and ends."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from nbmlops.pipelines import jobs
from nbmlops.project import Project

from .conftest import WriteNotebook
from .test_run import only_run, statuses


def test_the_command_finds_the_engine_and_writes_its_output(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "print(month + 1)", tagged="month = 1")
    command = [sys.executable, "-m", "papermill", "--engine", "nbmlops", str(notebook), "out.ipynb", "-p", "month", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    written = nbformat.read("out.ipynb", 4)
    nbformat.validate(written)
    assert written.cells[-1].outputs[0].text == "4\n"
    assert written.metadata.papermill.parameters == {"month": 3}
    found = only_run(project)
    assert (found.info.status, found.data.params) == ("FINISHED", {"month": "3"})


def test_a_failing_cell_is_papermills_error_and_a_failed_run(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "x = 1", "x / 0", "x = 3")
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        papermill.execute_notebook(notebook, "out.ipynb", engine_name="nbmlops", progress_bar=False)
    assert statuses(Path("out.ipynb")) == ["completed", "failed", "pending"]
    assert only_run(project).info.status == "FAILED"


def test_a_dead_process_is_no_success(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "import os; os._exit(5)", "after = 1")
    with pytest.raises(papermill.PapermillExecutionError, match="exited with code 5"):
        papermill.execute_notebook(notebook, "out.ipynb", engine_name="nbmlops", progress_bar=False)
    assert statuses(Path("out.ipynb")) == ["failed", "pending"]
    assert [job.status for job in jobs.newest(project)] == ["FAILED"]
    assert json.loads(Path("out.ipynb").read_text())["metadata"]["papermill"]["output_path"] == "out.ipynb"
