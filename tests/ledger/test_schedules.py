"""Firings: each occasion is one row, and whoever claims, takes over or starts it does so once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from nbmlops.ledger import schedules as table
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.schedules import CLAIMED, FINISHED, LOST, QUEUED, SKIPPED, STARTED, Firing, Schedules, Seen, stamp

from .conftest import Opened

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
OWNER = {"nbmlops.pid": "1"}


def firing(minutes: int = 0, name: str = "nightly", occasion: str = "") -> Firing:
    due_at = stamp(NOON + timedelta(minutes=minutes))
    return Firing(name, occasion or due_at, due_at, CLAIMED, 1, OWNER, f"job{minutes}", stamp(NOON))


@pytest.fixture
def schedules(ledger: Ledger) -> Schedules:
    return Schedules(ledger)


def started(schedules: Schedules, each: Firing) -> Firing:
    assert schedules.start(each.schedule, each.occasion, each.fence, OWNER, stamp(NOON))
    return each


def finish(schedules: Schedules, each: Firing, state: str = FINISHED) -> bool:
    place = (each.schedule, each.occasion, each.fence)
    return schedules.end(*place, state, ended_at=stamp(NOON), exit_code=0, reason="")


def test_of_many_who_claim_an_occasion_one_gets_it(open_ledger: Opened) -> None:
    tables = [Schedules(open_ledger()) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        for n in range(10):
            won = list(pool.map(lambda each, n=n: each.claim(firing(n, f"s{n}")), tables))
            assert sum(each is not None for each in won) == 1


def test_of_many_who_take_a_claim_over_one_gets_it_and_the_first_claim_starts_nothing(open_ledger: Opened) -> None:
    tables = [Schedules(open_ledger()) for _ in range(6)]
    first = tables[0].claim(firing())
    assert first
    with ThreadPoolExecutor(6) as pool:
        taken = [each for each in pool.map(lambda each: each.take_over(first, OWNER, stamp(NOON)), tables) if each]
    assert [each.fence for each in taken] == [2]
    assert not tables[1].start(first.schedule, first.occasion, first.fence, OWNER, stamp(NOON))
    started(tables[2], taken[0])
    assert not tables[3].start(first.schedule, first.occasion, 2, OWNER, stamp(NOON)), "a firing starts once"
    assert tables[4].take_over(taken[0], OWNER, stamp(NOON)) is None, "what runs is not taken over"


def test_two_due_times_of_one_schedule_never_go_on_at_once(open_ledger: Opened) -> None:
    tables = [Schedules(open_ledger()) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        states = Counter(each.state for each in pool.map(lambda n: tables[n].claim(firing(n)), range(6)) if each)
    assert states == {CLAIMED: 1, SKIPPED: 5}


def test_a_queue_moves_on_in_order_when_the_one_before_has_ended(schedules: Schedules) -> None:
    first = schedules.claim(firing(0), overlap="queue")
    assert first
    for n in (2, 1):
        queued = schedules.claim(firing(n), overlap="queue")
        assert queued
        assert queued.state == QUEUED
    assert schedules.take_next("nightly", OWNER, stamp(NOON)) is None
    finish(schedules, started(schedules, first))
    late = schedules.claim(firing(3), overlap="queue")
    assert late
    assert late.state == QUEUED, "what waits goes first"
    following = schedules.take_next("nightly", OWNER, stamp(NOON))
    assert following
    assert (following.due_at, following.state, following.fence) == (firing(1).due_at, CLAIMED, 2)


def test_the_word_of_a_runner_that_was_taken_for_lost_counts(schedules: Schedules) -> None:
    each = schedules.claim(firing())
    assert each
    finish(schedules, started(schedules, each), LOST)
    assert schedules.beat(each.schedule, each.occasion, each.fence, OWNER)
    assert schedules.open_firings()[0].state == STARTED
    assert finish(schedules, each)
    assert not finish(schedules, each), "it has ended"


def test_what_was_dropped_starts_nothing(schedules: Schedules) -> None:
    each = schedules.claim(firing())
    assert each
    assert schedules.drop(each, "no longer scheduled")
    assert not schedules.start(each.schedule, each.occasion, each.fence, OWNER, stamp(NOON))
    assert schedules.open_firings() == []


def test_due_times_and_triggers_are_told_apart(schedules: Schedules) -> None:
    for each in (firing(0), firing(5, occasion="file:*.csv#1"), firing(9, occasion="webhook#2")):
        kept = schedules.claim(each)
        assert kept
        finish(schedules, started(schedules, kept))
    assert schedules.newest_due(["nightly", "other"], NOON + timedelta(hours=1)) == {"nightly": NOON}
    assert schedules.n_triggered("nightly", NOON) == 2
    assert schedules.n_triggered("nightly", NOON + timedelta(minutes=6)) == 1
    assert schedules.last_run("nightly") == NOON + timedelta(minutes=9)
    assert schedules.last_run("other") is None


def test_firings_ahead_of_a_wrong_clock_are_left_out(schedules: Schedules) -> None:
    for minutes in (0, 60 * 24 * 400):
        kept = schedules.claim(firing(minutes))
        assert kept
        finish(schedules, started(schedules, kept))
    assert schedules.newest_due(["nightly", "other"], NOON + timedelta(hours=1)) == {"nightly": NOON}


def test_a_pause_begins_and_ends_once_and_what_was_seen_is_seen_anew(schedules: Schedules) -> None:
    schedules.see("nightly", "file:*", "host", Seen(NOON, {"a": "1"}))
    assert [schedules.pause("nightly", NOON), schedules.pause("nightly", NOON)] == [True, False]
    assert set(schedules.paused()) == {"nightly"}
    later = NOON + timedelta(hours=1)
    assert [schedules.unpause("nightly", later), schedules.unpause("nightly", later)] == [True, False]
    assert schedules.seen() == {("nightly", "file:*", "host"): Seen(later, None)}
    schedules.unsee("nightly", "file:*")
    assert schedules.seen() == {}


def test_the_oldest_firings_go_but_never_the_newest_due_time_nor_what_is_open(
    schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "KEPT", 3)
    for n in range(8):
        kept = schedules.claim(firing(n, occasion="" if n in (0, 1) else f"webhook#{n}"))
        assert kept
        finish(schedules, started(schedules, kept))
    assert [each.job for each in schedules.newest()] == ["job7", "job6", "job5", "job1"]
    going_on = schedules.claim(firing(9))
    assert going_on
    started(schedules, going_on)
    for n in range(10, 14):
        schedules.claim(firing(n))
    assert [each.job for each in schedules.newest() if each.state == STARTED] == ["job9"]
