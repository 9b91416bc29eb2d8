"""What alerts are to tell: each event is queued once, one at a time sends it, after a day it is given up."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from nbmlops.ledger import alerts as table
from nbmlops.ledger.alerts import GIVEN_UP, MUTED, SENDING, SENT, WAITING, Alerts, Asked
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Draft

from .conftest import Opened

DAY = timedelta(days=1)
LEASE = timedelta(seconds=30)


def now() -> datetime:
    return datetime.now(UTC)


def asked(later: timedelta = timedelta(), begins: datetime | None = None) -> Asked:
    moment = now() + later
    return Asked(("run",), lambda event: event.outcome != "ok", moment - DAY, begins or moment - DAY, moment)


def fail(ledger: Ledger, outcome: str = "CellError", verb: str = "run") -> int:
    return ledger.append(Draft(verb, "", "cli", by_human=True, outcome=outcome)).seq


@pytest.fixture
def alerts(ledger: Ledger) -> Alerts:
    return Alerts(ledger)


def states(alerts: Alerts, name: str = "oncall") -> list[tuple[int, str]]:
    return [(each.event, each.state) for each in alerts.newest(name)[::-1]]


def test_of_many_who_look_each_event_is_queued_once(open_ledger: Opened) -> None:
    tables = [(ledger, Alerts(ledger)) for ledger in (open_ledger() for _ in range(6))]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            fail(tables[0][0])
            found = list(pool.map(lambda each: each[1].hear("oncall", asked()), tables))
            assert sum(found) == 1
        list(pool.map(lambda each: (fail(each[0]), each[1].hear("oncall", asked())), tables))
    assert [state for _, state in states(tables[0][1])] == [WAITING] * 11


def test_of_many_who_take_one_in_hand_one_does_until_the_lease_is_out(open_ledger: Opened) -> None:
    ledger = open_ledger()
    fail(ledger)
    tables = [Alerts(open_ledger()) for _ in range(6)]
    tables[0].hear("oncall", asked())
    [waiting] = tables[0].waiting("oncall", now())
    with ThreadPoolExecutor(6) as pool:
        won = [each for each in pool.map(lambda each: each.claim(waiting, now() + LEASE), tables) if each]
    assert [(each.state, each.attempts) for each in won] == [(SENDING, 1)]
    for at_once in (False, True):
        assert tables[1].waiting("oncall", now(), at_once=at_once) == []
    [lost] = tables[1].waiting("oncall", now() + LEASE + LEASE)
    again = tables[1].claim(lost, now() + LEASE)
    assert again
    assert not tables[0].end(won[0], SENT, "late", now()), "another attempt goes on"
    assert tables[1].end(again, SENT, "200", now())
    assert [(each.state, each.attempts, each.said) for each in tables[0].newest("oncall")] == [(SENT, 2, "200")]


def test_an_alert_hears_of_what_it_wants_alone_and_goes_on_where_it_was(ledger: Ledger, alerts: Alerts) -> None:
    first = fail(ledger)
    fail(ledger, "ok")
    fail(ledger, verb="promote")
    assert (alerts.unheard("oncall", asked()), alerts.hear("oncall", asked()), alerts.hear("oncall", asked())) == (
        1,
        1,
        0,
    )
    second = fail(ledger)
    assert alerts.hear("other", asked(begins=now() + DAY)) == 0, "what was before it was declared"
    assert alerts.hear("oncall", asked()) == 1
    assert states(alerts) == [(first, WAITING), (second, WAITING)]
    assert fail(ledger)
    assert alerts.hear("oncall", asked(later=DAY + LEASE)) == 0, "what nobody looked at for a day"


def test_however_much_has_happened_all_of_it_is_heard(
    ledger: Ledger, alerts: Alerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "AT_ONCE", 3)
    numbers = [fail(ledger, outcome) for outcome in ("a", "ok", "b", "ok", "ok", "ok", "ok", "c")]
    assert [alerts.hear("oncall", asked()) for _ in range(4)] == [3, 0, 0, 0]
    assert [event for event, _ in states(alerts)] == [numbers[0], numbers[2], numbers[7]]


def test_an_outlook_says_what_is_to_be_done(ledger: Ledger, alerts: Alerts) -> None:
    assert alerts.outlook(["oncall"], now()) == (0, False, False)
    number = fail(ledger)
    alerts.hear("oncall", asked())
    assert alerts.outlook(["oncall"], now()) == (number, True, True)
    assert alerts.outlook(["other"], now()) == (number, False, False)
    [waiting] = alerts.waiting("oncall", now())
    claimed = alerts.claim(waiting, now() + LEASE)
    assert claimed
    alerts.end(claimed, WAITING, "500", now() + LEASE)
    assert alerts.outlook(["oncall"], now()) == (number, True, False)
    assert alerts.waiting("oncall", now()) == []
    assert len(alerts.waiting("oncall", now(), at_once=True)) == 1


def test_what_nobody_has_taken_for_a_day_is_given_up(ledger: Ledger, alerts: Alerts) -> None:
    fail(ledger)
    alerts.hear("oncall", asked())
    assert alerts.give_up(now() - DAY) == 0
    assert alerts.give_up(now() + LEASE) == 1
    assert [state for _, state in states(alerts)] == [GIVEN_UP]


def test_what_comes_during_silence_is_not_made_up(ledger: Ledger, alerts: Alerts) -> None:
    fail(ledger)
    alerts.hear("oncall", asked())
    alerts.mute("oncall", now() + DAY)
    assert list(alerts.muted(now())) == ["oncall"]
    fail(ledger)
    assert alerts.unheard("oncall", asked()) == 0
    alerts.hear("oncall", asked())
    alerts.mute("oncall", None)
    fail(ledger)
    alerts.hear("oncall", asked())
    assert [state for _, state in states(alerts)] == [MUTED, MUTED, WAITING]
    assert alerts.muted(now()) == {}
    alerts.mute("oncall", now() + LEASE)
    assert alerts.muted(now() + DAY) == {}, "silence ends by itself"


def test_one_that_begins_anew_or_is_forgotten_owes_nothing(ledger: Ledger, alerts: Alerts) -> None:
    fail(ledger)
    alerts.hear("oncall", asked())
    fail(ledger)
    alerts.begin("oncall")
    assert alerts.hear("oncall", asked()) == 0
    assert [state for _, state in states(alerts)] == [MUTED]
    alerts.forget("oncall")
    assert states(alerts) == []


def test_the_oldest_that_are_over_go(ledger: Ledger, alerts: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "KEPT", 3)
    for n in range(6):
        fail(ledger)
        alerts.hear("oncall", asked())
        if n != 1:
            [waiting] = [each for each in alerts.waiting("oncall", now()) if each.event == n + 1]
            claimed = alerts.claim(waiting, now())
            assert claimed
            alerts.end(claimed, SENT, "200", now())
    assert states(alerts) == [(2, WAITING), (4, SENT), (5, SENT), (6, SENT)]
