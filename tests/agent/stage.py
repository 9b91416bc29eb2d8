"""A project with an agent in the test's own process, whose clock is set by hand and whose runs are shell commands."""

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from nbmlops.agent.launching import Launcher
from nbmlops.agent.loop import Agent, Clock
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.schedules import Firing, Schedules
from nbmlops.project import Project

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
PATIENCE_S = 120.0  # with real runs on a machine that others use too
HOURLY = '[schedules.hourly]\nnotebook = "a.ipynb"\nschedule = "0 * * * *"\n'


class Hands(Clock):
    """A clock that is set by hand; waiting moves it on."""

    def __init__(self, now: datetime = NOON) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def wait(self, seconds: float, woken: threading.Event) -> None:
        self.time += timedelta(seconds=max(seconds, 0.5))


@dataclass
class Stage:
    """A project with an agent in this process, whose clock is ours and whose runs are shell commands."""

    root: Path
    command: str = "true"
    told: list[str] = field(default_factory=list)
    clock: Hands = field(default_factory=Hands)

    def __post_init__(self) -> None:
        self.project = Project(self.root)
        words = Launcher(self.project, lambda each, _: ("/bin/sh", "-c", self.command, each.name))
        self.agent = Agent(self.project, words, self.clock, self.told.append)

    def declare(self, text: str) -> None:
        (self.root / "nbmlops.toml").write_text(text)

    def look(self, **later: float) -> None:
        self.clock.time += timedelta(**later)
        self.agent.look()

    @property
    def ledger(self) -> Schedules:
        return self.project.open(Schedules)

    def firings(self) -> list[Firing]:
        return self.ledger.newest()[::-1]

    def states(self) -> list[str]:
        return [each.state for each in self.firings()]

    def wait_for(self, *states: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.states() != list(states):
            assert time.monotonic() < deadline, (self.firings(), self.told)
            time.sleep(0.05)

    def close(self) -> None:
        for child in self.agent.children:
            for process in psutil.Process(child.pid).children(recursive=True) if child.poll() is None else ():
                process.kill()
            child.wait(20)
        self.agent.measuring.close()
        self.project.open(Ledger).close()
