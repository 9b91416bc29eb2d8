"""Disks that are full, or cannot be written: a clear error at once, what was logged before kept, and then onward."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmlops.errors import StoreError
from nbmlops.tracking import journal
from nbmlops.tracking.journal import Writer
from nbmlops.tracking.journal.delivery import drain
from nbmlops.tracking.journal.sync import Stores, sweep, waiting
from nbmlops.tracking.journal.target_sql import SqlTarget
from nbmlops.tracking.store import open_plain

AT_ONCE_S = 5


@pytest.fixture
def store(folder: Path) -> Any:
    return open_plain(f"sqlite:///{folder}/.nbmlops/mlflow.db")


@pytest.fixture
def writer(small_disk: Path, folder: Path) -> Iterator[Writer]:
    opened = Writer(small_disk / ".nbmlops" / "journal", f"sqlite:///{folder}/.nbmlops/mlflow.db")
    yield opened
    opened.close()


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """Take all the space that a disk has, but for some of it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    with filler.open("ab") as file:
        file.truncate(max(0, file.tell() - leave_bytes))
    return filler


def metric(run_id: str, step: int) -> bytes:
    return journal.metric(run_id, "loss", step / 7, 1700000000000 + step, step)


def append_until_full(writer: Writer, run_id: str, first: int) -> int:
    """Log until it is refused, which must not take long; give the number of records."""
    for step in range(first, first + 100_000):
        began = time.monotonic()
        try:
            writer.append(metric(run_id, step))
        except StoreError as exc:
            told, took_s = exc, time.monotonic() - began
            break
    assert "No space left on device" in str(told)
    assert "what was logged before is safe" in told.hint
    assert took_s < AT_ONCE_S
    return step


def test_a_journal_whose_disk_fills_keeps_all_it_took_and_goes_on_when_there_is_space(
    writer: Writer, small_disk: Path, store: Any
) -> None:
    """At every level: delivered while it is full, when not even the place that it has reached can be written."""
    run_id, step = store.create_run("0", "ann", 1, [], "a run").info.run_id, 0
    target = SqlTarget(store)
    for leave_bytes in (12_288, 8192, 4096, 0, 20_000):
        filler = fill(small_disk, leave_bytes)
        step = append_until_full(writer, run_id, step)
        with pytest.raises(StoreError, match="No space left"):
            writer.copy(b"x" * 50_000)
        assert not list((small_disk / ".nbmlops" / "journal").glob("*.files/*"))
        if writer.is_open:
            done = drain(writer.path, lambda: target)
            assert (done.rejected, done.error) == (0, "")
        filler.unlink()
        writer.append(metric(run_id, step))
        step += 1
    assert drain(writer.path, lambda: target).unsent == 0
    points = store.get_metric_history(run_id, "loss")
    assert sorted((point.step, point.value) for point in points) == [(n, n / 7) for n in range(step)]
    assert step > 100


def test_a_record_that_fits_in_part_leaves_whole_lines(writer: Writer, small_disk: Path) -> None:
    writer.append(metric("r" * 32, 0))
    filler = fill(small_disk)
    many = b"".join(metric("r" * 32, step) for step in range(1, 500))
    with pytest.raises(StoreError):
        writer.append(many)
    content = writer.path.read_bytes()
    assert content.endswith(b"\n")
    filler.unlink()
    writer.append(metric("r" * 32, 777))
    records = [record for _, record in journal.read(writer.path, 0)[0]][1:]
    steps = [record[5] for record in records]
    assert steps == [*range(len(steps) - 1), 777]


@pytest.mark.parametrize("small_disk", [4 << 20], indirect=True)
def test_a_store_whose_disk_fills_gets_all_later(
    small_disk: Path, folder: Path, empty_mlflow: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_mlflow, small_disk / "mlflow.db")
    url = f"sqlite:///{small_disk}/mlflow.db"
    run_id = open_plain(url).create_run("0", "ann", 1, [], "a run").info.run_id
    writer = Writer(folder / ".nbmlops" / "journal", url)
    for step in range(3000):
        writer.append(metric(run_id, step))
    writer.close()
    filler = fill(small_disk)
    with Stores() as stores:
        [done] = sweep(writer.folder, stores)
        assert "full" in done.error
        assert (done.rejected, done.unsent) == (0, 3000)
        filler.unlink()
        sweep(writer.folder, stores)
    assert waiting(writer.folder).records == 0
    assert len(open_plain(url).get_metric_history(run_id, "loss")) == 3000


def test_a_read_only_disk_is_told_of(writer: Writer, small_disk: Path) -> None:
    writer.append(metric("r" * 32, 0))
    writer.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="Read-only file system"):
        writer.append(metric("r" * 32, 1))
    with Stores() as stores:
        [done] = sweep(writer.folder, stores)
    assert "cannot be read or written: Read-only file system" in done.error
    assert done.unsent == 1


LIMITED = """
import resource, sys
from pathlib import Path
from nbmlops.errors import StoreError
from nbmlops.tracking import journal

writer = journal.Writer(Path(sys.argv[1]), "sqlite:///mlflow.db")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
count = 0
try:
    while True:
        writer.append(journal.metric("r" * 32, "loss", 0.5, 1, count))
        count += 1
except StoreError as exc:
    print(exc)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.append(journal.metric("r" * 32, "loss", 0.5, 1, count))
print(count + 1, journal.unsent(writer.path))
"""


def test_a_write_that_fails_is_told_of_and_the_next_one_may_succeed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said, *_, counts = done.stdout.splitlines()
    assert "cannot be written: File too large" in said
    wrote, read = counts.split()
    assert wrote == read
    assert int(wrote) > 50
