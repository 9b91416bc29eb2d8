"""A schedule fires when it should: against a walk over every minute, on the nights on which clocks are moved."""

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbmlops.errors import UsageError
from nbmlops.pipelines.schedule import ALIASES, due, firings, next_firings, parsed, zone

from .oracle import Walk

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
FEW = [
    "30 2 * * *",
    "15,45 2 * * *",
    "0 0 * * *",
    "5,35 0,23 * * *",
    "30 23 30 * 5",
    "0 3 L * *",
    "*/15 2 * * *",
    "0 */6 1-20 * *",
]
MORE = [
    *ALIASES.values(),
    "0 2,3 * * *",
    "0 0-23 * * *",
    "0 1-3 * * mon-fri",
    "59 23 31 12 *",
    "0 12 29 2 *",
    "0 2 * mar,oct sun",
    "*/20 * * * *",
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
        for expression in [*FEW, *expressions_at_random(year, 1)]:
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
    for expression in ["* * * * *", *FEW, *MORE, *expressions_at_random(seed, 60)]:
        assert differences(walk, tz, expression)[1] == 0, f"{expression} in {tz}, seed {seed}"


def test_the_walk_itself_knows_the_two_nights_of_vienna() -> None:
    walk = Walk("Europe/Vienna", 2026, 1)
    fixed = {datetime.fromtimestamp(minute * 60, UTC) for minute in walk.firings("30 2 * * *").tolist()}
    assert {utc("2026-03-29T01:00Z"), utc("2026-10-25T00:30Z")} <= fixed
    assert not {utc("2026-03-29T00:30Z"), utc("2026-10-25T01:30Z")} & fixed
    assert len(fixed) == 365


# ------------------------------------------------- nights on which clocks move
@pytest.mark.parametrize(
    ("expression", "tz", "after", "wanted"),
    [
        pytest.param(
            "15,45 2 * * *",
            "Europe/Vienna",
            "2026-03-28T12:00Z",
            ["03-29 03:00 +0200", "03-30 02:15 +0200", "03-30 02:45 +0200"],
            id="two times in one gap fire once",
        ),
        pytest.param(
            "0 2,3 * * *",
            "Europe/Vienna",
            "2026-03-28T12:00Z",
            ["03-29 03:00 +0200", "03-30 02:00 +0200", "03-30 03:00 +0200"],
            id="a time in the gap and one at its end fire once",
        ),
        pytest.param(
            "15,45 2 * * *",
            "Europe/Vienna",
            "2026-10-24T12:00Z",
            ["10-25 02:15 +0200", "10-25 02:45 +0200", "10-26 02:15 +0100"],
            id="two times in a repeated hour fire once each",
        ),
        pytest.param(
            "30 2 * * *",
            "Europe/Vienna",
            "2026-10-25T00:45Z",
            ["10-26 02:30 +0100", "10-27 02:30 +0100", "10-28 02:30 +0100"],
            id="asked between the two 2:30, the second is not given",
        ),
        pytest.param(
            "*/30 2 * * *",
            "Europe/Vienna",
            "2026-03-28T12:00Z",
            ["03-30 02:00 +0200", "03-30 02:30 +0200", "03-31 02:00 +0200"],
            id="a step in a skipped hour does not exist",
        ),
        pytest.param(
            "0-30/15 2 * * *",
            "Europe/Vienna",
            "2026-03-28T12:00Z",
            ["03-30 02:00 +0200", "03-30 02:15 +0200", "03-30 02:30 +0200"],
            id="a step over a range is no fixed time",
        ),
        pytest.param(
            "*/40 2 * 10 sun",
            "Europe/Vienna",
            "2026-10-25T00:00Z",
            ["10-25 02:40 +0200", "10-25 02:00 +0100", "10-25 02:40 +0100"],
            id="a step in a repeated hour that is the last for months",
        ),
        pytest.param(
            "*/30 * * * *",
            "Europe/Vienna",
            "2026-10-25T00:15Z",
            ["10-25 02:30 +0200", "10-25 02:00 +0100", "10-25 02:30 +0100"],
            id="a step goes on through both hours",
        ),
        pytest.param(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00Z",
            ["10-04 02:30 +1100", "10-05 02:15 +1100", "10-06 02:15 +1100"],
            id="a gap of half an hour",
        ),
        pytest.param(
            "45 * * * *",
            "Australia/Lord_Howe",
            "2026-04-04T14:00Z",
            ["04-05 01:45 +1100", "04-05 01:45 +1030", "04-05 02:45 +1030"],
            id="half an hour repeated",
        ),
        pytest.param(
            "0 0 * * *",
            "America/Sao_Paulo",
            "2018-11-03T12:00Z",
            ["11-04 01:00 -0200", "11-05 00:00 -0200", "11-06 00:00 -0200"],
            id="a day without midnight",
        ),
        pytest.param(
            "0 0 * * *",
            "America/St_Johns",
            "2010-11-06T12:00Z",
            ["11-07 00:00 -0230", "11-08 00:00 -0330", "11-09 00:00 -0330"],
            id="yesterday comes back and midnight with it",
        ),
        pytest.param(
            "30 23 * * sat",
            "America/Nuuk",
            "2024-03-30T12:00Z",
            ["03-31 00:00 -0100", "04-06 23:30 -0100", "04-13 23:30 -0100"],
            id="the last hour of Saturday is skipped",
        ),
        pytest.param(
            "0 9 30 12 *",
            "Pacific/Apia",
            "2011-12-29T12:00Z",
            ["12-31 00:00 +1400", "12-30 09:00 +1400", "12-30 09:00 +1400"],
            id="a date that is left out",
        ),
        pytest.param(
            "30 2 * * *",
            "Pacific/Apia",
            "2011-12-29T00:00Z",
            ["12-29 02:30 -1000", "12-31 00:00 +1400", "12-31 02:30 +1400"],
            id="a daily job on the date that is left out",
        ),
        pytest.param(
            "15 2 * * *",
            "Asia/Pyongyang",
            "2018-05-04T12:00Z",
            ["05-05 02:15 +0900", "05-06 02:15 +0900", "05-07 02:15 +0900"],
            id="standard time moves at another hour",
        ),
        pytest.param(
            "45 2 * * *",
            "America/Caracas",
            "2016-04-30T12:00Z",
            ["05-01 03:00 -0400", "05-02 02:45 -0400", "05-03 02:45 -0400"],
            id="standard time moves by half an hour",
        ),
    ],
)
def test_a_night_on_which_the_clock_is_moved(expression: str, tz: str, after: str, wanted: list[str]) -> None:
    assert shown(expression, tz, after) == wanted


def test_a_fixed_time_on_a_leap_day_waits_over_a_century_without_one() -> None:
    moments = islice(firings("0 0 29 2 *", "UTC", utc("2096-02-29T00:00Z")), 2)
    assert [moment.date() for moment in moments] == [date(2104, 2, 29), date(2108, 2, 29)]


def test_the_start_itself_is_left_out_to_the_microsecond() -> None:
    noon = utc("2026-05-01T12:00Z")
    assert next_firings("0 12 * * *", "UTC", noon, 1)[0] == noon + timedelta(days=1)
    assert next_firings("0 12 * * *", "UTC", noon - timedelta(microseconds=1), 1)[0] == noon
    assert next_firings("* * * * *", "UTC", noon - timedelta(microseconds=1), 1)[0] == noon
    assert next_firings("* * * * *", "UTC", noon, 1)[0] == noon + timedelta(minutes=1)


def test_times_are_in_the_zone_asked_whatever_zone_the_start_is_in() -> None:
    start = datetime(2026, 5, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo"))
    [moment] = next_firings("0 12 * * *", "Europe/Vienna", start, 1)
    assert moment.tzinfo is ZoneInfo("Europe/Vienna")
    assert next_firings("0 12 * * *", ZoneInfo("Europe/Vienna"), start, 1) == (moment,)
    assert next_firings("0 12 * * *", timezone.utc, start, 1)[0].isoformat() == "2026-05-01T12:00:00+00:00"  # noqa: UP017


def test_zones_come_with_nbmlops_where_the_machine_has_none() -> None:
    code = (
        "import zoneinfo; assert not zoneinfo.TZPATH\n"
        "from datetime import UTC, datetime; from nbmlops.pipelines.schedule import next_firings\n"
        "print(next_firings('30 2 * * *', 'Europe/Vienna', datetime(2026, 3, 28, 12, tzinfo=UTC), 1)[0])"
    )
    answer = subprocess.run([sys.executable, "-c", code], env={"PYTHONTZPATH": ""}, capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == ("2026-03-29 03:00:00+02:00\n", "")


# ---------------------------------------------------------------- properties
ZONES = st.sampled_from([*DECADES, "UTC", "Asia/Kathmandu", "Africa/Monrovia", "Pacific/Kwajalein", "Europe/Dublin"])
STARTS = st.datetimes(datetime(1965, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
FIXED = st.builds(
    lambda minutes, hours, rest: f"{','.join(map(str, minutes))} {','.join(map(str, hours))} {rest}",
    st.lists(st.integers(0, 59), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 23), min_size=1, max_size=3, unique=True),
    st.sampled_from(["* * *", "*/2 * *", "L * *", "1-7 * sun", "* 3,10 sat,sun,mon"]),
)
ANY = FIXED | st.sampled_from(["* * * * *", "*/7 * * * *", "0 */5 * * *", "13 * * * sun", "* 2 * * *", "@hourly"])


@given(ANY, ZONES, STARTS)
def test_times_ascend_strictly_in_real_time_and_lie_on_whole_minutes_of_the_clock(
    expression: str, tz: str, after: datetime
) -> None:
    moments = [after, *(moment.astimezone(UTC) for moment in next_firings(expression, tz, after, 40))]
    assert all(earlier < later for earlier, later in pairwise(moments))
    assert after.year < 1973 or all(moment.second == moment.microsecond == 0 for moment in moments[1:])


@given(ANY, ZONES, STARTS, st.integers(0, 30), st.integers(0, 3600 * 30))
def test_what_follows_does_not_depend_on_where_one_begins(
    expression: str, tz: str, after: datetime, skipped: int, seconds: int
) -> None:
    moments = [moment.astimezone(UTC) for moment in next_firings(expression, tz, after, 60)]
    later = moments[skipped] + timedelta(seconds=seconds)
    rest = [moment for moment in moments if moment > later]
    assert [moment.astimezone(UTC) for moment in next_firings(expression, tz, later, len(rest))] == rest


@given(FIXED, ZONES, STARTS)
@example("30 2 * * *", "Europe/Vienna", utc("2026-10-20T00:00Z"))
@example("30 2 * * *", "Europe/Vienna", utc("2026-03-20T00:00Z"))
@example("0 0,12 * * *", "Pacific/Kwajalein", utc("1969-09-20T00:00Z"))
def test_each_local_time_that_exists_is_fired_once_and_a_skipped_one_at_the_end_of_its_gap(
    expression: str, tz: str, after: datetime
) -> None:
    place = ZoneInfo(tz)
    schedule, moments = parsed(expression), list(next_firings(expression, tz, after, 40))
    faces = [moment.replace(tzinfo=None) for moment in moments]
    assert len(set(faces)) == len(faces)  # no face of the clock twice
    first, last = faces[0], max(faces)
    named = list(takewhile(lambda local: local <= last, schedule.local_times(first)))
    existing = [local for local in named if local == there_and_back(local, place)]
    assert set(existing) <= set(faces)
    for face in set(faces) - set(existing):
        before = (face.replace(tzinfo=place).astimezone(UTC) - timedelta(seconds=1)).astimezone(place)
        assert face - before.replace(tzinfo=None) > timedelta(seconds=1), "only the end of a gap is a time not named"


def there_and_back(local: datetime, place: ZoneInfo) -> datetime:
    return local.replace(tzinfo=place).astimezone(UTC).astimezone(place).replace(tzinfo=None)


@given(ZONES, STARTS)
def test_a_job_of_every_minute_knows_no_moved_clock(tz: str, after: datetime) -> None:
    moments = [
        moment.astimezone(UTC) for moment in next_firings("* * * * *", tz, max(after, utc("1973-01-01T00:00Z")), 200)
    ]
    assert {later - earlier for earlier, later in pairwise(moments)} == {timedelta(minutes=1)}


# ------------------------------------------------------------------- grammar
@pytest.mark.parametrize(
    ("expression", "same"),
    [
        ("@daily", "0 0 * * *"),
        ("@Weekly", "0 0 * * 0"),
        ("0 0 * * 7", "0 0 * * sun"),
        ("0 0 * JAN-mar MON,wed-FRI", "0 0 * 1-3 1,3,4,5"),
        ("0 0 * * fri-sun", "0 0 * * 5-7"),
        ("0 0 * * 0-7", "0 0 * * 0-6"),
        ("  05\t04 * * * ", "5 4 * * *"),
        ("10-40/15,3 * * * *", "3,10,25,40 * * * *"),
        ("*/60 * * * *", "0 * * * *"),
        ("0 0 */10 * *", "0 0 1,11,21,31 * *"),
        ("0 0 l,15 * *", "0 0 15,L * *"),
        ("0 0 29-31 2 *", "0 0 29 2 *"),
    ],
)
def test_two_ways_to_write_one_schedule(expression: str, same: str) -> None:
    start = utc("2026-01-01T00:00Z")
    assert next_firings(expression, "UTC", start, 50) == next_firings(same, "UTC", start, 50)


def test_a_date_fits_day_or_weekday_when_both_are_named_and_else_both() -> None:
    either = next_firings("0 0 13 * fri", "UTC", utc("2026-01-31T00:00Z"), 3)
    both = next_firings("0 0 */2 * fri", "UTC", utc("2026-01-31T00:00Z"), 3)
    assert [f"{moment:%m-%d}" for moment in either] == ["02-06", "02-13", "02-20"]
    assert [f"{moment:%m-%d}" for moment in both] == ["02-13", "02-27", "03-13"]


@pytest.mark.parametrize(
    ("expression", "message", "hint"),
    [
        ("60 * * * *", "The minute of a schedule must be from 0 to 59, not '60'.", ""),
        ("* 24 * * *", "The hour of a schedule must be from 0 to 23, not '24'.", ""),
        ("* * 0 * *", "The day of month of a schedule must be from 1 to 31, not '0'.", ""),
        ("* * * 13 *", "The month of a schedule must be from 1 to 12, or jan to dec, not '13'.", ""),
        ("* * * june *", "The month of a schedule must be from 1 to 12, or jan to dec, not 'june'.", "jun"),
        ("* * * * 8", "The weekday of a schedule must be from 0 to 7, or sun to sat, not '8'.", ""),
        ("* * * * Monday", "must be from 0 to 7, or sun to sat, not 'Monday'.", "Did you mean mon"),
        ("1,,2 * * * *", "The minute of a schedule must be from 0 to 59, not ''.", ""),
        ("-1 * * * *", "must be from 0 to 59, not ''", ""),
        ("٣ * * * *", "must be from 0 to 59, not '٣'", ""),
        (f"{'9' * 5000} * * * *", "must be from 0 to 59, not '99999", ""),
        ("5/15 * * * *", "The minute of a schedule must have a range before the step, not '5/15'.", "5-59/15"),
        ("*/0 * * * *", "The minute of a schedule must have a step from 1 to 60, not '0'.", ""),
        ("*/90 * * * *", "The minute of a schedule must have a step from 1 to 60, not '90'.", "never comes"),
        ("*/ * * * *", "must have a step from 1 to 60, not ''", ""),
        ("0 22-6 * * *", "The hour of a schedule must have ranges that ascend, not '22-6'.", "22-23,0-6"),
        ("0 0 ? * 1", "The day of month of a schedule must be from 1 to 31, not '?'.", "Write * for any."),
        ("0 0 * * L", "must be from 0 to 7, or sun to sat, not 'L'.", "Only the day of month takes L."),
        ("0 0 L-3 * *", "must be from 1 to 31, not 'L'", ""),
        ("0 0 * * 5#2", "must be from 0 to 7, or sun to sat, not '5#2'.", ""),
        (
            "0 0 * *",
            "A schedule has five fields (minute, hour, day of month, month, weekday), and '0 0 * *' has 4.",
            "30 2",
        ),
        ("0 0 0 * * *", "has 6.", "no field for seconds"),
        ("", "and '' has 0.", "@daily"),
        ("@dayly", "There is no schedule '@dayly'.", "Did you mean @daily"),
        ("@reboot", "There is no schedule '@reboot'.", "@hourly"),
        ("0 0 30 2 *", "'0 0 30 2 *' never fires", "Write L"),
        ("0 0 31 2,4,6,9,11 *", "never fires", "Write L"),
        ("0 0 30-31 feb */2", "never fires", "Write L"),
    ],
)
def test_an_expression_is_refused_with_field_value_range_and_a_way_out(
    expression: str, message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        firings(expression, "UTC", utc("2026-01-01T00:00Z"))  # at the call, before the first time is asked for
    assert message in refused.value.message
    assert hint in refused.value.hint
    assert len(refused.value.message) < 200


def test_every_suggested_way_out_is_itself_accepted() -> None:
    for expression in ["5-59/15 * * * *", "0 22-23,0-6 * * *", "0 0 L 2 *", "30 2 * * *"]:
        assert parsed(expression).times


@given(st.text(alphabet="0123456789*/-, @L?#monjanfeb\n\u0663", max_size=30))
def test_any_text_is_a_schedule_that_fires_or_a_usage_error(text: str) -> None:
    try:
        schedule = parsed(text)
    except UsageError:
        return
    assert len(next_firings(text, "UTC", utc("2026-01-01T00:00Z"), 1)) == 1
    assert parsed(schedule.expression) == schedule
    assert "\n" not in schedule.expression


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Viena", "Europe/Vienna"),
        ("europe/vienna", "Europe/Vienna"),
        ("New York", "America/New_York"),
        ("utc", "UTC"),
        ("America", "America/"),
        ("Atlantis", "Atlantic/"),
        ("%%", "There are: Africa/Abidjan"),
        ("localtime", ""),
        ("right/Europe/Vienna", ""),
        ("../../etc/passwd", ""),
        ("/etc/passwd", ""),
        ("", ""),
        ("a\0b", ""),
        ("x" * 5000, ""),
    ],
)
def test_a_zone_that_is_no_place_is_refused_with_the_nearest_names(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match="There is no time zone") as refused:
        zone(name)
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    "after",
    [utc("2026-01-01T00:00Z").replace(tzinfo=None), datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)],
)
def test_a_start_without_zone_or_at_the_end_of_time_is_refused(after: datetime) -> None:
    with pytest.raises(UsageError, match=r"no time zone|out of reach"):
        firings("@daily", "UTC", after)


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "* * * * *", "0 0 29 2 */7"])
@pytest.mark.parametrize("tz", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_first_and_last_years_within_reach_have_times(expression: str, tz: str) -> None:
    for year in (2, 9899):
        assert next_firings(expression, tz, datetime(year, 6, 1, tzinfo=UTC), 1)


# --------------------------------------------------------------- catching up
def given_times(expression: str, since: str, now: str, catchup: str, tz: str = "UTC") -> list[str]:
    return [f"{moment:%m-%d %H:%M}" for moment in due(expression, tz, utc(since), utc(now), catchup)]  # type: ignore[arg-type]


def test_after_a_suspend_of_days_each_policy_gives_its_share() -> None:
    gap = ("30 2 * * *", "2026-07-01T02:30Z", "2026-07-04T02:30:20Z")
    assert given_times(*gap, "all") == ["07-02 02:30", "07-03 02:30", "07-04 02:30"]
    assert given_times(*gap, "one") == given_times(*gap, "none") == ["07-04 02:30"]
    later = ("30 2 * * *", "2026-07-01T02:30Z", "2026-07-04T02:31:20Z")
    assert (given_times(*later, "one"), given_times(*later, "none")) == (["07-04 02:30"], [])


def test_what_is_due_at_this_very_instant_is_given_and_then_never_again() -> None:
    assert given_times("30 2 * * *", "2026-07-01T02:30Z", "2026-07-02T02:30Z", "none") == ["07-02 02:30"]
    for policy in ("one", "all", "none"):
        assert given_times("30 2 * * *", "2026-07-02T02:30Z", "2026-07-02T02:30:01Z", policy) == []


def test_a_clock_that_went_back_gives_nothing_until_it_has_passed_the_last_time() -> None:
    for policy in ("one", "all", "none"):
        assert given_times("* * * * *", "2026-07-02T02:30Z", "2026-07-02T01:30:00Z", policy) == []
    assert given_times("* * * * *", "2026-07-02T02:30Z", "2026-07-02T02:31:00Z", "one") == ["07-02 02:31"]


def test_a_year_of_missed_minutes_is_caught_up_by_one() -> None:
    assert given_times("* * * * *", "2025-07-02T02:30Z", "2026-07-02T02:30:10Z", "one") == ["07-02 02:30"]


def test_the_repeated_hour_is_caught_up_in_real_time() -> None:
    vienna = ("2026-10-25T00:15Z", "2026-10-25T01:20Z", "all", "Europe/Vienna")
    assert given_times("*/30 * * * *", *vienna) == ["10-25 02:30", "10-25 02:00"]
    assert given_times("0,30 2 * * *", *vienna) == ["10-25 02:30"]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UsageError, match="catchup must be one, all or none, not 'al'") as refused:
        given_times("@daily", "2026-07-01T00:00Z", "2026-07-02T00:00Z", "al")
    assert "Did you mean all" in refused.value.hint


@given(
    ANY, ZONES, STARTS, st.timedeltas(timedelta(0), timedelta(days=3)), st.timedeltas(timedelta(0), timedelta(days=3))
)
def test_one_is_the_last_of_all_none_the_last_within_the_grace_and_ticks_miss_nothing(
    expression: str, tz: str, since: datetime, first: timedelta, second: timedelta
) -> None:
    middle, now = since + first, since + first + second
    everything = due(expression, tz, since, now, "all")
    assert due(expression, tz, since, middle, "all") + due(expression, tz, middle, now, "all") == everything
    assert due(expression, tz, since, now, "one") == everything[-1:]
    fresh = [moment for moment in everything if now - moment.astimezone(UTC) < timedelta(minutes=10)]
    assert due(expression, tz, since, now, "none", grace_s=600) == tuple(fresh[-1:])
