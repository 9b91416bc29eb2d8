"""Logs that nobody writes any more become Parquet segments, each record exactly once.

A log's segments have names that follow from its name and the offset of what they hold. They are written as drafts,
renamed, and only then the log goes: done again after a crash, the same files are written anew.
"""

import contextlib
import mmap
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nbmlops.errors import StoreError
from nbmlops.serving.capture.frames import Damage, Record, frames, mark_of
from nbmlops.serving.capture.places import Place, has_lock
from nbmlops.serving.capture.tables import tables
from nbmlops.serving.capture.writing import DRAFT, host
from nbmlops.tracking.journal import crash_point

CHUNK_BYTES = 8 * 1024 * 1024  # of a log that become rows in memory at once
STALE_S = 60.0  # a log that has not had its name for so long will never have it


@dataclass(frozen=True)
class Segmented:
    """What one call made: logs and their rows, segments, and what of the logs could not be read.

    `bad_records` were kept without their features or prediction; `bad_bytes` were no frame, and are gone.
    """

    logs: int = 0
    rows: int = 0
    files: int = 0
    bad_records: int = 0
    bad_bytes: int = 0

    def __add__(self, other: "Segmented") -> "Segmented":
        return Segmented(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass
class Chunk:
    """Part of a log: where it begins, its records, and how many bytes before its end were no frame."""

    start: int
    records: list[Record] = field(default_factory=list)
    bad_bytes: int = 0


def segment(place: Place, patience_s: float = 0.0) -> Segmented:
    """Make segments of all logs that their writers have ended, or have left by dying.

    Parameters
    ----------
    place
        An endpoint's captures.
    patience_s
        Seconds to wait for another process that does the same; when it takes longer, nothing is done.

    Returns
    -------
    Segmented
        What was done.

    Raises
    ------
    StoreError
        The place of the segments is out of reach, or full; the logs stay, and the next call begins anew.
    """
    with place.kept(patience_s) as is_mine:
        done = Segmented()
        if is_mine:
            _tidy(place)
            logs = place.logs()
            before = place.segments.sizes() if logs else {}
            for log in logs:
                done += _segment_log(place, log, before)
        return done


def chunks(log: Path, limit: int = CHUNK_BYTES) -> Iterator[tuple[Chunk, dict[str, str]]]:
    """Read a log in parts of about `limit` bytes, each with the signatures of versions that are known by then.

    A torn end counts as bad bytes, for nobody will complete it; of a log that is written, what is being written.
    """
    inputs: dict[str, str] = {}
    chunk = Chunk(0)
    with _mapped(log) as content:
        for found in frames(content, mark_of(log.stem)):
            if isinstance(found, Damage):
                chunk.bad_bytes += found.end - found.start
                continue
            inputs.update(found.inputs or {})
            chunk.records += found.records
            if found.end - chunk.start >= limit:
                yield chunk, inputs
                chunk = Chunk(found.end)
    yield chunk, inputs


def _segment_log(place: Place, log: Path, before: Collection[str]) -> Segmented:
    try:
        fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # its writer removed it, for it held nothing
        return Segmented()
    try:
        if not has_lock(fd):
            return Segmented()
        done, names = _written(place, log)
        for name in before:
            if log_of(name) == log.stem and name not in names:  # of an interrupted attempt that divided it otherwise
                place.segments.remove(name)
        crash_point("before-log-dropped")
        log.unlink()
        return done
    finally:
        os.close(fd)


def _written(place: Place, log: Path) -> tuple[Segmented, set[str]]:
    """Write all segments of a log."""
    done, names = Segmented(logs=1), set()
    for chunk, inputs in chunks(log):
        by_day, bad = tables(log.stem, chunk.records, inputs)
        done += Segmented(bad_records=bad, bad_bytes=chunk.bad_bytes)
        for day, table in by_day.items():
            name = part_name(day, log.stem, chunk.start)
            put(place, name, table)
            names.add(name)
            done += Segmented(rows=table.num_rows, files=1)
    return done, names


def part_name(day: date, log: str, start: int) -> str:
    """Name a segment: the day, the log, and the offset in it.

    Examples
    --------
    >>> part_name(date(2026, 3, 1), "host-71-18a", 0)
    'date=2026-03-01/part-host-71-18a-000000000000.parquet'
    """
    return f"date={day}/part-{log}-{start:012x}.parquet"


def log_of(name: str) -> str:
    """Name the log that a segment is of; empty for a merged one.

    Examples
    --------
    >>> log_of("date=2026-03-01/part-host-71-18a-000000000000.parquet")
    'host-71-18a'
    """
    file = name.partition("/")[2]
    return file.removeprefix("part-").rpartition("-")[0] if file.startswith("part-") else ""


def put(place: Place, name: str, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
    """Write a table as a segment, whole or not at all.

    Raises
    ------
    StoreError
        The disk is full or cannot be written, or the place is out of reach.
    """
    if metadata:
        table = table.replace_schema_metadata(metadata)
    try:
        draft = place.segments.draft(name)
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        pq.write_table(table, draft, compression="zstd")
        crash_point("before-segment-put")
        place.segments.put(draft, name)
        crash_point("after-segment-put")
    except OSError as exc:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        reason = exc.strerror or type(exc).__name__
        message = f"A segment of {place.endpoint}'s captures cannot be written: {reason}."
        raise StoreError(message, "Free some space; nothing is lost, the logs stay until they are segments.") from exc


@contextlib.contextmanager
def _mapped(log: Path) -> Iterator[Any]:
    with log.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # nothing can be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _tidy(place: Place) -> None:
    """Remove what crashes of this machine's processes have left: logs that never had a name, drafts of segments."""
    folders = place.open, *getattr(place.segments, "folder", place.open).glob("date=*")
    for draft in (path for folder in folders for path in folder.glob(f".*-{host()}-*.draft")):
        draft.unlink(missing_ok=True)
    for draft in place.open.glob(f"{host()}-*{DRAFT}"):
        with contextlib.suppress(FileNotFoundError):
            if draft.stat().st_mtime < time.time() - STALE_S:
                draft.unlink()
