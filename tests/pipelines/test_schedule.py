"""A schedule fires when it should: against a walk over every minute, on the nights on which clocks are moved."""

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbmlops.errors import UsageError
from nbmlops.pipelines.schedule import ALIASES, due, firings, next_firings, parsed, zone

from .oracle import Walk, is_fixed

# Each zone with the ten years in which its clock did the most.
DECADES = {
    "America/Caracas": 2007,  # half an hour, of standard time
    "America/New_York": 2020,
    "America/Nuuk": 2018,  # from 22:00 to 23:00, and at midnight
    "America/Sao_Paulo": 2010,  # at midnight
    "America/St_Johns": 2003,  # at 0:01: yesterday comes back
    "Africa/Cairo": 2014,
    "Africa/Casablanca": 2012,  # four times a year
    "Antarctica/Casey": 2014,  # three hours, and at 0:01
    "Asia/Beirut": 2018,
    "Australia/Lord_Howe": 2020,  # half an hour
    "Europe/Vienna": 2020,
    "Pacific/Apia": 2006,  # without 30 December 2011
}
EXPRESSIONS = [
    *ALIASES.values(),
    "30 2 * * *",
    "15,45 2 * * *",
    "0 2,3 * * *",
    "0 0-23 * * *",
    "5,35 0,23 * * *",
    "0 1-3 * * mon-fri",
    "30 23 30 * 5",
    "0 3 L * *",
    "59 23 31 12 *",
    "0 12 29 2 *",
    "0 2 * mar,oct sun",
    "*/20 * * * *",
    "*/15 2 * * *",
    "0 */2 * * *",
    "7-59/26 1-3 * * *",
    "* 2 * 3,10 sun",
    "30 * 1,15 * wed",
    "0 1-23/2 */2 * 7",
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def shown(expression: str, tz: str, after: str, n: int = 3) -> list[str]:
    return [f"{moment:%m-%d %H:%M %z}" for moment in next_firings(expression, tz, utc(after), n)]


def until(expression: str, tz: str, start: datetime, end: datetime) -> Iterator[datetime]:
    moments = (moment.astimezone(UTC) for moment in firings(expression, tz, start))
    return takewhile(lambda moment: moment < end, moments)


def differences(walk: Walk, tz: str, expression: str) -> tuple[int, int]:
    """How many fire times the walk finds, and how many only one of both has."""
    wanted = walk.firings(expression)
    given = [moment.timestamp() / 60 for moment in until(expression, tz, walk.start - timedelta(seconds=1), walk.end)]
    return len(wanted), len(np.setxor1d(wanted, given)) + len(given) - len(set(given))


def written(rng: random.Random, low: int, high: int) -> str:
    """A field at random: any, numbers, a range, a step."""
    a, b = sorted(rng.sample(range(low, high + 1), 2))
    forms = ["*", str(a), f"{a},{b}", f"{a}-{b}", f"*/{rng.randint(2, high // 2 + 1)}", f"{a}-{b}/{rng.randint(2, 4)}"]
    return rng.choice(forms)


def expressions_at_random(seed: int, n: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(n):
        yield " ".join(written(rng, *span) for span in [(0, 59), (0, 23), (1, 28), (1, 12), (0, 7)])


# -------------------------------------------------------------------- oracle
def test_hundred_thousands_of_fire_times_equal_those_of_a_walk_over_every_minute() -> None:
    n_times = 0
    for tz, year in DECADES.items():
        walk = Walk(tz, year, 10, every=60)
        for expression in [*EXPRESSIONS, *expressions_at_random(year, 8)]:
            n_wanted, n_different = differences(walk, tz, expression)
            assert n_different == 0, f"{expression} in {tz}"
            n_times += n_wanted
    assert n_times >= 100_000


@pytest.mark.soak
@pytest.mark.parametrize(("tz", "year"), DECADES.items())
def test_millions_of_fire_times_equal_those_of_the_walk_with_each_minutes_own_offset(tz: str, year: int) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    walk = Walk(tz, year, 10)
    for expression in ["* * * * *", *EXPRESSIONS, *expressions_at_random(seed, 60)]:
        assert differences(walk, tz, expression)[1] == 0, f"{expression} in {tz}, seed {seed}"
