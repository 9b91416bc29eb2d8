"""What an agent leaves for alerts: the end of a run whose processes are gone without a word."""

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.schedules import CLAIMED, LOST, Firing, stamp
from nbmlops.monitoring.messages import message_of
from nbmlops.tracking.owner import owner_tags
from tests.agent.stage import HOURLY, NOON, Stage

GONE = {"nbmlops.pid": "4194305", "nbmlops.pid_started": "1.0"}  # a number that no process of Linux has


def test_a_run_that_is_lost_leaves_an_event_that_is_worth_an_alert(stage: Stage) -> None:
    stage.declare(HOURLY)
    stage.look()
    owner, due = {**owner_tags(), **GONE}, stamp(NOON)
    stage.ledger.claim(Firing("hourly", due, due, CLAIMED, 1, owner, "5f0c5f0c5f0c", NOON.isoformat()))
    assert stage.ledger.start("hourly", due, 1, owner, due)
    stage.look()
    stage.look()
    assert stage.states() == [LOST]
    [event] = stage.project.open(Ledger).events()
    message = message_of(event)
    assert message
    assert (event.outcome, event.subject, event.by_human) == (LOST, "job/5f0c5f0c5f0c", False)
    assert (message.kind, message.headline, message.next_step) == ("job", "hourly failed", "jobs --name hourly")
    assert "its process is gone without a word" in message.cause
