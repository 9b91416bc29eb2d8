"""A notebook over a matrix of values: every combination checked first, then each in a process of its own."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from nbmlops.errors import CellError, UsageError
from nbmlops.pipelines.jobs import newest
from nbmlops.pipelines.matrix import MatrixRun
from nbmlops.pipelines.planning import combinations
from nbmlops.pipelines.verbs import run
from nbmlops.project import Project

from .conftest import WriteNotebook

TOLD = "%load_ext nbmlops\n%mlops result twice=twice"


def test_every_combination_is_checked_before_the_first_begins(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "1", tagged="month = 1\nkind = 'a'")
    for wrong in ({"month": "1,x"}, {"mnth": "1,2"}, {"month": "1,,2"}, {"month": ""}):
        with pytest.raises(UsageError):
            run(project, str(notebook), matrix=wrong)
    with pytest.raises(UsageError, match="one value and as a matrix"):
        run(project, str(notebook), parameters={"month": 1}, matrix={"month": "1,2"})
    with pytest.raises(UsageError, match="combinations"):
        combinations({name: list(range(50)) for name in "abc"})
    assert newest(project) == []


def test_a_dry_run_lists_the_combinations(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "1", tagged="month = 1\nkind = 'a'")
    planned = run(project, str(notebook), matrix={"month": "1,2", "kind": "a,b"}, dry_run=True)
    assert isinstance(planned, MatrixRun)
    listed = [tuple(each.parameters.values()) for each in planned.runs]
    assert listed == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]


def test_one_that_fails_leaves_the_others_alone(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "twice = 2 * month\nassert month != 2", TOLD, tagged="month = 1")
    with pytest.raises(CellError, match=r"1 of 2 runs failed\. The first: train\.ipynb failed with AssertionError"):
        run(project, str(notebook), matrix={"month": "1,2"}, at_once=2, output="out.ipynb", junit="made/junit.xml")
    assert sorted((job.parameters["month"], job.status) for job in newest(project)) == [(1, "FINISHED"), (2, "FAILED")]
    assert sorted(path.name for path in Path().glob("out*.ipynb")) == ["out-1.ipynb", "out-2.ipynb"]
    suites = ElementTree.parse("made/junit.xml").getroot().findall("testsuite")
    assert [suite.get("failures") for suite in suites] == ["0", "1"]


def test_results_come_back_by_combination(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "twice = 2 * month", TOLD, tagged="month = 1")
    done = run(project, str(notebook), matrix={"month": "3,4"}, at_once=2)
    assert isinstance(done, MatrixRun)
    assert [each.results for each in done.runs] == [{"twice": 6}, {"twice": 8}]
