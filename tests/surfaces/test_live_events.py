"""What a browser is told while it looks at a project: events of a real Jupyter server, in time, once, and no others."""

import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import websocket

import nbmlops
from nbmlops.agent.changes import KEYS
from nbmlops.project import Project
from nbmlops.surfaces import watched
from nbmlops.surfaces.watched import EVENT, Watches

from .conftest import TOKEN, Copy, JupyterServer


class Ear:
    """A browser's own socket of events, and what was heard on it of one project."""

    def __init__(self, server: JupyterServer) -> None:
        address = f"{server.url.replace('http', 'ws', 1)}api/events/subscribe"
        self._socket = websocket.create_connection(
            address, header=[f"Authorization: token {TOKEN}"], timeout=20, suppress_origin=True
        )

    def next(self, root: Path, *, within_s: float = 20.0) -> Mapping[str, str] | None:
        """Give the stamps of the next event about a project; None where there is none in time."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                told = json.loads(self._socket.recv())
            except websocket.WebSocketTimeoutException:
                return None
            if told["schema_id"] == EVENT and told["root"] == str(root):
                stamps: dict[str, str] = told["stamps"]
                return stamps
        return None

    def until(self, root: Path, is_it: Callable[[Mapping[str, str]], bool]) -> Mapping[str, str]:
        """Listen until an event's stamps are as wanted."""
        while (stamps := self.next(root)) is not None:
            if is_it(stamps):
                return stamps
        raise AssertionError("The event did not come.")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(server: JupyterServer) -> Iterator[Ear]:
    with contextlib.closing(Ear(server)) as made:
        yield made


def watch(server: JupyterServer, folder: Path) -> dict[str, Any]:
    """Ask the server to watch a project."""
    answer = server.ask("POST", "nbmlops/watch", json={"folder": str(folder.relative_to(server.root))})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def still(server: JupyterServer, folder: Path, ear: Ear) -> Mapping[str, str]:
    """Watch a project, and wait until what was made just now is no news any more."""
    stamps: Mapping[str, str] = watch(server, folder)["stamps"]
    while (later := ear.next(folder, within_s=4 * watched.EVERY_S)) is not None:
        stamps = later
    return stamps


def touch_ledger(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / ".nbmlops" / "ledger.db")) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO nbmlops_pauses VALUES (?, '2013', 'ann')", [str(time.time())])


def test_a_watch_says_which_project_it_is_and_how_it_stands(server: JupyterServer, copied: Copy) -> None:
    folder = copied()
    (folder / "notebooks").mkdir()
    for place in (folder, folder / "notebooks"):
        told = watch(server, place)
        assert {key: told[key] for key in ("version", "root", "name")} == {
            "version": nbmlops.__version__,
            "root": str(folder),
            "name": "flights",
        }
        assert list(told["stamps"]) == list(KEYS)


def test_no_project_is_no_error(server: JupyterServer) -> None:
    told = watch(server, server.root)
    assert told == {"version": nbmlops.__version__, "root": None, "name": "", "stamps": {}}


def test_a_policy_that_cannot_be_read_does_not_end_the_watch(server: JupyterServer, copied: Copy, ear: Ear) -> None:
    folder = copied()
    policy = (folder / "nbmlops.toml").read_text()
    (folder / "nbmlops.toml").write_text("[project\n")
    before = still(server, folder, ear)
    assert watch(server, folder)["name"] == ""
    (folder / "nbmlops.toml").write_text(policy)
    ear.until(folder, lambda stamps: stamps["policy"] != before["policy"] and stamps["runs"] != "")


@pytest.mark.parametrize("key", KEYS)
def test_a_change_is_told_and_then_there_is_silence(key: str, server: JupyterServer, copied: Copy, ear: Ear) -> None:
    folder = copied()
    log = folder / ".nbmlops" / "jobs" / "ab12" / "log.jsonl"
    log.parent.mkdir(parents=True)
    told = folder / ".nbmlops" / "endpoints" / "delays"
    told.mkdir(parents=True)
    acts: dict[str, Callable[[], object]] = {
        "runs": lambda: (
            (folder / ".nbmlops" / "journal").mkdir(exist_ok=True)
            or (folder / ".nbmlops" / "journal" / "a-1.jsonl").write_text("{}\n")
        ),
        "ledger": lambda: touch_ledger(folder),
        "endpoints": lambda: (told / "instructions.json").write_text("{}"),
        "jobs": lambda: log.write_text("{}\n"),
        "policy": lambda: (folder / "nbmlops.toml").write_text((folder / "nbmlops.toml").read_text() + "\n"),
    }
    before = still(server, folder, ear)
    acts[key]()
    after = ear.until(folder, lambda stamps: stamps[key] != before[key])
    assert {each for each in KEYS if after[each] != before[each]} == {key}
    while (later := ear.next(folder, within_s=4 * watched.EVERY_S)) is not None:
        after = later
    assert watch(server, folder)["stamps"] == after
    assert ear.next(folder, within_s=0.5) is None


def test_what_the_server_reads_itself_is_no_change(server: JupyterServer, copied: Copy, ear: Ear) -> None:
    folder = copied()
    reads = ("runs", "models", "jobs", "endpoints", "status")
    for verb in reads:
        assert server.perform(verb, {}, folder).status_code == 200
    still(server, folder, ear)
    for verb in reads:
        assert server.perform(verb, {}, folder).status_code == 200
    assert ear.next(folder, within_s=0.5) is None


def test_a_verb_over_rest_is_told_to_whoever_looks(server: JupyterServer, copied: Copy, ear: Ear) -> None:
    folder = copied()
    with contextlib.closing(Ear(server)) as other:
        before = still(server, folder, ear)
        assert server.perform("promote", {"model": "delays/1"}, folder).status_code == 200
        for each in (ear, other):
            each.until(folder, lambda stamps: stamps["ledger"] != before["ledger"] and stamps["runs"] != before["runs"])
    last = server.perform("history", {"model": "delays"}, folder).json()[0]
    assert last["surface"] == "rest"


def test_nobody_hears_without_a_login(server: JupyterServer) -> None:
    address = f"{server.url.replace('http', 'ws', 1)}api/events/subscribe"
    with pytest.raises(websocket.WebSocketBadStatusException):
        websocket.create_connection(address, timeout=20)


# --------------------------------------------------------------- in this process
class Told:
    """What a watch tells, and what it logs."""

    def __init__(self) -> None:
        self.stamps: list[Mapping[str, str]] = []
        self.came = threading.Event()

    def __call__(self, root: Path, stamps: Mapping[str, str]) -> None:
        self.stamps.append(stamps)
        self.came.set()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watches(told: Told) -> Iterator[Watches]:
    made = Watches(told, logging.getLogger("test-watches"))
    yield made
    made.close()


def looking() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "_run" in thread.name]


def test_several_browsers_share_one_watch_which_ends_with_the_lease(
    project: Project, watches: Watches, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "LEASE_S", 0.3)
    before = len(looking())
    watches.renew(project)
    watches.renew(Project(project.folder, surface="rest"))
    assert len(looking()) == before + 1
    ended_by = time.monotonic() + 10
    while len(looking()) > before:
        assert time.monotonic() < ended_by
        time.sleep(0.02)
    told.came.clear()
    (project.root / "nbmlops.toml").touch()
    assert not told.came.wait(0.3)
    watches.renew(project)
    assert len(looking()) == before + 1


def test_an_error_of_a_look_is_logged_once_and_ends_nothing(
    project: Project,
    watches: Watches,
    told: Told,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watches.renew(project)
    looks = threading.Semaphore(0)

    def broken(_: Any) -> None:
        looks.release()
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("nbmlops.agent.changes.Look.stamps", broken)
        for _ in range(4):
            assert looks.acquire(timeout=10)
    told.came.clear()
    (project.root / "nbmlops.toml").write_text('[project]\nname = "other"\n')
    assert told.came.wait(10)
    assert caplog.text.count("ZeroDivisionError: a bug") == 1


def test_a_store_that_goes_and_comes_back_is_told_and_logged_once(
    project: Project, postgres_url: str, watches: Watches, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    import psycopg

    from nbmlops.ledger.database import Ledger

    database = postgres_url.partition("?")[0].rpartition("/")[2]
    policy = project.root / "nbmlops.toml"
    policy.write_text(policy.read_text() + f'[stores]\nledger = "{postgres_url}"\n')
    project.open(Ledger).close()
    watches.renew(project)

    def wait_for(is_it: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + 20
        while not is_it(watches.renew(project)["ledger"]):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    wait_for(lambda stamp: stamp != "" and not stamp.startswith("away"))
    other = postgres_url.replace(f"/{database}?", "/postgres?")
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
        wait_for(lambda stamp: stamp.startswith("away"))
        time.sleep(4 * watched.EVERY_S)
        connection.execute(f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS true')
    wait_for(lambda stamp: not stamp.startswith("away"))
    assert caplog.text.count("is away") == 1
    told_of = [stamps["ledger"].startswith("away") for stamps in told.stamps]
    assert True in told_of
    assert not told_of[-1]


def test_a_folder_that_goes_ends_nothing(project: Project, watches: Watches, told: Told) -> None:
    policy, elsewhere = project.root / "nbmlops.toml", project.root / "elsewhere.toml"
    watches.renew(project)
    policy.rename(elsewhere)
    deadline = time.monotonic() + 10
    while not told.stamps or told.stamps[-1] != {}:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    told.came.clear()
    elsewhere.rename(policy)
    assert told.came.wait(10)
