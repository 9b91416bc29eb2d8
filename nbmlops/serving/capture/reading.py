"""Captured requests as one table: of the segments, and of the logs that are no segments yet."""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nbmlops.errors import StoreError, UsageError
from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.segments import chunks, log_of
from nbmlops.serving.capture.tables import AT, LOG, OURS, REQUEST_ID, ROLE, ROW, empty, tables

if TYPE_CHECKING:
    import pandas as pd

SOURCES = b"nbmlops.sources"  # metadata of a merged segment: the names of those that it stands for
_ATTEMPTS = 10  # at a list of segments of which one is gone when it is opened


class Span(NamedTuple):
    """From when to when, `until` itself not; None: without an end."""

    since: datetime | None
    until: datetime | None

    def has_day(self, day: date) -> bool:
        """Say whether any time of a UTC day may lie in it."""
        begins = self.since is None or self.since.date() - timedelta(1) <= day
        return begins and (self.until is None or day <= self.until.date() + timedelta(1))


def captured(
    place: Place,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> "pd.DataFrame":
    """Read captured requests, newest last; a request is there as soon as its worker has written it, 0.1 s later.

    Parameters
    ----------
    place
        An endpoint's captures.
    since, until
        Aware times; rows with ``since <= nbmlops.at < until``.
    columns
        Features to read; all without. Our own columns are always there.

    Returns
    -------
    pandas.DataFrame
        One row for each row of each request: ``nbmlops.request_id``, ``nbmlops.at`` (UTC), ``nbmlops.version``,
        ``nbmlops.role``, ``nbmlops.latency_ms``, ``nbmlops.status``, ``nbmlops.row`` (its place in the request),
        ``nbmlops.prediction``, ``nbmlops.log``, then the features. A feature that a row does not have is missing.

    Raises
    ------
    UsageError
        A time without a time zone.
    StoreError
        The place of the segments is out of reach.
    """
    table = _table(place, _span(since, until), columns)
    rows: pd.DataFrame = table.to_pandas()
    return rows


def n_captured(place: Place, since: datetime | None = None, until: datetime | None = None) -> int:
    """Count captured rows, as `captured` would give them."""
    return int(_table(place, _span(since, until), []).num_rows)


def features_of(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Leave our own columns out.

    Examples
    --------
    >>> import pandas as pd
    >>> list(features_of(pd.DataFrame({"nbmlops.row": [0], "delay": [4.5]})))
    ['delay']
    """
    return rows[[name for name in rows if not str(name).startswith(OURS)]]


def _span(since: datetime | None, until: datetime | None) -> Span:
    for time in (since, until):
        if time is not None and time.tzinfo is None:
            raise UsageError(f"The time {time} has no time zone.", "Give an aware time, for instance in UTC.")
    return Span(since, until)


def _table(place: Place, span: Span, columns: Sequence[str] | None) -> pa.Table:
    """Read logs first, then the segments of all other logs: a log becomes segments before it goes, not after."""
    found, logs = _of_logs(place, span, columns)
    for _ in range(_ATTEMPTS):
        try:
            found += _of_segments(place, span, columns, logs)
        except FileNotFoundError:  # merged or retired between listing and reading
            continue
        return _in_order(unified([_within(table, span) for table in found]))
    raise StoreError(f"The captures of {place.endpoint} change faster than they can be read.", "Try again.")


def _of_logs(place: Place, span: Span, columns: Sequence[str] | None) -> tuple[list[pa.Table], set[str]]:
    found, logs = [], set()
    for log in place.logs():
        try:
            for chunk, inputs in chunks(log):
                by_day, _ = tables(log.stem, chunk.records, inputs)
                found += [_chosen(table, columns) for day, table in by_day.items() if span.has_day(day)]
        except FileNotFoundError:
            continue
        logs.add(log.stem)
    return found, logs


def _of_segments(place: Place, span: Span, columns: Sequence[str] | None, logs: Collection[str]) -> list[pa.Table]:
    names = [name for name in place.segments.sizes() if log_of(name) not in logs and span.has_day(day_of(name))]
    found, superseded = {}, set()
    for name in sorted(names):
        found[name] = read(place, name, columns)
        superseded |= sources_of(found[name])
    kept = [table for name, table in found.items() if name not in superseded]
    return [_without(table, logs) for table in kept]


def read(place: Place, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one segment; FileNotFoundError when it is gone.

    Raises
    ------
    StoreError
        It is damaged.
    """
    with place.segments.opened(name) as file:
        try:
            segment = pq.ParquetFile(file)
            wanted = _wanted(segment.schema_arrow.names, columns)
            return segment.read(wanted)
        except (pa.ArrowException, OSError) as exc:
            message = f"The segment {name} of {place.endpoint}'s captures is damaged."
            raise StoreError(message, "Remove or restore that file.") from exc


def sources_of(table: pa.Table) -> set[str]:
    """Name the segments that a merged one stands for."""
    listed = (table.schema.metadata or {}).get(SOURCES, b"").decode()
    return set(listed.splitlines())


def day_of(name: str) -> date:
    """Read the day in a segment's name.

    Examples
    --------
    >>> day_of("date=2026-03-01/part-host-71-18a-000000000000.parquet")
    datetime.date(2026, 3, 1)
    """
    return date.fromisoformat(name.partition("/")[0].removeprefix("date="))


def unified(found: Sequence[pa.Table]) -> pa.Table:
    """Put tables under each other: a column that only some have is missing in the others, mixed types become text."""
    if not found:
        return empty()
    try:
        return pa.concat_tables(found, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        mixed = _mixed(found)
        return pa.concat_tables([_as_text(table, mixed) for table in found], promote_options="permissive")


def _mixed(found: Sequence[pa.Table]) -> set[str]:
    """Name the columns whose types have none in common."""
    mixed = set()
    for name in {name for table in found for name in table.column_names}:
        fields = [pa.schema([table.schema.field(name)]) for table in found if name in table.column_names]
        try:
            pa.unify_schemas(fields, promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            mixed.add(name)
    return mixed


def _as_text(table: pa.Table, names: Collection[str]) -> pa.Table:
    for name in set(table.column_names) & set(names):
        place = table.column_names.index(name)
        table = table.set_column(place, name, _texts(table.column(name)))
    return table


def _texts(values: pa.ChunkedArray) -> pa.Array:
    try:
        return values.cast(pa.string())
    except pa.ArrowException:  # lists and objects
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())


def _wanted(names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    return [name for name in names if name.startswith(OURS) or columns is None or name in columns]


def _chosen(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    return table.select(_wanted(table.column_names, columns))


def _within(table: pa.Table, span: Span) -> pa.Table:
    at = table.column(AT)
    if span.since is not None:
        table = table.filter(pc.greater_equal(at, _scalar(span.since)))
    if span.until is not None:
        table = table.filter(pc.less(table.column(AT), _scalar(span.until)))
    return table


def _scalar(time: datetime) -> pa.Scalar:
    return pa.scalar(time, pa.timestamp("us", tz="UTC")).cast(pa.timestamp("ns", tz="UTC"))


def _without(table: pa.Table, logs: Collection[str]) -> pa.Table:
    if not logs:
        return table
    return table.filter(pc.invert(pc.is_in(table.column(LOG), pa.array(sorted(logs), pa.string()))))


def _in_order(table: pa.Table) -> pa.Table:
    """Sort by time, then by request, role and row; our columns first."""
    table = table.select(sorted(table.column_names, key=lambda name: not name.startswith(OURS)))
    keys = [(name, "ascending") for name in (AT, REQUEST_ID, ROLE, ROW)]
    return table.take(pc.sort_indices(table, keys))
