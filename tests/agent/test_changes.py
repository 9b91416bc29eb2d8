"""What is seen of a project's changes, and what is no change; that looking costs next to nothing."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import end_tracking
from nbmlops.agent import changes
from nbmlops.agent.changes import AWAY, KEYS, Look, stamps
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.tables import METADATA
from nbmlops.project import Project
from nbmlops.serving.counters import Counters, glance
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.journal import Writer, metric


def seen(project: Project, act: Callable[[], object]) -> set[str]:
    """Name the parts of a project that an act has changed, once the file system's clock has ticked."""
    before = still(project)
    act()
    after = still(project)
    return {key for key in KEYS if before[key] != after[key]}


def still(project: Project) -> dict[str, str]:
    """Give the stamps of a project in which nothing goes on."""
    time.sleep(2 * changes.TICK_NS / 1e9)
    return stamps(project)


# ------------------------------------------------------------------ what is seen
def test_each_part_of_a_project_has_a_stamp_that_stays_as_long_as_nothing_happens(project: Project) -> None:
    before = still(project)
    assert list(before) == list(KEYS)
    assert all(before.values())
    assert stamps(project) == before
    assert Look(project).stamps() == before


def test_a_run_and_a_verbs_record_are_seen(project: Project, ops: Operations) -> None:
    assert seen(project, lambda: (ops.track("baseline"), ops.log({"auc": 0.8}), ops.end())) >= {"runs"}
    assert seen(project, ops.sync) >= {"ledger"}


def test_what_another_process_logs_is_seen_in_its_journal(project: Project) -> None:
    writer = Writer(project.state("journal"), project.settings.tracking.value)
    try:
        assert seen(project, lambda: writer.append(metric("r1", "auc", 0.5, 0, 0))) == {"runs"}
        assert seen(project, lambda: writer.append(metric("r1", "auc", 0.6, 0, 1))) == {"runs"}
    finally:
        writer.close()


def test_a_commit_that_leaves_the_files_size_as_it_was_is_seen(project: Project) -> None:
    path = Path(project.settings.tracking.value.removeprefix("sqlite:///"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        look = Look(project)
        for n in range(60):
            before = look.stamps()["runs"]
            with connection:
                connection.execute("UPDATE experiments SET last_update_time = ?", [n])
            deadline = time.monotonic() + 2
            while look.stamps()["runs"] == before:
                assert time.monotonic() < deadline, f"commit {n} was not seen"


def test_the_policy_is_seen_also_when_it_cannot_be_read(project: Project) -> None:
    path = project.root / "nbmlops.toml"
    whole = path.read_text()
    assert seen(project, lambda: path.write_text(f"{whole}\n# more\n")) == {"policy"}
    assert "policy" in seen(project, lambda: path.write_text("[project\n"))
    assert stamps(project)["runs"] == ""
    assert set(seen(project, lambda: path.write_text(whole))) == set(KEYS)


def test_a_folder_that_is_no_project_any_more_has_no_stamps(project: Project) -> None:
    look = Look(project)
    assert look.stamps()
    (project.root / "nbmlops.toml").unlink()
    assert look.stamps() == {}


def test_the_log_of_a_job_is_seen_among_hundreds(project: Project) -> None:
    folder = project.root / ".nbmlops" / "jobs"
    for n in range(200):
        (folder / f"{n:012x}").mkdir(parents=True)
        (folder / f"{n:012x}" / "log.jsonl").write_text("{}\n")
    log = folder / f"{7:012x}" / "log.jsonl"
    log.write_text("{}\n{}\n")
    look = Look(project)
    before = look.stamps()
    with log.open("a") as file:
        file.write("{}\n")
    assert look.stamps()["jobs"] != before["jobs"]
    (folder / "new").mkdir()
    (folder / "new" / "log.jsonl").write_text("{}\n")
    now = look.stamps()["jobs"]
    (folder / "new" / "log.jsonl").write_text("{}\n{}\n")
    assert look.stamps()["jobs"] != now


def test_what_a_server_is_told_and_what_it_counts_are_seen(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project.root / ".nbmlops" / "endpoints" / "delays"
    (folder / "workers" / "0").mkdir(parents=True)
    assert seen(project, lambda: (folder / "instructions.json").write_text("{}")) == {"endpoints"}
    counters = Counters.open(folder / "workers" / "0" / "counters")
    tally = counters.tally("1")
    assert seen(project, tally.began) == {"endpoints"}
    assert seen(project, lambda: tally.answered(0.01)) == {"endpoints"}
    assert seen(project, lambda: counters.refused(429)) == {"endpoints"}
    now = [0.0]
    monkeypatch.setattr(changes.time, "monotonic", lambda: now[0])
    look = Look(project)
    before = look.stamps()["endpoints"]
    tally.began()
    assert look.stamps()["endpoints"] == before  # a busy server counts all the time
    now[0] += changes.COUNTS_EVERY_S
    assert look.stamps()["endpoints"] != before


def test_a_glance_at_no_file_is_empty(tmp_path: Path) -> None:
    assert glance(tmp_path / "counters") == b""


# -------------------------------------------------------------- what is no change
def test_reading_changes_no_stamp(project: Project, ops: Operations) -> None:
    ops.track("baseline", parameters={"depth": 3})
    ops.log({"auc": 0.8})
    ops.end()
    ops.sync()
    end_tracking()
    readers = (ops.runs, ops.models, ops.jobs, ops.endpoints, ops.status, ops.show)
    for read in readers:
        read()  # what a writer left in the WAL goes into the database with the first reader that ends
    for read in readers:
        assert seen(project, read) == set(), read


def test_a_look_writes_nothing(project: Project) -> None:
    shutil.rmtree(project.root / ".nbmlops")
    look = Look(project)
    assert look.stamps() == look.stamps()
    assert not (project.root / ".nbmlops").exists()


# -------------------------------------------------------------- behind a network
def test_a_ledger_on_postgres_tells_of_every_table(project: Project, postgres_url: str) -> None:
    policy = project.root / "nbmlops.toml"
    policy.write_text(policy.read_text() + f'[stores]\nledger = "{postgres_url}"\n')
    ops = Operations(project.root)
    ops.sync()
    look = Look(project)

    def told(act: Callable[[], object]) -> bool:
        before = look.stamps()["ledger"]
        act()
        deadline = time.monotonic() + 2
        while look.stamps()["ledger"] == before and time.monotonic() < deadline:
            time.sleep(0.02)
        return look.stamps()["ledger"] != before

    import psycopg

    assert not look.stamps()["ledger"].startswith(AWAY)
    assert told(ops.sync)  # an event
    row = "INSERT INTO nbmlops_pauses VALUES ('nightly', '2013-01-01', 'ann')"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        assert told(lambda: connection.execute(row))
        assert told(lambda: connection.execute("UPDATE nbmlops_pauses SET paused_by = 'bob'"))
        assert told(lambda: connection.execute("DELETE FROM nbmlops_pauses"))
        assert not told(lambda: connection.execute("SELECT * FROM nbmlops_pauses"))
    look.close()
    ops.project.open(Ledger).close()


def test_all_tables_of_the_ledger_are_looked_at() -> None:
    forms = {"nbmlops_forms"}  # how a version is served: whoever adds one leaves an event
    assert set(changes.LEDGER_TABLES) == set(METADATA.tables) - forms, "LEDGER_TABLES in agent/changes.py"


def test_a_store_that_is_away_is_told_and_delays_nothing(project: Project) -> None:
    policy = project.root / "nbmlops.toml"
    nobody = "postgresql://ops:hunter2@127.0.0.1:1/ledger"
    policy.write_text(policy.read_text() + f'[stores]\nledger = "{nobody}"\n')
    look = Look(project)
    deadline = time.monotonic() + 20
    while not (stamp := look.stamps()["ledger"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stamp.startswith(AWAY)
    assert "hunter2" not in stamp
    assert seen(project, (project.root / ".nbmlops" / "mlflow.db").touch) >= {"runs"}


# ------------------------------------------------------------------- what it costs
def test_looking_loads_neither_mlflow_nor_a_database_library() -> None:
    script = (
        "import sys, pathlib; from nbmlops.agent.changes import stamps; from nbmlops.project import Project;"
        "print(len(stamps(Project(pathlib.Path(sys.argv[1])))));"
        "print(sorted({'mlflow', 'sqlalchemy', 'pandas', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    root = Path(os.environ["XDG_STATE_HOME"])
    (root / "nbmlops.toml").write_text('[project]\nname = "flights"\n')
    told = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=True)
    assert told.stdout.split("\n")[:2] == ["5", "[]"]
