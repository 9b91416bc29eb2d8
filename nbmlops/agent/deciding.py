"""What an agent does now: pure decisions from what is declared, what was seen and what the clock shows."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import cast

from nbmlops.duration import spoken
from nbmlops.ledger.schedules import Seen
from nbmlops.pipelines.flow.timing import Budget, Timing
from nbmlops.pipelines.schedule import Catchup, due, next_firings
from nbmlops.pipelines.scheduled import Scheduled

SLACK = timedelta(hours=1)  # by which clocks may differ or be put back; what lies further ahead was a wrong clock
LOOK_S = 5.0  # between two looks: a suspended machine, a new file, a queue that moves on
MOST_AT_ONCE = 100  # firings that are made up in one look; the others follow in the next


def is_of_wrong_clock(seen: Seen, now: datetime) -> bool:
    """Say whether something was first seen so far ahead that the clock must have been wrong then.

    Examples
    --------
    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> is_of_wrong_clock(Seen(datetime(2031, 1, 1, tzinfo=UTC)), now), is_of_wrong_clock(Seen(now), now)
    (True, False)
    """
    return seen.since > now + SLACK


def due_now(each: Scheduled, seen: Seen, newest: datetime | None, now: datetime) -> tuple[datetime, ...]:
    """Give the times at which a schedule is due and has not been fired, oldest first.

    Counted are times after the newest that has its row, or after the schedule began. A clock that is put back fires
    nothing anew, since those times have their rows; after one that was far ahead (by more than an hour) and was put
    right, what it fired ahead of time does not count, so nothing stands still until that time comes.

    Parameters
    ----------
    each
        With a schedule.
    seen
        Since when it is heeded.
    newest
        Its newest due time with a row that is at most an hour ahead of now, if there is one.
    now
        Aware.

    Returns
    -------
    tuple of datetime.datetime
        Aware, in UTC; at most one, except where all that was missed is made up.

    Examples
    --------
    >>> nightly = Scheduled("nightly", "train.ipynb", Timing("30 2 * * *", "Europe/Vienna"))
    >>> began, now = datetime(2026, 3, 27, 12, tzinfo=UTC), datetime(2026, 3, 29, 9, tzinfo=UTC)
    >>> [str(time) for time in due_now(nightly, Seen(began), None, now)]
    ['2026-03-29 01:00:00+00:00']
    >>> due_now(nightly, Seen(began), datetime(2026, 3, 29, 1, tzinfo=UTC), now)
    ()
    """
    timing = each.timing
    since = max(seen.since, newest or seen.since)
    times = due(timing.schedule, timing.timezone, since, now, cast(Catchup, timing.catchup))
    return tuple(time.astimezone(UTC) for time in times[:MOST_AT_ONCE])


def wait_s(heeded: Iterable[Scheduled], now: datetime) -> float:
    """Tell how long nothing is due, at most until the next look.

    Examples
    --------
    >>> hourly = Scheduled("hourly", "a.ipynb", Timing("0 * * * *"))
    >>> wait_s([hourly], datetime(2026, 1, 1, 11, 59, 58, tzinfo=UTC)), wait_s([], datetime(2026, 1, 1, tzinfo=UTC))
    (2.0, 5.0)
    """
    next_ones = (next_firings(each.timing.schedule, each.timing.timezone, now, 1) for each in heeded if each.clock)
    waits = [(time.astimezone(UTC) - now).total_seconds() for times in next_ones for time in times]
    return max(0.0, min([LOOK_S, *waits]))


def why_not(timing: Timing, last_run: datetime | None, n_in_period: int, now: datetime) -> str:
    """Say why a trigger may start nothing now; empty where it may.

    Parameters
    ----------
    timing
        With its cooldown, counted from the last run however that was started, and its budget.
    last_run
        When the last run was due, if there was one.
    n_in_period
        Runs that triggers have started in the budget's period up to now.
    now
        Aware.

    Examples
    --------
    >>> now = datetime(2026, 1, 2, tzinfo=UTC)
    >>> why_not(Timing(cooldown_s=86400), datetime(2026, 1, 1, 20, tzinfo=UTC), 0, now)
    'it cools down for another 20h'
    >>> why_not(Timing(budget=Budget(3, "week")), None, 3, now)
    'its budget of 3/week is spent'
    >>> why_not(Timing(), None, 99, now)
    ''
    """
    elapsed_s = (now - last_run).total_seconds() if last_run else timing.cooldown_s
    if 0 <= elapsed_s < timing.cooldown_s:
        return f"it cools down for another {spoken(timing.cooldown_s - elapsed_s)}"
    if timing.budget and n_in_period >= timing.budget.n:
        return f"its budget of {timing.budget.n}/{timing.budget.per} is spent"
    return ""


def period_start(budget: Budget | None, now: datetime) -> datetime:
    """Give the time from which a budget counts."""
    return now - timedelta(seconds=budget.period_s) if budget else now
