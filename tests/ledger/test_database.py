"""The ledger on a real SQLite and a real Postgres: one chain, guarded, migrated, and honest when out of reach."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import nbmlops.ledger
from nbmlops.errors import ConflictError, StoreError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.ledger.events import MAX_SUBJECT, Draft
from nbmlops.ledger.tables import EVENTS, REVISIONS
from tests.ledger.conftest import intruder, without_triggers

APPENDING = """
import sys
from pathlib import Path
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import MAX_SUBJECT, Draft

url, anchors, writer = sys.argv[1:]
ledger = Ledger(url, Path(anchors))
for n in range(25):
    ledger.append(Draft("track", f"run/{writer}/{n}", "cli", False, "ok"))
"""


def draft(subject: str = "model/delays/1", verb: str = "promote", outcome: str = "ok", **fields: Any) -> Draft:
    return Draft(verb=verb, subject=subject, surface="python", by_human=True, outcome=outcome, **fields)


def test_who_comes_while_a_new_file_is_first_written_to_waits(tmp_path: Path) -> None:
    first = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
    with contextlib.closing(first):
        first.execute("CREATE TABLE of_another (name TEXT)")
        first.execute("BEGIN IMMEDIATE")  # as one that has not switched to write-ahead yet
        later = threading.Timer(0.3, first.execute, ["COMMIT"])
        later.start()
        with contextlib.closing(Ledger(f"sqlite:///{tmp_path}/ledger.db", tmp_path)) as ledger:
            assert ledger.events() == []
        later.join()


def test_eight_processes_at_once_write_one_chain_without_gap_or_fork(
    url: str, anchors: Path, open_ledger: Callable[[], Ledger]
) -> None:
    """They also race to make the tables, as nothing was there before."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDING, url, str(anchors), str(n)], stderr=subprocess.PIPE, text=True
        )
        for n in range(8)
    ]
    complaints = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 8, "\n".join(complaints)

    ledger = open_ledger()
    assert ledger.check_chain() == 200
    assert sorted(event.seq for event in ledger.events()) == list(range(1, 201))
    for n in range(8):
        assert [e.subject for e in reversed(ledger.events(subject=f"run/{n}"))] == [f"run/{n}/{i}" for i in range(25)]


def test_an_event_comes_back_as_it_was_written(open_ledger: Callable[[], Ledger]) -> None:
    fields = {
        "arguments": {"model": "délais/1", "limit": 0.1, "deep": {"list": [1, None, True, 1e-300, 1e22]}},
        "result": {"nested": [{"näme": "☃ \u0001 '\"\\"}], "figure": -0.0},
        "seconds": 1.25,
    }
    written = open_ledger().append(draft(**fields))
    (read,) = open_ledger().events()
    assert read == written
    assert read.at.utcoffset() is not None
    assert open_ledger().check_chain() == 1


def test_events_are_listed_newest_first_and_filtered(ledger: Ledger) -> None:
    for subject in ("model/a", "model/a/1", "model/ab/1", "model/a_/1", "endpoint/a"):
        ledger.append(draft(subject, outcome="ok" if "1" in subject else "GateError"))
    ledger.append(draft("model/a/1", verb="validate"))

    def subjects(**wanted: Any) -> list[str]:
        return [event.subject for event in ledger.events(**wanted)]

    assert subjects(limit=2) == ["model/a/1", "endpoint/a"]
    assert subjects(subject="model/a") == ["model/a/1", "model/a/1", "model/a"]
    assert subjects(subject="model/a_") == ["model/a_/1"]
    assert subjects(verbs=("validate",)) == ["model/a/1"]
    assert subjects(outcome="GateError") == ["endpoint/a", "model/a"]


@pytest.mark.parametrize(
    "change", ["UPDATE nbmlops_events SET outcome = 'ok'", "DELETE FROM nbmlops_events WHERE seq = 1"]
)
def test_the_database_itself_refuses_to_change_an_event(ledger: Ledger, url: str, change: str) -> None:
    ledger.append(draft(outcome="GateError"))
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), intruder(url) as connection:
        connection.execute(sa.text(change))
    assert ledger.check_chain() == 1
    assert ledger.events()[0].outcome == "GateError"


@pytest.mark.parametrize(
    ("changes", "first_bad"),
    [
        pytest.param(["UPDATE nbmlops_events SET outcome = 'ok' WHERE seq = 3"], 3, id="edited"),
        pytest.param(["UPDATE nbmlops_events SET seconds = 9 WHERE seq = 1"], 1, id="first edited"),
        pytest.param(["DELETE FROM nbmlops_events WHERE seq = 4"], 4, id="deleted"),
        pytest.param(["DELETE FROM nbmlops_events WHERE seq <= 2"], 1, id="beginning cut"),
        pytest.param(["DELETE FROM nbmlops_events WHERE seq >= 5"], 5, id="tail cut"),
        pytest.param(["DELETE FROM nbmlops_events"], 1, id="emptied"),
        pytest.param(
            [
                "UPDATE nbmlops_events SET seq = 100 WHERE seq = 2",
                "UPDATE nbmlops_events SET seq = 2 WHERE seq = 3",
                "UPDATE nbmlops_events SET seq = 3 WHERE seq = 100",
            ],
            2,
            id="reordered",
        ),
        pytest.param(
            ["DELETE FROM nbmlops_events WHERE seq = 4", "UPDATE nbmlops_events SET seq = seq - 1 WHERE seq > 4"],
            4,
            id="closed up",
        ),
    ],
)
def test_checking_the_chain_names_the_first_bad_event(
    open_ledger: Callable[[], Ledger], url: str, changes: list[str], first_bad: int
) -> None:
    for n in range(6):
        open_ledger().append(draft(f"model/delays/{n}", outcome="GateError"))
    with without_triggers(url) as connection:
        for change in changes:
            connection.execute(sa.text(change))
    with pytest.raises(ConflictError, match=f"broken at event {first_bad}:") as caught:
        open_ledger().check_chain()
    assert caught.value.exit_code == 12


@pytest.mark.parametrize("regrown", [1, 2, 5])
def test_a_tail_that_was_cut_and_grown_again_is_found(
    open_ledger: Callable[[], Ledger], url: str, regrown: int
) -> None:
    for n in range(4):
        open_ledger().append(draft(f"model/delays/{n}"))
    with without_triggers(url) as connection:
        connection.execute(sa.text("DELETE FROM nbmlops_events WHERE seq >= 3"))
    for n in range(regrown):
        open_ledger().append(draft(f"model/other/{n}"))
    with pytest.raises(ConflictError, match="broken at event 4:"):
        open_ledger().check_chain()


def test_a_ledger_of_an_older_version_is_migrated_with_its_events_kept(
    open_ledger: Callable[[], Ledger], url: str, tmp_path: Path, anchors: Path
) -> None:
    with contextlib.closing(Ledger(f"sqlite:///{tmp_path}/source.db", anchors)) as source:
        for n in range(3):
            source.append(draft(f"model/delays/{n}"))
        events = source.events()
    migrations = Config()
    migrations.set_main_option("script_location", str(Path(nbmlops.ledger.__path__[0]) / "migrations"))
    with intruder(url) as connection:
        migrations.attributes["connection"] = connection
        command.upgrade(migrations, REVISIONS[0])
        for event in events:
            connection.execute(EVENTS.insert().values({**vars(event), "at": event.at.isoformat()}))

    migrated = open_ledger()
    assert migrated.events() == events
    assert migrated.check_chain() == 3
    assert migrated.append(draft()).seq == 4
    assert Endpoints(migrated).wanted() == {}
    with intruder(url) as connection:
        assert connection.execute(sa.text("SELECT version_num FROM nbmlops_version")).scalar() == REVISIONS[-1]


def test_endpoints_of_before_are_gone_after_the_upgrade_and_the_events_of_their_deploys_stay(
    open_ledger: Callable[[], Ledger], url: str
) -> None:
    migrations = Config()
    migrations.set_main_option("script_location", str(Path(nbmlops.ledger.__path__[0]) / "migrations"))
    with intruder(url) as connection:
        migrations.attributes["connection"] = connection
        command.upgrade(migrations, "0005")
        connection.execute(sa.text("INSERT INTO nbmlops_endpoints (name, record) VALUES ('live', '{\"pid\": 1}')"))
    migrated = open_ledger()
    migrated.append(draft("endpoint/live"))
    assert Endpoints(migrated).wanted() == {}
    assert migrated.check_chain() == 1


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(open_ledger: Callable[[], Ledger], url: str) -> None:
    open_ledger().append(draft())
    with intruder(url) as connection:
        connection.execute(sa.text("UPDATE nbmlops_version SET version_num = '9999'"))
    with pytest.raises(ConflictError, match="9999, which a newer nbmlops made") as caught:
        open_ledger()
    assert "upgrade" in caught.value.hint.lower()
    with intruder(url) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM nbmlops_events")).scalar() == 1


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://ops:hunter2@127.0.0.1:9/ledger",
        "postgresql://ops:hunter2@nowhere.invalid/ledger",
        "nosuchdb://ops:hunter2@127.0.0.1/ledger",
        "sqlite:////proc/nowhere/ledger.db",
        "not a url",
    ],
)
def test_a_ledger_out_of_reach_says_so_without_its_password(anchors: Path, place: str) -> None:
    with pytest.raises(StoreError, match="out of reach") as caught:
        Ledger(place, anchors)
    shown = "".join(traceback.format_exception(caught.value))
    assert caught.value.exit_code == 10
    assert "NBMLOPS_LEDGER" in caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value.details()} {shown.replace(place, '')}"


def test_an_unreadable_anchor_stops_no_event_and_is_told(ledger: Ledger, anchors: Path) -> None:
    ledger.append(draft())
    [head] = anchors.glob("*.head")
    head.write_text("")
    ledger.append(draft())
    with pytest.raises(StoreError, match="cannot be read"):
        ledger.check_chain()
    head.unlink()
    ledger.append(draft())
    assert ledger.check_chain() == 3


def test_an_event_appended_while_the_chain_is_checked_is_no_loss(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(draft())
    read = ledger._anchor

    def read_and_then_append() -> Any:
        anchor = read()
        monkeypatch.undo()
        ledger.append(draft())
        return anchor

    monkeypatch.setattr(ledger, "_anchor", read_and_then_append)
    assert ledger.check_chain() == 2


def test_a_ledger_that_has_gone_is_noticed_by_asking(ledger: Ledger, url: str) -> None:
    ledger.reach()
    with intruder(url) as connection:
        connection.execute(sa.text("ALTER TABLE nbmlops_events RENAME TO gone"))
    with pytest.raises(StoreError, match="out of reach"):
        ledger.reach()


def test_a_subject_that_is_longer_than_any_that_is_kept_is_asked_for_as_it_is_kept(ledger: Ledger) -> None:
    name = f"model/{'M' * 1_000_000}"
    ledger.append(draft(subject=name[:MAX_SUBJECT]))
    assert [event.subject for event in ledger.events(subject=name)] == [name[:MAX_SUBJECT]]
    assert ledger.events(subject=f"model/{'N' * 1_000_000}") == []
