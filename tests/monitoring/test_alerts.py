"""Alerts: declared, told to real receivers that fail in many ways, silenced, tested; and the verb that does so."""

import contextlib
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbmlops.agent.alerting import Alerting
from nbmlops.errors import DriftError, NbmlopsError, NotFoundError, StoreError, UsageError
from nbmlops.ledger.alerts import GIVEN_UP, SENDING, SENT, WAITING, Alerts
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Draft, Event
from nbmlops.monitoring import telling
from nbmlops.monitoring.alerts import declared_in
from nbmlops.monitoring.messages import body_of, message_of
from nbmlops.monitoring.telling import Told, told
from nbmlops.project import Project
from nbmlops.surfaces.cli import main
from nbmlops.surfaces.python import Operations
from tests.monitoring.hooks import PATH, Hook, hook
from tests.pipelines.conftest import as_notebook
from tests.serving.crowd import until

DECLARED = """
[alerts.oncall]  # who is called
on = ["slo", "job"]
to = "webhook:env:HOOK"
private = true
"""


@pytest.fixture
def them(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    """A receiver whose address is in the variable HOOK."""
    with hook() as made:
        monkeypatch.setenv("HOOK", made.url)
        yield made


@pytest.fixture
def watched(project: Project) -> Project:
    """The project with an alert ``oncall`` of limits and jobs."""
    path = project.root / "nbmlops.toml"
    path.write_text(path.read_text() + DECLARED)
    told(project)
    return project


def event(verb: str = "run", outcome: str = "CellError", **known: Any) -> Event:
    base: dict[str, Any] = {"subject": "", "by_human": True, "arguments": {}, "result": {"message": "it broke"}}
    of_place = {"seq": 7, "at": datetime.now(UTC), "actor": "ops", "previous_hash": "", "hash": "abc"}
    return Event(verb=verb, outcome=outcome, surface="cli", seconds=0.1, **{**base, **of_place, **known})


def fail(project: Project, message: str = "train.ipynb failed with ValueError: no flights (cell 3)") -> Event:
    draft = Draft(
        "run",
        "",
        "cli",
        by_human=True,
        outcome="CellError",
        arguments={"what": "train.ipynb"},
        result={"message": message},
    )
    return project.open(Ledger).append(draft)


def states(project: Project, name: str = "oncall") -> list[tuple[str, int]]:
    return [(each.state, each.attempts) for each in project.open(Alerts).newest(name)[::-1]]


# ---------------------------------------------------------------------- messages
ROLLED_BACK = {
    "rollout": {
        "endpoint": "delays",
        "challenger": "delays/3",
        "champion": "delays/1",
        "state": "rolled_back",
        "reason": "err is 20% of 50 requests, above 1%",
    }
}


LATE = {"name": "delay", "drifted": True}, {"name": "hour", "drifted": False}
SAID: list[tuple[Event, list[str]]] = [
    (
        event("rollout", "DeployError", result=ROLLED_BACK, subject="endpoint/delays", by_human=False),
        [
            "slo: delays/3 was taken back at delays",
            "why: err is 20% of 50 requests, above 1%",
            "live: delays/1 answers alone",
            "next: nbmlops show delays",
        ],
    ),
    (
        event("deploy", "DeployError", subject="endpoint/delays", by_human=False),
        ["slo: the endpoint delays is in trouble", "why: it broke", "live: what answers there goes on"],
    ),
    (
        event("deploy", "DeployError", arguments={"model": "delays/3", "as_": "live"}),
        ["slo: delays/3 could not be deployed as live", "why: it broke", "live: what was live before goes on"],
    ),
    (
        event(arguments={"what": "notebooks/train.ipynb"}),
        [
            "job: notebooks/train.ipynb failed",
            "why: it broke",
            "live: what is served goes on",
            "next: nbmlops jobs --name train",
        ],
    ),
    (
        event("run", "LOST", arguments={"what": "nightly"}, by_human=False),
        ["job: nightly failed", "why: it broke", "live: what is served goes on", "next: nbmlops jobs --name nightly"],
    ),
    (event("resume", arguments={"job": "5f0c"}), ["job: 5f0c failed", "why: it broke"]),
    (event("run", "UsageError", by_human=False, arguments={"what": "retrain"}), ["job: retrain failed"]),
    (event("run", "GateError", result={"passed": False}, arguments={"what": "a"}), ["job: a failed", "why: GateError"]),
    (
        event(
            "drift",
            "ok",
            result={"drifted": True, "current": "delays", "reference": "january.parquet", "columns": LATE},
        ),
        ["drift: delays has drifted", "why: delay drifted against january.parquet", "live: what is served goes on"],
    ),
]


@pytest.mark.parametrize(("found", "lines"), SAID, ids=[f"{each.verb} {each.outcome}" for each, _ in SAID])
def test_what_is_said_of_an_event(found: Event, lines: list[str]) -> None:
    message = message_of(found)
    assert message
    assert message.text.splitlines()[: len(lines)] == lines


@pytest.mark.parametrize(
    "found",
    [
        event("run", "ok"),
        event("run", "UsageError"),
        event("run", "ConflictError", by_human=False),
        event("run", "KeyboardInterrupt"),
        event("run", arguments={"what": "step.ipynb", "fence": "5f0c/step/1"}, by_human=False),
        event("deploy", "NotFoundError"),
        event("deploy", "DeployError", result={"message": "The rollout at delays was rolled back: err"}),
        event("rollout", "ok", result=ROLLED_BACK),
        event("drift", "ok", result={"drifted": False}),
        event("drift", "DataError"),
        event("promote", "GateError"),
    ],
    ids=lambda each: f"{each.verb} {each.outcome}",
)
def test_what_is_worth_no_alert(found: Event) -> None:
    assert message_of(found) is None


def test_a_body_is_text_for_chat_rooms_and_fields_for_programs() -> None:
    found = event(result={"message": "<!channel> & http://ops:hunter22@db/x"}, arguments={"what": "a.ipynb"})
    message = message_of(found)
    assert message
    body = body_of(message, found, "flights", "oncall")
    assert set(body) == {"text", "timestamp", "data"}
    assert body["text"].startswith("[flights] job: a.ipynb failed\nwhy: &lt;!channel&gt; &amp; http://ops:***@db/x")
    assert body["data"]["cause"] == "<!channel> & http://ops:***@db/x"
    assert (body["data"]["alert"], body["data"]["event"], body["data"]["kind"]) == ("oncall", 7, "job")


def test_a_cause_without_end_is_cut() -> None:
    message = message_of(event(result={"message": "x" * 100_000}))
    assert message
    assert len(message.text) < 1200


# ---------------------------------------------------------------------- declared
@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('on = ["slow"]\nto = "webhook:env:HOOK"', "there is no kind 'slow' of events"),
        ('to = "webhook:env:HOOK"', "says not what it tells of"),
        ('on = ["slo"]', "is no reference"),
        ('on = ["slo"]\nto = "webhook:https://hooks.example/a-path-that-is-secret"', "is no reference"),
        ('on = ["slo"]\nto = "env:HOOK"', "is no reference"),
        ('on = ["slo"]\nto = "webhook:env:"', "is no reference"),
        ('on = ["slo"]\nto = "webhook:env:HOOK"\nsecret = "hunter2-and-more"', "secret is no reference"),
    ],
)
def test_one_that_is_declared_badly_says_so_and_hides_no_other(project: Project, lines: str, why: str) -> None:
    path = project.root / "nbmlops.toml"
    path.write_text(path.read_text() + DECLARED + f"[alerts.wrong]\n{lines}\n")
    found, wrong = declared_in(project.settings)
    assert list(found) == ["oncall"]
    assert why in wrong["wrong"]
    assert re.search(r"nbmlops\.toml, line \d+: alerts\.wrong", wrong["wrong"])
    assert "secret" not in wrong["wrong"].replace("a secret", "").replace("wrong.secret", "")
    attention = Operations(project.folder).status().attention
    assert any(why in each.what for each in attention)


def test_an_unknown_key_is_refused_and_the_nearest_named(project: Project) -> None:
    (project.root / "nbmlops.toml").write_text("[alerts.a]\nprivat = true\n")
    with pytest.raises(UsageError, match=r"no key 'privat' in \[alerts\.a\]") as refused:
        project.settings  # noqa: B018
    assert "private" in refused.value.hint


# --------------------------------------------------------------------- delivered
def test_a_failed_run_is_told_once_with_its_cause(watched: Project, them: Hook) -> None:
    failed = fail(watched)
    assert told(watched) == [Told("oncall", failed.seq, True, "it answered 200")]
    assert told(watched) == []
    [call] = them.calls
    assert call.path == PATH
    assert call.content["data"]["cause"] == "train.ipynb failed with ValueError: no flights (cell 3)"
    assert abs(int(call.headers["webhook-timestamp"]) - time.time()) < 30
    assert "webhook-signature" not in call.headers
    assert states(watched) == [(SENT, 1)]


def test_what_was_before_the_alert_is_not_told(project: Project, them: Hook) -> None:
    fail(project)
    path = project.root / "nbmlops.toml"
    path.write_text(path.read_text() + DECLARED)
    os.utime(path, (time.time() + 1, time.time() + 1))
    assert told(project) == []
    failed = fail(project)
    assert [each.event for each in told(project)] == [failed.seq]


def test_a_message_is_signed_as_the_standard_says(
    project: Project, them: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    path = project.root / "nbmlops.toml"
    path.write_text(path.read_text() + DECLARED + 'secret = "env:KEY"\n')
    told(project)
    fail(project)
    told(project)
    [call] = them.calls
    content = f"{call.id}.{call.headers['webhook-timestamp']}.".encode() + call.body
    digest = hmac.new(b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), content, hashlib.sha256).digest()
    assert b64decode(call.headers["webhook-signature"].removeprefix("v1,")) == digest


def test_what_is_not_taken_is_sent_again_with_growing_pauses_under_the_same_id(watched: Project, them: Hook) -> None:
    fail(watched)
    them.statuses = [500, 429, 503]
    now = datetime.now(UTC)
    for attempt, pause in enumerate((5, 10, 20), start=1):
        [done] = told(watched, now)
        assert not done.is_taken
        assert states(watched) == [(WAITING, attempt)]
        assert told(watched, now + timedelta(seconds=pause - 2)) == []
        now += timedelta(seconds=pause + 1)
    assert Operations(watched.folder).status().attention[-1].what == (
        "alert oncall: 1 message undelivered: it answered 503: ok"
    )
    assert [each.is_taken for each in told(watched, now)] == [True]
    assert states(watched) == [(SENT, 4)]
    assert len(them.calls) == 4
    assert len({call.id for call in them.calls}) == 1
    assert len({call.body for call in them.calls}) == 1
    assert Operations(watched.folder).status().headline.endswith("all is well")


def test_after_a_day_it_is_given_up_and_status_says_so(watched: Project, them: Hook) -> None:
    fail(watched)
    them.statuses = [500] * 1000
    now, began = datetime.now(UTC), datetime.now(UTC)
    while states(watched) != [(GIVEN_UP, n := len(them.calls))]:
        assert now - began < timedelta(days=1, hours=1)
        told(watched, now)
        now += timedelta(hours=1)
    assert 20 < n < 30
    [said] = [each for each in Operations(watched.folder).status().attention if "alert" in each.what]
    assert (said.what, said.mend) == ("alert oncall: given up after a day: it answered 500: ok", "alert oncall --test")


def test_a_private_address_is_not_called_unless_the_alert_says_so(watched: Project, them: Hook) -> None:
    path = watched.root / "nbmlops.toml"
    path.write_text(path.read_text().replace("private = true", "private = false"))
    os.environ["HOOK"] = them.url.replace("http:", "https:")
    fail(watched)
    [done] = told(watched)
    assert (done.is_taken, them.calls) == (False, [])
    assert done.said == "its address, 127.0.0.1, is no public one: it is called only where private = true allows it."


def test_a_variable_that_is_missing_is_told_and_the_message_waits_for_it(
    watched: Project, them: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(watched)
    monkeypatch.delenv("HOOK")
    assert "the variable HOOK is not set" in told(watched)[0].said
    monkeypatch.setenv("HOOK", them.url)
    assert [each.is_taken for each in told(watched, at_once=True)] == [True]


def test_two_agents_at_once_queue_a_message_once(watched: Project, them: Hook) -> None:
    others = [Project(watched.root) for _ in range(4)]
    for _ in range(5):
        fail(watched)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(told, others * 3))
    assert states(watched) == [(SENT, 1)] * 5
    assert len(set(them.ids)) == len(them.ids) == 5
    for other in others:
        other.open(Ledger).close()


@pytest.mark.parametrize(("point", "n_calls"), [("alert-claimed", 0), ("alert-sent", 1)])
def test_a_process_that_dies_while_it_sends_leaves_it_to_another_one(
    watched: Project, them: Hook, point: str, n_calls: int
) -> None:
    fail(watched)
    code = "import sys; from nbmlops.project import Project; from nbmlops.monitoring.telling import told; "
    words = [sys.executable, "-c", code + "told(Project(sys.argv[1]))", str(watched.root)]
    killed = subprocess.run(words, env={**os.environ, "NBMLOPS_CRASH_AT": point}, timeout=60)
    assert killed.returncode == -9
    assert len(them.calls) == n_calls
    assert states(watched) == [(SENDING, 1)]
    assert told(watched, at_once=True) == [], "somebody may be sending it"
    assert [each.is_taken for each in told(watched, datetime.now(UTC) + telling.LEASE * 1.1)] == [True]
    assert len(set(them.ids)) == 1
    assert len(them.ids) == n_calls + 1
    assert states(watched) == [(SENT, 2)]


@pytest.mark.parametrize("exit_code", [False, True])
def test_a_report_of_drift_is_told_and_one_without_drift_is_not(project: Project, them: Hook, exit_code: bool) -> None:
    ops = Operations(project.folder)
    ops.alert("data", on="drift", to="webhook:env:HOOK", private=True)
    january = pd.DataFrame({"delay": np.arange(1000.0), "hour": np.arange(1000.0) % 24})
    ops.drift(january, against=january, exit_code=exit_code)
    with pytest.raises(DriftError) if exit_code else contextlib.nullcontext():
        ops.drift(january.assign(delay=january.delay + 500), against=january, exit_code=exit_code)
    told(project)
    [call] = them.calls
    assert (call.content["data"]["kind"], call.content["data"]["cause"][:14]) == ("drift", "delay drifted ")


# --------------------------------------------------------------------- the agent
def test_an_agent_tells_within_seconds_and_asks_for_nothing_while_all_is_quiet(watched: Project, them: Hook) -> None:
    said: list[str] = []
    alerting = Alerting(Project(watched.root), said.append, every_s=0.05)
    alerting.start()
    try:
        them.statuses = [500]
        fail(watched)
        until(lambda: len(them.calls) == 1 and alerting.is_needed, 5)
        until(lambda: len(them.calls) == 2 and not alerting.is_needed, 15)
    finally:
        alerting.close()
    assert said == ["alert oncall: it answered 500: ok", "alert oncall: all is well again"]


def test_a_look_at_nothing_new_is_one_query(watched: Project, them: Hook) -> None:
    import sqlalchemy as sa

    project = Project(watched.root)
    alerting = Alerting(project)
    alerting.look()
    asked: list[str] = []
    engine = project.open(Ledger)._engine
    sa.event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    for _ in range(5):
        alerting.look()
    queries = [each for each in asked if each != "BEGIN"]
    assert len(queries) == 5
    with closing(engine.raw_connection()) as connection:
        plan = connection.cursor().execute(f"EXPLAIN QUERY PLAN {queries[0]}", ("a", "b", "c")[: queries[0].count("?")])
        assert not [row for row in plan if row[3].startswith("SCAN nbmlops_alerts")]


def test_sync_tells_what_waits_where_no_agent_runs(watched: Project, them: Hook) -> None:
    ops = Operations(watched.folder)
    fail(watched)
    [said] = [each for each in ops.status().attention if "alert" in each.what]
    assert (said.what, said.mend) == ("alert oncall: 1 message undelivered: no agent has sent it yet", "sync")
    them.statuses = [500]
    assert "it answered 500" in ops.sync().headline
    assert ops.sync().why == ""
    assert [state for state, _ in states(watched)] == [SENT]


def test_a_step_of_a_pipeline_leaves_its_alert_to_the_pipeline(watched: Project, them: Hook) -> None:
    bad = as_notebook("raise ValueError('no flights')")
    (watched.root / "bad.ipynb").write_text(json.dumps(bad))
    path = watched.root / "nbmlops.toml"
    path.write_text(path.read_text() + '[[pipelines.retrain.steps]]\nname = "one"\nnotebook = "bad.ipynb"\n')
    with pytest.raises(NbmlopsError):
        Operations(watched.folder).run("retrain")
    told(watched)
    [call] = them.calls
    assert call.content["data"]["headline"] == "retrain failed"
    assert call.content["data"]["cause"].startswith("step one: bad.ipynb failed with ValueError: no flights")
    assert re.fullmatch("resume [0-9a-f]{12}", call.content["data"]["next_step"])


# ----------------------------------------------------------------------- the verb
def test_the_verb_declares_changes_and_removes_an_alert_and_comments_stay(project: Project, them: Hook) -> None:
    ops, path = Operations(project.folder), project.root / "nbmlops.toml"
    path.write_text(path.read_text() + "\n# the end\n")
    before = path.read_text()
    planned = ops.alert("oncall", on="slo, drift", to="webhook:env:HOOK", dry_run=True)
    assert (path.read_text(), planned.changes[0].line) == (before, "+[alerts.oncall]")
    made = ops.alert("oncall", on="slo, drift", to="webhook:env:HOOK")
    assert made.headline == "oncall tells webhook:env:HOOK of slo, drift"
    assert (made.next_step, made.subject, made.problem) == ("alert oncall --test", "alert/oncall", "")
    assert path.read_text().startswith(before)
    changed = ops.alert("oncall", on="job", private=True)
    assert [each.line for each in changed.changes] == ['-on = ["slo", "drift"]', '+on = ["job"]', "+private = true"]
    with pytest.raises(NotFoundError, match="There is no alert 'oncal'"):
        ops.alert("oncal", remove=True)
    ops.alert("oncall", remove=True)
    assert path.read_text().rstrip() == before.rstrip()
    events = project.open(Ledger).events(verbs=("alert",))[::-1]
    assert [each.outcome for each in events] == ["ok", "ok", "NotFoundError", "ok"]


def test_bare_it_lists_the_alerts_and_a_name_shows_what_was_told(watched: Project, them: Hook) -> None:
    ops = Operations(watched.folder)
    failed = fail(watched)
    told(watched)
    [row] = ops.alert()
    assert (row.name, row.on, row.to, row.waiting) == ("oncall", ("slo", "job"), "webhook:env:HOOK", 0)
    assert row.last.startswith("SENT ")
    assert row.last.endswith(": train.ipynb failed")
    card = ops.alert("oncall")
    assert [(each.event, each.state, each.said) for each in card.deliveries] == [(failed.seq, SENT, "it answered 200")]
    assert watched.open(Ledger).events(verbs=("alert",)) == [], "nothing was changed"


def test_a_test_says_what_came_back(watched: Project, them: Hook) -> None:
    ops = Operations(watched.folder)
    assert ops.alert("oncall", test=True, dry_run=True).said == ""
    assert them.calls == []
    assert ops.alert("oncall", test=True).said == "it answered 200"
    assert them.calls[0].content["text"].startswith("[flights] test: this alert is heard")
    them.statuses, them.says = [404], b"no_service"
    with pytest.raises(StoreError, match="oncall is not heard at webhook:env:HOOK: it answered 404: no_service"):
        ops.alert("oncall", test=True)
    assert states(watched) == [], "a test is no message that waits"


def test_a_muted_alert_is_silent_until_it_is_not(watched: Project, them: Hook) -> None:
    ops = Operations(watched.folder)
    card = ops.alert("oncall", mute="2h")
    assert "and is silent until" in card.headline
    fail(watched)
    assert told(watched) == []
    assert ops.alert("oncall", mute="off").muted_until is None
    fail(watched)
    assert len(told(watched)) == 1
    assert len(them.calls) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"name": "oncall", "test": True, "mute": "2h"}, "exclude each other"),
        ({"test": True}, "Which alert is meant"),
        ({"name": "oncall", "mute": "5 apples"}, "--mute must be a duration"),
        ({"name": "on call", "on": "slo", "to": "webhook:env:HOOK"}, "cannot be an alert's name"),
        ({"name": "new", "on": "slo"}, "is no reference"),
        ({"name": "oncall", "on": "slow"}, "there is no kind 'slow'"),
    ],
)
def test_what_cannot_be_meant_is_refused(watched: Project, words: dict[str, Any], why: str) -> None:
    before = (watched.root / "nbmlops.toml").read_text()
    with pytest.raises(UsageError, match=why):
        Operations(watched.folder).alert(**words)
    assert (watched.root / "nbmlops.toml").read_text() == before


# ------------------------------------------------------------------------ secrets
def test_neither_address_nor_secret_is_at_rest_or_told(
    watched: Project, them: Hook, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEY", "a-signing-key-of-0815")
    path = watched.root / "nbmlops.toml"
    path.write_text(path.read_text() + 'secret = "env:KEY"\n')
    fail(watched)
    them.statuses, them.says = [500, 404, 200, 302], f"at {them.url} and {PATH}".encode()
    them.location = them.url
    assert main(["sync"]) == 0
    assert main(["alert", "oncall", "--test"]) == 10
    assert main(["sync"]) == 0
    assert main(["alert", "oncall", "--test", "--json"]) == 10
    typed = "https://hooks.invalid/services/typed-by-mistake-4711"
    for words in (["--to", typed], ["--to", f"webhook:{typed}"], ["--secret", "typed-by-mistake-4711"]):
        assert main(["alert", "new thing", "--on", "slo", "--test", *words]) == 2
    assert main(["alert"]) == 0
    assert main(["status"]) == 0
    said = "".join(capfd.readouterr())
    watched.open(Ledger).close()
    for canary in ("a-path-that-is-secret", "a-signing-key-of-0815", "typed-by-mistake-4711"):
        assert canary not in said
        found = [file for file in watched.root.rglob("*") if file.is_file() and canary.encode() in file.read_bytes()]
        assert found == []
