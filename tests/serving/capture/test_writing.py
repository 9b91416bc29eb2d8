"""The capture of a worker: cheap, bounded, and nothing that was flushed is lost, however the worker dies."""

import os
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nbmlops.errors import UsageError
from nbmlops.serving.capture import writing
from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.reading import captured
from nbmlops.serving.capture.segments import segment
from nbmlops.serving.capture.settings import CaptureSettings
from nbmlops.serving.capture.writing import Capture
from tests.serving.capture.conftest import ANSWER, BODY, INPUTS

NOW = time.time_ns()

# Captures without end; after each flush it tells how many requests are promised to be kept.
WORKER = f"""
import itertools, os, sys, time
from pathlib import Path
from nbmlops.serving.capture.settings import CaptureSettings
from nbmlops.serving.capture.writing import Capture
capture = Capture(Path(sys.argv[1]), CaptureSettings(roll_bytes=int(sys.argv[3])))
capture.describe("1", {INPUTS!r})
for n in itertools.count():
    capture.add(f"{{sys.argv[2]}}-{{n}}", time.time_ns(), "1", "champion", 0.001, {BODY!r}, {ANSWER!r})
    if n % 97 == 96:
        capture.flush()
        os.write(1, b"%d\\n" % (n + 1))
"""


def worker(folder: Path, name: str, roll_bytes: int = 200_000) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, str(folder), name, str(roll_bytes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def killed(process: subprocess.Popen[bytes], after_s: float) -> int:
    """Kill a worker some time after its first flush; give how many requests it had promised."""
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    told = first + process.stdout.read()
    process.stdout.close()
    process.wait()
    return int(told[: told.rfind(b"\n")].splitlines()[-1])


def add(capture: Capture, n: int = 1, **more: object) -> None:
    for number in range(n):
        given = {"features": BODY, "answer": ANSWER, **more}
        capture.add(f"r{number}", NOW, "1", "champion", 0.002, **given)  # type: ignore[arg-type]


def test_a_worker_that_captures_loads_nothing_heavy() -> None:
    code = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from nbmlops.serving.capture.columns import key_of
from nbmlops.serving.capture.settings import CaptureSettings
from nbmlops.serving.capture.writing import Capture
with TemporaryDirectory() as folder:
    capture = Capture(Path(folder), CaptureSettings(hash=("a",)), key=key_of(Path(folder)))
    capture.add("r", 1, "1", "champion", 0.1, {"a": [1]}, [1])
    capture.close()
    assert capture.counts.kept == 1
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(eval(done.stdout))
    assert not loaded & {"pandas", "pyarrow", "scipy", "sklearn", "mlflow", "sqlalchemy", "pydantic", "fsspec"}


def test_thirty_killed_workers_lose_nothing_that_they_flushed_and_double_nothing(place: Place) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    promised = {}
    for n in range(0, 30, 2):  # two at once
        processes = [(f"w{n + k}", worker(place.folder, f"w{n + k}")) for k in (0, 1)]
        for name, process in processes:
            promised[name] = killed(process, chance.random() * 0.05)
        if n % 10 == 0:
            segment(place)
    done = segment(place)
    assert not place.logs()
    rows = captured(place, columns=["delay"])
    ids = rows["nbmlops.request_id"]
    assert ids.is_unique
    kept = set(ids)
    missing = [f"{name}-{n}" for name, count in promised.items() for n in range(count) if f"{name}-{n}" not in kept]
    assert missing == []
    assert rows.delay.eq(4.5).all()
    assert done.bad_records == 0


def test_a_request_is_read_back_while_its_worker_writes_on(place: Place) -> None:
    capture = Capture(place.folder)
    add(capture, 3)
    assert captured(place).empty
    capture.flush()
    assert list(captured(place)["nbmlops.request_id"]) == ["r0", "r1", "r2"]
    segment(place)
    assert len(place.logs()) == 1, "a log that is written is nobody's segment"
    add(capture)
    capture.close()
    assert len(captured(place)) == 4
    segment(place)
    assert len(captured(place)) == 4
    assert not place.logs()


def test_a_log_rolls_by_size_and_by_age_and_an_empty_one_is_no_file(place: Place) -> None:
    capture = Capture(place.folder, CaptureSettings(roll_bytes=2000, roll_s=0.2))
    for _ in range(6):
        add(capture, 5)
        capture.flush()
    assert len(place.logs()) > 1
    time.sleep(0.25)
    capture.flush()
    segment(place)
    assert place.logs() == [], "an idle worker lets an old log go"
    capture.close()
    assert len(captured(place)) == 30


def test_logs_and_segments_are_their_owners_alone(place: Place) -> None:
    before = os.umask(0)
    try:
        capture = Capture(place.folder)
        add(capture)
        capture.flush()
        (log,) = place.logs()
        capture.close()
        modes = {log.parent: 0o700, log.parent.parent: 0o700, log: 0o600}
        found = {path: stat.S_IMODE(path.stat().st_mode) for path in modes}
        segment(place)
        (part,) = place.folder.glob("date=*/*.parquet")
        assert found == modes
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
        assert stat.S_IMODE(part.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_waiting_records_are_bounded_and_what_is_dropped_is_counted_and_told_once(place: Place) -> None:
    told: list[str] = []
    capture = Capture(place.folder, CaptureSettings(max_waiting_bytes=10_000), told=told.append)
    add(capture, 1000)
    waiting = capture.counts.waiting
    assert 0 < waiting < 1000
    for _ in range(3):
        capture.flush()
    assert capture.counts.kept == waiting
    assert capture.counts.dropped == 1000 - waiting
    assert len(told) == 1
    assert f"{1000 - waiting} captured requests were dropped" in told[0]
    add(capture)
    capture.close()
    assert len(captured(place)) == waiting + 1


def test_a_read_only_folder_is_told_once_and_nothing_is_lost_when_it_is_writable_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.0)
    told: list[str] = []
    place.folder.parent.mkdir(parents=True)
    place.folder.write_text("a file where the folder should be: it can be written by nobody, root included")
    capture = Capture(place.folder, told=told.append)
    for _ in range(4):
        add(capture, 600)
        capture.flush()
    assert (capture.counts.kept, capture.counts.waiting, len(told)) == (0, 2400, 1)
    assert "they wait, and serving goes on" in told[0]
    place.folder.unlink()
    capture.flush()
    assert (capture.counts.kept, capture.counts.waiting, len(told)) == (2400, 0, 2)
    capture.close()
    assert len(captured(place)) == 2400


def test_closing_on_a_disk_that_refuses_counts_what_is_lost(place: Place) -> None:
    told: list[str] = []
    place.folder.parent.mkdir(parents=True)
    place.folder.touch()
    capture = Capture(place.folder, told=told.append)
    add(capture, 5)
    capture.close()
    assert (capture.counts.dropped, capture.counts.waiting) == (5, 0)
    assert told[-1].startswith("5 captured requests are lost")


def test_a_file_that_may_not_grow_keeps_whole_frames_and_takes_the_rest_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.0)
    told: list[str] = []
    capture = Capture(place.folder, CaptureSettings(max_waiting_bytes=100_000), told=told.append)
    add(capture, 50)
    capture.flush()
    (log,) = place.logs()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 1000, before[1]))
        for _ in range(20):
            add(capture, 40)
            capture.flush()
        assert capture.counts.dropped > 0
        assert len(captured(place)) == capture.counts.kept == 50
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    capture.flush()
    add(capture, 10)
    capture.close()
    counts = capture.counts
    assert counts.kept + counts.dropped == 50 + 800 + 10
    assert segment(place).bad_bytes == 0
    assert len(captured(place)) == counts.kept
    assert [line.split()[0:2] for line in told] == [["Captured", "requests"]] * 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_costs_only_what_does_not_fit_into_memory_meanwhile(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.0)
    told: list[str] = []
    place = Place.of(small_disk, "delays")
    capture = Capture(place.folder, CaptureSettings(max_waiting_bytes=200_000, roll_bytes=50_000), told=told.append)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * 150_000)
    for _ in range(40):
        add(capture, 50)
        capture.flush()
    assert capture.counts.dropped > 0
    assert len(captured(place)) == capture.counts.kept > 0
    ballast.unlink()
    capture.flush()
    assert capture.counts.waiting == 0
    add(capture, 10)
    capture.close()
    counts = capture.counts
    assert counts.kept + counts.dropped == 2010
    assert segment(place).bad_bytes == 0
    assert (len(captured(place)), len(told)) == (counts.kept, 2)


def test_a_log_that_somebody_removed_is_begun_anew(place: Place) -> None:
    capture = Capture(place.folder)
    add(capture)
    capture.flush()
    place.logs()[0].unlink()
    add(capture)
    capture.flush()
    capture.close()
    assert len(captured(place)) == 1


def test_a_share_is_kept_by_request_so_that_champion_and_shadow_stay_together(place: Place) -> None:
    capture = Capture(place.folder, CaptureSettings(rate=0.3))
    for number in range(2000):
        for role in ("champion", "shadow"):
            capture.add(f"id-{number}", NOW, "1", role, 0.001, BODY, ANSWER)
    capture.close()
    roles = captured(place).groupby("nbmlops.request_id").size()
    assert set(roles) == {2}
    assert 500 < len(roles) < 700


def test_refused_bodies_are_kept_only_where_that_is_asked_for(place: Place) -> None:
    for keeps in (False, True):
        capture = Capture(place.folder, CaptureSettings(keeps_refused=keeps))
        add(capture, features=b'{"canary": 1}', status=422)
        capture.close()
        holds = any(b"canary" in log.read_bytes() for log in place.logs())
        assert holds == keeps
    rows = captured(place)
    assert list(rows["nbmlops.status"]) == [422, 422]
    assert rows["nbmlops.body"].dropna().tolist() == ['{"canary": 1}']


def test_columns_and_predictions_of_any_kind_are_written(place: Place) -> None:
    capture = Capture(place.folder)
    arrays = {"delay": np.array([1.5, np.nan]), "carrier": ["UA", "\ud800"], "big": [2**80, None]}
    capture.add("a", NOW, "1", "champion", 0.1, arrays, np.arange(4)[::2])
    capture.add("b", NOW + 1, "1", "champion", 0.1, {"delay": np.arange(6.0)[::2]}, np.ones((3, 2)))
    capture.close()
    rows = captured(place)
    assert rows.delay.fillna(-1).tolist() == [1.5, -1, 0, 2, 4]
    assert rows.carrier[0] == "UA"
    assert rows.big[0] == float(2**80)
    assert list(rows["nbmlops.row"]) == [0, 1, 0, 1, 2]


def test_adding_while_another_thread_flushes_loses_nothing(place: Place) -> None:
    capture = Capture(place.folder)
    ended = threading.Event()

    def flushing() -> None:
        while not ended.is_set():
            capture.flush()

    thread = threading.Thread(target=flushing)
    thread.start()
    add(capture, 20_000)
    ended.set()
    thread.join()
    capture.close()
    assert capture.counts.kept == 20_000
    assert captured(place)["nbmlops.request_id"].is_unique


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for wrong in ({"rate": 2}, {"exlude": ["a"]}, {"keep_days": 0}, {"exclude": ["a"], "hash": ["a"]}):
        with pytest.raises(UsageError):
            CaptureSettings.of(wrong)
