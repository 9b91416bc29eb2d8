"""Views and the panel as a real kernel sends them, and what is left of them where no kernel runs."""

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from nbmlops.errors import UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.project import Project
from nbmlops.surfaces.widgets.canary import CanaryView
from nbmlops.surfaces.widgets.comparison import ComparisonView
from nbmlops.surfaces.widgets.looking import Looks
from nbmlops.surfaces.widgets.performing import performed
from nbmlops.surfaces.widgets.progress import ProgressView
from nbmlops.surfaces.widgets.saving import MARK, VIEW, keep_cards
from nbmlops.surfaces.widgets.views import WITH_A_VIEW
from nbmlops.tracking.reading import compare, runs
from nbmlops.vocabulary import VERBS

from .conftest import as_notebook

Message = dict[str, Any]
Execute = Callable[..., list[Message]]


# ---------------------------------------------------------------- a real kernel
@pytest.fixture
def execute(lived: Path) -> Iterator[Execute]:
    """Executes lines in one kernel as a front end does, which could be asked something; gives what it sent."""
    manager, client = start_new_kernel(cwd=str(lived))

    def lines(*sources: str, allow_stdin: bool = True) -> list[Message]:
        return [message for source in sources for message in _sent(client, source, allow_stdin)]

    lines("%load_ext nbmlops")
    yield lines
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def _sent(client: BlockingKernelClient, source: str, allow_stdin: bool) -> list[Message]:
    kept: list[Message] = []
    client.allow_stdin = allow_stdin
    client.execute_interactive(source, output_hook=kept.append, allow_stdin=allow_stdin, timeout=60)
    return kept


def of_type(messages: list[Message], kind: str) -> list[Message]:
    return [each["content"] for each in messages if each["msg_type"] == kind]


def test_ui_asks_the_front_end_to_open_the_panel(execute: Execute) -> None:
    messages = execute("%mlops ui models")
    (opened,) = of_type(messages, "comm_open")
    assert (opened["target_name"], opened["data"]) == ("nbmlops.ui", {"view": "models"})
    (closed,) = of_type(messages, "comm_close")
    assert closed["comm_id"] == opened["comm_id"]
    (card,) = of_type(messages, "execute_result")
    assert "jupyter lab" in card["data"]["text/plain"]
    assert of_type(execute("%mlops ui --show-code"), "comm_open") == []


@pytest.mark.parametrize("line", ["runs", "compare first second", "jobs", "endpoints", "show cccccccccccc"])
def test_a_view_stands_beside_its_card(line: str, execute: Execute) -> None:
    messages = execute(f"%mlops {line} --widget --into kept")
    models = [each["comm_id"] for each in of_type(messages, "comm_open") if "_esm" in each["data"]["state"]]
    (shown,) = of_type(messages, "display_data")
    assert [shown["data"][VIEW]["model_id"]] == models
    assert shown["data"]["text/html"].startswith('<div class="nbmlops-card ')
    assert shown["metadata"] == MARK
    assert of_type(execute("type(kept).__name__"), "execute_result")


def test_without_a_person_only_the_card_is_shown(execute: Execute) -> None:
    messages = execute("%mlops runs --widget", allow_stdin=False)
    assert of_type(messages, "comm_open") == []
    assert of_type(messages, "execute_result")[0]["data"].keys() == {"text/plain", "text/html"}


def test_no_view_is_asked_for_in_vain(execute: Execute) -> None:
    for line in ("promote delays/2 --widget", "jobs --watch --widget", "show first --widget", "run x --widget --wdget"):
        (error,) = of_type(execute(f"%mlops {line}"), "error")
        assert error["ename"] == "UsageError"
    assert of_type(execute("%%mlops track never --widget\nran = True", "ran"), "error")[1]["ename"] == "NameError"


def test_a_pipelines_steps_show_while_it_runs_and_nothing_looks_afterwards(execute: Execute, lived: Path) -> None:
    with (lived / "nbmlops.toml").open("a") as policy:
        policy.write(PIPELINE)
    messages = execute("%mlops run looking --widget")
    states = [each["data"]["state"]["state"] for each in of_type(messages, "comm_msg") if _is_state(each)]
    shown = [[step["status"] for step in job["steps"]] for state in states for job in state["jobs"]]
    assert ["RUNNING", "PENDING"] in shown
    assert shown[-1] == ["FINISHED", "FINISHED"]
    assert states[-1]["is_over"]
    (names,) = of_type(execute(THREADS), "execute_result")
    assert names["data"]["text/plain"] == "[]"


def test_a_view_that_is_seen_shows_what_others_do(execute: Execute, lived: Path) -> None:
    messages = execute("from nbmlops.surfaces.widgets import views", VIEW_OF_JOBS)
    assert of_type(messages, "error") == []
    changes = execute(ANSWERED_ELSEWHERE)
    states = [each["data"]["state"]["state"] for each in of_type(changes, "comm_msg") if _is_state(each)]
    assert [job["status"] for job in states[-1]["jobs"] if job["job"] == "c" * 12] == ["FINISHED"]


PIPELINE = """
[pipelines.looking]
[[pipelines.looking.steps]]
name = "first"
verb = "models"
[[pipelines.looking.steps]]
name = "second"
verb = "runs"
needs = ["first"]
"""
THREADS = "import threading\n[each.name for each in threading.enumerate() if each.name == 'nbmlops-view']"
VIEW_OF_JOBS = """
import nbmlops
page = views.view(nbmlops.open().jobs(), nbmlops.open().project, "jobs")
page._heard(page, {"seen": True, "view": "one"}, [])
page._heard(page, {"seen": True, "view": "another"}, [])
page._heard(page, {"seen": False, "view": "one"}, [])
assert page.looks.go_on
"""
ANSWERED_ELSEWHERE = """
import subprocess, sys, time
from dataclasses import replace
from nbmlops.pipelines import jobs
project = nbmlops.open().project
jobs.put(project, replace(jobs.find(project, "c" * 12), status="FINISHED"))
until = time.monotonic() + 10
while page.looks.go_on and "FINISHED" not in str(page.state["jobs"]).partition("cccccccccccc")[2][:100]:
    assert time.monotonic() < until, page.state
    time.sleep(0.05)
page._heard(page, {"seen": False, "view": "another"}, [])
assert not page.looks.go_on
"""


def _is_state(message: Message) -> bool:
    return "state" in message["data"].get("state", {})


# -------------------------------------------------------------- where none runs
def test_a_headless_notebook_and_its_page_hold_cards_alone(lived: Path) -> None:
    notebook = nbformat.from_dict(as_notebook("%load_ext nbmlops", "%mlops runs --widget", "%mlops ui"))
    NotebookClient(notebook, kernel_name="python3", timeout=120, resources={"metadata": {"path": str(lived)}}).execute()
    assert "widgets" not in notebook.metadata
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "nbmlops-card" in page
    assert VIEW not in page


def test_a_page_made_of_a_notebook_that_still_has_views_shows_the_card() -> None:
    """As one that no server of Jupyter's has saved."""
    notebook = nbformat.from_dict(as_notebook("%mlops runs --widget"))
    data = {"text/html": "<p>the card</p>", "text/plain": "card", VIEW: {"model_id": "1", "version_major": 2}}
    notebook.cells[0].outputs = [nbformat.v4.new_output("display_data", data, metadata=MARK)]
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "the card" in page
    assert "model_id" not in page


def test_a_saved_notebook_keeps_the_widgets_of_others() -> None:
    data = {"text/plain": "IntSlider()", VIEW: {"model_id": "1"}}
    cells = [{"outputs": [{"output_type": "stream", "text": "x"}, {"data": dict(data), "metadata": {}}]}, {}]
    keep_cards({"type": "notebook", "content": {"cells": cells}}, path="x.ipynb", contents_manager=None)
    assert cells[0]["outputs"][1]["data"] == data
    for model in ({"type": "file", "content": "text"}, {"type": "directory", "content": None}, {"type": "notebook"}):
        keep_cards(model)


# ------------------------------------------------------------------- what is shown
def test_runs_and_a_comparison_have_runs_as_rows(lived: Path) -> None:
    project = Project()
    for result, n in ((runs(project, name="first"), 1), (compare(project, ["first", "second"]), 2)):
        columns = {column["name"]: column for column in ComparisonView(result).state()["columns"]}
        assert columns["auc"]["kind"] == "metric"
        assert columns["auc"]["isShown"]
        assert len(columns["auc"]["numbers"]) == len(columns["name"]["texts"]) == n
    assert columns["auc"]["numbers"] == [0.7, 0.8]
    assert columns["depth"]["texts"] == ["3", "4"]


def test_a_view_of_jobs_is_of_those_that_were_asked_for(lived: Path) -> None:
    def names(view: ProgressView) -> set[str]:
        return {job["title"] for job in view.state()["jobs"]}

    assert names(ProgressView(Project(), name="retrain")) == {"retrain"}
    assert names(ProgressView(Project())) == {"retrain", "train"}
    assert names(ProgressView(Project(), is_to_come=True)) == set()


def test_a_waiting_step_is_answered_by_the_verb(lived: Path) -> None:
    project = Project()
    view = ProgressView(project, job="c" * 12)
    (job,) = view.state()["jobs"]
    assert [(step["step"], step["isWaiting"]) for step in job["steps"]] == [("look", True)]
    words = view.words({"do": "approve", "job": job["job"], "step": "look", "reason": " --fine "})
    assert performed(project, words, dry_run=True).said.startswith("look of retrain approved by")
    assert view.state()["jobs"][0]["steps"][0]["isWaiting"]
    answer = performed(project, words, dry_run=False)
    assert (answer.line, answer.is_error) == ("%mlops approve cccccccccccc --step=look --reason=--fine", False)
    assert not view.state()["jobs"][0]["steps"][0]["isWaiting"]
    event = project.open(Ledger).events()[0]
    assert (event.verb, event.arguments["reason"]) == ("approve", "--fine")
    assert performed(project, words, dry_run=False).is_error


def test_what_a_page_asks_for_is_one_of_the_views_own_verbs(lived: Path) -> None:
    project = Project()
    for view in (ProgressView(project), CanaryView(project), ComparisonView(runs(project))):
        for asked in ({"do": "undeploy"}, {"do": ["approve"]}, {}):
            with pytest.raises(UsageError):
                view.words(asked)
    asked = {"endpoint": "live", "model": "delays", "alias": "", "version": "2", "weights": {"1": 90, "2": 10}}
    told = {do: " ".join(CanaryView(project).words({**asked, "do": do})) for do in ("traffic", "promote", "rollback")}
    assert told == {"traffic": "traffic live 1=90 2=10", "promote": "promote delays/2", "rollback": "rollback delays"}


def test_every_verb_with_a_view_exists() -> None:
    assert set(WITH_A_VIEW) <= set(VERBS)


# ---------------------------------------------------------------------- the threads
def test_it_is_looked_again_only_while_somebody_sees_it() -> None:
    looked = threading.Semaphore(0)
    looks = Looks(lambda: looked.release() is None)
    looks.begin()
    assert looked.acquire(timeout=10)
    assert looked.acquire(timeout=10)
    looks.end()
    assert not looks.go_on
    ends_within(lambda: not _threads(), 5)
    looks.begin()
    assert looked.acquire(timeout=10)
    looks.end()


def test_the_thread_ends_when_nothing_can_change_any_more() -> None:
    looks = Looks(lambda: False)
    looks.begin()
    ends_within(lambda: not looks.go_on and not _threads(), 5)


def test_the_thread_of_a_view_that_nobody_has_seen_for_an_hour_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbmlops.surfaces.widgets.looking.PATIENCE_S", 0.1)
    looks = Looks(lambda: True)
    looks.begin()
    ends_within(lambda: not looks.go_on and not _threads(), 10)


def test_a_run_is_followed_for_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbmlops.surfaces.widgets.looking.PATIENCE_S", 0.1)
    looked = threading.Semaphore(0)
    looks = Looks(lambda: looked.release() is None)
    looks.begin(math.inf)
    assert all(looked.acquire(timeout=10) for _ in range(3))
    looks.end()


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "nbmlops-view"]


def ends_within(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------------- what it costs
def test_a_notebook_without_views_loads_nothing_of_widgets(lived: Path) -> None:
    code = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import nbmlops
shell.run_line_magic("load_ext", "nbmlops")
shell.run_cell("%mlops runs\\n%mlops ui\\n%mlops help runs").raise_error()
print(sorted({"anywidget", "ipywidgets", "comm", "psygnal"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=lived, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr


def test_without_a_page_a_terminal_shows_the_card(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("%mlops runs --widget --json").raise_error()
    assert len(json.loads(capsys.readouterr().out)) == 5
    shell.run_cell("%mlops runs --widget").raise_error()
    assert "5 runs" in capsys.readouterr().out
