"""Logs become segments, each record exactly once, wherever who does it dies, and whatever stands in them."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from nbmlops.errors import StoreError
from nbmlops.serving.capture import compaction, segments
from nbmlops.serving.capture.compaction import compact
from nbmlops.serving.capture.frames import Damage, Record, framed, frames, mark_of, packed
from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.reading import captured
from nbmlops.serving.capture.segments import segment
from nbmlops.serving.capture.settings import CaptureSettings
from nbmlops.serving.capture.upkeep import keep_up

Add = Callable[..., None]
DAY = 86400.0
MONDAY = datetime(2026, 3, 2, 23, 59, 59, tzinfo=UTC).timestamp()

SEGMENTING = """
import sys
from pathlib import Path
from nbmlops.serving.capture import segments
from nbmlops.serving.capture.compaction import compact
from nbmlops.serving.capture.places import Place
segments.chunks.__defaults__ = (4000,)  # several segments of each log
place = Place.of(Path(sys.argv[1]), "delays")
segments.segment(place)
compact(place)
"""


def segmenting(root: Path, **environment: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", SEGMENTING, str(root)]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE)


def segmented(root: Path) -> None:
    process = segmenting(root)
    assert process.communicate() == (None, b"")
    assert process.returncode == 0


def files(place: Place) -> list[str]:
    return sorted(place.segments.sizes())


def ids(place: Place) -> list[str]:
    return sorted(captured(place)["nbmlops.request_id"])


def record(n: int = 0) -> Record:
    return Record(f"r{n}", 1, "1", "champion", 0.1, 200, "application/json", b'{"inputs": [1]}', "values", b"[1]")


def test_a_segment_has_our_columns_and_each_feature_with_the_type_of_the_signature(place: Place, add: Add) -> None:
    split = b'{"columns": ["delay", "carrier", "extra"], "data": [[4, "UA", 1], [null, "B6", 2]]}'
    add(2, MONDAY, body=b'{"dataframe_split": ' + split + b"}", answer=np.array([1, 0]))
    assert segment(place) == segments.Segmented(logs=1, rows=4, files=1)
    (name,) = files(place)
    table = pq.read_table(place.folder / name)
    assert name.startswith("date=2026-03-02/part-")
    assert {field.name: str(field.type) for field in table.schema} == {
        "nbmlops.request_id": "string",
        "nbmlops.at": "timestamp[ns, tz=UTC]",
        "nbmlops.version": "string",
        "nbmlops.role": "string",
        "nbmlops.latency_ms": "double",
        "nbmlops.status": "int32",
        "nbmlops.row": "int32",
        "nbmlops.prediction": "int64",
        "nbmlops.log": "string",
        "delay": "double",
        "carrier": "string",
    }
    assert table["delay"].to_pylist() == [4.0, None, 4.0, None]
    assert table["nbmlops.row"].to_pylist() == [0, 1, 0, 1]


def test_rows_go_to_the_utc_day_of_their_request(place: Place, add: Add) -> None:
    for seconds in (0.0, 2.0):
        add(1, MONDAY + seconds)
    segment(place)
    assert [name.partition("/")[0] for name in files(place)] == ["date=2026-03-02", "date=2026-03-03"]


CRASHES = ["before-segment-put", "after-segment-put", "before-log-dropped", "in-merge"]


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_at_any_point_loses_and_doubles_nothing(place: Place, add: Add, tmp_path: Path, crash: str) -> None:
    for _ in range(2):
        add(60, MONDAY)
    wanted = ids(place)
    process = segmenting(tmp_path, NBMLOPS_CRASH_AT=crash)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert ids(place) == wanted, "read right after the crash"
    segmented(tmp_path)
    assert ids(place) == wanted
    assert place.logs() == []
    assert len(files(place)) == 1, "all of a past day is one segment"
    assert not list(place.folder.rglob("*.draft"))


def test_kills_at_any_moment_lose_and_double_nothing(place: Place, add: Add, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(4):
        add(400, MONDAY)
        process = segmenting(tmp_path)
        time.sleep(0.25 + chance.random() * 0.3)
        process.kill()
        process.communicate()
    wanted = sorted(f"r{n}" for n in range(1600))
    assert ids(place) == wanted
    segmented(tmp_path)
    assert ids(place) == wanted
    assert len(files(place)) == 1


def test_two_at_once_do_the_work_once(place: Place, add: Add, tmp_path: Path) -> None:
    for _ in range(5):
        add(200, MONDAY)
    both = [segmenting(tmp_path) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == [b"", b""]
    assert sorted(ids(place)) == sorted(f"r{n}" for n in range(1000))


def test_an_attempt_that_divided_a_log_otherwise_leaves_nothing_twice(
    place: Place, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(1500, MONDAY)
    (log,) = place.logs()
    copy = log.read_bytes()
    monkeypatch.setattr(segments.chunks, "__defaults__", (1,))
    segment(place)
    assert len(files(place)) == 3
    log.write_bytes(copy)
    monkeypatch.setattr(segments.chunks, "__defaults__", (10**9,))
    segment(place)
    assert len(files(place)) == 1
    assert len(ids(place)) == len(set(ids(place))) == 1500


def test_a_day_is_merged_when_it_is_over_and_again_when_more_of_it_arrives(place: Place, add: Add) -> None:
    for _ in range(3):
        add(2, MONDAY)
        segment(place)
    assert compact(place, date(2026, 3, 2)) == 0, "not before its end"
    assert compact(place, date(2026, 3, 3)) == 3
    assert compact(place, date(2026, 3, 3)) == 0
    add(1, MONDAY)
    segment(place)
    assert compact(place, date(2026, 3, 3)) == 2
    assert len(files(place)) == 1
    assert len(ids(place)) == 7


def test_a_full_disk_loses_nothing_and_the_next_call_mends_it(place: Place, add: Add) -> None:
    add(500, MONDAY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(StoreError, match="cannot be written"):
            segment(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(ids(place)) == 500
    segment(place)
    assert len(ids(place)) == 500
    assert not list(place.folder.rglob("*.draft"))


def log_of(place: Place, content: bytes, stem: str = "host-1-1") -> Path:
    place.open.mkdir(parents=True, exist_ok=True)
    path = place.open / f"{stem}.log"
    path.write_bytes(content)
    return path


def test_a_torn_end_is_counted_and_costs_nothing_that_is_whole(place: Place) -> None:
    mark = mark_of("host-1-1")
    whole = framed(packed([record(0)]), mark)
    torn = framed(packed([record(1)]), mark)[:-3]
    log_of(place, whole + torn)
    assert segment(place) == segments.Segmented(1, 1, 1, 0, len(torn))
    assert ids(place) == ["r0"]


def test_every_way_to_tear_or_flip_a_log_is_noticed(place: Place) -> None:
    mark = mark_of("host-1-1")
    parts = [framed(packed([record(n)]), mark) for n in range(3)]
    content = b"".join(parts)
    for cut in range(len(content)):
        found = [each for each in frames(content[:cut], mark) if not isinstance(each, Damage)]
        assert len(found) == sum(cut >= len(b"".join(parts[: n + 1])) for n in range(3))
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 0x10
        found = [each.records[0].request_id for each in frames(bytes(flipped), mark) if not isinstance(each, Damage)]
        assert found == [f"r{n}" for n in range(3) if n != at // len(parts[0])]


def test_a_body_that_imitates_frames_is_no_record(place: Place) -> None:
    """Not even where the frame around it is damaged: a client does not know the log's mark."""
    forged = framed(packed([record(666)]), mark_of("another"))
    mark = mark_of("host-1-1")
    outer = bytearray(framed(packed([record(0)._replace(features=forged)]), mark))
    outer[len(outer) - 2] ^= 1
    log_of(place, bytes(outer) + framed(packed([record(1)]), mark))
    segment(place)
    assert ids(place) == ["r1"]


def test_hostile_logs_block_nothing(place: Place) -> None:
    chance = np.random.default_rng(7)
    mark = mark_of("host-1-1")
    good = framed(packed([record(1)]), mark)
    heads = [b"[[1,2]]", b"{}", b'{"1": 5}', b"[" * 100_000, b"[null]", b'[["a",1,"1","c",1e999,200,"",9e9,"",0]]']
    frames_of = [framed(len(head).to_bytes(4, "little") + head, mark) for head in heads]
    noise = chance.integers(0, 256, 300_000, dtype=np.uint8).tobytes()
    lies = [mark + b"\xff\xff\xff\x7f" + b"\0" * 4, mark + b"\0" * 8, b"\0" * 5000, noise]
    content = b"".join(part + good for part in (*frames_of, *lies))
    log_of(place, content)
    log_of(place, b"", "host-1-2")
    log_of(place, noise, "host-1-3")
    log_of(place, good, "no number")
    begun = time.monotonic()
    done = segment(place)
    assert time.monotonic() - begun < 20
    assert place.logs() == []
    assert done.bad_bytes > 600_000
    assert ids(place) == ["r1"] * 10


BAD = [
    b"",
    b"{",
    b"null",
    b"5",
    b'{"dataframe_split": {"columns": ["delay"], "data": [[1], [2, 3]]}}',
    b'{"inputs": {"delay": [1], "carrier": ["UA", "B6"]}}',
    b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"instances": 5}',
    b'{"dataframe_records": [5]}',
]


def test_bodies_that_cannot_be_read_keep_their_row_and_are_counted(place: Place, add: Add) -> None:
    for body in BAD:
        add(1, MONDAY, body=body)
    add(1, MONDAY)
    add(1, MONDAY, answer=b"\xff")
    add(1, MONDAY, form="application/x-unknown")
    done = segment(place)
    assert (done.bad_records, done.rows) == (len(BAD) + 2, len(BAD) + 3)
    rows = captured(place)
    assert rows.delay.notna().sum() == 2
    assert rows["nbmlops.request_id"].is_unique


def test_times_that_make_no_sense_do_not_block(place: Place) -> None:
    times = [-1, 0, 2**62, 2**80]
    content = b"".join(
        framed(packed([record(n)._replace(at_ns=at)]), mark_of("host-1-1")) for n, at in enumerate(times)
    )
    log_of(place, content)
    assert segment(place).bad_records == 3
    assert len(captured(place)) == 4


def test_one_odd_value_costs_a_typed_column_that_value_alone(place: Place, add: Add) -> None:
    add(1, MONDAY, body={"delay": [1.5, "x", [2], 3], "carrier": ["UA", 5, None, "B6"]})
    segment(place)
    rows = captured(place)
    assert rows.delay.fillna(-1).tolist() == [1.5, -1, -1, 3]
    assert rows.carrier.fillna("?").tolist() == ["UA", "5", "?", "B6"]


def test_a_client_cannot_make_a_million_columns(place: Place) -> None:
    body = b'{"dataframe_records": [{' + b",".join(b'"c%d": 1' % n for n in range(5000)) + b"}]}"
    log_of(place, framed(packed([record()._replace(features=body)]), mark_of("host-1-1")))
    segment(place)
    assert len(captured(place).columns) < 2020


def test_a_feature_cannot_pass_for_one_of_our_columns(place: Place) -> None:
    body = b'{"dataframe_records": [{"nbmlops.version": "forged"}]}'
    log_of(place, framed(packed([record()._replace(features=body)]), mark_of("host-1-1")))
    rows = captured(place)
    assert rows["nbmlops.version"].tolist() == ["1"]
    assert rows["feature.nbmlops.version"].tolist() == ["forged"]


def test_what_crashes_have_left_is_tidied_and_what_is_young_stays(place: Place, add: Add) -> None:
    add(1)
    host = compaction.host()
    old, young = (place.open / f"{host}-1-{name}.draft" for name in ("1", "2"))
    for path in (old, young):
        path.touch()
    os.utime(old, (1, 1))
    segment(place)
    assert (old.exists(), young.exists()) == (False, True)


def test_keeping_up_does_all_of_it(place: Place, add: Add) -> None:
    for days in (9, 5, 5, 1):
        add(2, MONDAY - days * DAY)
    now = datetime.fromtimestamp(MONDAY, UTC)
    done = keep_up(place, CaptureSettings(keep_days=7), now)
    assert (done.segmented.logs, done.merged, done.retired.files) == (4, 2, 1)
    assert len(captured(place)) == 6
    later = keep_up(place, CaptureSettings(keep_days=7), now + timedelta(days=30))
    assert later.retired.files == 2
    assert captured(place).empty
    assert not list(place.folder.glob("date=*"))
