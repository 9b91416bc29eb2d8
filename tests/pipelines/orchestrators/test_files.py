"""Files of orchestrators are read back by what reads them, and whatever is named in them stays a value.

Airflow's and Kubeflow's Python files are executed here with stand-ins for their two libraries, and call a command that
notes its call; by the libraries themselves in `test_loaders.py`.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from nbmlops.errors import UsageError
from nbmlops.pipelines.ci.plan import WorkflowPlan
from nbmlops.pipelines.contract import Parameter, coerce
from nbmlops.pipelines.flow.declared import Resources
from nbmlops.pipelines.orchestrators.plan import OrchestratorPlan, arguments, local_command
from nbmlops.pipelines.orchestrators.systemd import calendars
from nbmlops.pipelines.orchestrators.writing import WRITERS, orchestrated
from nbmlops.pipelines.schedule import next_firings
from nbmlops.scrub import scrub
from nbmlops.strict_json import plain
from nbmlops.surfaces.cli import main
from nbmlops.surfaces.parse import pairs
from tests.pipelines.conftest import as_notebook
from tests.pipelines.orchestrators.conftest import GREEDY, PLANS, RETRAIN, TYPES, Moved, Stub, given, no_marker

EVERY = pytest.mark.parametrize("to", WRITERS)
DUE = datetime(2026, 1, 31, 1, 30, tzinfo=UTC)


def text_of(to: str, plan: OrchestratorPlan) -> str:
    (text, *_) = orchestrated(to, plan).values()
    return text


# --------------------------------------------------------------------- what all share
def test_hundreds_of_hostile_texts_are_tried() -> None:
    assert 5 * len(PLANS) >= 300


@EVERY
def test_a_file_imports_nothing_of_ours_and_is_the_same_each_time(to: str) -> None:
    text = text_of(to, RETRAIN)
    assert text == text_of(to, RETRAIN)
    assert text.isascii()
    assert "import nbmlops" not in text
    assert "from nbmlops" not in text


def test_arguments_are_read_back_as_the_values() -> None:
    for plan in PLANS:
        words = arguments(plan)
        assert (words[0], words[-2:]) == ("run", ("--", plan.run.target))
        read = pairs(words[2:-2:2])
        assert set(words[1:-2:2]) == {"-p"}
        assert {name: coerce(Parameter(name, TYPES[name]), text) for name, text in read.items()} == plan.run.values


def test_the_command_line_takes_the_arguments_as_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = "one: str = ''\ntwo = None\nthree: list = []\nfour: dict = {}\nfive = 0.0"
    for plan in PLANS[::4]:
        path = folder / plan.run.target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(as_notebook(tagged=cell)))
        assert main(["run", "--dry-run", "--json", *arguments(plan)[1:]]) == 0
        told = json.loads(capsys.readouterr().out)["parameters"]
        assert told == json.loads(json.dumps(scrub(plain(plan.run.values))))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [(Parameter("a", "any"), 3), (Parameter("a", "str | int"), 3), (Parameter("a", "str"), "\x00")],
)
@pytest.mark.parametrize("to", ["cron", "systemd", "k8s"])
def test_a_value_that_no_argument_spells_is_refused(to: str, parameter: Parameter, value: Any) -> None:
    plan = replace(RETRAIN, run=replace(RETRAIN.run, parameters=(parameter,), values={"a": value}))
    with pytest.raises(UsageError, match="cannot be given on a command line"):
        orchestrated(to, plan)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"root": "/srv/a\nb"}, "cannot be named"),
        ({"image": "a b"}, "container image"),
        ({"image": "-x"}, "container image"),
        ({"run": WorkflowPlan("retrain", timezone="Europe/Wien")}, "no time zone"),
        ({"run": WorkflowPlan("retrain", values={"password": "hunter2"})}, "looks like a secret"),
        ({"run": WorkflowPlan("retrain", secrets=("PATH",))}, "secret"),
    ],
)
@EVERY
def test_what_no_file_may_hold_is_refused(to: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        orchestrated(to, replace(RETRAIN, **change))


def test_an_unknown_orchestrator_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean airflow"):
        orchestrated("airflw", RETRAIN)


@pytest.mark.parametrize(
    ("cron", "refusing"),
    [
        ("0 0 L * *", {"kfp", "k8s", "cron"}),
        ("0 0 */2 * mon", {"airflow", "kfp", "k8s"}),
        ("0 0 1,15 * mon", set()),
        ("*/5 9-17 * jan-mar fri-sun", set()),
    ],
)
@EVERY
def test_a_schedule_that_a_reader_would_take_for_another_is_refused(to: str, cron: str, refusing: set[str]) -> None:
    plan = replace(RETRAIN, run=replace(RETRAIN.run, cron=cron))
    if to not in refusing:
        assert orchestrated(to, plan)
        return
    with pytest.raises(UsageError, match=r"last day|either day"):
        orchestrated(to, plan)


@EVERY
def test_without_declared_resources_no_file_has_a_word_of_them(to: str) -> None:
    usual = replace(RETRAIN, resources=dict.fromkeys(RETRAIN.steps, Resources()))
    assert text_of(to, usual) == text_of(to, RETRAIN)
    assert "cpu" not in text_of(to, usual)


# ----------------------------------------------------------------------------- Airflow
class Skipped(Exception):
    """What a stand-in raises."""


class Failed(Exception):
    """What a stand-in raises."""


class Sensor:
    """As much of Airflow's sensor as the file uses."""

    def __init__(self, *, task_id: str, **options: Any) -> None:
        self.task_id, self.options, self.behind = task_id, options, []  # type: ignore[var-annotated]

    def __rshift__(self, other: "Sensor") -> None:
        self.behind.append(other.task_id)


class Dag:
    """As much of Airflow's DAG as the file uses."""

    def __init__(self, **about: Any) -> None:
        self.about = about

    def __enter__(self) -> "Dag":
        return self

    def __exit__(self, *_: object) -> None: ...


def module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(content)
    return made


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for Airflow and pendulum."""
    sdk = module(
        "airflow.sdk",
        DAG=Dag,
        BaseSensorOperator=Sensor,
        Param=lambda default, description: (default, description),
        CronTriggerTimetable=lambda cron, timezone: (cron, timezone),
    )
    said = module("airflow.sdk.exceptions", AirflowFailException=Failed, AirflowSkipException=Skipped)
    clock = module("pendulum", datetime=lambda *day, tz: (*day, tz))
    for each in (module("airflow"), sdk, said, clock):
        monkeypatch.setitem(sys.modules, each.__name__, each)


def loaded(text: str) -> dict[str, Any]:
    content: dict[str, Any] = {"__name__": "loaded"}
    exec(compile(ast.parse(text), "dag.py", "exec"), content)
    return content


def context(content: dict[str, Any], **changed: Any) -> dict[str, Any]:
    shown = {name: default for name, (default, _) in content["dag"].about["params"].items()}
    return {"params": {**shown, **changed}, "run_id": "scheduled", "data_interval_end": DUE}


def test_the_dag_has_a_task_for_each_step_and_its_edges_schedule_and_form(airflow: None) -> None:
    content = loaded(text_of("airflow", RETRAIN))
    tasks = content["tasks"]
    assert {name: task.behind for name, task in tasks.items()} == {
        "extract": ["train"],
        "train": ["ask", "deploy"],
        "ask": ["deploy"],
        "deploy": [],
    }
    about = content["dag"].about
    assert (about["dag_id"], about["schedule"]) == ("retrain", ("30 2 * * 1,2,3,4,5", "Europe/Vienna"))
    assert about["params"] == {"rows": (7, "(int)"), "note": ("a", "(str)")}
    assert (about["max_active_runs"], about["catchup"]) == (1, False)


def test_hostile_values_reach_the_command_through_a_file_and_nothing_of_them_is_a_template(
    airflow: None, stub: Stub, moved: Moved, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for plan in map(moved, PLANS):
        text = text_of("airflow", plan)
        assert text.isascii()
        content = loaded(text)
        step = content["tasks"]["run"]
        assert step.template_fields == ()
        assert step.poke(context(content)) is True
        (call,) = stub.calls()
        assert (call["words"][:3], call["words"][4:]) == (["run", "--json", "-f"], ["--", plan.run.target])
        assert (call["given"], call["folder"]) == (given(plan), plan.root)
        assert call["environment"]["NBMLOPS_DUE"] == "2026-01-31T01:30:00+00:00"
    assert no_marker(tmp_path)


def test_a_step_runs_alone_with_what_was_typed_and_what_was_left_empty_keeps_its_default(
    airflow: None, stub: Stub, moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = loaded(text_of("airflow", moved(RETRAIN)))
    monkeypatch.setenv("STUB_SAYS", '{"status": "FINISHED", "job": "1", "steps": []}')
    step = content["tasks"]["train"]
    assert step.poke(context(content, rows=8, note=None)) is True
    (call,) = stub.calls()
    assert call["words"][4:] == ["--only", "train", "--", "retrain"]
    assert call["given"] == {"rows": 8}


def test_what_becomes_of_a_step_becomes_of_its_task(
    airflow: None, stub: Stub, moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = loaded(text_of("airflow", moved(RETRAIN)))
    step = content["tasks"]["train"]

    def says(status: str, **statuses: str) -> Any:
        rows = [{"name": name.replace("_", "[k=1]"), "status": s, "reason": "why"} for name, s in statuses.items()]
        monkeypatch.setenv("STUB_SAYS", json.dumps({"status": status, "job": "0123456789ab", "steps": rows}))
        return step.poke(context(content))

    assert says("WAITING", train="WAITING") is False
    assert says("FINISHED", train="FINISHED", deploy="SKIPPED") is True
    assert says("FINISHED", train_="SKIPPED", train="FINISHED") is True
    with pytest.raises(Skipped, match="why"):
        says("FINISHED", train_="SKIPPED", extract="CACHED")
    jobs = {call["environment"]["NBMLOPS_JOB"] for call in stub.calls()}
    assert len(jobs) == 1, "an approval that is asked again is the same job"
    assert re.fullmatch("[0-9a-f]{12}", jobs.pop())
    for code, error in {"4": Failed, "8": RuntimeError}.items():
        monkeypatch.setenv("STUB_EXITS", code)
        with pytest.raises(error, match=f"exit code {code}"):
            step.poke(context(content))


def test_what_steps_take_stays_out_of_a_dag_which_says_so(airflow: None) -> None:
    remarks = [line for line in text_of("airflow", GREEDY).splitlines() if line not in text_of("airflow", RETRAIN)]
    assert len(remarks) == 2
    assert all(line.startswith("# ") for line in remarks)
    assert "train, deploy" in remarks[0]
    assert loaded(text_of("airflow", GREEDY))["tasks"].keys() == GREEDY.steps.keys()


# ---------------------------------------------------------------------------- Kubeflow
class Task:
    """A task of a stand-in: it has run when it is there."""

    def __init__(self, output: Any) -> None:
        self.output, self.told = output, []  # type: ignore[var-annotated]

    def set_display_name(self, name: str) -> "Task":
        self.told.append(name)
        return self

    def set_caching_options(self, on: bool) -> "Task":
        assert on is False
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda amount: self.told.append((name, amount))


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A stand-in for kfp whose tasks run when they are made; gives the secrets that tasks were given."""
    secrets: list[Any] = []
    dsl = module(
        "kfp.dsl",
        component=lambda **about: lambda function: lambda **arguments: Task(function(**arguments)),
        pipeline=lambda name: lambda function: function,
    )
    kubernetes = module("kfp.kubernetes", use_secret_as_env=lambda task, name, keys: secrets.append((name, keys)))
    package = module("kfp", dsl=dsl, compiler=None, kubernetes=kubernetes)
    monkeypatch.setitem(sys.modules, "kfp", package)
    return secrets


def test_hostile_values_reach_the_command_of_a_component_and_no_placeholder_is_among_them(
    kfp: list[Any], stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for plan in PLANS:
        text = text_of("kfp", plan)
        assert text.isascii()
        content = loaded(text)
        assert not re.search(r"\{\{|\$", content["VALUES"])
        content["pipeline"](due=DUE.isoformat())
        (call,) = stub.calls()
        assert (call["words"][:3], call["words"][4:]) == (["run", "--json", "-f"], ["--", plan.run.target])
        assert call["given"] == given(plan)
        assert call["environment"]["NBMLOPS_DUE"] == DUE.isoformat()
    assert no_marker(tmp_path)


def test_components_run_in_order_for_one_due_time_and_what_needs_a_skipped_one_is_skipped(
    kfp: list[Any], stub: Stub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = {"late": ("train",), "train": ("extract",), "extract": ()}
    plan = replace(RETRAIN, steps=steps, run=replace(RETRAIN.run, secrets=("TOKEN",)))
    content = loaded(text_of("kfp", plan))
    rows = [{"name": "train[k=1]", "status": "SKIPPED"}]
    monkeypatch.setenv("STUB_SAYS", json.dumps({"status": "FINISHED", "job": "1", "steps": rows}))
    content["pipeline"]()
    calls = stub.calls()
    assert [call["words"][5] for call in calls] == ["extract", "train"]
    assert len({call["environment"]["NBMLOPS_DUE"] for call in calls}) == 1
    assert kfp == [("retrain", {"TOKEN": "TOKEN"})] * 3
    monkeypatch.setenv("STUB_SAYS", json.dumps({"status": "WAITING", "job": "0123456789ab", "steps": rows}))
    with pytest.raises(SystemExit, match="nbmlops approve 0123456789ab"):
        content["pipeline"]()
    monkeypatch.setenv("STUB_EXITS", "3")
    with pytest.raises(SystemExit, match="3"):
        content["pipeline"]()


def test_a_component_asks_for_what_its_step_takes(
    kfp: list[Any], stub: Stub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made: list[Task] = []
    usual = Task.set_display_name
    monkeypatch.setattr(Task, "set_display_name", lambda task, name: made.append(usual(task, name)) or task)
    loaded(text_of("kfp", GREEDY))["pipeline"]()
    assert {task.told[0]: dict(task.told[1:]) for task in made} == {
        "extract": {},
        "train": {"set_cpu_request": "500m", "set_memory_request": "4Gi"},
        "ask": {},
        "deploy": {
            "set_cpu_request": "2",
            "set_memory_request": "512M",
            "set_accelerator_type": "nvidia.com/gpu",
            "set_accelerator_limit": "1",
        },
    }


# -------------------------------------------------------------------------- Kubernetes
def expanded(text: str) -> str:
    """Expand a text as the kubelet does, with no variable set: $(NAME) stays as it is, $$ is $."""
    return re.sub(r"\$\$|\$\([^)]*\)", lambda found: "$" if found[0] == "$$" else "EXPANDED", text)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    spec = spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec
    (container,) = spec["template"]["spec"]["containers"]
    return dict(container)


def test_hostile_values_are_arguments_of_the_container() -> None:
    for plan in PLANS:
        text = text_of("k8s", plan)
        assert text.isascii()
        container = pod_of(yaml.safe_load(text))
        assert container["command"] == ["nbmlops"]
        assert tuple(map(expanded, container["args"])) == arguments(plan)


def test_the_manifest_is_a_cron_job_or_a_job_and_takes_secrets_by_reference() -> None:
    plan = replace(RETRAIN, run=replace(RETRAIN.run, secrets=("TOKEN",)), name="Nightly_" + "x" * 80, catchup="none")
    manifest = yaml.safe_load(text_of("k8s", plan))
    spec = manifest["spec"]
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "CronJob")
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == (
        "30 2 * * 1,2,3,4,5",
        "Europe/Vienna",
        "Forbid",
    )
    assert spec["startingDeadlineSeconds"] == 60
    name = manifest["metadata"]["name"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 52
    variables = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in pod_of(manifest)["env"]}
    assert variables["TOKEN"] == {"name": name, "key": "TOKEN"}
    assert variables["NBMLOPS_LEDGER"]["optional"] is True
    job = yaml.safe_load(text_of("k8s", replace(RETRAIN, run=replace(RETRAIN.run, cron=""))))
    assert job["kind"] == "Job"
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_the_pod_asks_for_the_most_that_a_step_takes() -> None:
    asked = pod_of(yaml.safe_load(text_of("k8s", GREEDY)))["resources"]
    assert asked == {
        "requests": {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"},
        "limits": {"nvidia.com/gpu": "1"},
    }
    small = replace(RETRAIN, resources={"extract": Resources(0.25), "train": Resources(0.5)})
    assert pod_of(yaml.safe_load(text_of("k8s", small)))["resources"] == {"requests": {"cpu": "500m"}}
    assert "resources" not in pod_of(yaml.safe_load(text_of("k8s", RETRAIN)))


# -------------------------------------------------------------------------------- cron
def command_of(line: str) -> str:
    """Read a command as cron does (do_command.c): it ends at a percent sign without a backslash in front."""
    command, is_escaped = "", False
    for char in line:
        if is_escaped and char == "%":
            command = command[:-1] + char
            is_escaped = False
            continue
        if not is_escaped and char == "%":
            return command
        command += char
        is_escaped = char == "\\" and not is_escaped
    return command


def test_hostile_values_are_arguments_of_the_command_that_cron_hands_to_the_shell(
    stub: Stub, moved: Moved, tmp_path: Path
) -> None:
    n_run = 0
    for plan in map(moved, PLANS):
        words = " ".join(local_command(plan))
        if not words.isprintable() or len(words) > 600:
            with pytest.raises(UsageError, match=r"cannot hold line ends|characters, and a crontab takes 998"):
                text_of("cron", plan)
            continue
        text = text_of("cron", plan)
        *_, shell, zone, line = text.splitlines()
        assert (shell, zone) == ("SHELL=/bin/sh", "CRON_TZ=UTC")
        assert line.startswith("*/5 9-17 * * * ")
        done = subprocess.run(["/bin/sh", "-c", command_of(line.split(" ", 5)[5])], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr
        (call,) = stub.calls()
        assert (tuple(call["words"]), call["folder"]) == (local_command(plan)[1:], plan.root)
        due = datetime.fromisoformat(call["environment"]["NBMLOPS_DUE"])
        assert timedelta() <= datetime.now(UTC) - due < timedelta(minutes=2)
        assert due.second == 0
        n_run += 1
    assert n_run > len(PLANS) // 3
    assert no_marker(tmp_path)


def test_a_crontab_without_schedule_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a schedule"):
        orchestrated("cron", replace(RETRAIN, run=replace(RETRAIN.run, cron="")))


# ----------------------------------------------------------------------------- systemd
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
PLAIN = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "s": " "}


def lines_of(text: str) -> dict[str, list[str]]:
    """Read a unit file's assignments: a line that a backslash ends goes on in the next."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n", " ", text).split("\n"):
        if line and line[0] not in "#;[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def words_of(value: str) -> Iterator[str]:
    """Read the words of ExecStart=, all of which are quoted: C's escapes, then specifiers, then variables."""
    place = 0
    while place < len(value):
        match = re.compile(r'"((?:[^"\\]|\\.)*)"(?: |$)', re.DOTALL).match(value, place)
        assert match, value[place:]
        place = match.end()
        text = ESCAPE.sub(lambda e: PLAIN.get(e[1], e[1]) if len(e[1]) == 1 else chr(int(e[1][1:], 16)), match[1])
        text = re.sub("%(.)", lambda s: "%" if s[1] == "%" else "SPECIFIER", text, flags=re.DOTALL)
        yield re.sub(r"\$(\$|\{\w+\}|\w+)", lambda v: "$" if v[1] == "$" else "VARIABLE", text)


def test_hostile_values_are_words_of_the_service_s_command() -> None:
    for plan in PLANS:
        files = orchestrated("systemd", plan)
        assert [*files] == ["nbmlops-flights-night.service", "nbmlops-flights-night.timer"]
        read = lines_of(files["nbmlops-flights-night.service"])
        assert tuple(words_of(*read["ExecStart"])) == local_command(plan)
        assert [each.replace("%%", "%") for each in read["WorkingDirectory"]] == [plan.root]
        assert {*read} == {
            "Description", "Wants", "After", "Type", "WorkingDirectory", "EnvironmentFile", "ExecStart",
            "TimeoutStopSec",
        }  # fmt: skip


@pytest.mark.parametrize("root", ["/srv/a\\", "/srv/a ", "/srv/a\x7f"])
def test_a_folder_whose_name_a_unit_would_read_as_another_is_refused(root: str) -> None:
    with pytest.raises(UsageError, match=r"cannot stand in a unit file|cannot be named"):
        orchestrated("systemd", replace(RETRAIN, root=root))


def test_without_a_schedule_there_is_no_timer() -> None:
    plan = replace(RETRAIN, run=replace(RETRAIN.run, cron=""))
    assert [*orchestrated("systemd", plan)] == ["nbmlops-flights-retrain.service"]


needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


@needs_systemd
def test_systemd_takes_service_and_timer(moved: Moved, tmp_path: Path) -> None:
    for number, plan in enumerate([RETRAIN, *PLANS[::12]]):
        folder = tmp_path / f"units{number}"
        folder.mkdir()
        files = orchestrated("systemd", moved(plan))
        for name, text in files.items():
            (folder / name).write_text(text)
        paths = [str(folder / name) for name in files]
        done = subprocess.run(["systemd-analyze", "verify", "--user", *paths], capture_output=True, text=True)
        assert "nbmlops" not in done.stderr, done.stderr


CRONS = ["30 2 * * mon-fri", "*/7 */5 * * *", "0 0 1,15 * mon", "15,45 2-4 L * *", "0 12 1,L * sun", "0 0 29 2 *"]
CRONS += ["0 0 */2 * 1", "5 4 10-20 jan-mar fri-sun", "0 0 * * 7", "* * * * *"]


@needs_systemd
@pytest.mark.parametrize("cron", CRONS)
def test_systemd_fires_when_the_schedule_does(cron: str) -> None:
    n, start = 12, datetime(2026, 11, 1, 0, 0, 30, tzinfo=UTC)
    found: set[datetime] = set()
    for each in calendars(cron):
        words = ["systemd-analyze", "calendar", f"--iterations={n}", f"--base-time={start:%Y-%m-%d %H:%M:%S} UTC"]
        done = subprocess.run([*words, f"{each} UTC"], capture_output=True, text=True, env={"TZ": "UTC", "LC_ALL": "C"})
        assert done.returncode == 0, done.stderr
        times = re.findall(r"(?:elapse|Iter\. #\d+|Iteration #\d+): \w{3} (\S+ \S+) UTC", done.stdout)
        found |= {datetime.fromisoformat(f"{text}+00:00") for text in times}
    assert tuple(sorted(found)[:n]) == next_firings(cron, "UTC", start, n)
