"""A tracking server that fails in every way, behind unchanged MLflow code: nobody waits, nothing is lost or doubled."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmlops.tracking.journal import journals
from nbmlops.tracking.journal.sync import Stores, sweep, waiting
from tests.faults.forks import Child, Forks
from tests.faults.proxy import Proxy
from tests.faults.test_kills import forks, journal_of, server, warm  # noqa: F401  # fixtures
from tests.faults.told import Store, assert_true

RECOVERED_S = 60
# Logs to two runs, the first begun before the fault if there is an argument for that; says how long each call took.
TIMED = """
import json, os, sys, time
import mlflow
import nbmlops

uri, points, begins_well = sys.argv[1], int(sys.argv[2]), len(sys.argv) > 3
told, took = [], {"begin": [], "log": [], "end": [], "exit": []}


def timed(name, call, *args, **kwargs):
    began = time.perf_counter()
    found = call(*args, **kwargs)
    took[name].append(time.perf_counter() - began)
    return found


mlflow.set_tracking_uri(uri)
mlflow.set_experiment("faults")
for number in range(2):
    run_id = timed("begin", mlflow.start_run).info.run_id
    told.append(["run", run_id])
    mlflow.log_param("p0", "x")
    mlflow.log_text("0.5", "notes/1.txt")
    told += [["param", run_id, 0, "x"], ["text", run_id, 1, 0.5]]
    if begins_well and not number:
        print(json.dumps(["well"]), flush=True)
        while not os.path.exists("failing"):
            time.sleep(0.01)
    for step in range(points):
        timed("log", mlflow.log_metric, "loss", step / 7, step=step)
        told.append(["metric", run_id, step, step / 7])
    timed("end", mlflow.end_run)
    told.append(["end", run_id, "FINISHED"])
for each in told:
    print(json.dumps(each))
from nbmlops.tracking import plugin
timed("exit", lambda: plugin.close_all(8.0))
figures = {name: max(each) for name, each in took.items()}
print(json.dumps(["took", {**figures, "p99": sorted(took["log"])[int(points * 2 * 0.99)]}]))
sys.stdout.flush()
"""
FAULTS: dict[str, Callable[[Proxy], None]] = {
    "refuses": Proxy.refuse,
    "is silent": Proxy.hang,
    "resets": Proxy.reset,
    "answers 500": lambda proxy: proxy.answer(500),
    "answers 503": lambda proxy: proxy.answer(503),
    "loses its answers": Proxy.swallow,
    "trickles": lambda proxy: proxy.trickle(0.5),
    "stalls": lambda proxy: proxy.stall(30),
    "loses the answer of the creation": lambda proxy: proxy.swallow(times=1, path="runs/create"),
}


@pytest.fixture
def before(server: tuple[str, Store]) -> Iterator[Proxy]:  # noqa: F811
    with Proxy(server[0]) as proxy:
        yield proxy


def told_of(child: Child) -> tuple[list[Any], Any]:
    """Give what a child was told, and how long things took; it complains once, and shows no traceback."""
    code, complaint = child.end(), child.complained.read_text()
    assert code == 0, complaint
    assert "Traceback" not in complaint
    assert complaint.count("is out of reach") == 1, complaint
    *told, (_, took) = child.acknowledged()
    print(json.dumps(took))
    assert took["begin"] < 2.5
    assert took["log"] < 1
    assert took["exit"] < 10
    return told, took


def delivered_within(folder: Path, seconds: float) -> float:
    began = time.monotonic()
    with Stores(timeout_s=5) as stores:
        while journals(journal_of(folder)):
            sweep(journal_of(folder), stores)
            assert time.monotonic() - began < seconds, waiting(journal_of(folder))
            time.sleep(0.2)
    return time.monotonic() - began


def assert_delivered(folder: Path, store: Store, told: list[Any]) -> None:
    print("delivered after", delivered_within(folder, RECOVERED_S))
    assert waiting(journal_of(folder)).rejected == 0
    assert assert_true(store, told) == len(told)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that(
    folder: Path,
    forks: Forks,  # noqa: F811
    server: tuple[str, Store],  # noqa: F811
    before: Proxy,
    fault: str,
) -> None:
    FAULTS[fault](before)
    told, _ = told_of(forks.start(TIMED, folder, f"nbmlops+{before.url}", "100", CI="true"))
    before.pass_on()
    assert_delivered(folder, server[1], told)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_in_mid_run(
    folder: Path,
    forks: Forks,  # noqa: F811
    server: tuple[str, Store],  # noqa: F811
    before: Proxy,
    fault: str,
) -> None:
    child = forks.start(TIMED, folder, f"nbmlops+{before.url}", "100", "begins well", CI="true")
    child.wait_for_first()
    FAULTS[fault](before)
    (folder / "failing").touch()
    told, _ = told_of(child)
    before.pass_on()
    assert_delivered(folder, server[1], told[1:])
