"""The frames of a log: many records in one, with length and checksum, so that a torn tail is recognised.

A frame is the log's mark, the length and the CRC-32 of what follows (4 bytes each, little-endian), then the length
of a head, the head as JSON, and after it the features and answers, end to end. The head lists the records, or
(an object) names the signatures of versions. The mark comes from the log's name, which no client knows: a body
that imitates frames is never taken for some where a damaged log is searched for the next whole one.
"""

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

_MARK_BYTES = 8
_HEADER = struct.Struct(f"<{_MARK_BYTES}sII")
_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 1 << 30
COLUMNS = "columns"  # the form of features that are an object of lists, as JSON
VALUES = "values"  # the form of an answer that is a list of predictions, as JSON
BODY = "body"  # the form of an answer that is what the client got
NOTHING = ""


class Record(NamedTuple):
    """One request and its answer, as a log holds it.

    `form` is the content type of `features`, or ``columns``, or empty without any; `answer_form` is ``body``,
    ``values`` or empty.
    """

    request_id: str
    at_ns: int
    version: str
    role: str
    latency_s: float
    status: int
    form: str
    features: bytes
    answer_form: str
    answer: bytes


@dataclass(frozen=True)
class Frame:
    """What one frame held, and where: its records or the signatures of versions, as JSON texts."""

    start: int
    end: int
    records: tuple[Record, ...] = ()
    inputs: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Damage:
    """Bytes of a log that are no frame; `is_tail` where nothing whole follows."""

    start: int
    end: int
    is_tail: bool


def mark_of(stem: str) -> bytes:
    """Give the mark of a log's frames: 8 bytes, from its name without the suffix."""
    return hashlib.blake2b(stem.encode(), digest_size=_MARK_BYTES, person=b"nbmlops-capture1").digest()


def packed(records: Sequence[Record]) -> bytes:
    """Pack records into what one frame holds.

    Examples
    --------
    >>> one = Record("a", 1, "2", "champion", 0.001, 200, "text/csv", b"x", "body", b"{}")
    >>> mark = mark_of("host-7-1a")
    >>> frame, damage = frames(framed(packed([one]), mark) + b"torn", mark)
    >>> frame.records == (one,), damage.is_tail
    (True, True)
    """
    heads: list[tuple[Any, ...]] = []
    blobs: list[bytes] = []
    for request_id, at_ns, version, role, latency_s, status, form, features, answer_form, answer in records:
        sizes = len(features), answer_form, len(answer)
        heads.append((request_id, at_ns, version, role, latency_s, status, form, *sizes))
        blobs += features, answer
    return _payload(as_json(heads), blobs)


def packed_inputs(inputs: Mapping[str, str]) -> bytes:
    """Pack the signatures of versions into what one frame holds."""
    return _payload(as_json(inputs), ())


def framed(payload: bytes, mark: bytes) -> bytes:
    """Put the mark, the length and the checksum before what a frame holds."""
    return _HEADER.pack(mark, len(payload), zlib.crc32(payload)) + payload


def as_json(value: Any) -> bytes:
    """Write JSON; what orjson cannot write (integers of any length, lone surrogates) as Python does."""
    try:
        return orjson.dumps(value, _plain, orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        return json.dumps(value, default=_plain).encode()


def from_json(text: bytes) -> Any:
    """Read JSON; what orjson cannot read (NaN, infinities) as Python does.

    Raises
    ------
    ValueError
        It is none.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _payload(head: bytes, blobs: Sequence[bytes]) -> bytes:
    return b"".join((_LENGTH.pack(len(head)), head, *blobs))


def frames(log: Any, mark: bytes) -> Iterator[Frame | Damage]:
    """Read a log's frames in order; what is no whole frame is skipped up to the next that is.

    Parameters
    ----------
    log
        Its bytes: bytes, or a memory map.
    mark
        That of its frames.

    Yields
    ------
    Frame or Damage
        Damage at the end is a torn tail, or what is being written just now.
    """
    at, size = 0, len(log)
    while at < size:
        frame = _frame(log, mark, at, size)
        if frame is not None:
            yield frame
            at = frame.end
            continue
        after = _next_frame(log, mark, at + 1, size)
        yield Damage(at, after, after == size)
        at = after


def _next_frame(log: Any, mark: bytes, start: int, size: int) -> int:
    """Find where the next whole frame begins; the log's end without one."""
    at = log.find(mark, start)
    while at >= 0:
        if _frame(log, mark, at, size) is not None:
            return int(at)
        at = log.find(mark, at + 1)
    return size


def _frame(log: Any, mark: bytes, start: int, size: int) -> Frame | None:
    """Read the frame at a place; None where there is none that is whole and makes sense."""
    begin = start + _HEADER.size
    if begin > size:
        return None
    found, length, checksum = _HEADER.unpack_from(log, start)
    end = begin + length
    if found != mark or length > MAX_FRAME_BYTES or end > size:
        return None
    payload = bytes(log[begin:end])
    if zlib.crc32(payload) != checksum:
        return None
    try:
        return _parsed(payload, start, end)
    except (ValueError, TypeError, struct.error, RecursionError):
        return None


def _parsed(payload: bytes, start: int, end: int) -> Frame:
    (length,) = _LENGTH.unpack_from(payload)
    at = _LENGTH.size + length
    head = from_json(payload[_LENGTH.size : at])
    if isinstance(head, dict):
        return Frame(start, end, inputs={str(version): str(text) for version, text in head.items()})
    records = []
    for request_id, at_ns, version, role, latency_s, status, form, n_features, answer_form, n_answer in head:
        middle, last = at + int(n_features), at + int(n_features) + int(n_answer)
        if not at <= middle <= last <= len(payload):
            raise ValueError("a length in the head is not that of what follows")
        records.append(
            Record(
                str(request_id),
                int(at_ns),
                str(version),
                str(role),
                float(latency_s),
                int(status),
                str(form),
                payload[at:middle],
                str(answer_form),
                payload[middle:last],
            )
        )
        at = last
    return Frame(start, end, tuple(records))
