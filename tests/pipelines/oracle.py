"""A second, slow answer to when a schedule fires: every minute of real time is looked at, one after the other.

It shares nothing with nbmlops: another reading of expressions (each number is asked whether it fits), and another
rule for fixed-time jobs (a mark of the latest local time that the clock has shown; a job fires when the mark passes
one of its times). Whole minutes only, as all zones have had since 1972.
"""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np

NAMES = {"jan": 1, "feb": 2, "mar": 3, "oct": 10, "sun": 0, "mon": 1, "wed": 3, "fri": 5, "sat": 6}
DAY_MINUTES = 24 * 60
LEAD_MINUTES = 3 * DAY_MINUTES  # the walk begins earlier, so that the mark is right at the start
EPOCH = dt.date(1970, 1, 1)


def fits(field: str, number: int) -> bool:
    """Whether a number fits a field of an expression."""
    for item in field.split(","):
        span, _, step = item.partition("/")
        low, _, high = span.partition("-")
        first = 0 if low == "*" else int(NAMES.get(low, low))
        last = 99 if low == "*" else int(NAMES.get(high or low, high or low))
        if first <= number <= last and (number - first) % int(step or 1) == 0:
            return True
    return False


def fits_date(expression: str, date: dt.date) -> bool:
    _, _, day, month, weekday = expression.split()
    tomorrow = date + dt.timedelta(days=1)
    is_last = "L" in day and tomorrow.month != date.month
    numbered = ",".join(item for item in day.split(",") if item != "L") or "99"
    # Steps over all days count from 1; the other fields begin with 0, or with 1 and are asked without a step.
    fits_day = is_last or fits(numbered, date.day - 1 if numbered.startswith("*") else date.day)
    fits_weekday = fits(weekday, date.isoweekday() % 7) or (date.isoweekday() == 7 and fits(weekday, 7))
    either = day[0] != "*" and weekday[0] != "*"
    is_one = (fits_day or fits_weekday) if either else (fits_day and fits_weekday)
    return is_one and fits(month, date.month - 1 if month.startswith("*") else date.month)


def offset(zone: ZoneInfo, minute: int) -> int:
    """Local time minus UTC at a minute since 1970, in minutes."""
    shift = dt.datetime.fromtimestamp(minute * 60, zone).utcoffset()
    assert shift is not None
    return int(shift.total_seconds()) // 60


def offsets(zone: ZoneInfo, first: int, last: int, every: int = 1) -> np.ndarray:  # (last - first,)
    """The offset of each minute; asked every so many minutes, and at each minute wherever two answers differ."""
    asked = [offset(zone, minute) for minute in range(first, last + every, every)]
    known = np.repeat(np.array(asked, np.int32), every)[: last - first]
    for index in np.flatnonzero(np.diff(asked)):
        for minute in range(index * every, min((index + 1) * every, last - first)):
            known[minute] = offset(zone, first + minute)
    return known


class Walk:
    """All minutes of some years in one zone, each with its local time."""

    def __init__(self, zone: str, year: int, n_years: int, every: int = 1) -> None:
        self.start = dt.datetime(year, 1, 1, tzinfo=dt.UTC)
        self.end = dt.datetime(year + n_years, 1, 1, tzinfo=dt.UTC)
        first, last = (int(edge.timestamp()) // 60 for edge in (self.start, self.end))
        self.minutes = np.arange(first - LEAD_MINUTES, last, dtype=np.int32)
        self.local = self.minutes + offsets(ZoneInfo(zone), first - LEAD_MINUTES, last, every)
        self.zero = int(self.local.min()) // DAY_MINUTES * DAY_MINUTES  # a midnight
        self.local -= self.zero
        self.mark = np.maximum.accumulate(self.local)

    def firings(self, expression: str) -> np.ndarray:
        """The minutes since 1970 at which an expression fires, from `start` until before `end`."""
        fires = self._fixed(expression) if is_fixed(expression) else self._fitting(expression)[self.local]
        return self.minutes[LEAD_MINUTES:][fires[LEAD_MINUTES:]]

    def _fitting(self, expression: str) -> np.ndarray:
        """For each minute that a clock could show, whether it fits."""
        n_days = int(self.local.max()) // DAY_MINUTES + 1
        dates = (EPOCH + dt.timedelta(days=self.zero // DAY_MINUTES + day) for day in range(n_days))
        minute, hour, *_ = expression.split()
        of_day = [fits(hour, h) and fits(minute, m) for h in range(24) for m in range(60)]
        return np.outer([fits_date(expression, date) for date in dates], of_day).ravel()

    def _fixed(self, expression: str) -> np.ndarray:
        """Whether the mark passes a fitting minute: in a gap several at once, in a repeated hour none again."""
        passed = np.cumsum(self._fitting(expression), dtype=np.int32)[self.mark]
        return np.diff(passed, prepend=passed[0]) > 0


def is_fixed(expression: str) -> bool:
    minute, hour, *_ = expression.split()
    return not any(sign in minute + hour for sign in "*/")
