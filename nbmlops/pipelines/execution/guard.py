"""The process between a runner and the cells that it has executed: nothing of a run outlives it.

The guard is the parent of the process that runs the cells. It hears its runner through a pipe: a byte of orders, or the
end of the file when the runner has died, however that was. It imports nothing but Python's own library.
"""

import contextlib
import ctypes
import functools
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Set

INTERRUPT, KILL, DONE = b"i", b"k", b"d"
KEEP, SESSION = b"l", b"s"  # followed by the log's path, or by the id of a session that is the run's too; and a zero
GRACE_S = 2.0  # from an interrupt that nobody asked for any more to the end
SWEEP_S = 2.0  # that ending what is left may take
LOOK_S = 0.01
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def stand(control: socket.socket, orders: int) -> None:
    """Become the guard, and return in a process of its own that is to run the cells.

    Parameters
    ----------
    control
        Where the guard says how that process ended: ``{"event": "gone", "code": -9}``, a signal below 0.
    orders
        The pipe's end to read from: signals to send, sessions that end with the run, and the path of the runner's log,
        of which a notebook is made when the runner dies.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)()  # what a cell leaves behind becomes our child, and ends with us
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the runner decides; a terminal's Ctrl-C reaches it too
    guard = os.getpid()
    worker = os.fork()
    if worker:
        _watch(worker, control, orders, wake_read)
        os._exit(0)
    signal.set_wakeup_fd(-1)
    for ours in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ours, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _prctl(_PR_SET_CHILD_SUBREAPER, 0)()
    for fd in (wake_read, wake_write, orders):
        os.close(fd)
    os.setsid()
    die_with_parent(signal.SIGKILL)()
    if os.getppid() != guard:
        os._exit(1)


def die_with_parent(signum: int) -> Callable[[], None]:
    """Give a call that asks Linux to signal this process when its parent ends; elsewhere it does nothing."""
    return _prctl(_PR_SET_PDEATHSIG, signum)


def _prctl(option: int, value: int) -> Callable[[], None]:
    if sys.platform != "linux":
        return lambda: None
    return functools.partial(ctypes.CDLL(None).prctl, option, value)


def readable(fds: Iterable[int], seconds: float) -> set[int]:
    """Wait until one of some descriptors can be read; `select.select` takes none above 1023, as a runner may have."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(seconds * 1000)}


class _Told:
    """What the runner has told through its pipe so far; signals that it orders go to the worker, while there is one."""

    def __init__(self, orders: int, worker: int) -> None:
        self.log = ""  # of which a notebook is made when the runner dies
        self.sessions = {worker}
        self.is_alone = False  # the runner has died
        self.is_done = False  # it has written all
        self.deadline = float("inf")  # of a worker that has no runner any more
        self._orders, self._worker = orders, worker

    def hear(self, *, has_ended: bool = False) -> None:
        """Carry out one order."""
        order = os.read(self._orders, 1)
        if order == KEEP:
            self.log = _word(self._orders)
        elif order == SESSION:
            self.sessions.add(int(_word(self._orders)))
        elif order == DONE:
            self.is_done = True
        else:
            if not order:
                self.is_alone, self.deadline = True, time.monotonic() + GRACE_S
            if not has_ended:
                _signal(self._worker, signal.SIGKILL if order == KILL else signal.SIGINT)


def _watch(worker: int, control: socket.socket, orders: int, wake: int) -> None:
    """Carry out orders until the worker has ended; without a runner, end it."""
    code, told = None, _Told(orders, worker)
    while code is None:
        ready = readable([wake] if told.is_alone else [wake, orders], _patience(told.deadline))
        if wake in ready:
            os.read(wake, 64)
        if orders in ready:
            told.hear()
        if time.monotonic() > told.deadline:
            _signal(worker, signal.SIGKILL)
        code = _reaped(worker)
    sweep(told.sessions)
    _reaped(worker)
    with contextlib.suppress(OSError):
        control.sendall(json.dumps({"event": "gone", "code": code}).encode() + b"\n")
    while not (told.is_alone or told.is_done):  # the runner hears of it, and tells when it has written all
        told.hear(has_ended=True)
    if told.log and not told.is_done:
        from nbmlops.pipelines.execution.record import recover

        with contextlib.suppress(OSError):  # the log was not begun yet, or the disk is full: nobody is there to tell
            recover(told.log)


def _patience(deadline: float) -> float:
    return max(0.0, min(deadline - time.monotonic(), 3600.0))


def _word(orders: int) -> str:
    read = b""
    while (byte := os.read(orders, 1)) not in (b"", b"\0"):
        read += byte
    return os.fsdecode(read)


def _reaped(worker: int) -> int | None:
    """Reap what has ended; give the worker's exit code once it has, a signal below 0."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == worker:
                code = os.waitstatus_to_exitcode(status)
    return code


def sweep(sessions: Set[int]) -> None:
    """End what is left of a run's sessions; what began one of its own, as a server does, was meant to stay."""
    deadline = time.monotonic() + SWEEP_S
    while (left := _alive(sessions)) and time.monotonic() < deadline:  # one may just have started another
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_S)


def _alive(sessions: Set[int]) -> list[int]:
    """List the processes of sessions, without those that have ended and wait for their parent to look."""
    left = []
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            state, _, _, session = file.read().rpartition(b")")[2].split()[:4]
            if int(session) in sessions and state not in b"ZX":
                left.append(int(pid))
    return left


def _signal(worker: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(worker, signum)
        except ProcessLookupError:  # it has just been forked, and leads no group yet
            os.kill(worker, signum)
