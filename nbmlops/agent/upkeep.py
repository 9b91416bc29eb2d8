"""What an agent keeps in order beside schedules: journals that their writers have left are delivered by `sync`."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from nbmlops.ledger.moves import Moves
from nbmlops.project import Project
from nbmlops.tracking import journal
from nbmlops.tracking.journal import sender, sync

EVERY_S = 60.0
COMMAND = "nbmlops.surfaces.cli"


@dataclass
class Upkeep:
    """Calls `sync` as a process, at most each minute, and only if a journal waits that nobody delivers."""

    project: Project
    tell: Callable[[str], object] = str
    every_s: float = EVERY_S
    looked_at: float = float("-inf")
    child: "subprocess.Popen[bytes] | None" = None

    def look(self) -> None:
        """Start `sync` if it is time and something waits."""
        now = time.monotonic()
        if now - self.looked_at < self.every_s or (self.child and self.child.poll() is None):
            return
        self.looked_at = now
        if self._is_left():
            self.child = subprocess.Popen(
                [sys.executable, "-P", "-m", COMMAND, "sync", "--quiet"],
                cwd=self.project.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                close_fds=True,
                start_new_session=True,
            )
            self.tell("sync: something waits for MLflow that nobody is left to deliver")

    def _is_left(self) -> bool:
        """Say whether a journal is there whose writer is gone, or MLflow has missed that an alias was moved."""
        folder = sync.folder_of(self.project)
        left = [path for path in journal.journals(folder) if not journal.has_writer(path)]
        return (bool(left) and not sender.is_running(folder)) or bool(self.project.open(Moves).waiting())
