"""A cell that prints without end: its notebook says that what followed was left out, and the disk is not filled."""

import json
from pathlib import Path

import pytest

from nbmlops.errors import CellError
from nbmlops.pipelines import jobs
from nbmlops.pipelines.execution import bounded
from nbmlops.pipelines.verbs import run
from nbmlops.project import Project

from .conftest import WriteNotebook


def test_what_a_cell_prints_beyond_the_limit_is_left_out_and_that_is_told(
    project: Project, write_notebook: WriteNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 50_000)
    notebook = write_notebook(
        "talks.ipynb",
        "for _ in range(1000): print('x' * 1000)\nfrom IPython.display import display\ndisplay('shown')",
        "print('the next cell')",
        "print('y' * 60_000)\nraise ValueError('at the end')",
    )
    with pytest.raises(CellError, match="at the end"):
        run(project, str(notebook))
    (job,) = jobs.newest(project)
    cells = json.loads(Path(job.output).read_text())["cells"]
    outputs = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    first, second, third = outputs[-3:]
    assert [output["name"] for output in first] == ["stdout", "stderr"]
    assert len(first[0]["text"]) == 50_000
    assert "what followed was left out" in first[1]["text"]
    assert second[0]["text"] == "the next cell\n"
    assert "left out" in third[1]["text"]
    assert (third[-1]["output_type"], third[-1]["evalue"]) == ("error", "at the end")
    assert (jobs.known_folder(project, job.job) / jobs.LOG).stat().st_size < 200_000
