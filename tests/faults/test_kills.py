"""kill -9 at any instant: what a returned call has logged is in MLflow after a sweep, once, and every run ends."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmlops.tracking.journal import journals
from nbmlops.tracking.journal.sync import Stores, sweep, waiting
from tests.faults.forks import Forks
from tests.faults.proxy import Proxy
from tests.faults.told import LOOP, Store, assert_true
from tests.tracking.conftest import serving

SENDER = """
import sys
from pathlib import Path
from nbmlops.tracking.journal import sender

print(0)
sender.serve(Path(sys.argv[1]))
"""
SOME_OF_ALL = """
import json, signal, sys
import mlflow

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("kills")
first = mlflow.start_run().info.run_id
mlflow.log_metric("loss", 0.5, step=1)
mlflow.log_text("0.25", "notes/2.txt")
mlflow.end_run("KILLED")
second = mlflow.start_run().info.run_id
told = ["run", first], ["metric", first, 1, 0.5], ["text", first, 2, 0.25], ["end", first, "KILLED"], ["run", second]
sys.stdout.write("".join(json.dumps(each) + "\\n" for each in told))
sys.stdout.flush()
signal.pause()
"""
CRASH_POINTS = (
    "before-sent",
    "after-sent",
    "before-create",
    "after-create",
    "before-uploaded",
    "after-uploaded",
    "before-end",
    "in-discard",
)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("said")) as parent:
        yield parent


@pytest.fixture
def forks(warm: Forks, seed: int) -> Forks:
    warm.chance.seed(seed)
    return warm


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[tuple[str, Store]]:
    """A real server of this file's own: its URL, and its database and artifacts as they lie there."""
    place = tmp_path_factory.mktemp("server")
    shutil.copy(empty_mlflow, place / "mlflow.db")
    with serving(place) as (url, _):
        yield url, Store(place / "mlflow.db", place / "files")


@pytest.fixture
def away(server: tuple[str, Store]) -> Iterator[Proxy]:
    """The server behind a proxy, which refuses."""
    with Proxy(server[0]) as proxy:
        proxy.refuse()
        yield proxy


def journal_of(folder: Path) -> Path:
    return folder / ".nbmlops" / "journal"


def killed_loops(forks: Forks, folder: Path, uri: str, times: int, within_s: float = 0.3) -> list[Any]:
    told: list[Any] = []
    for number in range(times):
        told += forks.kill(LOOP, folder, uri, f"{forks.chance.random()} {number}", within_s=within_s)
    return told


def all_swept(folder: Path) -> None:
    """Sweep as `sync` does; nothing may be left, or refused."""
    with Stores() as stores:
        sweep(journal_of(folder), stores)
    left = waiting(journal_of(folder))
    assert (left.records, left.rejected, left.error) == (0, 0, "")
    assert journals(journal_of(folder)) == []


def test_killed_loops_on_an_embedded_store(folder: Path, forks: Forks) -> None:
    database = folder / ".nbmlops" / "mlflow.db"
    told = killed_loops(forks, folder, f"nbmlops+sqlite:///{database}", 6)
    all_swept(folder)
    assert assert_true(Store(database), told) >= 6


def test_killed_loops_while_the_server_is_up_away_and_back(
    folder: Path, forks: Forks, server: tuple[str, Store], away: Proxy
) -> None:
    uri = f"nbmlops+{away.url}"
    told = killed_loops(forks, folder, uri, 4)
    away.pass_on()
    told += killed_loops(forks, folder, uri, 3)
    away.hang()
    told += killed_loops(forks, folder, uri, 2)
    away.pass_on()
    all_swept(folder)
    assert assert_true(server[1], told) >= 9


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_sender_that_is_killed_at_a_step_delivers_once(
    folder: Path, forks: Forks, server: tuple[str, Store], away: Proxy, point: str
) -> None:
    told = forks.kill(SOME_OF_ALL, folder, f"nbmlops+{away.url}", within_s=0)
    away.pass_on()
    for _ in range(2):
        child = forks.start(SENDER, folder, str(journal_of(folder)), NBMLOPS_CRASH_AT=point)
        assert child.end() == -signal.SIGKILL, child.complained.read_text()
        if not journals(journal_of(folder)):
            break
    all_swept(folder)
    assert assert_true(server[1], told) == 5


def test_senders_killed_at_random_deliver_once(
    folder: Path, forks: Forks, server: tuple[str, Store], away: Proxy
) -> None:
    told = killed_loops(forks, folder, f"nbmlops+{away.url}", 3)
    away.pass_on()
    for _ in range(6):
        child = forks.start(SENDER, folder, str(journal_of(folder)))
        child.wait_for_first()
        time.sleep(forks.chance.uniform(0, 0.3))
        os.kill(child.pid, signal.SIGKILL)
        child.end()
    all_swept(folder)
    assert assert_true(server[1], told)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_kills(folder: Path, forks: Forks, server: tuple[str, Store], away: Proxy) -> None:
    """Half on an embedded store; half on a server that is up, away, silent, or fails; senders are killed between."""
    database = folder / ".nbmlops" / "mlflow.db"
    faults = (Proxy.pass_on, Proxy.refuse, Proxy.hang, lambda proxy: proxy.answer(500), Proxy.swallow, Proxy.pass_on)
    by_file: list[Any] = []
    by_server: list[Any] = []
    for number in range(25):
        by_file += killed_loops(forks, folder, f"nbmlops+sqlite:///{database}", 20)
        faults[number % len(faults)](away)
        by_server += killed_loops(forks, folder, f"nbmlops+{away.url}", 18)
        away.pass_on()
        for _ in range(2):
            child = forks.start(SENDER, folder, str(journal_of(folder)))
            child.wait_for_first()
            time.sleep(forks.chance.uniform(0, 1))
            os.kill(child.pid, signal.SIGKILL)
            child.end()
        all_swept(folder)
        assert_true(Store(database), by_file)
        assert_true(server[1], by_server)
        print(f"{(number + 1) * 40} kills, {len(by_file) + len(by_server)} things told")
