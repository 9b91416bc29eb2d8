"""Counts in a mapped file: what is told apart, what a reader sees, and what a killed worker leaves."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmlops.errors import ConflictError, StoreError, UsageError
from nbmlops.serving import counters as layout
from nbmlops.serving.bins import label_hash, latency_bin, number_bin
from nbmlops.serving.counters import Counters, Tally, differences, read, refusals, summed
from nbmlops.serving.window import Window, minus

NAN = math.nan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counters-0"


@pytest.fixture
def opened(path: Path) -> Iterator[Counters]:
    counters = Counters.open(path)
    yield counters
    counters.close()


@pytest.fixture
def tally(opened: Counters) -> Tally:
    return opened.tally("3")


def served(tally: Tally, latency_s: float = 0.002, n: int = 1) -> None:
    for _ in range(n):
        tally.began()
        tally.answered(latency_s)


def test_what_is_counted_is_read(tally: Tally, path: Path) -> None:
    served(tally, 0.5)
    tally.began()
    tally.failed(0.25, n_rows=10)
    tally.began()
    tally.refused()
    tally.began()
    window = read(path)["3"]
    assert (window.n_requests, window.n_rows, window.n_errors, window.n_refused) == (2, 11, 1, 1)
    assert (window.n_in_flight, window.latency_sum_s) == (1, 0.75)
    assert window.latencies == {latency_bin(0.5): 1, latency_bin(0.25): 1}


def test_a_quantile_is_within_two_percent(tally: Tally, path: Path) -> None:
    latencies = np.sort(np.random.default_rng(0).lognormal(-5, 2, 2000).clip(2e-5, 90))
    for latency in latencies.tolist():
        served(tally, latency)
    window = read(path)["3"]
    for share in (0.01, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = latencies[max(math.ceil(share * len(latencies)), 1) - 1]
        assert window.quantile_s(share) == pytest.approx(exact, rel=0.02)


def test_how_many_were_slower_than_a_round_limit_is_exact(tally: Tally, path: Path) -> None:
    for limit in (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0):
        served(tally, limit * 0.999)
        served(tally, limit * 1.001)
    window = read(path)["3"]
    assert [window.n_slower(limit) for limit in (0.001, 0.05, 0.25, 1.0)] == [19, 9, 5, 1]


@pytest.mark.parametrize("n", [3, 40])
def test_predictions_of_all_kinds_are_counted_alike_alone_and_in_a_batch(opened: Counters, path: Path, n: int) -> None:
    kinds: list[Any] = [
        1,
        2.5,
        True,
        None,
        "late",
        Decimal("2.5"),
        np.float32(2.5),
        10**400,
        date(2026, 1, 1),
        [2.5, 1],
    ]
    values = kinds * n
    opened.tally("batch").predicted(values)
    for value in values:
        opened.tally("alone").predicted_one(value)
    counted = read(path)
    assert counted["batch"] == counted["alone"]
    assert counted["batch"].numbers[number_bin(2.5)] == 4 * n
    assert counted["batch"].numbers[number_bin(NAN)] == n
    assert (counted["batch"].labels, counted["batch"].others) == ({"late": n}, {label_hash("date"): n})


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-3, 3, 100),
        np.arange(100) % 7,
        np.arange(100) % 2 == 0,
        np.array(["late", "early"] * 50),
        np.array(["late", 1.5, None] * 30, dtype=object),
        np.linspace(0, 1, 60, dtype=np.float32).reshape(20, 3),
        ["late"] * 30 + ["early"],
        [[0.1, 0.9]] * 20,
        [[0.1], [0.2, 0.3]] * 10,
        np.array([]),
        [],
    ],
)
def test_every_value_of_a_batch_counts(tally: Tally, opened: Counters, path: Path, values: Any) -> None:
    tally.predicted(values)
    for value in np.asarray(values, dtype=object).ravel().tolist() if hasattr(values, "dtype") else values:
        opened.tally("alone").predicted_one(value)
    counted = read(path)
    assert counted["3"] == counted.get("alone", Window())


def test_labels_beyond_64_are_counted_by_their_hash(tally: Tally, path: Path) -> None:
    labels = [f"label {number}" for number in range(100)]
    tally.predicted(labels)
    tally.predicted(np.array(labels))
    window = read(path)["3"]
    assert window.labels == dict.fromkeys(sorted(labels)[:64], 2)  # a batch's come in their order
    assert sum(window.others.values()) == 72
    assert window.others[label_hash("label 99")] >= 2


def test_long_labels_stay_apart(tally: Tally, path: Path) -> None:
    tally.predicted(["é" * 60 + "1", "é" * 60 + "2", "é" * 60 + "2"])
    assert sorted(read(path)["3"].labels.values()) == [1, 2]


def test_labels_survive_a_restart_of_the_worker(path: Path) -> None:
    for _ in range(2):
        counters = Counters.open(path)
        counters.tally("3").predicted(["late", "early", "late"])
        counters.close()
    assert read(path)["3"].labels == {"early": 2, "late": 4}


def test_a_restarted_worker_counts_on_with_nothing_in_flight(path: Path) -> None:
    first = Counters.open(path)
    served(first.tally("3"))
    first.tally("3").began()
    first.close()
    second = Counters.open(path)
    served(second.tally("3"))
    assert (read(path)["3"].n_requests, read(path)["3"].n_in_flight) == (2, 0)
    second.close()


WORKER = """
import os, sys
from pathlib import Path
from nbmlops.serving.counters import Counters
tally = Counters.open(Path(sys.argv[1])).tally("3")
for number in range(1, 10**9):
    tally.began()
    tally.predicted_one(0.25)
    tally.answered(0.001)
    os.write(1, b"%d\\n" % number)
"""


def test_a_killed_worker_loses_nothing_that_it_counted(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        told = [worker.stdout.readline() for _ in range(5000)]
        os.kill(worker.pid, signal.SIGKILL)
        told += worker.stdout.readlines()
    acknowledged = int(told[-1])
    window = read(path)["3"]
    assert window.n_requests - acknowledged in (0, 1)
    for counted in (sum(window.latencies.values()), sum(window.numbers.values()), window.n_rows):
        assert abs(counted - window.n_requests) <= 1
    Counters.open(path).close()  # the lock died with the worker


def test_a_reader_sees_what_was_counted_when_it_began_and_nothing_that_is_not_yet(tally: Tally, path: Path) -> None:
    is_over = threading.Event()
    n_done = 0

    def work() -> None:
        nonlocal n_done
        while not is_over.is_set():
            tally.began()
            tally.predicted_one("late")
            tally.answered(0.001)
            n_done += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(200):
            begun = n_done
            window = read(path)["3"]
            seen = (window.n_requests, sum(window.latencies.values()), window.labels.get("late", 0))
            assert begun <= min(seen)
            assert max(seen) <= n_done + 1
    finally:
        is_over.set()
        worker.join()


def test_two_workers_cannot_count_in_one_file(opened: Counters, path: Path) -> None:
    with pytest.raises(ConflictError, match="Another process counts in counters-0"):
        Counters.open(path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda given: b"", "none of nbmlops"),
        (lambda given: b"SQLite format 3\0" + given[16:], "none of nbmlops"),
        (lambda given: given[:-1], "bytes of"),
        (lambda given: given[:20], "another layout"),
        (lambda given: given[:16] + b"\x63" + given[17:], "another layout"),
        (lambda given: given + b"\0", "bytes of"),
    ],
)
def test_a_torn_or_foreign_file_is_refused_by_readers_and_replaced_by_its_worker(
    path: Path, spoil: Any, told: str
) -> None:
    Counters.open(path).close()
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(StoreError, match=told):
        read(path)
    counters = Counters.open(path)
    served(counters.tally("3"))
    counters.close()
    assert read(path)["3"].n_requests == 1


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be made"):
        Counters.open(tmp_path / "missing" / "counters-0")


def test_nothing_is_left_beside_the_file(opened: Counters, path: Path) -> None:
    assert [one.name for one in path.parent.iterdir()] == ["counters-0"]


def test_a_seventeenth_variant_takes_the_place_of_one_that_is_gone(opened: Counters, path: Path) -> None:
    for number in range(layout.SLOTS):
        served(opened.tally(str(number)), n=number + 1)
    with pytest.raises(ConflictError, match="16 variants"):
        opened.tally("new")
    opened.release("5")
    opened.release("7")
    opened.tally("5")  # back again, with its counts
    served(opened.tally("new"))
    counted = read(path)
    assert (counted["5"].n_requests, counted["new"].n_requests) == (6, 1)
    assert "7" not in counted


@pytest.mark.parametrize("label", ["", "x" * 65])
def test_a_label_that_does_not_fit_is_refused(opened: Counters, label: str) -> None:
    with pytest.raises(UsageError, match="1 to 64 bytes"):
        opened.tally(label)


def test_workers_are_added_up_and_readings_taken_off(tmp_path: Path) -> None:
    workers = [Counters.open(tmp_path / f"counters-{number}") for number in range(3)]
    for worker in workers:
        served(worker.tally("3"), n=2)
    paths = [tmp_path / f"counters-{number}" for number in range(4)]  # the last was never made
    before = summed(paths)
    served(workers[0].tally("3"), 0.5)
    served(workers[1].tally("4"))
    since = minus(summed(paths), before)
    assert before["3"].n_requests == 6
    assert (since["3"].n_requests, since["3"].latencies) == (1, {latency_bin(0.5): 1})
    assert since["4"].n_requests == 1
    for worker in workers:
        worker.close()


def test_refusals_are_counted_by_status_over_workers_and_restarts(tmp_path: Path) -> None:
    for number, status in ((0, 429), (1, 429), (1, 401), (0, 599), (0, 400)):  # each time opened anew
        worker = Counters.open(tmp_path / f"counters-{number}")
        worker.refused(status)
        worker.close()
    paths = [tmp_path / f"counters-{number}" for number in range(3)]  # the last was never made
    assert refusals(paths) == {400: 1, 401: 1, 429: 2, 599: 1}
    assert summed(paths) == {}
    (tmp_path / "counters-2").write_bytes(b"something else")
    with pytest.raises(StoreError, match="cannot be read"):
        refusals(paths)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], (0, 0.0)),
        ([1.0, NAN, NAN], [1.0 + 1e-9, NAN, 2.0], (1, 0.0)),
        (["a", "b"], ["a", "c"], (1, 0.0)),
        ([1.0, 2.0], ["a", 2.0], (1, 0.0)),
        ([math.inf, -math.inf], [math.inf, math.inf], (1, 0.0)),
        ([1.0, 2.0, 3.0], [1.0], (2, 0.0)),
        (np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([[0.25, 0.75], [0.25, 0.75]]), (1, 0.5)),
        ([], [], (0, 0.0)),
    ],
)
def test_answers_are_compared_row_by_row(ours: Any, theirs: Any, expected: tuple[int, float]) -> None:
    assert differences(ours, theirs) == expected


def test_what_a_shadow_answered_is_counted(tally: Tally, path: Path) -> None:
    tally.compared([1.0, 2.0], [1.0, 2.5])
    tally.compared(["late"], ["early"])
    window = read(path)["3"]
    assert (window.n_compared, window.n_differing, window.difference_sum) == (3, 2, 0.5)


def test_a_worker_loads_nothing_heavy_to_count_and_route(path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from nbmlops.serving.counters import Counters
from nbmlops.serving.metrics import exposition
from nbmlops.serving.routing import Router
tally = Counters.open(Path({str(path)!r})).tally(Router({{"2": 90, "3": 10}}).choose(b"key"))
tally.began(), tally.predicted_one(0.5), tally.answered(0.001)
heavy = {{"pandas", "scipy", "sklearn", "mlflow", "pydantic", "sqlalchemy", "pyarrow"}}
print(sorted((heavy | {{"numpy"}}) & set(sys.modules)))
tally.predicted([0.5] * 100)
print(sorted(heavy & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["[]", "[]"]


def test_the_file_is_not_made_where_it_would_not_fit(path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from nbmlops.serving.counters import Counters
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    Counters.open(Path({str(path)!r}))
except Exception as exc:
    print(type(exc).__name__)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "StoreError\n"
    with contextlib.suppress(FileNotFoundError):
        assert os.listdir(path.parent) == []
