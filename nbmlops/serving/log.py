"""The log to which all processes of an endpoint write: bounded, without a line that is lost.

It is renamed when it is large, and begun anew; each process then turns to the new one by itself. Whatever was written
before it did is in the one that was renamed: nothing is copied or cut off while somebody writes.
"""

import contextlib
import fcntl
import os
from pathlib import Path

LARGEST_BYTES = 10 * 2**20


def predecessor(log: Path) -> Path:
    """Name the file that holds what was in a log before it was begun anew."""
    return log.with_name(f"{log.name}.1")


def bound(log: Path, largest_bytes: int = LARGEST_BYTES) -> None:
    """Begin a log anew when it is larger than allowed; several processes may do so at once.

    What was in it takes the place of its predecessor. What the disk does not allow now is done another time.
    """
    with contextlib.suppress(OSError), log.open("rb") as file:  # also where another process does it now
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(file.fileno())
        if found.st_size > largest_bytes and os.path.samestat(found, log.stat()):  # nobody has, meanwhile
            log.replace(predecessor(log))
            log.touch(mode=0o600)


class Output:
    """What this process says, where that goes to a log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._is_logged = _is(log) or _is(predecessor(log))

    def follow(self) -> None:
        """Turn to the log that was begun anew; output that went elsewhere from the beginning stays as it is."""
        if self._is_logged and not _is(self._log):
            with contextlib.suppress(OSError):
                file = os.open(self._log, os.O_WRONLY | os.O_APPEND)
                os.dup2(file, 1)
                os.dup2(file, 2)
                os.close(file)


def _is(path: Path) -> bool:
    """Say whether this process's output goes to a file."""
    try:
        return os.path.samestat(os.fstat(2), path.stat())
    except OSError:
        return False
