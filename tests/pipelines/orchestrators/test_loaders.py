"""Exported files in the hands of Airflow, Kubeflow Pipelines and Kubernetes' schemas themselves.

The environments are made by uv in a temporary folder, or are those whose interpreters NBMLOPS_TEST_AIRFLOW and
NBMLOPS_TEST_KFP name. They have none of nbmlops: the files call the command.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.steps import Steps
from nbmlops.pipelines import jobs
from nbmlops.pipelines.orchestrators.writing import orchestrated
from nbmlops.project import Project
from nbmlops.surfaces.cli import main
from tests.pipelines.orchestrators.conftest import GREEDY, PLANS, RETRAIN, no_marker

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
AIRFLOW, KFP = os.environ.get("NBMLOPS_TEST_AIRFLOW"), os.environ.get("NBMLOPS_TEST_KFP")
UNREACHABLE = ("Failed to fetch", "error sending request", "dns error", "tcp connect error")
HOSTILE = '{{ ds }} {{$.inputs.parameters["x"]}} $(touch marker) \'"\n%s'
TOML = """\
[project]
name = "flights"
[pipelines.retrain]
schedule = "30 2 * * mon-fri"
timezone = "Europe/Vienna"
[pipelines.retrain.parameters]
rows = 10
note = "a"
[[pipelines.retrain.steps]]
name = "extract"
function = "steps:extract"
parameters = { rows = "${parameters.rows}", note = "${parameters.note}", due = "${due.time}" }
[[pipelines.retrain.steps]]
name = "train"
function = "steps:train"
parameters = { n = "${extract.n}" }
matrix = { kind = ["a", "b"] }
resources = { cpus = 0.5, memory = "100MB" }
[[pipelines.retrain.steps]]
name = "never"
function = "steps:last"
needs = ["extract"]
when = "${extract.n} > 100"
[[pipelines.retrain.steps]]
name = "behind"
function = "steps:last"
needs = ["never"]
[[pipelines.retrain.steps]]
name = "last"
function = "steps:last"
needs = ["train"]
[pipelines.asking]
[[pipelines.asking.steps]]
name = "ask"
approval = "Go?"
"""
STEPS_PY = """
import json
def _note(**what):
    with open("notes.txt", "a") as file:
        file.write(json.dumps(what) + "\\n")
def extract(rows: int, note: str, due: str): _note(step="extract", rows=rows, note=note, due=due); return {"n": rows}
def train(n: int, kind: str): _note(step="train", n=n, kind=kind); return {"auc": n}
def last(): _note(step="last"); return {}
"""


@pytest.fixture
def flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project with two pipelines, in the working folder, and the command nbmlops in PATH."""
    folder = tmp_path / "flights"
    folder.mkdir()
    (folder / "nbmlops.toml").write_text(TOML)
    (folder / "steps.py").write_text(STEPS_PY)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    project = Project(folder)
    yield project
    project.open(Ledger).close()


def environment(folder: Path, *packages: str) -> str:
    """Make an environment with packages; give its interpreter."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not installed, and no environment is named")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = str(folder / "bin" / "python")
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, *packages], capture_output=True, text=True
    )
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip(f"The packages are out of reach: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="session")
def airflow_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return AIRFLOW or environment(tmp_path_factory.mktemp("airflow") / "venv", "apache-airflow>=3")


@pytest.fixture(scope="session")
def kfp_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    packages = ("kfp[kubernetes]>=2.14", "pip", "kubernetes-validate>=1.33")
    return KFP or environment(tmp_path_factory.mktemp("kfp") / "venv", *packages)


def said_by(python: str, code: str, *words: str, timeout_s: float = 600, **variables: str) -> Any:
    """Run code in an environment; give what it prints last, as JSON."""
    done = subprocess.run(
        [python, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **variables, "PATH": f"{os.environ['PATH']}:{Path(python).parent}"},
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def notes(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.root / "notes.txt").read_text().splitlines()]


# ----------------------------------------------------------------------------- Airflow
@pytest.fixture(scope="session")
def airflow_home(airflow_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of an Airflow with a database of its own."""
    home = tmp_path_factory.mktemp("airflow_home")
    (home / "dags").mkdir()
    variables = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
    }
    path = f"{Path(airflow_python).parent}:{os.environ['PATH']}"
    words = [airflow_python, "-m", "airflow", "db", "migrate"]
    subprocess.run(words, env={**os.environ, **variables, "PATH": path}, check=True, capture_output=True, timeout=300)
    return variables


PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(dag_folder=sys.argv[1])
dags = {}
for name, dag in bag.dags.items():
    DagSerialization.to_dict(dag)
    dags[name] = {
        "edges": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
        "templates": sorted({field for task in dag.tasks for field in task.template_fields}),
        "timetable": dag.timetable.summary if hasattr(dag.timetable, "summary") else str(dag.timetable),
        "expression": getattr(dag.timetable, "expression", getattr(dag.timetable, "_expression", None)),
        "zone": str(dag.timezone),
        "params": dag.params.dump(),
        "file": dag.fileloc,
        "values": sys.modules[dag.tasks[0].__module__].VALUES,
        "target": sys.modules[dag.tasks[0].__module__].TARGET,
    }
print(json.dumps({"errors": bag.import_errors, "dags": dags}))
"""


def test_airflow_s_own_loader_takes_the_dag(airflow_python: str, airflow_home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    plans = {"retrain": RETRAIN, **{f"hostile{n}": replace(plan, name=f"hostile{n}") for n, plan in enumerate(PLANS)}}
    for plan in plans.values():
        for name, text in orchestrated("airflow", plan).items():
            (tmp_path / "dags" / name).write_text(text)
    read = said_by(airflow_python, PARSE, str(tmp_path / "dags"), **airflow_home)
    assert read["errors"] == {}
    assert {*read["dags"]} == {*plans}
    for name, plan in plans.items():
        dag = read["dags"][name]
        assert dag["target"] == plan.run.target
        assert dag["templates"] == []
        kept = {key: value for key, value in dag["params"].items() if value is not None}
        assert json.loads(json.dumps({**kept, **dag["values"]})) == {**_defaults(plan), **_values(plan)}
    dag = read["dags"]["retrain"]
    assert dag["edges"] == {"extract": ["train"], "train": ["ask", "deploy"], "ask": ["deploy"], "deploy": []}
    assert (dag["zone"], "30 2 * * 1,2,3,4,5" in f"{dag['timetable']} {dag['expression']}") == ("Europe/Vienna", True)
    assert no_marker(tmp_path)


def _values(plan: Any) -> dict[str, Any]:
    from tests.pipelines.orchestrators.conftest import given

    return dict(given(plan))


def _defaults(plan: Any) -> dict[str, Any]:
    return {each.name: each.default for each in plan.run.parameters if each.default is not None}


RUN = """
import json, sys
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import create_session
bag = DagBag(dag_folder=sys.argv[1], bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
with create_session() as session:
    if not session.get(DagBundleModel, "dags-folder"):
        session.add(DagBundleModel(name="dags-folder"))
sync_bag_to_db(bag, "dags-folder", None)
run = bag.dags["retrain"].test(run_conf=json.loads(sys.argv[2]))
states = {task.task_id: str(task.state) for task in run.get_task_instances()}
print(json.dumps({"state": str(run.state), "tasks": states, "due": run.data_interval_end.isoformat()}))
"""


def test_airflow_runs_the_dag(airflow_python: str, airflow_home: dict[str, str], flights: Project) -> None:
    dags = Path(airflow_home["AIRFLOW__CORE__DAGS_FOLDER"])
    assert main(["export", "retrain", "--to", "airflow", "-o", str(dags / "retrain_dag.py"), "--quiet"]) == 0
    typed = json.dumps({"rows": 7, "note": HOSTILE})
    ended = said_by(airflow_python, RUN, str(dags), typed, **airflow_home)
    assert (ended["state"], ended["tasks"]) == (
        "success",
        {"extract": "success", "train": "success", "never": "skipped", "behind": "skipped", "last": "success"},
    )
    (first, *others) = notes(flights)
    assert {key: first[key] for key in ("step", "rows", "note")} == {"step": "extract", "rows": 7, "note": HOSTILE}
    assert datetime.fromisoformat(first["due"]) == datetime.fromisoformat(ended["due"])
    assert sorted(each["step"] for each in others) == ["last", "train", "train"]
    assert no_marker(flights.root)


POKE = """
import contextlib, datetime, importlib.util, json, sys
spec = importlib.util.spec_from_file_location("dag_file", sys.argv[1])
content = importlib.util.module_from_spec(spec)
spec.loader.exec_module(content)
moment = datetime.datetime(2026, 1, 31, 1, 30, tzinfo=datetime.timezone.utc)
context = {"params": {}, "run_id": "one", "data_interval_end": moment}
try:
    said = content.tasks["ask"].poke(context)
except content.AirflowFailException as exc:
    said = str(exc)
print(json.dumps(said))
"""


@pytest.mark.parametrize("approved", [True, False])
def test_an_approval_is_one_job_however_often_airflow_asks(
    airflow_python: str, airflow_home: dict[str, str], flights: Project, approved: bool
) -> None:
    assert main(["export", "asking", "--to", "airflow", "--quiet"]) == 0

    def asked() -> Any:
        return said_by(airflow_python, POKE, str(flights.root / "asking_dag.py"), **airflow_home)

    assert [asked(), asked()] == [False, False]
    (job,) = jobs.newest(flights)
    assert (job.status, job.given["due"]) == ("WAITING", datetime(2026, 1, 31, 1, 30, tzinfo=UTC).isoformat())
    flights.open(Steps).decide(job.job, "ask", approved=approved, by="ann")
    assert asked() == (True if approved else "nbmlops run ended with exit code 9; the log says why.")


# ---------------------------------------------------------------------------- Kubeflow
KFP_RUN = """
import importlib.util, json, sys
from kfp import compiler, local
spec = importlib.util.spec_from_file_location("flow", sys.argv[1])
content = importlib.util.module_from_spec(spec)
spec.loader.exec_module(content)
compiler.Compiler().compile(content.pipeline, sys.argv[2])
if len(sys.argv) > 3:
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[3], raise_on_error=True)
    content.pipeline()
print("\\n" + json.dumps("done"))
"""


def test_kubeflow_compiles_the_pipeline_and_runs_it(kfp_python: str, flights: Project, tmp_path: Path) -> None:
    given = ["-p", "rows=7", "-p", f"note={HOSTILE}"]
    assert main(["export", "retrain", "--to", "kfp", "--image", "python:3.12", *given, "--quiet"]) == 0
    compiled = tmp_path / "retrain.yaml"
    said_by(kfp_python, KFP_RUN, str(flights.root / "retrain_kfp.py"), str(compiled), str(tmp_path / "kfp"))
    spec = next(yaml.safe_load_all(compiled.read_text()))
    tasks = spec["root"]["dag"]["tasks"]
    needs = {task["taskInfo"]["name"]: task.get("dependentTasks", []) for task in tasks.values()}
    names = {key: task["taskInfo"]["name"] for key, task in tasks.items()}
    assert {name: {names[need] for need in behind} - {"due-time"} for name, behind in needs.items()} == {
        "due-time": set(),
        "extract": set(),
        "train": {"extract"},
        "never": {"extract"},
        "behind": {"never"},
        "last": {"train"},
    }
    (first, *others) = notes(flights)
    assert {key: first[key] for key in ("step", "rows", "note")} == {"step": "extract", "rows": 7, "note": HOSTILE}
    assert sorted(each["step"] for each in others) == ["last", "train", "train"]
    assert no_marker(tmp_path)


def test_kubeflow_compiles_hostile_values_and_secrets(kfp_python: str, tmp_path: Path) -> None:
    for number, plan in enumerate([replace(GREEDY, run=replace(RETRAIN.run, secrets=("TOKEN",))), *PLANS[::16]]):
        (text,) = orchestrated("kfp", plan).values()
        path, compiled = tmp_path / f"flow{number}.py", tmp_path / f"flow{number}.yaml"
        path.write_text(text)
        said_by(kfp_python, KFP_RUN, str(path), str(compiled))
        spec, *platform = yaml.safe_load_all(compiled.read_text())
        default = spec["root"]["inputDefinitions"]["parameters"]["values"]["defaultValue"]
        assert json.loads(default) == _values(plan)
        if plan.run.secrets:
            assert "TOKEN" in json.dumps(platform)
            assert _asked(spec) == {
                "train": {"resourceCpuRequest": "500m", "resourceMemoryRequest": "4Gi"},
                "deploy": {
                    "resourceCpuRequest": "2",
                    "resourceMemoryRequest": "512M",
                    "accelerator": {
                        "type": "nvidia.com/gpu",
                        "count": "1",
                        "resourceType": "nvidia.com/gpu",
                        "resourceCount": "1",
                    },
                },
            }


def _asked(spec: dict[str, Any]) -> dict[str, Any]:
    """What the containers of a compiled pipeline ask for, by their steps."""
    asked = {}
    for task in spec["root"]["dag"]["tasks"].values():
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        wanted = spec["deploymentSpec"]["executors"][label]["container"].get("resources", {})
        asked[task["taskInfo"]["name"]] = {
            name: amount for name, amount in wanted.items() if name.startswith(("resource", "accelerator"))
        }
    return {name: amounts for name, amounts in asked.items() if amounts}


# -------------------------------------------------------------------------- Kubernetes
VALIDATE = """
import json, sys, yaml
import kubernetes_validate as validator
for path in sys.argv[1:]:
    validator.validate(yaml.safe_load(open(path)), validator.latest_version(), strict=True)
print(json.dumps("done"))
"""


def test_manifests_are_what_kubernetes_schema_allows(kfp_python: str, tmp_path: Path) -> None:
    plans = [RETRAIN, GREEDY, replace(RETRAIN, run=replace(RETRAIN.run, cron="", secrets=("TOKEN",))), *PLANS]
    paths = []
    for number, plan in enumerate(plans):
        (text,) = orchestrated("k8s", plan).values()
        paths.append(str(tmp_path / f"{number}.yaml"))
        Path(paths[-1]).write_text(text)
    said_by(kfp_python, VALIDATE, *paths)
    broken = yaml.safe_load(Path(paths[0]).read_text())
    broken["spec"]["timezone"] = broken["spec"].pop("timeZone")
    Path(paths[0]).write_text(json.dumps(broken))
    with pytest.raises(AssertionError, match=r"(?i)validation"):
        said_by(kfp_python, VALIDATE, paths[0])
