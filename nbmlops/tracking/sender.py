"""The process that delivers a folder's journals while others log: ``python -m nbmlops.tracking.sender FOLDER``.

One for each folder, whoever starts it; it ends by itself soon after the last writer has ended and all is
delivered. A thread in the notebook's own process would make every log call wait for it.
"""

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nbmlops.tracking import journal
from nbmlops.tracking.sync import Stores, sweep, waiting

LOCK = "sender.lock"
LINGER_S = 3.0  # after the last writer has ended and all is delivered
GIVE_UP_S = 600.0  # after the last writer has ended, with a store out of reach: the next command goes on
PAUSE_S = (0.05, 1.0)  # between looks while records come, and while nothing does
RETRY_S = (0.5, 10.0)  # between attempts at a store that is out of reach


def start(folder: Path, targets: list[str]) -> None:
    """Start the folder's sender unless one runs; it outlives its starter, except where CI counts processes."""
    if _is_running(folder):
        return
    parent = os.getpid() if os.environ.get("CI") else 0
    words = [sys.executable, "-m", "nbmlops.tracking.sender", str(folder), str(parent)]
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
            serve(folder, parent)


def serve(folder: Path, parent: int = 0) -> None:
    """Look, deliver, pause; longer when nothing comes, and when a store is out of reach. End with `parent`, if any."""
    stores = Stores()
    pause, retry, alone_since = PAUSE_S[0], RETRY_S[0], time.monotonic()
    while folder.is_dir() and parent in (0, os.getppid()):
        done = sweep(folder, stores, patience_s=0.2)
        now = time.monotonic()
        if any(journal.has_writer(path) for path in journal.journals(folder)):
            alone_since = now
        failed = any(each.error and not each.records for each in done)
        pause = PAUSE_S[0] if done else min(pause * 1.3, PAUSE_S[1])
        retry = min(retry * 1.5, RETRY_S[1]) if failed else RETRY_S[0]
        if now - alone_since > (GIVE_UP_S if failed and waiting(folder).records else LINGER_S):
            return
        time.sleep(retry if failed else pause)


def _is_running(folder: Path) -> bool:
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
