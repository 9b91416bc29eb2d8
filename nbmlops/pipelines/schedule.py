"""When a schedule fires: cron expressions, time zones and daylight saving as pure mathematics; no clock is read here.

`firings` tells the rule for the nights on which the clock is moved; `due` tells what is to be run after a gap.
"""

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from itertools import islice, takewhile
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from nbmlops.errors import NbmlopsError, UsageError, nearest

Catchup = Literal["one", "all", "none"]

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
LAST_DAY = "L"
LONGEST_MONTHS = dict(enumerate([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], start=1))  # February of a leap year
YEARS = range(2, 9900)  # of `after`; at both ends there is room for any offset, and for the 40 years to a leap Sunday
LAST_YEAR = 9998
STRIDE = timedelta(days=2)  # a zone's offset changes at most once in it: the shortest time between two is 3.98 days
GRACE_S = 60.0
_MACHINE_NAMES = ("localtime", "posixrules", "posix/", "right/")  # no places: each machine has its own, or leap seconds


# ------------------------------------------------------------------- parsing
@dataclass(frozen=True)
class Schedule:
    """A cron expression, understood: which times on the clock's face it names.

    Attributes
    ----------
    expression
        Its five fields, with single spaces.
    times
        Times of day, ascending, without seconds; at least one.
    days, months, weekdays
        Numbers of days (1 to 31), months (1 to 12) and weekdays (0 to 6, 0 is Sunday).
    has_last_day
        Whether ``L`` names the last day of each month.
    is_either_day
        Whether a date needs to fit the days or the weekdays only, and not both.
    is_fixed
        Whether it is a fixed-time job: neither minute nor hour has a ``*`` or a step.
    """

    expression: str
    times: tuple[time, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    has_last_day: bool
    is_either_day: bool
    is_fixed: bool

    def fits(self, day: date) -> bool:
        """Tell whether a date is one of the schedule's; its month is taken as fitting."""
        is_last = self.has_last_day and day.day == monthrange(day.year, day.month)[1]
        fits_day, fits_weekday = day.day in self.days or is_last, day.isoweekday() % 7 in self.weekdays
        return fits_day or fits_weekday if self.is_either_day else fits_day and fits_weekday

    def local_times(self, start: datetime) -> Iterator[datetime]:
        """Yield the naive local times from `start` on, ascending, as if no clock were ever moved.

        Examples
        --------
        >>> next(parsed("30 2 29 2 *").local_times(datetime(2026, 1, 1)))
        datetime.datetime(2028, 2, 29, 2, 30)
        """
        for day in self._dates(start.date()):
            first = bisect_left(self.times, start.time()) if day == start.date() else 0
            for moment in self.times[first:]:
                yield datetime.combine(day, moment)

    def _dates(self, start: date) -> Iterator[date]:
        for year in range(start.year, LAST_YEAR + 1):
            for month in sorted(self.months):
                if (year, month) >= (start.year, start.month):
                    days = (date(year, month, day) for day in range(1, monthrange(year, month)[1] + 1))
                    yield from (day for day in days if day >= start and self.fits(day))


@lru_cache(maxsize=1024)
def parsed(expression: str) -> Schedule:
    """Read a cron expression.

    Parameters
    ----------
    expression
        Five fields: minute (0 to 59), hour (0 to 23), day of month (1 to 31, ``L`` the last), month (1 to 12,
        jan to dec), weekday (0 to 7, 0 and 7 are Sunday, sun to sat). A field is ``*``, or a list of numbers,
        ranges ``a-b`` and steps ``a-b/n``, ``*/n``. Or one of @hourly, @daily (@midnight), @weekly, @monthly,
        @yearly (@annually). When day of month and weekday both are without ``*``, a date needs to fit only one.

    Returns
    -------
    Schedule
        The times that it names, for `Schedule.local_times`.

    Raises
    ------
    UsageError
        It is no such expression, or it never fires, as 30 February.

    Notes
    -----
    The grammar is that of crontab(5) by Paul Vixie, with names in lists and ranges as well, and with ``L``.

    Examples
    --------
    >>> parsed("@daily").expression, parsed("0 9 * * mon-fri").is_fixed, parsed("*/15 * * * *").is_fixed
    ('0 0 * * *', True, False)
    >>> parsed("30 25 * * *")
    Traceback (most recent call last):
    nbmlops.errors.UsageError: The hour of a schedule must be from 0 to 23, not '25'.
    >>> parsed("0 0 30 2 *")
    Traceback (most recent call last):
    nbmlops.errors.UsageError: '0 0 30 2 *' never fires: none of its months has such a day.
      Write L as day of month for the last day of a month.
    """
    fields = _fields(expression)
    minute, hour, day, month, weekday = fields
    numbered = [item for item in day.split(",") if item.upper() != LAST_DAY]
    schedule = Schedule(
        expression=" ".join(fields),
        times=tuple(time(h, m) for h in sorted(HOUR.values(hour)) for m in sorted(MINUTE.values(minute))),
        days=DAY.values(",".join(numbered)) if numbered else frozenset(),
        months=MONTH.values(month),
        weekdays=frozenset(number % 7 for number in WEEKDAY.values(weekday)),
        has_last_day=len(numbered) < len(day.split(",")),
        is_either_day="*" not in day and "*" not in weekday,
        is_fixed=not set("*/") & set(minute + hour),
    )
    _refuse_never(schedule)
    return schedule


@dataclass(frozen=True)
class Field:
    """One of the five fields: its name, its numbers from `low` to `high`, and names for them from `low` on."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def values(self, text: str) -> frozenset[int]:
        """Read all numbers that a field's text stands for."""
        return frozenset(number for item in text.split(",") for number in self._span(item))

    def _span(self, item: str) -> range:
        span, slash, step = item.partition("/")
        by = self._step(step) if slash else 1
        low, high = self._ends(span)
        if slash and span != "*" and "-" not in span:
            hint = f"Write it as {span}-{self.high}/{step}."
            raise self._refusal(f"have a range before the step, not {_short(item)}", hint)
        return range(low, high + 1, by)

    def _ends(self, span: str) -> tuple[int, int]:
        if span == "*":
            return self.low, self.high
        first, dash, last = span.partition("-")
        low, high = self._number(first), self._number(last if dash else first)
        if self is WEEKDAY and low > high == 0:
            return low, 7  # fri-sun
        if low > high:
            hint = f"Write it as {first}-{self.high},{self.low}-{last}."
            raise self._refusal(f"have ranges that ascend, not {_short(span)}", hint)
        return low, high

    def _number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.low + self.names.index(text.lower())
        if _is_number(text) and self.low <= int(text) <= self.high:
            return int(text)
        named = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        raise self._refusal(f"be from {self.low} to {self.high}{named}, not {_short(text)}", self._advice(text))

    def _step(self, text: str) -> int:
        longest = self.high - self.low + 1
        if _is_number(text) and 1 <= int(text) <= longest:
            return int(text)
        hint = "A longer step never comes to a second value." if _is_number(text) and int(text) else ""
        raise self._refusal(f"have a step from 1 to {longest}, not {_short(text)}", hint)

    def _advice(self, text: str) -> str:
        if text == "?":
            return "Write * for any."
        if text.upper() == LAST_DAY:
            return "Only the day of month takes L."
        return nearest(text.lower(), self.names) if text.isalpha() else ""

    def _refusal(self, must: str, hint: str = "") -> UsageError:
        return UsageError(f"The {self.name} of a schedule must {must}.", hint)


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day of month", 1, 31)
MONTH = Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
WEEKDAY = Field("weekday", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))


def _fields(expression: str) -> list[str]:
    fields = ALIASES.get(expression.strip().lower(), expression).split()
    if len(fields) == 5:
        return fields
    if len(fields) == 1 and fields[0].startswith("@"):
        raise UsageError(f"There is no schedule {_short(fields[0])}.", nearest(fields[0], ALIASES))
    way_out = "There is no field for seconds or years." if len(fields) in {6, 7} else "As '30 2 * * *', or @daily."
    what = "minute, hour, day of month, month, weekday"
    raise UsageError(f"A schedule has five fields ({what}), and {_short(expression)} has {len(fields)}.", way_out)


def _refuse_never(schedule: Schedule) -> None:
    """Refuse a schedule whose months are all too short for its days; any other fires within 40 years."""
    longest = max(LONGEST_MONTHS[month] for month in schedule.months)
    if not (schedule.is_either_day or schedule.has_last_day or min(schedule.days) <= longest):
        raise UsageError(
            f"{schedule.expression!r} never fires: none of its months has such a day.",
            "Write L as day of month for the last day of a month.",
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def zone(name: str | tzinfo) -> tzinfo:
    """Find a time zone.

    Parameters
    ----------
    name
        Its name in the tz database, or a `zoneinfo.ZoneInfo` or `datetime.timezone` itself.

    Returns
    -------
    datetime.tzinfo
        The zone; its data are the machine's, else those of the package ``tzdata``.

    Raises
    ------
    UsageError
        There is no such zone, or its name stands for something else on each machine, as ``localtime``.

    Examples
    --------
    >>> zone("Europe/Vienna")
    zoneinfo.ZoneInfo(key='Europe/Vienna')
    >>> zone("Europe/Viena")
    Traceback (most recent call last):
    nbmlops.errors.UsageError: There is no time zone 'Europe/Viena'.
      Did you mean Europe/Vienna or Europe/Riga?
    """
    if isinstance(name, ZoneInfo | timezone):
        return name
    asked = str(name)
    try:
        if not asked.startswith(_MACHINE_NAMES):
            return ZoneInfo(asked)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the last two for names that are no file names, or folders
        pass
    raise _no_zone(asked)


def _no_zone(asked: str) -> NbmlopsError:
    names = {known.casefold(): known for known in available_timezones() if not known.startswith(_MACHINE_NAMES)}
    spelled = asked.strip().replace(" ", "_")
    return UsageError(
        f"There is no time zone {_short(asked)}.",
        nearest(names.get(spelled.casefold(), spelled.title())[:40], names.values()),
    )


# -------------------------------------------------------------------- firing
def firings(expression: str, tz: str | tzinfo, after: datetime) -> Iterator[datetime]:
    """Yield the times at which a schedule fires, one by one, without end.

    Where the clock is moved, two kinds of jobs differ, as they do in cron:

    ==================  ===========================================  =========================================
    the clock is moved  fixed-time job (``30 2 * * *``)              any other job (``*/15 * * * *``)
    ==================  ===========================================  =========================================
    forward: local      A time that is skipped fires right after     What is skipped does not exist: it does
    times are skipped   the gap, at its first instant, and several   not fire.
                        (``15,45 2 * * *``) together once.
    back: local times   A time that comes twice fires at the first   Both fire: real time goes on, so every
    come twice          of the two.                                  quarter of an hour stays just that.
    ==================  ===========================================  =========================================

    A job is a fixed-time job when neither its minute nor its hour has a ``*`` or a step. So each of its times fires
    once for each local date, and no two firings are at one instant: ``0 2,3 * * *`` fires once at 3:00 in the night
    that has no 2:00. That holds for any move: daylight saving of an hour, half an hour (Lord Howe) or at midnight, a
    zone's change of its standard time, a date that is left out altogether (Samoa, 30 December 2011: its jobs run as
    the 31st begins).

    Parameters
    ----------
    expression
        Five fields of cron or an alias; see `parsed`.
    tz
        The time zone, by its name (``Europe/Vienna``) or itself.
    after
        Aware, in any zone, of the years 2 to 9899; what fires at this very instant is left out.

    Yields
    ------
    datetime.datetime
        Aware times in `tz`, ascending in real time. Python compares two times of one zone by their clock's face: where
        an hour comes twice, compare them as UTC.

    Raises
    ------
    UsageError
        Expression or zone is refused, or `after` has no zone; at the call, not at the first firing.

    Notes
    -----
    The next firing is found by jumping to the next date and time that fit, so it takes microseconds. The rule is that
    of cron(8) by Paul Vixie (version 4.1, Debian), without its exception for moves of three hours and more.

    Examples
    --------
    In Vienna, 29 March 2026 has no 2:30, and 25 October has it twice:

    >>> vienna = firings("30 2 * * *", "Europe/Vienna", datetime(2026, 3, 28, tzinfo=UTC))
    >>> [time.isoformat() for time in islice(vienna, 3)]
    ['2026-03-28T02:30:00+01:00', '2026-03-29T03:00:00+02:00', '2026-03-30T02:30:00+02:00']
    >>> vienna = firings("30 2 * * *", "Europe/Vienna", datetime(2026, 10, 24, 12, tzinfo=UTC))
    >>> [time.isoformat() for time in islice(vienna, 2)]
    ['2026-10-25T02:30:00+02:00', '2026-10-26T02:30:00+01:00']
    >>> hourly = firings("@hourly", "Europe/Vienna", datetime(2026, 10, 24, 23, tzinfo=UTC))
    >>> [time.isoformat() for time in islice(hourly, 3)]
    ['2026-10-25T02:00:00+02:00', '2026-10-25T02:00:00+01:00', '2026-10-25T03:00:00+01:00']
    """
    schedule, place = parsed(expression), zone(tz)
    instants = (_fixed if schedule.is_fixed else _elapsing)(schedule, place, _start(after))
    return (_aware(instant).astimezone(place) for instant in instants)


def next_firings(expression: str, tz: str | tzinfo, after: datetime, n: int = 3) -> tuple[datetime, ...]:
    """Give the next `n` times at which a schedule fires; see `firings`.

    Examples
    --------
    >>> [str(time) for time in next_firings("0 18 L * *", "UTC", datetime(2028, 1, 31, 18, tzinfo=UTC), 2)]
    ['2028-02-29 18:00:00+00:00', '2028-03-31 18:00:00+00:00']
    """
    return tuple(islice(firings(expression, tz, after), n))


def _fixed(schedule: Schedule, place: tzinfo, after: datetime) -> Iterator[datetime]:
    """Turn each local time into its instant; where local times ascend, these never descend."""
    last = after
    for local in schedule.local_times(after + _offset(place, after)):
        instant = _first_instant(place, local)
        if instant > last:
            last = instant
            yield instant


def _elapsing(schedule: Schedule, place: tzinfo, after: datetime) -> Iterator[datetime]:
    """Go through real time in stretches of one offset, each of which is local time without gap or repetition."""
    start = after + datetime.resolution
    while True:
        end, offset = start + STRIDE, _offset(place, start)
        is_moved = _offset(place, end) != offset
        if is_moved:
            end = _move(place, start, end)
        for local in schedule.local_times(start + offset):
            if local >= end + offset:
                break
            yield local - offset
        else:
            return  # the calendar's end
        # No offset differs from another by two days: unless it was moved just now, the clock cannot show a time that
        # fits before this instant.
        start = end if is_moved else max(end, local - offset - STRIDE)


# Below, an instant is a naive datetime in UTC, and a local time a naive one on the clock's face.
def _first_instant(place: tzinfo, local: datetime) -> datetime:
    """Find the first instant of a local time; for one that is skipped, the first instant after the gap."""
    instant = _instant(local.replace(tzinfo=place))  # of two the first; in a gap by the offset before it, so too late
    offset = _offset(place, instant)
    return instant if instant + offset == local else _move(place, local - offset, instant)


def _move(place: tzinfo, before: datetime, behind: datetime) -> datetime:
    """Find the instant of the one change of offset between two instants; zones change at whole seconds."""
    start, offset = before.replace(microsecond=0), _offset(place, before)

    def is_behind(second: int) -> bool:
        return _offset(place, start + timedelta(seconds=second)) != offset

    seconds = range(int((behind - start).total_seconds()) + 1)
    return start + timedelta(seconds=bisect_left(seconds, True, key=is_behind))


def _offset(place: tzinfo, instant: datetime) -> timedelta:
    return _aware(instant).astimezone(place).replace(tzinfo=None) - instant


def _aware(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC)


def _instant(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _start(moment: datetime) -> datetime:
    """Check a time that was given, and give its instant."""
    if moment.utcoffset() is None:
        raise UsageError(f"{moment} has no time zone.", "Give an aware datetime, as datetime.now(UTC) is.")
    if moment.year not in YEARS:
        raise UsageError(f"{moment} is out of reach: the year must be from {YEARS[0]} to {YEARS[-1]}.")
    return _instant(moment)


# --------------------------------------------------------------- catching up
def due(
    expression: str,
    tz: str | tzinfo,
    since: datetime,
    now: datetime,
    catchup: Catchup = "one",
    *,
    grace_s: float = GRACE_S,
) -> tuple[datetime, ...]:
    """Give the times to be fired now, of those that came after `since` and up to `now`.

    After a gap (the machine was off or suspended, the clock jumped forward) several may have been missed. Where the
    clock went back behind `since`, nothing is due, so no time is given twice.

    Parameters
    ----------
    expression, tz
        As for `firings`.
    since
        Aware; the last time that was given, or when the schedule began or was unpaused. Itself left out.
    now
        Aware; itself included.
    catchup
        ``one`` gives the latest of them, ``all`` gives each, ``none`` the latest if it is younger than the grace.
    grace_s
        Seconds, 0 or more; how late a firing may be noticed and still be no catch-up.

    Returns
    -------
    tuple of datetime.datetime
        Aware times in `tz`, ascending; at most one, except for ``all``.

    Raises
    ------
    UsageError
        Expression, zone or catchup is refused, or a time has no zone.

    Notes
    -----
    Linear in the number of times for ``all``, logarithmic in the gap's length otherwise.

    Examples
    --------
    >>> def given(catchup: Catchup) -> list[str]:
    ...     since, now = datetime(2026, 7, 1, 2, 30, tzinfo=UTC), datetime(2026, 7, 4, 8, tzinfo=UTC)
    ...     return [str(time.date()) for time in due("30 2 * * *", "UTC", since, now, catchup)]
    >>> given("all"), given("one"), given("none")
    (['2026-07-02', '2026-07-03', '2026-07-04'], ['2026-07-04'], [])
    """
    if catchup not in get_args(Catchup):
        raise UsageError(f"catchup must be one, all or none, not {catchup!r}.", nearest(catchup, get_args(Catchup)))
    start, end = _aware(_start(since)), _aware(_start(now))
    if catchup == "all":
        return _between(expression, tz, start, end)
    earliest = start if catchup == "one" else max(start, end - timedelta(seconds=grace_s))
    return _latest(expression, tz, earliest, end)


def _between(expression: str, tz: str | tzinfo, since: datetime, now: datetime) -> tuple[datetime, ...]:
    return tuple(takewhile(lambda moment: moment.astimezone(UTC) <= now, firings(expression, tz, since)))


def _latest(expression: str, tz: str | tzinfo, since: datetime, now: datetime) -> tuple[datetime, ...]:
    """Look back twice as far each time, so that a year of missed minutes is not gone through."""
    reach = timedelta(minutes=1)
    while reach < now - since:
        if found := _between(expression, tz, now - reach, now):
            return found[-1:]
        reach *= 2
    return _between(expression, tz, since, now)[-1:]
