"""Each CI system is known by its variables and told what it can show; a file that cannot be written stops nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nbmlops.pipelines.ci.services import detected, publish
from nbmlops.pipelines.ci.summary import LIMIT_BYTES
from nbmlops.pipelines.notebook import NotebookRun

VARIABLES = {
    "github": {"GITHUB_ACTIONS": "true"},
    "gitlab": {"GITLAB_CI": "true"},
    "jenkins": {"JENKINS_URL": "http://ci.example/"},
}


@pytest.mark.parametrize("service", VARIABLES)
def test_a_system_is_known_by_its_variables(service: str) -> None:
    assert detected(VARIABLES[service] | {"CI": "true"}) == service


def test_elsewhere_nothing_is_said_and_nothing_written(failed: NotebookRun, tmp_path: Path) -> None:
    said: list[str] = []
    assert detected({"CI": "true", "GITHUB_ACTIONS": ""}) is None
    publish([failed], {"CI": "true", "WORKSPACE": str(tmp_path)}, said.append)
    assert said == list(tmp_path.iterdir()) == []


@pytest.fixture
def checkout(tmp_path: Path, failed: NotebookRun) -> Path:
    """A checkout whose project lies in a folder of it."""
    cells = [{"cell_type": "code", "source": str(n)} for n in range(5)]
    path = tmp_path / "checkout" / "ml" / failed.notebook
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}, indent=1))
    return tmp_path / "checkout"


def test_github_gets_a_summary_and_an_annotation_at_the_cells_line(
    failed: NotebookRun, checkout: Path, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.md"
    environ = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_WORKSPACE": str(checkout)}
    said: list[str] = []
    publish([failed], environ, said.append, folder=checkout / "ml")
    (line,) = said
    assert line.startswith("::error file=ml/notebooks/train.ipynb,line=13,")
    lines = (checkout / "ml" / failed.notebook).read_text().split("\n")
    assert lines[13 - 1].strip() == '"source": "2"'
    assert "### nbmlops: 1 run, 1 failed" in summary.read_text()
    publish([failed], environ, said.append, folder=checkout / "ml")
    assert summary.read_text().count("### nbmlops") == 2


def test_what_earlier_commands_of_a_step_wrote_counts_against_githubs_limit(
    failed: NotebookRun, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.md"
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    summary.write_text("x" * (LIMIT_BYTES - 500))
    publish([failed] * 3, environ, [].append)
    assert summary.stat().st_size <= LIMIT_BYTES + 1


def test_gitlab_gets_a_summary_a_code_quality_report_and_a_section(failed: NotebookRun, checkout: Path) -> None:
    said: list[str] = []
    environ = {"GITLAB_CI": "true", "CI_PROJECT_DIR": str(checkout)}
    publish([failed], environ, said.append, folder=checkout / "ml")
    assert "section_start" in said[0]
    assert "KeyError" in (checkout / "nbmlops-summary.md").read_text()
    (found,) = json.loads((checkout / "nbmlops-codequality.json").read_text())
    assert found["location"] == {"path": "ml/notebooks/train.ipynb", "lines": {"begin": 13}}
    publish([replace(failed, status="FINISHED", failure=None)], environ, said.append, folder=checkout / "ml")
    assert json.loads((checkout / "nbmlops-codequality.json").read_text()) == []
    assert {path.name for path in checkout.iterdir()} == {"ml", "nbmlops-summary.md", "nbmlops-codequality.json"}


def test_jenkins_gets_a_summary_and_a_plain_line(failed: NotebookRun, checkout: Path) -> None:
    said: list[str] = []
    environ = {"JENKINS_URL": "http://ci.example/", "WORKSPACE": str(checkout)}
    publish([failed], environ, said.append, folder=checkout / "ml")
    assert said == ["FAILED ml/notebooks/train.ipynb, cell 3 [In 2]: KeyError: no such column"]
    assert (checkout / "nbmlops-summary.md").exists()


@pytest.mark.parametrize("place", ["missing/summary.md", ".", "file/summary.md"])
def test_a_summary_that_cannot_be_written_is_one_line_and_no_error(
    failed: NotebookRun, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    publish([failed], {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": f"{tmp_path}/{place}"}, said.append)
    assert len(said) == 2
    assert "was not written" in said[1]
    publish([failed], {"GITLAB_CI": "true", "CI_PROJECT_DIR": f"{tmp_path}/{place}/x"}, said.append)
    assert sum("was not written" in line for line in said[2:]) == 2  # the summary and the report


def test_the_working_folder_stands_in_for_a_workspace_that_is_not_named(
    failed: NotebookRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    publish([failed], {"JENKINS_URL": "x"}, [].append)
    assert (tmp_path / "nbmlops-summary.md").exists()
