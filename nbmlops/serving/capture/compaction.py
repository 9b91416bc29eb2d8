"""Small segments of past days, made one: a merged segment names those that it stands for, so that none counts twice."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime

from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.reading import SOURCES, day_of, read, sources_of, unified
from nbmlops.serving.capture.segments import log_of, put
from nbmlops.serving.capture.settings import MB
from nbmlops.serving.capture.tables import AT
from nbmlops.serving.capture.writing import host
from nbmlops.tracking.journal import crash_point

SMALL_BYTES = 16 * MB  # a segment below it is merged with others
MOST_BYTES = 64 * MB  # of segments that are merged at once, in memory


def compact(place: Place, today: date | None = None, patience_s: float = 0.0) -> int:
    """Merge the small segments of past days, each day's into one or a few; days of one segment stay as they are.

    Each machine merges its own. A crash at any point loses and doubles nothing: the sources of a merged segment
    do not count any more, and the next call removes them.

    Parameters
    ----------
    place
        An endpoint's captures.
    today
        The UTC day from which on nothing is merged.
    patience_s
        Seconds to wait for another process that changes the segments.

    Returns
    -------
    int
        How many segments were merged into others.

    Raises
    ------
    StoreError
        The place is out of reach or full, or a segment is damaged.
    """
    day_now = today or datetime.now(UTC).date()
    with place.kept(patience_s) as is_mine:
        if not is_mine:
            return 0
        waiting = {log.stem for log in place.logs()}
        by_day: dict[date, list[str]] = defaultdict(list)
        sizes = place.segments.sizes()
        for name in sorted(sizes):
            if day_of(name) < day_now and _is_ours(name) and log_of(name) not in waiting:
                by_day[day_of(name)].append(name)
        return sum(_compact_day(place, day, names, sizes) for day, names in sorted(by_day.items()))


def _is_ours(name: str) -> bool:
    return name.partition("/")[2].startswith((f"part-{host()}-", f"merged-{host()}-"))


def _compact_day(place: Place, day: date, names: Sequence[str], sizes: dict[str, int]) -> int:
    superseded = _superseded(place, names)
    for name in superseded:
        place.segments.remove(name)
    small = [name for name in names if name not in superseded and sizes[name] < SMALL_BYTES]
    groups = _grouped(small, sizes)
    return sum(_merge(place, day, group) for group in groups if len(group) > 1)


def _superseded(place: Place, names: Sequence[str]) -> set[str]:
    """Name the segments that a merged one stands for already: a crash left them."""
    merged = [name for name in names if not log_of(name)]
    return {source for name in merged for source in sources_of(read(place, name, []))} & set(names)


def _grouped(names: Sequence[str], sizes: dict[str, int]) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    total = 0
    for name in names:
        if total + sizes[name] > MOST_BYTES:
            groups.append([])
            total = 0
        groups[-1].append(name)
        total += sizes[name]
    return groups


def _merge(place: Place, day: date, names: Sequence[str]) -> int:
    table = unified([read(place, name) for name in names]).sort_by(AT)
    listed = "\n".join(names)
    name = f"date={day}/merged-{host()}-{hashlib.sha256(listed.encode()).hexdigest()[:16]}.parquet"
    put(place, name, table, {SOURCES.decode(): listed})
    for each in names:
        place.segments.remove(each)
        crash_point("in-merge")
    return len(names)
