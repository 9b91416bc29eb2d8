"""Several agents on one ledger, killed again and again: each due time starts exactly one run."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.schedules import FINISHED, LOST, STARTED, Firing, Schedules, Seen, stamp
from nbmlops.project import Project

BEGAN = datetime(2026, 3, 28, 22, 0, tzinfo=UTC)  # the night in which Vienna's clocks go forward
EVERY_MINUTE = "* * * * *"
# An agent whose clock is faster than the machine's, and stands still in the end; what it starts writes one line.
AGENT = """
import sys, threading, time
from datetime import datetime, timedelta
from nbmlops.agent.launching import Launcher
from nbmlops.agent.loop import Agent, Clock, serve
from nbmlops.project import Project

root, began, ends, epoch, speed, command = sys.argv[1:]
began, ends = datetime.fromisoformat(began), datetime.fromisoformat(ends)


class Fast(Clock):
    def now(self):
        return min(ends, began + timedelta(seconds=(time.time() - float(epoch)) * float(speed)))

    def wait(self, seconds, woken):
        woken.wait(min(0.5, seconds / float(speed)))


def words(each, parameters):
    return ("/bin/sh", "-c", command, each.name)


project = Project(root)
print("lives", flush=True)
serve(Agent(project, Launcher(project, words), Fast(), lambda line: print(line, flush=True), 3600.0), threading.Event())
"""
ONE_LINE = 'echo "$0 $NBMLOPS_DUE" >> runs'


@dataclass
class Field:
    """A project whose agents are started and killed."""

    root: Path
    names: tuple[str, ...]
    n_minutes: int
    speed: float
    command: str = ONE_LINE
    epoch: float = field(default_factory=time.time)
    agents: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, crash_at: str = "") -> "subprocess.Popen[bytes]":
        ends = BEGAN + timedelta(minutes=self.n_minutes, seconds=30)
        arguments = [str(self.root), BEGAN.isoformat(), ends.isoformat(), str(self.epoch), str(self.speed)]
        environment = {**os.environ, "NBMLOPS_CRASH_AT": crash_at} if crash_at else dict(os.environ)
        with (self.root / "agents.log").open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, "-c", AGENT, *arguments, self.command],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.agents.append(agent)
        return agent

    def kill(self, agent: "subprocess.Popen[bytes]") -> None:
        agent.kill()
        agent.wait()
        self.agents.remove(agent)

    @property
    def expected(self) -> Counter[str]:
        dues = [BEGAN + timedelta(minutes=n) for n in range(1, self.n_minutes + 1)]
        return Counter(f"{name} {due.isoformat()}" for name in self.names for due in dues)

    @property
    def started(self) -> Counter[str]:
        file = self.root / "runs"
        return Counter(file.read_text().splitlines()) if file.exists() else Counter()

    def firings(self) -> list[Firing]:
        with closing(Ledger.of(Project(self.root))) as ledger:
            return Schedules(ledger).newest()

    def wait_for_all(self, timeout_s: float) -> list[Firing]:
        """Wait until every due time has its end; give the firings."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self.firings()
            if len(found) == self.expected.total() and all(each.ended_at for each in found):
                return found
            time.sleep(0.3)
        raise AssertionError(f"after {timeout_s} s: {Counter(e.state for e in found)}\n{self._log()}")

    def _log(self) -> str:
        return (self.root / "agents.log").read_text()[-3000:]


@contextmanager
def fielded(root: Path, ledger_url: str, n_names: int, n_minutes: int, speed: float, **more: str) -> Iterator[Field]:
    names = tuple(f"nightly{n}" for n in range(n_names))
    root.mkdir()
    schedule = f'notebook = "a.ipynb"\nschedule = "{EVERY_MINUTE}"\ncatchup = "all"\noverlap = "queue"\n'
    store = f'[stores]\nledger = "{ledger_url}"\n' if ledger_url else ""
    (root / "nbmlops.toml").write_text(store + "".join(f"[schedules.{name}]\n{schedule}" for name in names))
    with closing(Ledger.of(Project(root))) as ledger:
        for name in names:
            Schedules(ledger).see(name, f"{EVERY_MINUTE} UTC", "", Seen(BEGAN))
    placed = Field(root, names, n_minutes, speed, **more)
    try:
        yield placed
    finally:
        for agent in list(placed.agents):
            placed.kill(agent)
        for process in psutil.process_iter(["cmdline"]):
            if str(root) in " ".join(process.info["cmdline"] or []):
                process.kill()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


def storm(placed: Field, seed: int, n_kills: int, n_agents: int, pause_s: float) -> list[Firing]:
    """Run agents, kill them at moments drawn from a seed, half of them right between a claim and its run."""
    chance = random.Random(seed)
    points = ["", "firing-claimed", "", "firing-launched"]
    for _ in range(n_agents):
        placed.start()
    for n in range(n_kills):
        time.sleep(chance.uniform(0, 2 * pause_s))
        victim = chance.choice(placed.agents)
        placed.kill(victim)
        placed.start(points[n % len(points)])
        for dead in [agent for agent in placed.agents if agent.poll() is not None]:
            assert dead.returncode == -signal.SIGKILL, placed._log()
            placed.kill(dead)
            placed.start()
    for agent in list(placed.agents):  # those that are still to die would leave nobody
        placed.kill(agent)
    placed.start()
    return placed.wait_for_all(60 + 2 * placed.expected.total())


def test_each_due_time_starts_exactly_one_run_however_many_agents_die(
    tmp_path: Path, ledger_url: str, seed: int
) -> None:
    with fielded(tmp_path / "p", ledger_url, n_names=2, n_minutes=8, speed=100) as placed:
        firings = storm(placed, seed, n_kills=4, n_agents=3, pause_s=0.7)
        assert placed.started == placed.expected
        assert {each.state for each in firings} == {FINISHED}


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_five_hundred_due_times_and_fifty_kills_start_five_hundred_runs(
    tmp_path: Path, ledger_url: str, seed: int
) -> None:
    with fielded(tmp_path / "p", ledger_url, n_names=5, n_minutes=100, speed=30) as placed:
        firings = storm(placed, seed, n_kills=50, n_agents=3, pause_s=3.5)
        assert placed.started == placed.expected
        assert placed.started.total() == 500
        assert {each.state for each in firings} == {FINISHED}


def test_a_run_whose_own_process_dies_is_reported_and_not_run_again(tmp_path: Path) -> None:
    command = f"{ONE_LINE}; sleep 60"
    with fielded(tmp_path / "p", "", n_names=1, n_minutes=1, speed=600, command=command) as placed:
        placed.start()
        deadline = time.monotonic() + 20
        while not (found := [each for each in placed.firings() if each.state == STARTED]):
            assert time.monotonic() < deadline, placed._log()
            time.sleep(0.1)
        runner = psutil.Process(int(found[0].owner["nbmlops.pid"]))
        for process in (*runner.children(), runner):
            process.kill()
        (firing,) = placed.wait_for_all(20)
        assert firing.state == LOST
        assert "not run again" in firing.reason
        assert placed.started == {f"nightly0 {stamp(BEGAN + timedelta(minutes=1))}": 1}
