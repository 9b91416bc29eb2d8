"""Durations as a person writes them: ``5s``, ``10m``, ``24h``, ``3d``, or bare seconds."""

import math
import re
from datetime import UTC, datetime, timedelta

from nbmlops.errors import UsageError

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
LONGEST_S = 10 * 365 * UNITS_S["d"]  # what is longer is a slip, and overflows a clock
_PART = r"(\d+(?:\.\d+)?)(ms|[smhdw])"


def duration_s(given: str | float, what: str = "A duration") -> float:
    """Read a duration; text has a number and a unit, several in a row add up, a bare number is seconds.

    Parameters
    ----------
    given
        ``500ms``, ``5s``, ``10m``, ``24h``, ``3d``, ``2w``, ``1h30m``, or seconds as text or number.
    what
        What the duration is of, for the message.

    Returns
    -------
    float
        Seconds, from 0 to ten years.

    Raises
    ------
    UsageError
        It is none of these, negative, or longer than ten years.

    Examples
    --------
    >>> duration_s("24h"), duration_s("1h30m"), duration_s("90"), duration_s(0.5)
    (86400.0, 5400.0, 90.0, 0.5)
    >>> duration_s("5 apples", "retries' backoff")
    Traceback (most recent call last):
    nbmlops.errors.UsageError: retries' backoff must be a duration, not '5 apples'.
      Write it as 30s, 10m, 24h, 3d, or as seconds.
    """
    seconds = _seconds(given)
    if not 0 <= seconds <= LONGEST_S:  # which nan is not either
        raise UsageError(f"{what} must be a duration, not {given!r}.", "Write it as 30s, 10m, 24h, 3d, or as seconds.")
    return seconds


def spoken(seconds: float) -> str:
    """Word a duration in its two largest units, as `duration_s` reads it.

    Examples
    --------
    >>> spoken(86400), spoken(5400), spoken(61), spoken(0.25), spoken(0)
    ('1d', '1h30m', '1m1s', '250ms', '0s')
    """
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    left, parts = round(seconds), []
    for unit in ("d", "h", "m", "s"):
        n, left = divmod(left, int(UNITS_S[unit]))
        if n:
            parts.append(f"{n}{unit}")
    return "".join(parts[:2])


def moment_of(given: str, now: datetime, what: str = "A time") -> datetime:
    """Read a time: a duration before now, or a date or time as ISO 8601 has it; one without a zone is in UTC.

    Raises
    ------
    UsageError
        It is neither.

    Examples
    --------
    >>> now = datetime(2026, 3, 8, 12, tzinfo=UTC)
    >>> str(moment_of("7d", now)), str(moment_of("2026-03-01", now))
    ('2026-03-01 12:00:00+00:00', '2026-03-01 00:00:00+00:00')
    """
    try:
        moment = datetime.fromisoformat(given.strip())
    except ValueError:
        pass
    else:
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return now - timedelta(seconds=duration_s(given, what))
    except UsageError:
        raise UsageError(f"{what} cannot be {given!r}.", "Write it as 12h, 7d, or as 2026-03-01.") from None


def _seconds(given: str | float) -> float:
    if isinstance(given, bool):
        return math.nan
    if not isinstance(given, str):
        return float(given)
    text = given.strip().lower().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    if not re.fullmatch(f"({_PART})+", text, re.ASCII):
        return math.nan
    return sum(float(number) * UNITS_S[unit] for number, unit in re.findall(_PART, text, re.ASCII))
