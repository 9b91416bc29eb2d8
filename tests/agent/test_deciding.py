"""What an agent decides to do now, over the clock's tricks: suspends, jumps, daylight saving."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.agent.deciding import LOOK_S, MOST_AT_ONCE, SLACK, due_now, is_of_wrong_clock, wait_s, why_not
from nbmlops.ledger.schedules import Seen
from nbmlops.pipelines.flow.timing import Budget, Timing
from nbmlops.pipelines.scheduled import Scheduled

VIENNA = "Europe/Vienna"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def nightly(catchup: str = "one") -> Scheduled:
    return Scheduled("nightly", "a.ipynb", Timing("30 2 * * *", VIENNA, catchup=catchup))


def lived(each: Scheduled, moments: list[datetime]) -> list[datetime]:
    """Look at each of these times of the machine's clock, firing what is due as an agent does; rows fire once."""
    seen, fired = Seen(moments[0]), []
    for now in moments:
        known = [time for time in fired if time <= now + SLACK]
        if is_of_wrong_clock(seen, now):
            seen = Seen(now)
        fired += [time for time in due_now(each, seen, max(known, default=None), now) if time not in fired]
    return fired


def looks(start: datetime, n: int, minutes: int = 10) -> list[datetime]:
    return [start + timedelta(minutes=k * minutes) for k in range(n)]


def test_the_night_without_its_hour_fires_once_right_after_the_gap() -> None:
    fired = lived(nightly(), looks(at("2026-03-28T20:00"), 600, 1))
    assert fired == [at("2026-03-29T01:00")]


def test_the_night_with_an_hour_twice_fires_once_at_the_first() -> None:
    fired = lived(nightly(), looks(at("2026-10-24T20:00"), 600, 1))
    assert fired == [at("2026-10-25T00:30")]


@pytest.mark.parametrize(("catchup", "n"), [("one", 1), ("all", 5), ("none", 0)])
def test_a_machine_that_slept_for_days_catches_up_as_it_was_told(catchup: str, n: int) -> None:
    woken = at("2026-07-10T12:00")
    fired = lived(nightly(catchup), [at("2026-07-05T12:00"), woken, woken + timedelta(seconds=5)])
    assert len(fired) == n
    assert fired[-1:] == [at("2026-07-10T00:30")][:n]


def test_a_clock_put_back_fires_nothing_twice_and_goes_on_when_it_gets_there() -> None:
    before = looks(at("2026-07-01T00:00"), 6)
    back = looks(at("2026-07-01T00:10"), 150)
    assert lived(nightly(), before + back) == [at("2026-07-01T00:30"), at("2026-07-02T00:30")]


@pytest.mark.parametrize("ahead", [timedelta(minutes=20), timedelta(days=400), timedelta(days=3650)])
def test_a_clock_that_was_ahead_for_a_moment_costs_one_firing_and_stops_nothing(ahead: timedelta) -> None:
    start = at("2026-07-01T12:00")
    jump = [start, start + ahead]
    fired = lived(nightly(), [*jump, *looks(start + timedelta(minutes=1), 2 * 144)])
    extra = [time for time in fired if time > at("2026-07-03T13:00")]
    assert len(extra) <= 1
    assert [time for time in fired if time not in extra] == [at("2026-07-02T00:30"), at("2026-07-03T00:30")]


def test_a_schedule_first_seen_by_a_clock_far_ahead_begins_anew() -> None:
    assert is_of_wrong_clock(Seen(at("2030-01-01T00:00")), at("2026-01-01T00:00"))
    assert not is_of_wrong_clock(Seen(at("2026-01-01T00:30")), at("2026-01-01T00:00"))


def test_a_long_gap_is_made_up_in_parts_and_oldest_first() -> None:
    each = Scheduled("m", "a.ipynb", Timing("* * * * *", catchup="all"))
    start = at("2026-07-01T00:00")
    first = due_now(each, Seen(start), None, start + timedelta(days=1))
    assert len(first) == MOST_AT_ONCE
    assert first[0] == start + timedelta(minutes=1)
    then = due_now(each, Seen(start), first[-1], start + timedelta(days=1))
    assert then[0] == first[-1] + timedelta(minutes=1)


@given(
    jumps=st.lists(st.integers(-7200, 7200), max_size=12),
    catchup=st.sampled_from(["one", "all", "none"]),
    expression=st.sampled_from(["* * * * *", "30 2 * * *", "*/15 1-3 * * *"]),
)
def test_no_due_time_fires_twice_whatever_the_clock_does(jumps: list[int], catchup: str, expression: str) -> None:
    each = Scheduled("n", "a.ipynb", Timing(expression, VIENNA, catchup=catchup))
    now = at("2026-10-24T23:00")
    moments = [now]
    for jump in jumps:
        now += timedelta(seconds=jump)
        moments.append(now)
    fired = lived(each, moments)
    assert len(fired) == len(set(fired))


def test_it_waits_for_the_next_due_time_but_never_for_long() -> None:
    now = at("2026-07-01T00:29") + timedelta(seconds=57)
    assert wait_s([nightly()], now) == 3.0
    assert wait_s([nightly()], at("2026-07-01T12:00")) == LOOK_S
    assert wait_s([Scheduled("t", "a.ipynb", Timing(on=("webhook",)))], now) == LOOK_S


def test_cooldown_and_budget_hold_triggers_back() -> None:
    now = at("2026-07-01T12:00")
    timing = Timing(on=("webhook",), cooldown_s=3600, budget=Budget(2, "day"))
    assert why_not(timing, None, 0, now) == ""
    assert "cools down for another 30m" in why_not(timing, now - timedelta(minutes=30), 1, now)
    assert why_not(timing, now - timedelta(minutes=61), 1, now) == ""
    assert "2/day is spent" in why_not(timing, now - timedelta(minutes=61), 2, now)


def test_a_run_that_a_wrong_clock_dated_ahead_cools_nothing_down_for_years() -> None:
    now = at("2026-07-01T12:00")
    assert why_not(Timing(cooldown_s=3600), at("2030-01-01T00:00"), 0, now) == ""
