"""A job with its parts: cells and steps, whatever state it is in."""

import pytest

from nbmlops.errors import CellError
from nbmlops.pipelines import jobs
from nbmlops.pipelines.in_full import JobInFull, job_in_full
from nbmlops.pipelines.reading import jobs as listed
from nbmlops.pipelines.verbs import run
from nbmlops.project import Project

from .conftest import WriteNotebook

ASKING = """
[[pipelines.careful.steps]]
name = "begin"
verb = "status"

[[pipelines.careful.steps]]
name = "agree"
approval = "Shall it go on?"
needs = ["begin"]

[[pipelines.careful.steps]]
name = "end"
verb = "status"
needs = ["agree"]
"""


def newest(project: Project) -> JobInFull:
    return job_in_full(project, jobs.newest(project, 1)[0])


def test_a_notebooks_cells_tell_how_each_went(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("broken.ipynb", "x = 1", "1 / 0", "y = 2", tagged="month = 1")
    with pytest.raises(CellError):
        run(project, str(notebook), parameters={"month": 3})
    job = newest(project)
    assert [(each.index, each.source_line, each.status) for each in job.cells] == [
        (2, "month = 1", "ok"),
        (0, "# Parameters", "ok"),
        (3, "x = 1", "ok"),
        (4, "1 / 0", "failed"),
        (5, "y = 2", "pending"),
    ]
    assert not job.attempts


def test_a_job_whose_log_is_gone_has_no_cells(project: Project, write_notebook: WriteNotebook) -> None:
    run(project, str(write_notebook("fine.ipynb", "x = 1")))
    (jobs.known_folder(project, jobs.newest(project, 1)[0].job) / jobs.LOG).unlink()
    assert newest(project).cells == ()


def test_a_pipelines_steps_tell_what_waits_and_for_which_answer(project: Project) -> None:
    with (project.root / "nbmlops.toml").open("a") as file:
        file.write(ASKING)
    project = Project(project.root)
    run(project, "careful")
    job = newest(project)
    assert [(each.step, each.status, each.message) for each in job.attempts] == [
        ("begin", "FINISHED", ""),
        ("agree", "WAITING", "Shall it go on?"),
        ("end", "PENDING", ""),
    ]
    waiting = [each for each in listed(project) if getattr(each, "step", "") == "agree"]
    assert [each.message for each in waiting] == ["Shall it go on?"]  # type: ignore[union-attr]
