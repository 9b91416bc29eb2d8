"""What of the segments goes: whole ones, oldest first, by age and by the size of all. Open logs are never touched."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.reading import day_of
from nbmlops.serving.capture.settings import CaptureSettings


@dataclass(frozen=True)
class Retired:
    """How many segments went, and their size in bytes."""

    files: int
    bytes: int


def retain(place: Place, settings: CaptureSettings, now: datetime | None = None, patience_s: float = 0.0) -> Retired:
    """Remove segments beyond the limits of age and size.

    Parameters
    ----------
    place
        An endpoint's captures.
    settings
        `keep_days` and `max_bytes`; None keeps all.
    now
        An aware time.
    patience_s
        Seconds to wait for another process that changes the segments; when it takes longer, nothing is done.

    Raises
    ------
    StoreError
        The place is out of reach.
    """
    with place.kept(patience_s) as is_mine:
        sizes = place.segments.sizes() if is_mine else {}
        names = retired(sizes, settings, now or datetime.now(UTC))
        for name in names:
            place.segments.remove(name)
        return Retired(len(names), sum(sizes[name] for name in names))


def retired(sizes: Mapping[str, int], settings: CaptureSettings, now: datetime) -> list[str]:
    """Choose the segments that go, oldest first: those whose day ended `keep_days` ago, then as many as are too large.

    Examples
    --------
    >>> sizes = {"date=2026-03-01/part-a-1-1-0.parquet": 70, "date=2026-03-02/part-a-1-2-0.parquet": 50}
    >>> retired(sizes, CaptureSettings(max_bytes=100), datetime(2026, 3, 3, tzinfo=UTC))
    ['date=2026-03-01/part-a-1-1-0.parquet']
    >>> retired(sizes, CaptureSettings(keep_days=1), datetime(2026, 3, 3, tzinfo=UTC))
    ['date=2026-03-01/part-a-1-1-0.parquet']
    """
    gone, total = [], sum(sizes.values())
    for name in sorted(sizes, key=_age):
        is_old = settings.keep_days is not None and _ended(name) + timedelta(days=settings.keep_days) <= now
        if not is_old and (settings.max_bytes is None or total <= settings.max_bytes):
            break
        gone.append(name)
        total -= sizes[name]
    return gone


def _ended(name: str) -> datetime:
    """Give the end of a segment's day."""
    return datetime.combine(day_of(name), time(), UTC) + timedelta(1)


def _age(name: str) -> tuple[str, bool, int, str]:
    """Order segments by day; in a day merged ones come first, then by when their log was begun."""
    day, _, file = name.partition("/")
    parts = file.removesuffix(".parquet").split("-")
    begun = parts[-2] if parts[0] == "part" else "0"
    return day, parts[0] == "part", int(begun, 16), file
