"""The process of one firing: it starts the claimed run once, waits for it, and tells the ledger its end.

``python -m nbmlops.agent.runner FILE``. It is no child of the agent's fate: an agent that stops or dies leaves it. The
claim's fence decides who starts: one whose claim was taken over starts nothing.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from nbmlops.errors import ConflictError, NbmlopsError, StoreError
from nbmlops.ledger.schedules import FAILED, FINISHED, Schedules, stamp
from nbmlops.pipelines import jobs
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking.owner import owner_tags

T = TypeVar("T")
BEAT_S = 60.0  # between two signs of life in the ledger
PATIENCE_S = 6 * 3600.0  # with a ledger that is away when the run has ended
RETRY_S = (0.5, 60.0)
LAST_LINES, LAST_BYTES = 3, 8192  # of what a run has said, told as the reason of its failure


@dataclass(frozen=True)
class Order:
    """What is to be run, under which claim; `log` takes what the run says."""

    root: str
    schedule: str
    occasion: str
    fence: int
    words: tuple[str, ...]
    log: str
    overlap: str = ""  # what becomes of it where it may not begin beside a run that goes on: skip or queue
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def claim(self) -> tuple[str, str, int]:
        """The firing and the claim's fence."""
        return self.schedule, self.occasion, self.fence


def main() -> None:
    """Carry out the order in a file."""
    path = Path(sys.argv[1])
    order = Order(**json.loads(path.read_text(encoding="utf-8")))
    try:
        carry_out(order)
    finally:
        path.unlink(missing_ok=True)


def carry_out(order: Order) -> None:
    """Start the run if the claim still stands, and tell how it ended, or that it could not begin."""
    project = Project(order.root)
    ledger = project.open(Schedules)
    if not ledger.start(*order.claim, owner_tags(), stamp(datetime.now(UTC))):
        return
    code, reason = _run(order, lambda: ledger.beat(*order.claim, owner_tags()))
    if order.overlap and code == ConflictError.exit_code and not patiently(lambda: _job(project, order)):
        patiently(lambda: ledger.put_back(*order.claim, queue=order.overlap == "queue", reason=reason))
        return
    state = FINISHED if code == 0 else FAILED
    ended_at = stamp(datetime.now(UTC))
    patiently(lambda: ledger.end(*order.claim, state, ended_at=ended_at, exit_code=code, reason=reason))


def _job(project: Project, order: Order) -> list[jobs.Job]:
    """Find the job that the run has become, if it has begun."""
    return jobs.newest(project, job=order.environment[jobs.ID])


def _run(order: Order, beat: Callable[[], object]) -> tuple[int, str]:
    """Run the command, and give its exit code with the last that it said if that is not 0."""
    log = Path(order.log)
    environment = {**os.environ, **order.environment}
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                order.words, cwd=order.root, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
    except OSError as exc:
        return 1, f"{order.words[0]} cannot be started: {exc.strerror}"
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _passing_on(child))
    while True:
        try:
            code = child.wait(BEAT_S)
        except subprocess.TimeoutExpired:
            try:
                beat()
            except StoreError:  # the next one may reach it
                continue
        else:
            return code if code >= 0 else 128 - code, last_words(log) if code else ""


def _passing_on(child: "subprocess.Popen[bytes]") -> Callable[[int, FrameType | None], None]:
    return lambda number, _: child.send_signal(number)


def last_words(log: Path) -> str:
    """Give the last lines of a log, without secrets."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return scrub_text("\n".join([line for line in lines if line.strip()][-LAST_LINES:]))


def patiently(act: Callable[[], T]) -> T | None:
    """Do what needs the ledger, again while that is away; None when it does not come back."""
    pause, deadline = RETRY_S[0], time.monotonic() + PATIENCE_S
    while True:
        try:
            return act()
        except StoreError:
            if time.monotonic() > deadline:
                return None
        time.sleep(pause)
        pause = min(pause * 2, RETRY_S[1])


def written(order: Order, folder: Path) -> Path:
    """Write an order into a folder for the process that carries it out."""
    path = folder / f"firing-{order.fence}.json"
    content: dict[str, Any] = {**vars(order)}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


if __name__ == "__main__":
    try:
        main()
    except NbmlopsError as error:  # its claim stands, or is taken over by another
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
