"""A notebook leaves a project as a workflow file in the place where the CI system looks, and overwrites nothing."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from nbmlops.errors import ConflictError, NotFoundError, UsageError
from nbmlops.surfaces.cli import main
from nbmlops.surfaces.python import Operations

PLACES = {"github": ".github/workflows/train.yml", "gitlab": ".gitlab-ci.yml", "jenkins": "Jenkinsfile"}
EVERY_SYSTEM = pytest.mark.parametrize("to", PLACES)


@pytest.fixture
def notebook(folder: Path) -> str:
    """A notebook with parameters in the project's folder of notebooks."""
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "month = 1\ntoken: str"}
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "train.ipynb").write_text(
        json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [cell]})
    )
    return "notebooks/train.ipynb"


@EVERY_SYSTEM
def test_a_workflow_is_written_where_the_system_looks_for_it(
    ops: Operations, folder: Path, notebook: str, to: str
) -> None:
    done = ops.export(notebook, to=to, parameters={"month": "3", "token": "env:API_TOKEN"})
    path = folder / PLACES[to]
    assert (done.path, done.target, done.secrets) == (str(path), notebook, ("API_TOKEN",))
    assert done.notes[0] == "Put API_TOKEN into the secrets of the CI system."
    assert notebook in path.read_text()
    assert "API_TOKEN" in path.read_text()
    assert ops.export(notebook, to=to, parameters={"month": "3", "token": "env:API_TOKEN"}).path == done.path


@pytest.mark.parametrize("to", ["github", "jenkins"])
def test_a_file_that_differs_is_overwritten_only_when_told(
    ops: Operations, folder: Path, notebook: str, to: str
) -> None:
    ops.export(notebook, to=to)
    path = folder / PLACES[to]
    path.write_text("mine")
    with pytest.raises(ConflictError, match="differs"):
        ops.export(notebook, to=to)
    assert path.read_text() == "mine"
    ops.export(notebook, to=to, force=True)
    assert path.read_text() != "mine"


@pytest.mark.parametrize("force", [False, True])
def test_a_gitlab_file_that_is_there_stays_and_another_is_written_beside_it(
    ops: Operations, folder: Path, notebook: str, force: bool
) -> None:
    (folder / ".gitlab-ci.yml").write_text("mine: {}\n")
    done = ops.export(
        notebook, to="gitlab", schedule="30 2 * * *", tz="Europe/Vienna", parameters={"token": "env:T"}, force=force
    )
    assert (folder / ".gitlab-ci.yml").read_text() == "mine: {}\n"
    assert Path(done.path) == folder / "train.gitlab-ci.yml"
    assert done.notes[1:] == (
        "Name it in .gitlab-ci.yml: include: {local: /train.gitlab-ci.yml}",
        "Make a pipeline schedule in GitLab: 30 2 * * * in Europe/Vienna.",
    )


def test_a_project_in_a_folder_of_the_repository_is_run_from_there(
    ops: Operations, folder: Path, notebook: str
) -> None:
    subprocess.run(["git", "init", "--quiet", ".."], cwd=folder, check=True)
    done = ops.export(notebook, to="github", schedule="@daily", parameters={"token": "env:T"})
    assert Path(done.path) == folder.parent / ".github/workflows/train.yml"
    content = yaml.safe_load(Path(done.path).read_text())
    environment = content["jobs"]["run"]["steps"][3]["env"]
    assert (environment["RUN_FOLDER"], environment["RUN_TARGET"]) == (folder.name, notebook)
    assert content["on"]["schedule"] == [{"cron": "0 0 * * *"}]


def test_output_goes_where_it_is_told(ops: Operations, folder: Path, notebook: str) -> None:
    assert ops.export(notebook, to="github", output="ci/run.yml").path == str(folder / "ci" / "run.yml")


def test_the_command_line_exports_too(
    ops: Operations, folder: Path, notebook: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", notebook, "--to", "github", "-p", "month=3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(folder / PLACES["github"])
    assert main(["export", notebook, "--to", "github", "-p", "month=4"]) == ConflictError.exit_code


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"parameters": {"mont": 3}}, UsageError, "no parameter 'mont'"),
        ({"parameters": {"month": "x"}}, UsageError, "must be int"),
        ({"parameters": {"token": "ghp_" + "a" * 36}}, UsageError, "looks like a secret"),
        ({"schedule": "0 0 * * *"}, UsageError, "needs a value for token"),
        ({"schedule": "0 25 * * *"}, UsageError, "hour"),
        ({"what": "retrain"}, UsageError, "no notebook"),
        ({"what": "none.ipynb"}, NotFoundError, "no notebook"),
        ({"to": "py", "schedule": "0 0 * * *"}, UsageError, "of a workflow file"),
    ],
)
def test_what_is_not_right_is_refused_and_nothing_written(
    ops: Operations, folder: Path, notebook: str, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    before = sorted(folder.rglob("*.yml"))
    given = {"what": notebook, "to": "github"} | arguments
    with pytest.raises(error, match=said):
        ops.export(given.pop("what"), **given)
    assert sorted(folder.rglob("*.yml")) == before


def test_a_notebook_outside_of_the_repository_is_refused(ops: Operations, folder: Path, notebook: str) -> None:
    outside = folder.parent / "outside.ipynb"
    outside.write_text((folder / notebook).read_text())
    with pytest.raises(UsageError, match="outside"):
        ops.export(str(outside), to="github")
