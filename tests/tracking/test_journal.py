"""The journal's files: what is written is read, however the last line, the middle or the disk looks."""

import fcntl
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbmlops.errors import StoreError, UsageError
from nbmlops.tracking import journal
from nbmlops.tracking.journal import Sent, Writer

TARGET = "sqlite:///mlflow.db"
text = st.text(max_size=30)
records = st.one_of(
    st.tuples(st.just("metric"), text, text, st.floats(), st.integers(0, 2**53), st.integers(-(2**53), 2**53)),
    st.tuples(st.sampled_from(["param", "tag"]), text, text, text),
    st.tuples(st.sampled_from(["create", "update", "inputs", "file"]), text, st.dictionaries(text, text, max_size=3)),
    st.tuples(st.just("begin"), text),
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    opened = Writer(tmp_path / "journal", TARGET)
    yield opened
    opened.close()


def worded(record: tuple[Any, ...]) -> bytes:
    kind, run_id, *rest = record
    return journal.metric(run_id, *rest) if kind == "metric" else journal.line(kind, run_id, *rest)


def read_all(path: Path, limit: int = journal.CHUNK_BYTES) -> list[list[Any]]:
    """Read a journal to its end, in chunks; its header is left out."""
    found, offset = [], 0
    while chunk := journal.read(path, offset, limit):
        if not chunk[0]:
            return [each for each in found if each[0] != "header"]
        found += [record for _, record in chunk[0]]
        assert offset + sum(size for size, _ in chunk[0]) == chunk[1]
        offset = chunk[1]
    return found


def same(found: list[Any], record: tuple[Any, ...]) -> bool:
    if record[0] != "metric":
        return found == list(record)
    value, wanted = float(found[3]), record[3]
    is_same = math.isnan(wanted) if math.isnan(value) else value == wanted
    return is_same and [*found[:3], *found[4:]] == [*record[:3], *record[4:]]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(records, min_size=1, max_size=30), limit=st.integers(1, 500))
def test_what_is_written_is_read(tmp_path: Path, written: list[tuple[Any, ...]], limit: int) -> None:
    writer = Writer(tmp_path / "journal", TARGET)
    for record in written:
        writer.append(worded(record))
    writer.close()
    found = read_all(writer.path, limit)
    assert len(found) == len(written)
    assert all(same(*pair) for pair in zip(found, written, strict=True)), (found, written)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 2000), count=st.integers(1, 20))
def test_a_torn_last_line_is_nobodys(tmp_path: Path, cut: int, count: int) -> None:
    writer = Writer(tmp_path / "journal", TARGET)
    for number in range(count):
        writer.append(journal.metric("r", "loss", number / 7, 1, number))
    writer.close()
    whole = writer.path.read_bytes()
    writer.path.write_bytes(whole[: max(len(whole) - cut, whole.index(b"\n") + 1)])
    kept = writer.path.read_bytes().count(b"\n") - 1
    assert [record[5] for record in read_all(writer.path)] == list(range(kept))
    assert journal.unsent(writer.path) == kept


def test_zeros_in_the_middle_cost_the_records_that_they_cover_and_no_other(writer: Writer) -> None:
    for number in range(5):
        writer.append(journal.metric("r", "loss", 0.5, 1, number))
    lines = writer.path.read_bytes().split(b"\n")
    lines[2] = bytes(len(lines[2]))  # a power cut may leave them, with or without the end of a line
    lines[4] = bytes(10) + lines[4][10:]
    writer.path.write_bytes(b"\n".join(lines))
    assert [record[0] for record in read_all(writer.path)] == ["metric", "torn", "metric", "torn", "metric"]
    joined = b"\n".join(lines[:2]) + b"\n" + bytes(100) + b"\n".join(lines[3:4]) + b"\n"
    writer.path.write_bytes(joined)
    assert [record[5] for record in read_all(writer.path)] == [0, 2]


@pytest.mark.parametrize("line", ["5", "[]", "{}", '["metric", "r"]', '["tag", "r", "key"]', "nonsense", '"text"'])
def test_a_line_that_is_no_record_is_told_apart(writer: Writer, line: str) -> None:
    writer.append(line.encode() + b"\n" + journal.metric("r", "loss", 0.5, 1, 0))
    assert [record[0] for record in read_all(writer.path)] == ["torn", "metric"]


def test_a_newer_format_is_not_guessed_at(writer: Writer) -> None:
    writer.append(journal.metric("r", "loss", 0.5, 1, 0))
    writer.path.write_bytes(writer.path.read_bytes().replace(b'"format":1', b'"format":2'))
    assert journal.header_of(writer.path) is None


def test_a_journal_appears_with_its_header_and_its_writers_lock(writer: Writer) -> None:
    assert journal.journals(writer.folder) == []
    writer.append(journal.metric("r", "loss", 0.5, 1, 0))
    header = journal.header_of(writer.path)
    assert header is not None
    assert (header.target, header.pid) == (TARGET, os.getpid())
    assert journal.has_writer(writer.path)
    writer.close()
    assert not journal.has_writer(writer.path)
    assert [path.suffix for path in writer.folder.iterdir()] == [".jsonl"]


def test_a_forked_child_has_a_journal_of_its_own_and_keeps_no_hold_of_the_parents(writer: Writer) -> None:
    writer.append(journal.metric("r", "loss", 0.5, 1, 0))
    wait, tell = os.pipe()
    if not (pid := os.fork()):
        writer.append(journal.metric("r", "loss", 0.25, 1, 1))
        os.read(wait, 1)
        os._exit(0)
    while not any(read_all(path) for path in journal.journals(writer.folder) if path != writer.path):
        time.sleep(0.01)
    try:
        writer.close()
        assert not journal.has_writer(writer.path)  # the child lives, and has not inherited the lock
        [other] = [path for path in journal.journals(writer.folder) if path != writer.path]
        assert journal.has_writer(other)
        assert [record[5] for record in read_all(other)] == [1]
    finally:
        os.write(tell, b".")
        os.close(tell)
        os.close(wait)
        os.waitpid(pid, 0)


def test_a_password_and_the_projects_place_are_not_written_down(tmp_path: Path) -> None:
    folder = tmp_path / ".nbmlops" / "journal"
    assert journal.portable("postgresql://ann:s3cr3t@host/db", folder) == "postgresql://ann:***@host/db"
    assert journal.portable(f"sqlite:///{tmp_path}/x.db", folder) == "sqlite:///{project}/x.db"


def test_a_durability_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="durability is 'disk'"):
        Writer(tmp_path, TARGET, "disk")


@pytest.mark.parametrize("durability", ["page-cache", "fsync"])
def test_a_copy_has_the_hash_of_what_was_logged(tmp_path: Path, durability: str) -> None:
    writer = Writer(tmp_path / "journal", TARGET, durability)
    (tmp_path / "notes.txt").write_text("good")
    kept = writer.copy(tmp_path / "notes.txt")
    (tmp_path / "notes.txt").write_text("changed later")
    copy = writer.path.with_suffix(".files") / kept["copy"]
    assert copy.read_text() == "good"
    assert kept["bytes"] == 4
    assert kept["sha256"] == "770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c"
    writer.close()


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    writer = Writer(tmp_path / "journal", TARGET)
    with pytest.raises(StoreError, match=r"The journal in .* cannot be written: File exists"):
        writer.append(journal.metric("r", "loss", 0.5, 1, 0))


# ------------------------------------------------------------------- delivery
def test_what_is_known_of_a_delivery_survives_being_torn(writer: Writer) -> None:
    writer.append(journal.metric("r", "loss", 0.5, 1, 0))
    Sent(offset=7, ids={"a": "b"}).save(writer.path)
    assert Sent.of(writer.path) == Sent(offset=7, ids={"a": "b"})
    writer.path.with_suffix(".sent").write_bytes(b'{"offset": ')
    assert Sent.of(writer.path) == Sent()


def test_only_one_delivers_and_a_journal_that_is_gone_leaves_no_lock(writer: Writer) -> None:
    writer.append(journal.metric("r", "loss", 0.5, 1, 0))
    lock = writer.path.with_suffix(".lock")
    with journal.delivering(writer.path, 0) as is_mine, journal.delivering(writer.path, 0.02) as is_other:
        assert (is_mine, is_other) == (True, False)
    journal.discard(writer.path)
    with journal.delivering(writer.path, 0) as is_mine:
        assert is_mine
    assert not lock.exists()


def test_what_a_crash_left_of_a_refusal_is_not_kept_twice(writer: Writer) -> None:
    writer.append(journal.metric("r", "loss", 0.5, 1, 0))
    sent = Sent()
    journal.reject(writer.path, sent, [["param", "r", "a", "1"]], "no")
    after = Sent(**vars(sent))
    journal.reject(writer.path, sent, [["param", "r", "b", "1"]], "no")  # and the process dies before it is known
    journal.reject(writer.path, after, [["param", "r", "b", "1"]], "no")
    assert writer.path.with_suffix(".rejected").read_bytes().count(b"\n") == after.rejected == 2


def test_what_crashes_left_is_tidied_up_later_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.lock", "a.sent", "b.draft", "kept.rejected", "sender.log"):
        (tmp_path / name).touch()
    (tmp_path / "kept.files").mkdir()
    journal.tidy(tmp_path)
    assert (tmp_path / "a.lock").exists()  # somebody may just be making it
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    journal.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.files", "kept.rejected", "sender.log"]


def test_a_living_writer_is_seen_and_those_who_ask_for_one_are_not_taken_for_it(writer: Writer) -> None:
    writer.append(journal.metric("r", "loss", 0.5, 1, 0))
    assert journal.has_writer(writer.path)
    path = writer.path
    writer.close()
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not journal.has_writer(path)
