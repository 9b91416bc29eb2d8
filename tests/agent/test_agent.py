"""The agent: what it starts and leaves alone, and how it lives as a process."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbmlops import background
from nbmlops.agent.control import agent as agent_verb
from nbmlops.agent.launching import Launcher, run_words
from nbmlops.agent.loop import serve
from nbmlops.agent.upkeep import Upkeep
from nbmlops.errors import ConflictError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.schedules import FAILED, FINISHED, QUEUED, SKIPPED, STARTED, Firing, Seen
from nbmlops.ledger.steps import Steps
from nbmlops.pipelines import jobs
from nbmlops.project import STATE, Project
from tests.agent.stage import HOURLY, Hands, Stage
from tests.faults.death import is_alive


# ------------------------------------------------------------------- what it starts
def test_a_schedule_fires_when_it_is_due_and_not_before(stage: Stage) -> None:
    stage.command = 'echo "$0 $NBMLOPS_DUE $NBMLOPS_JOB" > told'
    stage.declare(HOURLY + 'timezone = "Europe/Vienna"\n')
    stage.look()
    stage.look(minutes=59)
    assert stage.firings() == []
    stage.look(minutes=1)
    stage.wait_for(FINISHED)
    (firing,) = stage.firings()
    assert (firing.due_at, firing.exit_code) == ("2026-07-01T13:00:00+00:00", 0)
    assert (stage.root / "told").read_text().split() == ["hourly", "2026-07-01T15:00:00+02:00", firing.job]


def test_a_schedule_that_is_written_while_the_agent_lives_is_heeded_from_then_on(stage: Stage) -> None:
    stage.look()
    stage.declare(HOURLY)
    stage.look(hours=5, minutes=30)
    assert stage.firings() == []
    stage.look(minutes=30)
    stage.wait_for(FINISHED)


def test_a_run_that_fails_is_told_with_its_exit_code_and_its_last_words(stage: Stage) -> None:
    stage.command = "echo not needed; echo the table is empty >&2; exit 5"
    stage.declare(HOURLY)
    stage.look()
    stage.look(hours=1)
    stage.wait_for(FAILED)
    (firing,) = stage.firings()
    assert firing.exit_code == 5
    assert firing.reason.endswith("the table is empty")


def test_a_due_time_during_a_run_is_skipped_or_queued_as_the_schedule_says(stage: Stage) -> None:
    stage.command = "while [ ! -e go ]; do sleep 0.05; done"
    stage.declare(HOURLY + HOURLY.replace("hourly", "patient") + 'overlap = "queue"\n')
    stage.look()
    stage.look(hours=1)
    stage.look(hours=1)
    stage.look()
    by_name = {name: [each for each in stage.firings() if each.schedule == name] for name in ("hourly", "patient")}
    assert [each.state for each in by_name["hourly"]][1:] == [SKIPPED]
    assert by_name["hourly"][1].reason == "the run of 2026-07-01T13:00:00+00:00 goes on"
    assert [each.state for each in by_name["patient"]][1:] == [QUEUED]
    (stage.root / "go").touch()
    deadline = time.monotonic() + 30
    while stage.states().count(FINISHED) < 3 and time.monotonic() < deadline:
        stage.look(seconds=1)
        time.sleep(0.05)
    assert sorted(stage.states()) == sorted([FINISHED] * 3 + [SKIPPED])


def test_what_was_missed_and_is_made_up_runs_one_after_another(stage: Stage) -> None:
    stage.command = "echo $NBMLOPS_DUE >> runs; sleep 0.1"
    stage.declare(HOURLY + 'catchup = "all"\n')
    stage.look()
    stage.look(hours=3)
    deadline = time.monotonic() + 30
    while stage.states() != [FINISHED] * 3 and time.monotonic() < deadline:
        stage.look(seconds=1)
        time.sleep(0.05)
    runs = (stage.root / "runs").read_text().split()
    assert runs == [f"2026-07-01T{hour}:00:00+00:00" for hour in (13, 14, 15)]


def test_nothing_of_a_pause_is_made_up(stage: Stage) -> None:
    stage.declare(HOURLY)
    stage.look()
    assert stage.ledger.pause("hourly", stage.clock.now())
    stage.look(hours=2, minutes=30)
    assert stage.ledger.unpause("hourly", stage.clock.now())
    stage.look(minutes=1)
    assert stage.firings() == []
    stage.look(minutes=29)
    stage.wait_for(FINISHED)


def test_what_waits_of_a_schedule_that_is_taken_away_is_skipped_and_it_begins_anew_when_it_comes_back(
    stage: Stage,
) -> None:
    stage.command = "sleep 0.5"
    stage.declare(HOURLY + 'overlap = "queue"\n')
    stage.look()
    stage.look(hours=1)
    stage.look(hours=1)
    assert QUEUED in stage.states()
    stage.declare("")
    stage.look()
    stage.wait_for(FINISHED, SKIPPED)
    stage.declare(HOURLY)
    stage.look(days=3)
    assert len(stage.firings()) == 2


def test_one_schedule_that_is_declared_badly_hides_no_other_and_is_told_of_once(stage: Stage) -> None:
    stage.declare(HOURLY + HOURLY.replace("hourly", "bad").replace("0 * * * *", "0 0 30 2 *"))
    stage.look()
    stage.look(hours=1)
    stage.wait_for(FINISHED)
    assert sum("never fires" in line for line in stage.told) == 1


def test_while_the_settings_cannot_be_read_all_waits_and_is_made_up_then(stage: Stage) -> None:
    stage.declare(HOURLY)
    stage.look()
    stage.declare("this is no TOML")
    stage.look(hours=1)
    stage.look()
    stage.declare(HOURLY)
    stage.look(minutes=1)
    stage.wait_for(FINISHED)
    assert sum("not valid TOML" in line for line in stage.told) == 1


def test_an_agent_waits_for_a_ledger_that_is_away_and_says_so_once(stage: Stage) -> None:
    away = '[stores]\nledger = "postgresql://nobody@127.0.0.1:1/none"\n'
    stage.declare(away + HOURLY)
    stop = threading.Event()
    looks = 0

    class Mending(Hands):
        def wait(self, seconds: float, woken: threading.Event) -> None:
            nonlocal looks
            super().wait(seconds, woken)
            looks += 1
            if looks == 4:
                stage.declare(HOURLY)
                stage.ledger.see("hourly", "0 * * * * UTC", "", Seen(self.time))
                self.time += timedelta(hours=1)
            if looks == 6:
                stop.set()

    stage.agent.clock = stage.clock = Mending()
    serve(stage.agent, stop)
    stage.wait_for(FINISHED)
    assert sum("out of reach" in line for line in stage.told) == 1
    assert "ledger: all is well again" in stage.told


def test_a_claim_whose_agent_died_is_taken_over_once_and_the_old_one_starts_nothing(stage: Stage) -> None:
    stage.declare(HOURLY)
    stage.look()
    gone = {"nbmlops.host": "elsewhere", "nbmlops.pid": "1", "nbmlops.pid_started": "0", "nbmlops.alive_at": "0"}
    claimed_at = stage.clock.now().isoformat()
    firing = stage.ledger.claim(
        Firing("hourly", "2026-07-01T13:00:00+00:00", "2026-07-01T13:00:00+00:00", "CLAIMED", 1, gone, "j", claimed_at)
    )
    assert firing
    stage.look(hours=1, seconds=1)
    stage.wait_for(FINISHED)
    assert stage.firings()[0].fence == 2
    assert not stage.ledger.start(*(firing.schedule, firing.occasion, firing.fence), gone, claimed_at)


def write_notebook(path: Path, tagged: str, source: str) -> None:
    cells = [
        {"cell_type": "code", "metadata": {"tags": tags}, "source": text, "id": f"c{n}", "outputs": []}
        | {"execution_count": None}
        for n, (tags, text) in enumerate([(["parameters"], tagged), ([], source)])
    ]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))


@pytest.fixture
def real(folder: Path, project: Project) -> Iterator[Stage]:
    """A stage whose runs are real ones, an hour before midnight in Vienna."""
    with closing(Stage(folder, clock=Hands(datetime(2026, 7, 1, 21, 0, tzinfo=UTC)))) as stage:
        stage.agent.launcher = Launcher(stage.project, run_words)
        yield stage


def test_a_notebook_runs_with_the_due_time_as_its_parameter_and_the_firing_knows_its_job(real: Stage) -> None:
    write_notebook(real.root / "a.ipynb", "until = ''\nn = 1", "print(until, n)")
    parameters = 'timezone = "Europe/Vienna"\nparameters = { until = "${due.date}", n = 2 }\n'
    real.declare((real.root / "nbmlops.toml").read_text() + HOURLY.replace("0 *", "30 0") + parameters)
    real.look()
    real.look(hours=1, minutes=30)
    real.wait_for(FINISHED)
    (firing,) = real.firings()
    job = jobs.find(real.project, firing.job)
    assert (job.name, job.status) == ("a", "FINISHED")
    assert job.parameters == {"until": "2026-07-02", "n": 2}
    events = real.project.open(Ledger).events(verbs=("run",))
    assert [event.by_human for event in events] == [False]


def test_a_pipeline_runs_at_its_due_time_as_the_job_that_its_firing_names(real: Stage) -> None:
    write_notebook(real.root / "a.ipynb", "until = ''", "%load_ext nbmlops\n%mlops result told=until")
    pipeline = """
        [pipelines.nightly]
        schedule = "30 0 * * *"
        timezone = "Europe/Vienna"
        [[pipelines.nightly.steps]]
        name = "extract"
        notebook = "a.ipynb"
        parameters = { until = "${due.date}" }
    """
    real.declare((real.root / "nbmlops.toml").read_text() + pipeline)
    real.look()
    real.look(hours=1, minutes=30)
    real.wait_for(FINISHED)
    (firing,) = real.firings()
    job = jobs.find(real.project, firing.job)
    assert (job.name, job.status) == ("nightly", "FINISHED")
    (published,) = real.project.open(Steps).published("nightly")
    assert published["results"]["told"] == "2026-07-02"


ASKING = """
    [pipelines.nightly]
    schedule = "0 * * * *"
    [[pipelines.nightly.steps]]
    name = "ask"
    approval = "Shall it run?"
    [[pipelines.nightly.steps]]
    name = "act"
    notebook = "a.ipynb"
    needs = ["ask"]
"""


@pytest.mark.parametrize("is_approved", [True, False])
def test_a_run_that_has_its_answer_goes_on_or_ends_once(real: Stage, is_approved: bool) -> None:
    write_notebook(real.root / "a.ipynb", "n = 1", "open('ran', 'a').write('x')")
    real.declare((real.root / "nbmlops.toml").read_text() + ASKING)
    real.look()
    real.look(hours=1)
    real.wait_for(FINISHED)
    (waiting,) = jobs.newest(real.project, name="nightly")
    real.look(seconds=5)
    assert (waiting.status, len(real.firings())) == ("WAITING", 1)
    real.project.open(Steps).decide(waiting.job, "ask", approved=is_approved, by="ann")
    for _ in range(3):
        real.look(seconds=5)
    real.wait_for(FINISHED, FINISHED if is_approved else FAILED)
    real.look(seconds=5)
    assert len(real.firings()) == 2
    going_on, before = jobs.newest(real.project, name="nightly")
    assert (going_on.resumed, before.status) == (before.job, "CONTINUED")
    assert (real.root / "ran").exists() == is_approved
    if not is_approved:
        assert going_on.status == "FAILED"
        assert going_on.message.endswith("ann said no: Shall it run?")
        assert real.firings()[-1].exit_code == 9


# ----------------------------------------------------------------- as a process
@pytest.fixture
def wanted(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project that may have an agent; none outlives the test."""
    monkeypatch.delenv("NBMLOPS_AGENT")
    yield root
    background.stop(root)


def until(is_so: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def log_of(root: Path) -> str:
    return (root / STATE / "agent.log").read_text()


def test_there_is_one_agent_which_is_started_looked_at_and_stopped(wanted: Path) -> None:
    project = Project(wanted)
    assert agent_verb(project, status=True).status == "off"
    started = agent_verb(project)
    again = agent_verb(project)
    assert (started.status, again.status) == ("started", "runs")
    assert started.pid == again.pid == agent_verb(project, status=True).pid
    second = subprocess.run([sys.executable, "-m", background.MODULE, str(wanted)], capture_output=True, timeout=60)
    assert (second.returncode, second.stdout) == (0, b"")
    stopped = agent_verb(project, stop=True)
    assert (stopped.status, stopped.pid) == ("stopped", started.pid)
    assert not psutil.pid_exists(stopped.pid), "its starter has not taken note of its end"
    assert "agent stopped" in log_of(wanted)
    assert agent_verb(project, stop=True).status == "off"
    project.open(Ledger).close()


def test_an_agent_outlives_its_starter_and_inherits_none_of_its_descriptors(wanted: Path) -> None:
    held = wanted / "held"
    with held.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        done = subprocess.run(  # returns only when nobody holds the pipe of its output any more
            [sys.executable, "-m", "nbmlops.surfaces.cli", "agent", "--json"],
            cwd=wanted,
            capture_output=True,
            text=True,
            pass_fds=[file.fileno()],
            timeout=60,
        )
    pid = json.loads(done.stdout)["pid"]
    open_files = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    assert str(held) not in open_files
    assert not [name for name in open_files if name.startswith("pipe:")]
    assert psutil.Process(pid).environ().get("NBMLOPS_RUN") is None
    assert os.getsid(pid) == pid


def test_an_agent_stops_cleanly_and_what_it_has_started_goes_on(wanted: Path) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=0) + timedelta(days=2)  # ahead: nothing is due by the real clock
    (wanted / "nbmlops.toml").write_text(HOURLY.replace("0 * * * *", f"0 13 {noon.day} {noon.month} *"))
    agent_verb(Project(wanted))
    with closing(Stage(wanted, command="while [ ! -e go ]; do sleep 0.05; done", clock=Hands(noon))) as stage:
        stage.look()
        stage.look(hours=1)
        until(lambda: stage.states() == [STARTED])
        assert background.stop(wanted)
        assert stage.states() == [STARTED]
        (wanted / "go").touch()
        stage.wait_for(FINISHED)


def test_an_agent_whose_project_is_gone_ends_by_itself(wanted: Path) -> None:
    pid = agent_verb(Project(wanted)).pid
    assert pid
    (wanted / "nbmlops.toml").unlink()
    until(lambda: not is_alive(pid))
    (wanted / "nbmlops.toml").write_text("")


@pytest.mark.parametrize("variable", ["CI", "NBMLOPS_AGENT"])
def test_no_agent_is_left_behind_where_none_is_wanted(
    wanted: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "off")
    with pytest.raises(ConflictError, match="left behind"):
        agent_verb(Project(wanted))


def test_an_agent_in_the_foreground_is_a_terminals(wanted: Path) -> None:
    with pytest.raises(UsageError, match="terminal"):
        agent_verb(Project(wanted), foreground=True)
    with pytest.raises(UsageError, match="exclude"):
        agent_verb(Project(wanted), foreground=True, stop=True)


def test_an_agent_in_the_foreground_ends_well_when_it_is_told_to(wanted: Path) -> None:
    words = [sys.executable, "-m", "nbmlops.surfaces.cli", "agent", "--foreground", "--quiet"]
    with subprocess.Popen(words, cwd=wanted, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: background.living(wanted))
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "agent stopped" in said


def test_a_journal_that_its_writer_has_left_is_delivered_by_sync(root: Path) -> None:
    project, told = Project(root), []
    upkeep = Upkeep(project, told.append)
    upkeep.look()
    assert told == []
    journal = root / STATE / "journal" / "host-1-2.jsonl"
    journal.parent.mkdir(exist_ok=True)
    journal.write_text("{}\n")
    upkeep.looked_at = float("-inf")
    upkeep.look()
    assert told == ["sync: something waits for MLflow that nobody is left to deliver"]
    assert upkeep.child
    upkeep.child.wait(60)
