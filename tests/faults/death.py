"""Start a Python child that acknowledges what it has done, and kill it in the middle."""

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

FAMILY = "FAULTS_FAMILY"  # variable by which a child and all that it started, however far away, are known


def is_alive(pid: int) -> bool:
    """Say whether a process runs: one that waits for its parent to take note of its end does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@dataclass
class Killing:
    """Kills children with SIGKILL; draws the moments from one seed."""

    seed: int
    families: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def __call__(
        self,
        script: str,
        *arguments: str,
        at: int | None = None,
        within_s: float = 0.2,
        family: bool = False,
        folder: Path | None = None,
    ) -> list[str]:
        """Run a script that prints a line for each call that has returned, and kill it.

        Parameters
        ----------
        script
            Python that goes on without end, printing with ``flush=True`` (or unbuffered to file 1).
        at
            Kill when this many lines have come; None: at a random time.
        within_s
            The random time is uniform from 0 to this, counted from the first line.
        family
            Kill all that the child has started too, and at once, as a machine that fails does.
        folder
            The child's working folder; this process's unless given.

        Returns
        -------
        The lines that were acknowledged: whole ones only.
        """
        name = uuid.uuid4().hex
        self.families.append(name)
        wait_s = self.chance.uniform(0, within_s)
        print(f"seed {self.seed}: kill", f"at line {at}" if at else f"{wait_s:.6f} s after the first line")
        child = subprocess.Popen(
            [sys.executable, "-u", "-c", script, *arguments],
            cwd=folder,
            env={**os.environ, FAMILY: name},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self._watch(child, (lambda: end_family(name)) if family else child.kill, at, wait_s)

    @staticmethod
    def _watch(child: "subprocess.Popen[bytes]", kill: Callable[[], None], at: int | None, wait_s: float) -> list[str]:
        timer = threading.Timer(wait_s, kill)  # a thread: an instant that no output of the child brings about
        said, lines = bytearray(), 0
        with child:
            for chunk in _read_while_alive(child):
                if not said and at is None:
                    timer.start()
                said += chunk
                lines += chunk.count(b"\n")
                if at is not None and lines >= at:
                    kill()
            timer.cancel()
        assert child.returncode == -signal.SIGKILL, f"the child ended by itself, with {child.returncode}"
        return said.decode().split("\n")[:-1]

    def clear(self) -> None:
        """End whatever the children have left running."""
        for name in self.families:
            end_family(name)


def _read_while_alive(child: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """Give what a child says until it is dead; one that it has started may hold its pipe open for longer."""
    assert child.stdout is not None
    while True:
        is_dead = child.poll() is not None  # asked first: what it said before its death is then in the pipe
        if select.select([child.stdout], [], [], 0.02)[0]:
            chunk = os.read(child.stdout.fileno(), 65536)
            if not chunk:
                return
            yield chunk
        elif is_dead:
            return


def end_family(name: str) -> None:
    """Kill every process that has inherited this family's name, and look again: one that just starts has none yet."""
    while found := [each for each in psutil.process_iter() if _is_of(each, name)]:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.01)


def _is_of(process: psutil.Process, name: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get(FAMILY) == name
    return False
