"""The sender: one for a folder, outliving its starter, ending by itself, small, and dispensable."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbmlops.tracking import journal
from nbmlops.tracking.journal import Writer, sender
from nbmlops.tracking.journal.target_http import HttpTarget
from tests.faults.proxy import Proxy

UNTIL_S = 30

STARTS = """
import os, signal, sys
from pathlib import Path
from nbmlops.tracking import journal
from nbmlops.tracking.journal import sender

folder, url = Path(sys.argv[1]), sys.argv[2]
writer = journal.Writer(folder, url)
for step in range(100):
    writer.append(journal.metric(sys.argv[3], "loss", 0.5, 1, step))
sender.start(folder, [url])
print("started", flush=True)
signal.pause()
"""

RUNS = """
import signal, sys
import mlflow
from nbmlops.tracking.plugin import outbox

outbox.LOOK_S = 0.5
mlflow.set_tracking_uri(sys.argv[1])
print(mlflow.start_run().info.run_id, flush=True)
signal.pause()
"""


def senders(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[2:4] == [
                "nbmlops.tracking.journal.sender",
                str(folder),
            ]:
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def wait_until(what: Any, seconds: float = UNTIL_S) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of journals; a sender of it ends with it."""
    monkeypatch.delenv("NBMLOPS_SENDER")
    made = tmp_path / "journal"
    made.mkdir()
    yield made
    for process in senders(made):
        process.kill()


def started(place: Path, url: str, run_id: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", STARTS, str(place), url, run_id]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def ended(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def created(url: str) -> str:
    target = HttpTarget(url)
    run_id = target.create_run(
        os.urandom(16).hex(),
        {"experiment_id": "0", "user_id": "", "run_name": "", "start_time": 1, "tags": {}},
    )
    target.close()
    return run_id


def test_one_sender_delivers_for_all_outlives_them_and_ends_by_itself(place: Path, steady_server: str) -> None:
    writers = [started(place, steady_server, created(steady_server)) for _ in range(3)]
    wait_until(lambda: len(senders(place)) == 1)
    for process in writers:
        ended(process)
    [alive] = senders(place)
    assert alive.ppid() != os.getpid()
    wait_until(lambda: not journal.journals(place))
    wait_until(lambda: not senders(place))
    assert sorted(path.name for path in place.iterdir()) == ["sender.lock", "sender.log"]
    assert (place / "sender.log").read_text() == ""


def test_where_ci_counts_processes_the_sender_ends_with_its_starter(place: Path, proxy: Proxy) -> None:
    proxy.hang()
    process = started(place, proxy.url, "r" * 32, CI="true")
    wait_until(lambda: senders(place))
    wait_until(lambda: proxy.arrived)  # it waits for an answer
    ended(process)
    wait_until(lambda: not senders(place), 3)
    assert journal.unsent(journal.journals(place)[0]) == 100


def test_a_sender_that_was_killed_is_replaced_by_the_next_start(place: Path, steady_server: str) -> None:
    process = started(place, steady_server, created(steady_server))
    wait_until(lambda: senders(place))
    os.kill(senders(place)[0].pid, signal.SIGKILL)
    ended(process)
    wait_until(lambda: not senders(place))
    sender.start(place, [steady_server])
    wait_until(lambda: senders(place))
    [replaced] = senders(place)
    wait_until(lambda: not journal.journals(place))
    reap(replaced)


def test_a_sender_ends_when_its_folder_is_gone(place: Path, steady_server: str, tmp_path: Path) -> None:
    sender.start(place, [steady_server])
    wait_until(lambda: senders(place))
    [process] = senders(place)
    place.rename(tmp_path / "elsewhere")
    reap(process)


def test_a_hundred_thousand_records_that_wait_take_no_memory(place: Path, proxy: Proxy) -> None:
    proxy.refuse()
    sizes = []
    writer = Writer(place, proxy.url)
    writer.append(journal.metric("r" * 32, "loss", 0.5, 1, 0))
    sender.start(place, [proxy.url])
    wait_until(lambda: senders(place))
    [process] = senders(place)
    lines = b"".join(journal.metric("r" * 32, "loss", 0.5, 1, step) for step in range(100_000))
    for _ in range(2):
        wait_until(lambda: journal.Sent.of(writer.path).error)
        time.sleep(1.5)
        sizes.append(process.memory_info().rss)
        writer.append(lines)
    time.sleep(2)
    sizes.append(process.memory_info().rss)
    print(json.dumps(sizes))
    assert max(sizes) - sizes[0] < 20e6
    writer.close()
    process.kill()
    reap(process)


@pytest.fixture
def journals(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project's folder of journals; a sender of it ends with it."""
    monkeypatch.delenv("NBMLOPS_SENDER")
    made = folder / ".nbmlops" / "journal"
    yield made
    for process in senders(made):
        process.kill()


def running(folder: Path) -> tuple["subprocess.Popen[str]", str]:
    """Start a process that begins a run and waits; give the run's id too."""
    command = [sys.executable, "-c", RUNS, f"nbmlops+sqlite:///{folder}/.nbmlops/mlflow.db"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def status_of(folder: Path, run_id: str) -> str:
    with contextlib.closing(sqlite3.connect(folder / ".nbmlops" / "mlflow.db")) as connection:
        [(status,)] = connection.execute("SELECT status FROM runs WHERE run_uuid = ?", [run_id]).fetchall()
    return str(status)


def test_a_run_that_is_killed_in_its_first_moment_ends_without_a_command(folder: Path, journals: Path) -> None:
    process, run_id = running(folder)
    ended(process)
    wait_until(lambda: status_of(folder, run_id) == "FAILED")
    wait_until(lambda: not senders(journals))


def test_a_sender_that_is_killed_comes_back_while_a_run_is_open(folder: Path, journals: Path) -> None:
    process, run_id = running(folder)
    wait_until(lambda: senders(journals))
    [first] = senders(journals)
    first.kill()
    wait_until(lambda: senders(journals) not in ([], [first]))
    assert status_of(folder, run_id) == "RUNNING"
    ended(process)
    wait_until(lambda: status_of(folder, run_id) == "FAILED")
    wait_until(lambda: not senders(journals))


def test_the_next_process_has_journals_of_killed_ones_delivered(folder: Path, journals: Path) -> None:
    process, run_id = running(folder)
    for each in (*senders(journals), process):  # as if the machine had gone down
        each.kill()
    process.communicate()
    for each in senders(journals):
        each.kill()
    uri = f"nbmlops+sqlite:///{folder}/.nbmlops/mlflow.db"
    reads = f"from nbmlops.tracking.plugin.stores import JournaledStore; JournaledStore({uri!r})"
    subprocess.run([sys.executable, "-c", reads], check=True)
    wait_until(lambda: status_of(folder, run_id) == "FAILED")
    wait_until(lambda: not senders(journals))


def reap(process: psutil.Process) -> None:
    """Take note of the end of a sender that this process itself has started."""
    os.waitpid(process.pid, 0)
