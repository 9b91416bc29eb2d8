"""The process that delivers a folder's journals while others log: ``python -m nbmlops.tracking.journal.sender FOLDER``.

One for each folder, whoever starts it; it ends by itself soon after the last writer has ended and all is
delivered. A thread in the notebook's own process would make every log call wait for it.
"""

import contextlib
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from nbmlops.tracking import journal
from nbmlops.tracking.journal.delivery import Delivered
from nbmlops.tracking.journal.sync import Stores, beat, sweep, waiting

LOCK = "sender.lock"
WAIT_S = 1.0  # a script that is over by then delivers by itself
LINGER_S = 3.0  # after the last writer has ended and all is delivered
GIVE_UP_S = 600.0  # after the last writer has ended, with a store out of reach: the next command goes on
BEAT_S = 60.0  # between two signs of life of the runs that are open
PAUSE_S = (0.05, 0.4)  # between looks while records come, and while nothing does: a page shows them within a second
RETRY_S = (0.5, 10.0)  # between attempts at a store that is out of reach


def start(folder: Path, targets: list[str]) -> None:
    """Start the folder's sender unless one runs; it outlives its starter, except where CI counts processes.

    Under ``NBMLOPS_SENDER=off`` each process delivers by itself alone: when it reads, and at its end.
    """
    if os.environ.get("NBMLOPS_SENDER") == "off" or is_running(folder):
        return
    parent = os.getpid() if os.environ.get("CI") else 0
    words = [sys.executable, "-m", "nbmlops.tracking.journal.sender", str(folder), str(parent)]
    environment = {**os.environ, "NBMLOPS_TRACKING": targets[0]} if targets else dict(os.environ)
    log = (os.POSIX_SPAWN_OPEN, 1, str(folder / "sender.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    quiet = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    # not subprocess, which warns of a child that outlives it
    os.posix_spawn(words[0], words, environment, file_actions=[quiet, log, (os.POSIX_SPAWN_DUP2, 1, 2)], setsid=True)


def main() -> None:
    """Deliver until there is nobody left who logs."""
    folder, parent = Path(sys.argv[1]).absolute(), int(sys.argv[2])
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _only_one(folder) as is_the_one:
        if is_the_one:
            if parent:
                threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
            time.sleep(WAIT_S)
            if journal.journals(folder):
                serve(folder)


def serve(folder: Path) -> None:
    """Look, deliver, pause, longer when nothing comes; end some time after the last writer."""
    stores, patience = Stores(), Patience()
    pause, alone_since, beaten_at = PAUSE_S[0], time.monotonic(), time.monotonic()
    while folder.is_dir():
        # asked first: who dies during a sweep, whose first imports take seconds, has his journal finished by the next
        has_company = any(journal.has_writer(path) for path in journal.journals(folder))
        done = sweep(folder, stores, patience_s=0.2, uploads="due", is_due=patience.is_due)
        for each in done:
            patience.heard(each)
        now = time.monotonic()
        if has_company:
            alone_since = now
        if now - alone_since > (GIVE_UP_S if waiting(folder).records else LINGER_S):
            return
        if now - beaten_at > BEAT_S:
            beaten_at = now
            beat(folder, stores)
        pause = PAUSE_S[0] if any(each.records for each in done) else min(pause * 1.3, PAUSE_S[1])
        time.sleep(pause)


class Patience:
    """When a journal whose store was out of reach has its turn again; the others are not kept waiting."""

    def __init__(self) -> None:
        self._pauses: dict[Path, float] = {}
        self._again_at: dict[Path, float] = {}

    def is_due(self, path: Path) -> bool:
        """Say whether it is a journal's turn."""
        return time.monotonic() >= self._again_at.get(path, 0.0)

    def heard(self, done: Delivered) -> None:
        """Take note of how a delivery went."""
        if done.error and not done.records:
            pause = min(self._pauses.get(done.path, RETRY_S[0] / 1.5) * 1.5, RETRY_S[1])
            self._pauses[done.path] = pause
            self._again_at[done.path] = time.monotonic() + pause
        else:
            self._pauses.pop(done.path, None)
            self._again_at.pop(done.path, None)


def _end_with(parent: int) -> None:
    """End when the process that started this one has; what is under way is safe to be done again."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


def is_running(folder: Path) -> bool:
    """Say whether a folder has its sender."""
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[bool]:
    with (folder / LOCK).open("w") as lock:
        for _ in range(5):  # one who only asks whether a sender runs holds the lock for a moment
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield True
                return
            time.sleep(0.1)
        yield False


if __name__ == "__main__":
    main()
