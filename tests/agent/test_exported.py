"""A notebook leaves a project as a workflow file in the place where the CI system looks, and overwrites nothing."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

import nbmlops
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


# ------------------------------------------------------------------------- pipelines
TOML = """
[pipelines.retrain]
schedule = "30 2 * * mon-fri"
timezone = "Europe/Vienna"
on = ["file:incoming/*.csv"]
[pipelines.retrain.parameters]
rows = 10
[[pipelines.retrain.steps]]
name = "first"
notebook = "notebooks/train.ipynb"
parameters = { token = "env:API_TOKEN", month = "${parameters.rows}" }
[[pipelines.retrain.steps]]
name = "second"
notebook = "notebooks/train.ipynb"
parameters = { token = "text:env:NO_SECRET", month = 2 }
needs = ["first"]
resources = { cpus = 2, memory = "4GB" }
"""
FILES = {
    **{to: (path.replace("train", "retrain"),) for to, path in PLACES.items()},
    "airflow": ("retrain_dag.py",),
    "kfp": ("retrain_kfp.py",),
    "k8s": ("retrain.k8s.yaml",),
    "cron": ("retrain.crontab",),
    "systemd": ("nbmlops-flights-retrain.service", "nbmlops-flights-retrain.timer"),
}


@pytest.fixture
def pipeline(folder: Path, notebook: str) -> Operations:
    with (folder / "nbmlops.toml").open("a") as file:
        file.write(TOML)
    return nbmlops.open(folder)


@pytest.mark.parametrize("to", FILES)
def test_a_pipeline_is_exported_with_its_declared_schedule_and_the_secrets_of_its_steps(
    pipeline: Operations, folder: Path, to: str
) -> None:
    done = pipeline.export("retrain", to=to, parameters={"rows": "7"})
    assert (done.path, *done.others) == tuple(str(folder / name) for name in FILES[to])
    assert (done.target, done.secrets, done.subject) == ("retrain", ("API_TOKEN",), "pipeline/retrain")
    text = "".join(Path(path).read_text() for path in (done.path, *done.others))
    assert "API_TOKEN" in text
    assert "Europe/Vienna" in text
    assert "junit" not in text
    assert "The agent runs it as well while nbmlops.toml has the schedule: nbmlops pause retrain" in done.notes
    assert "Triggers stay the agent's: file:incoming/*.csv." in done.notes
    assert pipeline.export("retrain", to=to, parameters={"rows": "7"}).path == done.path, "nothing differs"
    with pytest.raises(ConflictError, match="differs"):
        pipeline.export("retrain", to=to, output=None if to != "gitlab" else done.path)
    assert Path(done.path).read_text() in text


@pytest.mark.parametrize("to", ["airflow", "kfp", "k8s", "cron", "systemd"])
def test_a_notebook_goes_to_orchestrators_too(ops: Operations, folder: Path, notebook: str, to: str) -> None:
    done = ops.export(notebook, to=to, schedule="@daily", tz="Asia/Tokyo", parameters={"token": "env:T"})
    text = "".join(Path(path).read_text() for path in (done.path, *done.others))
    assert notebook in text
    assert "Asia/Tokyo" in text


def test_a_schedule_that_is_given_counts_and_an_empty_one_is_none(pipeline: Operations) -> None:
    given = yaml.safe_load(Path(pipeline.export("retrain", to="k8s", schedule="0 4 * * *").path).read_text())
    assert (given["spec"]["schedule"], given["spec"]["timeZone"]) == ("0 4 * * *", "Europe/Vienna")
    done = pipeline.export("retrain", to="k8s", schedule="", image="team/flights:2", force=True)
    job = yaml.safe_load(Path(done.path).read_text())
    assert job["kind"] == "Job"
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "team/flights:2"
    assert not any("agent runs it" in note for note in done.notes)


def test_what_steps_take_as_declared_is_asked_for(pipeline: Operations) -> None:
    manifest = yaml.safe_load(Path(pipeline.export("retrain", to="k8s", schedule="").path).read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "2", "memory": "4G"}}
    asked = "RESOURCES = {'second': {'set_cpu_request': '2', 'set_memory_request': '4G'}}"
    assert asked in Path(pipeline.export("retrain", to="kfp").path).read_text().splitlines()


def test_two_units_are_told_apart_by_their_endings(pipeline: Operations, folder: Path) -> None:
    done = pipeline.export("retrain", to="systemd", output="units/nightly.service")
    assert (done.path, *done.others) == (str(folder / "units/nightly.service"), str(folder / "units/nightly.timer"))
    with pytest.raises(UsageError, match="would be two files"):
        pipeline.export("retrain", to="systemd", output="units/nightly.timer")


def test_where_one_of_two_files_differs_neither_is_written(pipeline: Operations, folder: Path) -> None:
    (folder / "nightly.timer").write_text("mine")
    with pytest.raises(ConflictError, match="differs"):
        pipeline.export("retrain", to="systemd", output="nightly.service")
    assert not (folder / "nightly.service").exists()
    assert (folder / "nightly.timer").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"what": "retrian"}, "no pipeline 'retrian'"),
        ({"to": "cron", "image": "a"}, "--image is of"),
        ({"to": "github", "parameters": {"row": 3}}, "no parameter 'row'"),
        ({"to": "kfp", "parameters": {"rows": "x"}}, "must be int"),
        ({"to": "cron", "schedule": ""}, "needs a schedule"),
        ({"to": "k8s", "tz": "Europe/Wien"}, "no time zone"),
    ],
)
def test_what_is_not_right_about_a_pipeline_is_refused(
    pipeline: Operations, folder: Path, arguments: dict[str, object], said: str
) -> None:
    before = sorted(folder.iterdir())
    given = {"what": "retrain", "to": "airflow"} | arguments
    with pytest.raises(UsageError, match=said):
        pipeline.export(given.pop("what"), **given)
    assert sorted(folder.iterdir()) == before


def test_a_pipeline_with_a_fault_is_refused_with_all_that_is_wrong(pipeline: Operations, folder: Path) -> None:
    path = folder / "nbmlops.toml"
    path.write_text(path.read_text().replace('needs = ["first"]', 'needs = ["frist"]'))
    with pytest.raises(UsageError, match="frist"):
        nbmlops.open(folder).export("retrain", to="airflow")
