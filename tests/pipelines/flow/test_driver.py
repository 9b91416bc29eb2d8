"""Pipelines that are run: order, results, retries, skips, approvals, what is done already, and drivers that die."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbmlops.errors import ApprovalError, CellError, ConflictError, GateError, KernelError, UsageError
from nbmlops.ledger.steps import Steps
from nbmlops.pipelines import jobs
from nbmlops.pipelines.executors import Executor, StepEnd, StepSpec
from nbmlops.pipelines.executors.local import Local
from nbmlops.pipelines.flow.driver import resume_pipeline, run_pipeline
from nbmlops.pipelines.flow.runs import PipelineRun
from nbmlops.pipelines.reading import JobStep
from nbmlops.pipelines.reading import jobs as listed
from nbmlops.project import Project
from tests.pipelines.flow.conftest import notebook

# Every step leaves a line in a file, so that tests see how often and in which order steps were executed.
STEPS_PY = """
import os, pathlib, time

def _note(text):
    with open("notes.txt", "a") as file:
        file.write(text + "\\n")

def _times(name):
    path = pathlib.Path("notes.txt")
    return path.read_text().split().count(name) if path.exists() else 0

"""

Declare = Callable[..., Project]
Run = Callable[..., PipelineRun]


@pytest.fixture
def declare(tmp_path: Path) -> Iterator[Declare]:
    """Declare pipeline p from the TOML of its steps, with the functions that they call."""
    opened: list[Project] = []
    folder = tmp_path / "flights"
    folder.mkdir()

    def written(steps: str, functions: str, **files: str) -> Project:
        rows = "".join(f"[[pipelines.p.steps]]\n{textwrap.dedent(row).strip()}\n" for row in steps.split("---"))
        (folder / "nbmlops.toml").write_text(
            f'[project]\nname = "flights"\n[pipelines.p.parameters]\nrows = 10\n{rows}'
        )
        (folder / "steps.py").write_text(STEPS_PY + textwrap.dedent(functions))
        for name, text in files.items():
            (folder / name).write_text(text)
        opened.append(Project(folder))
        return opened[-1]

    yield written
    from nbmlops.ledger.database import Ledger

    for project in opened:
        project.open(Ledger).close()


@pytest.fixture(scope="module")
def place() -> Iterator[Executor]:
    executor = Local(2)
    yield executor
    executor.close()


@pytest.fixture
def run(place: Executor) -> Run:
    def ran(project: Project, **options: Any) -> PipelineRun:
        return run_pipeline(project, "p", **{"executor": place, **options})

    return ran


def notes(project: Project) -> list[str]:
    path = project.root / "notes.txt"
    return path.read_text().split() if path.exists() else []


def statuses(run: PipelineRun) -> dict[str, str]:
    return {step.name: step.status for step in run.steps}


def failed(run: Run, project: Project, kind: type[Exception], **options: Any) -> tuple[Any, PipelineRun]:
    with pytest.raises(kind) as caught:
        run(project, **options)
    return caught.value, caught.value.report  # type: ignore[attr-defined]


CHAIN = """
    name = "extract"
    function = "steps:extract"
    parameters = { rows = "${parameters.rows}" }
    ---
    name = "train"
    function = "steps:train"
    parameters = { n = "${extract.n}" }
"""
CHAIN_PY = """
def extract(rows: int): _note("extract"); return {"n": rows * 2}
def train(n: int): _note("train"); return {"auc": n / 100}
"""


# --------------------------------------------------------------------- results
def test_results_go_from_step_to_step_and_are_kept(declare: Declare, run: Run) -> None:
    project = declare(CHAIN, CHAIN_PY)
    done = run(project, parameters={"rows": "30"})
    assert (done.status, statuses(done)) == ("FINISHED", {"extract": "FINISHED", "train": "FINISHED"})
    assert [step.results for step in done.steps] == [{"n": 60}, {"auc": 0.6}]
    assert done.parameters == {"rows": 30}
    assert done.headline.startswith("p FINISHED in ")
    assert done.headline.endswith(": 2 ran")
    assert [row["results"] for row in project.open(Steps).published("p")] == [{"n": 60}, {"auc": 0.6}]
    (job,) = jobs.newest(project)
    assert (job.job, job.name, job.status) == (done.job, "p", "FINISHED")


def test_an_unchanged_pipeline_executes_nothing_and_a_changed_one_what_follows(declare: Declare, run: Run) -> None:
    project = declare(CHAIN, CHAIN_PY)
    run(project)
    assert set(statuses(run(project)).values()) == {"CACHED"}
    assert notes(project) == ["extract", "train"]
    (project.root / "steps.py").write_text(STEPS_PY + CHAIN_PY.replace("/ 100", "/ 200"))
    assert all("changed source: steps.py" in step.reason for step in run(project).steps)
    assert set(statuses(run(project, parameters={"rows": 3})).values()) == {"FINISHED"}
    assert set(statuses(run(project, parameters={"rows": 10})).values()) == {"CACHED"}, "an earlier result counts too"
    assert statuses(run(project, only=("train",), force=("train",))) == {"extract": "CACHED", "train": "FINISHED"}


def test_a_dry_run_says_what_would_run_and_leaves_no_trace(declare: Declare, run: Run) -> None:
    project = declare(CHAIN, CHAIN_PY)
    plan = run(project, dry_run=True)
    assert [(step.name, step.verdict, step.reason, step.status) for step in plan.steps] == [
        ("extract", "run", "new", "PLANNED"),
        ("train", "run", "depends on extract", "PLANNED"),
    ]
    assert (plan.headline, plan.job, notes(project), jobs.newest(project)) == ("p: 2 to run", "", [], [])


def test_types_that_json_lacks_and_secrets_reach_a_function_and_secrets_nothing_else(
    declare: Declare, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t-0815")
    steps = """
        name = "a"
        function = "steps:a"
        parameters = { day = "${due.date}", token = "env:TOKEN", limit = inf, note = "text:env:TOKEN", share = "0.10" }
    """
    functions = """
        from datetime import date
        from decimal import Decimal
        def a(day: date, token: str, limit: float, note: str, share: Decimal):
            assert token == "-".join(["s3cr3t", "0815"]), "it is resolved"  # which is nowhere in what is compiled
            print("said", token)
            return {"day": repr(day), "limit": repr(limit), "note": note, "share": repr(share), "told": token}
    """
    project = declare(steps, functions)
    done = run(project, due=datetime(2013, 2, 1, 7, 30, tzinfo=UTC))
    assert done.steps[0].results == {
        "day": "datetime.date(2013, 2, 1)",
        "limit": "inf",
        "note": "env:TOKEN",
        "share": "Decimal('0.10')",
        "told": "***",
    }
    log = project.state("jobs", done.job, "a.log")
    assert log.read_text() == "said ***\n"
    held = [path for path in project.root.rglob("*") if path.is_file() and b"s3cr3t-0815" in path.read_bytes()]
    assert held == []


def test_a_matrix_fans_out_and_pick_keeps_the_best(declare: Declare, run: Run) -> None:
    steps = """
        name = "train"
        function = "steps:train"
        matrix = { kind = ["a", "b", "c"] }
        pick = "max:auc"
        ---
        name = "card"
        function = "steps:card"
        parameters = { kind = "${train.kind}" }
    """
    functions = """
        def train(kind: str): return {"auc": {"a": 0.7, "b": 0.9, "c": 0.8}[kind], "kind": kind}
        def card(kind: str): return {"text": f"the best is {kind}"}
    """
    done = run(declare(steps, functions))
    assert list(statuses(done)) == ["train[kind=a]", "train[kind=b]", "train[kind=c]", "card"]
    assert done.steps[-1].results == {"text": "the best is b"}


def test_when_is_judged_at_the_run_and_what_needs_a_skipped_step_is_skipped(declare: Declare, run: Run) -> None:
    steps = """
        name = "extract"
        function = "steps:extract"
        ---
        name = "train"
        function = "steps:train"
        when = "${extract.n} > 5"
        ---
        name = "card"
        function = "steps:card"
        needs = ["train"]
    """
    functions = """
        def extract(): return {"n": 3}
        def train(): _note("train")
        def card(): _note("card")
    """
    project = declare(steps, functions)
    done = run(project)
    assert (done.status, statuses(done)) == (
        "FINISHED",
        {"extract": "FINISHED", "train": "SKIPPED", "card": "SKIPPED"},
    )
    assert done.steps[1].reason == "when is false: ${extract.n} > 5"
    assert notes(project) == []


def test_results_that_point_to_a_file_count_as_long_as_the_file_is_as_it_was(declare: Declare, run: Run) -> None:
    steps = """
        name = "extract"
        function = "steps:extract"
        ---
        name = "train"
        function = "steps:train"
        parameters = { table = "${extract.table}" }
    """
    functions = """
        def extract():
            _note("extract"); pathlib.Path("table.csv").write_text("a,b"); return {"table": "table.csv"}
        def train(table: str): _note("train"); return {"text": open(table).read()}
    """
    project = declare(steps, functions)
    run(project)
    os.utime(project.root / "table.csv", (1, 1))
    assert set(statuses(run(project)).values()) == {"CACHED"}, "the same bytes"
    (project.root / "table.csv").unlink()
    again = run(project)
    assert again.steps[0].reason == "its result is no longer kept"
    assert statuses(again) == {"extract": "FINISHED", "train": "CACHED"}
    assert notes(project) == ["extract", "train", "extract"]


# -------------------------------------------------------------------- failures
def test_a_failed_step_holds_up_what_needs_it_and_nothing_else(declare: Declare, run: Run) -> None:
    steps = """
        name = "bad"
        function = "steps:bad"
        ---
        name = "behind"
        function = "steps:good"
        needs = ["bad"]
        ---
        name = "further"
        function = "steps:good"
        needs = ["behind"]
        ---
        name = "good"
        function = "steps:good"
    """
    functions = """
        def bad(): raise ValueError("no flights in March")
        def good(): _note("good")
    """
    project = declare(steps, functions)
    error, report = failed(run, project, CellError)
    assert error.message == "Step bad: steps:bad raised ValueError: no flights in March"
    assert error.cell.startswith("steps.py, line ")
    assert statuses(report) == {"bad": "FAILED", "good": "FINISHED", "behind": "PENDING", "further": "PENDING"}
    reasons = [step.reason for step in report.steps[2:]]
    assert reasons == ["needs bad, which failed", "needs behind, which is not reached"]
    assert "ValueError: no flights in March" in project.state("jobs", report.job, "bad.log").read_text()
    (job,) = jobs.newest(project)
    assert (job.status, job.message) == ("FAILED", error.message)
    (project.root / "steps.py").write_text(STEPS_PY + "def bad(): pass\ndef good(): _note('good')\n")
    assert run(project).status == "FINISHED"


def test_an_error_of_our_own_keeps_its_kind_and_is_not_tried_again(declare: Declare, run: Run) -> None:
    steps = """
        name = "gate"
        function = "steps:gate"
        retries = 3
    """
    functions = """
        from nbmlops.errors import GateError
        def gate(): _note("gate"); raise GateError("auc is 0.6", "Train more.", report={"passed": False})
    """
    project = declare(steps, functions)
    with pytest.raises(GateError, match=r"Step gate: auc is 0\.6") as caught:
        run(project)
    assert (caught.value.exit_code, caught.value.hint) == (4, "Train more.")
    assert notes(project) == ["gate"]


def test_a_step_is_tried_again_with_waits_that_double(declare: Declare, run: Run) -> None:
    steps = """
        name = "flaky"
        function = "steps:flaky"
        retries = 3
        backoff = "100ms"
    """
    functions = """
        def flaky():
            _note("flaky"); _note(str(time.time()))
            if _times("flaky") < 3: raise OSError("not yet")
            return {"ok": True}
    """
    project = declare(steps, functions)
    done = run(project)
    assert (done.steps[0].attempts, done.steps[0].results) == (3, {"ok": True})
    first, second, third = (float(each) for each in notes(project) if each != "flaky")
    assert second - first >= 0.1
    assert third - second >= 0.2
    rows = project.open(Steps).of_job(done.job)
    assert [(row["fence"], row["status"]) for row in rows] == [(1, "FAILED"), (2, "FAILED"), (3, "FINISHED")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("time.sleep(60)", "ran longer than 1s and was ended"),
        ("os.kill(os.getpid(), 9)", "was killed by signal 9"),
    ],
)
def test_a_step_that_hangs_or_dies_is_told_so(declare: Declare, run: Run, body: str, message: str) -> None:
    project = declare("name = 'a'\nfunction = 'steps:a'\ntimeout = '1s'", f"def a(): {body}")
    with pytest.raises(KernelError, match=message):
        run(project)


def test_a_result_that_is_missing_at_the_run_fails_the_step_that_reads_it(declare: Declare, run: Run) -> None:
    steps = CHAIN.replace("${extract.n}", "${extract.m}")
    functions = CHAIN_PY.replace('return {"n": rows * 2}', "return dict(n=3)")
    project = declare(steps, functions)
    error, report = failed(run, project, UsageError)
    assert error.message == "Step train: extract has no 'm'."
    assert [job.message for job in jobs.newest(project)] == [error.message]
    assert statuses(report) == {"extract": "FINISHED", "train": "FAILED"}


def test_what_a_function_gives_must_be_small_and_a_dict(declare: Declare, run: Run) -> None:
    for body, message in {"return 3": "must return a dict", "return {'x': 'y' * 2_000_000}": "return its path"}.items():
        with pytest.raises(CellError, match=message):
            run(declare("name = 'a'\nfunction = 'steps:a'", f"def a(): {body}"))


# ------------------------------------------------------------------- approvals
ASK = """
    name = "extract"
    function = "steps:extract"
    ---
    name = "ask"
    approval = "Deploy with ${extract.n} rows?"
    ---
    name = "deploy"
    function = "steps:deploy"
    parameters = { by = "${ask.by}" }
"""
ASK_PY = """
def extract(): _note("extract"); return {"n": 3}
def deploy(by: str): _note(f"deploy-{by}")
"""


def test_an_approval_waits_and_the_run_goes_on_once_it_is_given(declare: Declare, run: Run) -> None:
    project = declare(ASK, ASK_PY)
    waiting = run(project)
    assert (waiting.status, statuses(waiting)) == (
        "WAITING",
        {"extract": "FINISHED", "ask": "WAITING", "deploy": "PENDING"},
    )
    assert waiting.steps[1].message == "Deploy with 3 rows?"
    assert run(project).status == "WAITING"
    (asked, _) = jobs.newest(project)
    project.open(Steps).decide(asked.job, "ask", approved=True, by="ann")
    done = run(project)
    assert statuses(done) == {"extract": "CACHED", "ask": "CACHED", "deploy": "FINISHED"}
    assert notes(project) == ["extract", "deploy-ann"]


def test_a_job_that_waited_goes_on_due_when_it_was_due(declare: Declare, run: Run, place: Executor) -> None:
    project = declare(ASK.replace("rows?", "rows of ${due.time}?"), ASK_PY)
    waiting = run(project, due=datetime(2013, 2, 1, 7, 30, tzinfo=UTC))
    assert waiting.steps[1].message == "Deploy with 3 rows of 2013-02-01T07:30:00+00:00?"
    project.open(Steps).decide(waiting.job, "ask", approved=True, by="ann")
    done = resume_pipeline(project, jobs.find(project, waiting.job), executor=place)
    assert (done.status, done.due) == ("FINISHED", waiting.due)
    new, old = jobs.newest(project)
    assert (new.resumed, old.status, old.message) == (old.job, "CONTINUED", f"It goes on as job {new.job}.")
    for job in (new, old):
        with pytest.raises(ConflictError, match="cannot go on: it is"):
            resume_pipeline(project, job, executor=place)


def test_a_job_that_waited_goes_on_with_what_it_had_although_newer_data_have_come(
    declare: Declare, run: Run, place: Executor
) -> None:
    steps = ASK.replace('"steps:extract"', '"steps:extract"\n    parameters = { table = "arrived.csv" }')
    functions = ASK_PY.replace("def extract():", "def extract(table: str):")
    project = declare(steps, functions, **{"arrived.csv": "1"})
    waiting = run(project)
    (project.root / "arrived.csv").write_text("2")
    project.open(Steps).decide(waiting.job, "ask", approved=True, by="ann")
    done = resume_pipeline(project, jobs.find(project, waiting.job), executor=place)
    assert statuses(done) == {"extract": "CACHED", "ask": "CACHED", "deploy": "FINISHED"}
    assert notes(project) == ["extract", "deploy-ann"]
    assert statuses(run(project)) == {"extract": "FINISHED", "ask": "WAITING", "deploy": "PENDING"}


def test_a_rejection_ends_the_run_until_it_is_asked_anew(declare: Declare, run: Run) -> None:
    project = declare(ASK, ASK_PY)
    project.open(Steps).decide(run(project).job, "ask", approved=False, by="ann")
    error, _ = failed(run, project, ApprovalError)
    assert error.message == "Step ask: ann said no: Deploy with 3 rows?"
    assert (error.rule, error.exit_code) == ("approval", 9)
    assert run(project, force=("ask",)).status == "WAITING"
    assert notes(project) == ["extract"]


# ------------------------------------------------------------ verbs, notebooks
def test_a_verb_is_a_step_and_its_result_s_fields_are_results(declare: Declare, run: Run) -> None:
    steps = """
        name = "drift"
        verb = "drift now.csv --against then.csv"
        ---
        name = "train"
        function = "steps:train"
        when = "${drift.drifted}"
    """
    then = "\n".join(["x", *(str(n % 97) for n in range(2000))])
    now = "\n".join(["x", *(str(n % 97 + 60) for n in range(2000))])
    project = declare(steps, "def train(): _note('train')", **{"then.csv": then, "now.csv": now})
    done = run(project)
    assert statuses(done) == {"drift": "FINISHED", "train": "FINISHED"}
    assert done.steps[0].results["drifted"] is True
    from nbmlops.ledger.database import Ledger

    (event,) = project.open(Ledger).events(verbs=("drift",))
    assert event.by_human is False
    (project.root / "now.csv").write_text(then)
    assert statuses(run(project)) == {"drift": "FINISHED", "train": "SKIPPED"}


def test_notebooks_are_steps_and_their_results_and_runs_are_told(
    declare: Declare, run: Run, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBMLOPS_WARM", "off")
    steps = """
        name = "extract"
        notebook = "extract.ipynb"
        parameters = { rows = "${parameters.rows}" }
        ---
        name = "train"
        notebook = "train.ipynb"
        parameters = { table = "${extract.table}" }
    """
    files = {
        "extract.ipynb": notebook(
            "%load_ext nbmlops",
            "open('table.csv', 'w').write('x' * rows)",
            "%mlops result table=table.csv",
            tagged="rows: int = 1",
        ),
        "train.ipynb": notebook(
            "%load_ext nbmlops", "n = len(open(table).read())", "%mlops result n=n", tagged="table: str = ''"
        ),
    }
    project = declare(steps, "", **files)
    shutil.copy(empty_mlflow, project.state("mlflow.db"))
    done = run(project)
    assert statuses(done) == {"extract": "FINISHED", "train": "FINISHED"}
    extract, train = done.steps
    assert extract.results["table"] == "table.csv"
    assert str(train.results["n"]) in ("10", "n")
    assert train.run_id == train.results["run_id"]
    assert Path(project.root, train.results["output"]).exists()
    assert set(statuses(run(project)).values()) == {"CACHED"}


# ------------------------------------------------------- more than one attempt
DRIVER = """
import sys
from nbmlops.pipelines.flow.driver import run_pipeline
from nbmlops.project import Project
run_pipeline(Project(sys.argv[1]), "p")
"""


Drive = Callable[[Project], "subprocess.Popen[bytes]"]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """Start drivers in processes of their own, which end with the test; what they complain of is in a file."""
    begun: list[subprocess.Popen[bytes]] = []

    def started(project: Project) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-c", DRIVER, str(project.root)]
        with (tmp_path / "complaint").open("wb") as file:
            begun.append(subprocess.Popen(words, stderr=file))
        return begun[-1]

    yield started
    for process in begun:
        process.kill()
        process.wait()


def wait_until(fact: Callable[[], Any], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


SLOW = """
    name = "one"
    function = "steps:one"
    ---
    name = "two"
    function = "steps:two"
    needs = ["one"]
"""
SLOW_PY = """
def one(): _note("one")
def two():
    _note("two"); _note(f"pid-{os.getpid()}")
    while not os.path.exists("go"): time.sleep(0.02)
    _note("two-did")
    return {"by": os.environ["NBMLOPS_FENCE"].split("/")[0]}
"""


def pids(project: Project) -> list[int]:
    return [int(each.removeprefix("pid-")) for each in notes(project) if each.startswith("pid-")]


def test_a_driver_that_is_killed_takes_its_steps_along_and_the_next_does_only_what_is_left(
    declare: Declare, run: Run, drive: Drive
) -> None:
    project = declare(SLOW, SLOW_PY)
    first = drive(project)
    wait_until(lambda: pids(project))
    with pytest.raises(ConflictError, match="p runs already, as job"):
        run(project)
    first.kill()
    first.wait()
    wait_until(lambda: not psutil.pid_exists(pids(project)[0]))
    (project.root / "go").touch()
    done = run(project)
    assert statuses(done) == {"one": "CACHED", "two": "FINISHED"}
    assert [note for note in notes(project) if not note.startswith("pid-")] == ["one", "two", "two", "two-did"]
    assert [job.status for job in jobs.newest(project)] == ["FINISHED", "LOST"]


APART = """
    name = "one"
    function = "steps:one"
    ---
    name = "two"
    function = "steps:two"
    matrix = { k = ["a", "b"] }
"""
APART_PY = """
def _meet(own, other):
    _note(own)
    open(own, "w").close()
    while not os.path.exists(other): time.sleep(0.02)

def one(): _meet("one-is-here", "two-a-is-here")
def two(k): _meet(f"two-{k}-is-here", "one-is-here" if k == "a" else "go")
"""


def test_runs_of_steps_apart_go_on_beside_each_other_and_all_others_are_refused(
    declare: Declare, run: Run, place: Executor
) -> None:
    project = declare(APART, APART_PY)
    with ThreadPoolExecutor(1) as beside:
        two = beside.submit(run_pipeline, Project(project.root), "p", only=("two",), executor=place)
        wait_until(lambda: "two-b-is-here" in notes(project))
        refused: list[dict[str, Any]] = [{}, {"from_": ("one",)}, {"only": ("one", "two")}, {"only": ("two[k=a]",)}]
        for selection in refused:
            with pytest.raises(ConflictError, match="p runs already, as job"):
                run(project, **selection)
        one = run_pipeline(project, "p", only=("one",))  # meets two, which goes on
        assert statuses(one)["one"] == "FINISHED"
        assert not two.done()
        (project.root / "go").touch()
        assert [row.status for row in two.result(30).steps if row.name != "one"] == ["FINISHED", "FINISHED"]
    assert {row["step"] for row in project.open(Steps).published("p")} == {"one", "two[k=a]", "two[k=b]"}
    assert set(statuses(run(project)).values()) == {"CACHED"}


def test_a_driver_that_is_told_to_end_ends_its_steps_and_says_so(declare: Declare, drive: Drive) -> None:
    project = declare(SLOW, SLOW_PY)
    driver = drive(project)
    wait_until(lambda: pids(project))
    driver.send_signal(signal.SIGINT)
    assert driver.wait(20) != 0
    wait_until(lambda: not psutil.pid_exists(pids(project)[0]), 5)
    (job,) = jobs.newest(project)
    assert job.status == "KILLED"
    assert [row["status"] for row in project.open(Steps).of_job(job.job)] == ["FINISHED", "KILLED"]


def test_a_job_whose_steps_have_no_place_to_run_ends_with_the_reason(declare: Declare) -> None:
    project = declare(SLOW, SLOW_PY)
    with pytest.raises(UsageError, match="nowhere"):
        run_pipeline(project, "p", executor="nowhere")
    (job,) = jobs.newest(project)
    assert (job.status, job.exit_code) == ("FAILED", UsageError.exit_code)
    assert "nowhere" in job.message


def test_a_driver_that_was_stopped_while_another_went_on_publishes_nothing(
    declare: Declare, drive: Drive, run: Run, tmp_path: Path
) -> None:
    project = declare(SLOW, SLOW_PY)
    stopped = drive(project)
    wait_until(lambda: pids(project))
    (first,) = jobs.newest(project)
    stopped.send_signal(signal.SIGSTOP)
    away = {**vars(first), "owner": {**first.owner, "nbmlops.host": "elsewhere", "nbmlops.alive_at": "0"}}
    jobs.put(project, jobs.Job(**away))  # as seen from another machine, after its lease
    (project.root / "go").touch()
    done = run(project)
    assert done.steps[1].results == {"by": done.job}
    stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(30) != 0
    assert "is stale: job" in (tmp_path / "complaint").read_text()
    published = [row["results"] for row in project.open(Steps).published("p") if row["step"] == "two"]
    assert published == [{"by": done.job}]
    assert [row["status"] for row in project.open(Steps).of_job(first.job)] == ["FINISHED", "STALE"]


class Losing:
    """An executor that loses the first of its steps, as a cluster does whose node dies."""

    def __init__(self, place: Executor, n: int) -> None:
        self.place, self.n = place, n

    def submit(self, spec: StepSpec) -> "Future[StepEnd]":
        if self.n <= 0:
            return self.place.submit(spec)
        self.n -= 1
        lost: Future[StepEnd] = Future()
        lost.set_exception(OSError("the node died"))
        return lost

    def close(self) -> None: ...


def test_a_step_whose_worker_is_lost_is_begun_anew_with_a_fence_of_its_own(
    declare: Declare, run: Run, place: Executor
) -> None:
    project = declare("name = 'a'\nfunction = 'steps:a'", "def a(): return {'n': 1}")
    done = run(project, executor=Losing(place, 2))
    assert done.steps[0].results == {"n": 1}
    rows = project.open(Steps).of_job(done.job)
    assert [(row["fence"], row["status"]) for row in rows] == [(1, "STALE"), (2, "STALE"), (3, "FINISHED")]
    with pytest.raises(KernelError, match="Its worker was lost 4 times, the last time so: the node died"):
        run(project, executor=Losing(place, 9), force=("*",))


def test_forty_instances_each_publish_once(declare: Declare, run: Run) -> None:
    steps = f"name = 'a'\nfunction = 'steps:a'\nmatrix = {{ n = {list(range(40))} }}"
    project = declare(steps, "def a(n: int): return {'twice': 2 * n}")
    done = run(project)
    assert [step.results["twice"] for step in done.steps] == [2 * n for n in range(40)]
    assert len(project.open(Steps).published("p")) == 40


LOOK_PY = """
def extract(rows: int):
    from nbmlops.pipelines.reading import JobStep, jobs
    from nbmlops.project import Project
    rows = [row for row in jobs(Project(os.getcwd())) if isinstance(row, JobStep)]
    return {"n": 1, "seen": [[row.step, row.status] for row in rows]}
def train(n: int, kind: str = ""): return {"auc": n}
"""


def test_steps_that_wait_for_others_are_listed_while_the_run_goes_on_and_cached_ones_never(
    declare: Declare, run: Run
) -> None:
    other = 'name = "other"\nfunction = "steps:train"\nparameters = { n = 1 }'
    project = declare(f"{CHAIN}---\n{other}", LOOK_PY)
    (seen,) = (step.results["seen"] for step in run(project).steps if step.name == "extract")
    assert sorted(each for each in seen if each[0] != "other") == [["extract", "RUNNING"], ["train", "PENDING"]]
    again = run(project, force=("extract",))
    (seen,) = (step.results["seen"] for step in again.steps if step.name == "extract")
    assert sorted(seen) == [["extract", "RUNNING"], ["train", "PENDING"]]
    assert jobs.find(project, again.job).status == "FINISHED"


def test_a_step_that_turns_out_to_be_cached_is_waited_for_no_longer(declare: Declare, run: Run) -> None:
    steps = f"""{CHAIN}
    ---
    name = "ask"
    approval = "Go?"
    needs = ["train"]
    ---
    name = "deploy"
    function = "steps:train"
    parameters = {{ n = 1 }}
    needs = ["ask"]
    """
    project = declare(steps, CHAIN_PY)
    assert run(project).status == "WAITING"
    job = run(project, force=("extract",)).job
    rows = [(row.step, row.status) for row in listed(project) if isinstance(row, JobStep) and row.job == job]
    assert rows == [("extract", "FINISHED"), ("ask", "WAITING"), ("deploy", "PENDING")]


def test_wrong_parameters_are_refused_before_anything_runs(declare: Declare, run: Run) -> None:
    project = declare(CHAIN, CHAIN_PY)
    cases: dict[str, Mapping[str, Any]] = {
        "has no parameter 'row'": {"parameters": {"row": 3}},
        "has no step 'trian'": {"only": ("trian",)},
    }
    for message, options in cases.items():
        with pytest.raises(UsageError, match=message):
            run(project, **options)
    assert (notes(project), jobs.newest(project)) == ([], [])
    assert json.dumps(project.open(Steps).published("p")) == "[]"
