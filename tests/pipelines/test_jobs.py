"""`jobs`: runs, their steps, what will run by itself and what was fired, each with the state that it truly has."""

import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nbmlops.errors import UsageError
from nbmlops.ledger.schedules import FINISHED, STARTED, Firing, Schedules, stamp
from nbmlops.ledger.steps import Publication, Steps
from nbmlops.pipelines import jobs as known
from nbmlops.pipelines import logbook
from nbmlops.pipelines.execution.record import Log
from nbmlops.pipelines.jobs import Job
from nbmlops.pipelines.reading import DeclaredPipeline, JobStep, jobs, logs
from nbmlops.pipelines.scheduled import FiringRow, Upcoming
from nbmlops.pipelines.verbs import run
from nbmlops.project import Project
from nbmlops.surfaces.show import text

from .conftest import WriteNotebook, as_notebook

MONTHLY = """
[pipelines.monthly]
schedule = "30 2 * * *"
timezone = "Europe/Vienna"
on = ["file:*.csv"]
[[pipelines.monthly.steps]]
name = "a"
verb = "status"
[schedules.nightly]
notebook = "notebooks/train.ipynb"
schedule = "@daily"
"""
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def lived(project: Project) -> Project:
    """A project with a run of a notebook, and one of a pipeline that goes on; schedules, one paused; two firings."""
    path = project.root / "nbmlops.toml"
    path.write_text(path.read_text() + MONTHLY)
    train = known.beginning(job="a" * 12, name="train", notebook="notebooks/train.ipynb")
    known.put(project, train)
    known.put(project, replace(train, status="FAILED", duration_s=3.0))
    known.put(project, known.beginning(job="b" * 12, name="monthly"))
    steps, ledger = project.open(Steps), project.open(Schedules)
    first = steps.claim("monthly", "month[1]", job="b" * 12, key="k")
    steps.end(first, "FAILED", error={"message": "no flights"})
    again = steps.claim("monthly", "month[1]", job="b" * 12, key="k")
    steps.publish(again, Publication("k", {}, {}, {}))
    steps.claim("monthly", "best", job="b" * 12, key="k")
    ledger.pause("nightly", NOON)
    for name, job in (("monthly", "b" * 12), ("nightly", "a" * 12)):
        ledger.claim(Firing(name, stamp(NOON), stamp(NOON), "CLAIMED", 1, {}, job))
        ledger.start(name, stamp(NOON), 1, {}, stamp(NOON))
    ledger.end("nightly", stamp(NOON), 1, FINISHED, ended_at=stamp(NOON), exit_code=0, reason="")
    return project


def test_jobs_stand_first_then_steps_schedules_and_firings(lived: Project) -> None:
    rows = jobs(lived)
    assert [type(row) for row in rows] == [Job, Job, JobStep, JobStep, Upcoming, Upcoming, FiringRow, FiringRow]
    assert [row.kind for row in rows] == ["job"] * 2 + ["step"] * 2 + ["schedule"] * 2 + ["firing"] * 2
    assert [row.headline for row in rows[:4]] == [
        "monthly RUNNING, job bbbbbbbb",
        "train FAILED in 3s, job aaaaaaaa",
        f"monthly / month[1] FINISHED in {rows[2].headline.split()[5]} attempt 2, job bbbbbbbb",
        "monthly / best RUNNING, job bbbbbbbb",
    ]
    assert rows[0].duration_s >= rows[3].duration_s > 0
    assert [(row.schedule, row.state) for row in rows[6:]] == [("nightly", FINISHED), ("monthly", STARTED)]


def test_pipelines_that_nothing_starts_by_itself_are_listed_with_what_is_wrong_with_them(lived: Project) -> None:
    path = lived.root / "nbmlops.toml"
    wanted = '[[pipelines.by_hand.steps]]\nname = "a"\nverb = "status"\n[[pipelines.broken.steps]]\nname = "a"\n'
    path.write_text(path.read_text() + wanted)
    rows = [row for row in jobs(Project(lived.root)) if isinstance(row, DeclaredPipeline)]
    assert [(row.name, row.steps, bool(row.problem)) for row in rows] == [
        ("broken", (), True),
        ("by_hand", ("a",), False),
    ]
    assert rows[1].headline == "pipeline by_hand: a"
    assert [row.name for row in jobs(Project(lived.root), name="by_hand") if row.kind == "pipeline"] == ["by_hand"]


def test_the_last_lines_of_a_log_can_be_asked_for(project: Project, write_notebook: WriteNotebook) -> None:
    run(project, str(write_notebook("talk.ipynb", "for n in range(50): print(n)")))
    assert str(logs(project, tail=2)) == "48\n49"
    assert str(logs(project)).count("\n") == 50
    with pytest.raises(UsageError, match="number of lines"):
        logs(project, tail=-1)


def test_a_schedule_shows_its_next_time_in_its_zone_and_that_it_is_paused(lived: Project) -> None:
    monthly, nightly = (row for row in jobs(lived) if isinstance(row, Upcoming))
    assert monthly.next_at is not None
    assert monthly.next_at.tzname() in ("CET", "CEST")
    assert (monthly.timezone, monthly.triggers, monthly.paused) == ("Europe/Vienna", ("file:*.csv",), False)
    assert (nightly.next_at, nightly.paused, nightly.last) == (None, True, FINISHED)
    assert nightly.headline == "schedule nightly: paused"
    shown = text(jobs(lived))
    assert all(title in shown for title in ("2 jobs", "2 steps", "2 schedules", "2 firings"))
    assert f"{monthly.next_at:%a %Y-%m-%d %H:%M %Z}" in shown


def test_a_name_chooses_its_jobs_steps_schedules_and_firings(lived: Project) -> None:
    assert [row.kind for row in jobs(lived, name="train")] == ["job", "schedule", "firing"]
    assert [row.kind for row in jobs(lived, name="monthly")] == ["job", "step", "step", "schedule", "firing"]
    assert jobs(lived, name="nobody") == ()
    assert [row.kind for row in jobs(lived, limit=1)].count("job") == 1


def test_a_step_whose_driver_is_gone_is_lost_with_it(lived: Project) -> None:
    (driver,) = (row for row in jobs(lived) if isinstance(row, Job) and row.status == "RUNNING")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    known.put(lived, replace(driver, owner={**driver.owner, "nbmlops.pid": str(gone.pid)}))
    rows = jobs(lived, name="monthly")
    assert [row.status for row in rows if isinstance(row, Job | JobStep)] == ["LOST", "FINISHED", "LOST"]


def test_what_watches_sees_what_changes(lived: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbmlops.pipelines.reading.LOOK_S", 0.0)
    looks = iter(jobs(lived, name="monthly", watch=True))
    assert next(looks)[0].status == "RUNNING"
    known.put(lived, replace(known.find(lived, "b"), status="FINISHED"))
    assert next(looks)[0].status == "FINISHED"


LOOK = """seen = 1
from nbmlops.pipelines.jobs import tell
from nbmlops.pipelines.reading import jobs
from nbmlops.project import Project
row = jobs(Project({root!r}))[0]
tell({{"cell": row.cell, "headline": row.headline}})
"""


def test_a_running_notebook_tells_its_cell_and_one_that_has_finished_none(
    project: Project, write_notebook: WriteNotebook
) -> None:
    look = LOOK.format(root=str(project.root))
    plain = write_notebook("plain.ipynb", "before = 0", look)
    told = run(project, str(plain)).results
    assert told["cell"] == "cell 3: seen = 1"
    assert told["headline"].startswith("plain RUNNING at cell 3: seen = 1, job ")
    given = write_notebook("given.ipynb", "before = 0", look, tagged="month: int = 1")
    assert run(project, str(given), parameters={"month": "2"}).results["cell"] == "cell 4: seen = 1"
    assert {row.cell for row in jobs(project)} == {""}


def test_a_job_is_at_the_cell_that_its_log_has_running_whatever_that_has_printed(lived: Project) -> None:
    known.put(lived, known.beginning(job="c" * 12, name="long", notebook="long.ipynb", given={"month": 3}))
    folder = known.folder_of(lived, "c" * 12)

    def cell() -> str:
        return next(row.cell for row in jobs(lived, name="long") if isinstance(row, Job))

    def about(index: int, status: str) -> dict[str, object]:
        return {"event": "cell", "cell": index, "status": status, "at": 0.0}

    assert cell() == ""
    content = as_notebook("month = 3", "fit()", "", tagged="month = 1")
    content["cells"][2]["metadata"]["tags"] = ["injected-parameters"]
    with Log(folder / known.LOG, content, folder / "out.ipynb") as log:
        assert cell() == ""
        log.append(about(2, "running"))
        assert cell() == "the cell of given parameters: month = 3"
        log.append(about(2, "ok"))
        assert cell() == ""
        log.append(about(3, "running"))
        for size in (10, logbook.BLOCK - 100, 3 * logbook.BLOCK):
            text = '{"event":"cell"\n' + "x" * size
            log.append({"event": "output", "cell": 3, "kind": "stream", "content": {"name": "stdout", "text": text}})
            assert cell() == "cell 3: fit()"
    with (folder / known.LOG).open("ab") as file:
        file.write(b'{"event":"cell","cell":3,"sta')
    assert cell() == ""


def test_steps_that_have_not_begun_are_listed_as_long_as_their_pipeline_goes_on(lived: Project) -> None:
    driver = known.find(lived, "b")
    known.put(lived, replace(driver, steps=("month[1]", "best", "look", "gate")))
    rows = [row for row in jobs(lived) if isinstance(row, JobStep)]
    assert [(row.step, row.status, row.attempt) for row in rows] == [
        ("month[1]", "FINISHED", 2),
        ("best", "RUNNING", 1),
        ("look", "PENDING", 0),
        ("gate", "PENDING", 0),
    ]
    assert (rows[2].began_at, rows[2].duration_s) == (None, 0.0)
    assert rows[2].headline == "monthly / look PENDING, job bbbbbbbb"
    assert "PENDING" in text(jobs(lived))
    known.put(lived, replace(driver, steps=("month[1]", "best", "look", "gate"), status="FAILED"))
    assert "PENDING" not in {row.status for row in jobs(lived) if isinstance(row, JobStep)}


def test_an_answer_over_http_does_not_go_on_for_ever(lived: Project) -> None:
    with pytest.raises(UsageError, match="cannot go on"):
        jobs(Project(lived.root, surface="rest"), watch=True)


def test_watching_imports_no_mlflow_and_costs_little(lived: Project) -> None:
    code = (
        "import sys, time; from nbmlops.project import Project; from nbmlops.pipelines.reading import jobs\n"
        "looks = iter(jobs(Project(sys.argv[1]), watch=True)); next(looks); began = time.process_time()\n"
        "next(looks); next(looks)\n"
        "assert time.process_time() - began < 0.5, time.process_time() - began\n"
        "assert not {'mlflow', 'pandas', 'sklearn', 'papermill'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(lived.root)], check=True, timeout=120)


def test_a_notebook_that_is_quiet_for_long_gives_signs_of_life(
    project: Project, write_notebook: WriteNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbmlops.pipelines.execution.process.BEAT_S", 0.1)
    signs: list[str] = []

    def put(project: Project, job: Job) -> None:
        signs.append(job.status)
        real(project, job)

    real = known.put
    monkeypatch.setattr(known, "put", put)
    notebook = write_notebook("quiet.ipynb", "import time; time.sleep(1)")
    assert run(project, str(notebook)).status == "FINISHED"
    assert len(signs) > 4
    assert signs == ["RUNNING"] * (len(signs) - 1) + ["FINISHED"]


def test_a_job_of_another_machine_is_lost_only_when_its_signs_of_life_stop(lived: Project) -> None:
    away = known.find(lived, "b")
    elsewhere = {**away.owner, "nbmlops.host": "elsewhere"}
    silent = {**elsewhere, "nbmlops.alive_at": str(int(time.time()) - 1000)}
    known.put(lived, replace(away, owner=silent))
    assert known.find(lived, "b").status == "LOST"
    known.renew(lived, away)
    assert known.find(lived, "b").status == "RUNNING"
    assert int(known.find(lived, "b").owner["nbmlops.alive_at"]) > time.time() - 100
