"""The process that runs a notebook's cells, as its runner holds it: started, followed, and never left behind."""

import codecs
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

from nbmlops.pipelines.execution import guard, worker
from nbmlops.pipelines.warm import client, place
from nbmlops.tracking.store import set_by_us

GRACE_S = 2.0  # from an interrupt, which leaves a traceback in the notebook, to the end by force
LAST_S = 3.0  # from that to giving up on the guard's word
EXIT_S = 30.0  # that exit hooks may take when all cells have run
BEAT_S = 60.0  # between two signs of life
CHUNK = 1 << 20  # bytes; a pipe holds no more
# A notebook's folder must not shadow modules while ours are loaded; the other is what kernels are started with.
OPTIONS = ("-P", "-Xfrozen_modules=off")
Event = dict[str, Any]
_PASSED = ("ok", "kept")


class Worker:
    """A process that runs cells: it starts at once, and gets its job when the runner has opened its stores.

    With `is_fresh` nothing has been imported in it before. Leaving the ``with`` block ends it and all that it has
    begun. `timed_out` is ``run`` or ``cell`` when a limit ended it, `gone` its exit code when it has ended, below 0 for
    a signal. `beat` is called once a minute while the cells run, for those who look from elsewhere.
    """

    def __init__(self, *, is_fresh: bool = False) -> None:
        self.timed_out = ""
        self.gone: int | None = None
        self.beat: Callable[[], object] = str
        self._current = -1
        self._is_ending = False  # it was interrupted: no further cell begins
        self._sessions: set[int] = set()
        self._deadlines: dict[str, float] = {}
        self._control, theirs = socket.socketpair()
        hear, self._orders = os.pipe()
        self._pipes: dict[str, int] = {}
        ends = {}
        for name in ("stdout", "stderr"):
            self._pipes[name], ends[name] = os.pipe()
        self._texts = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in self._pipes}
        close = (self._control.fileno(), self._orders, *self._pipes.values())
        self._child = start(theirs, hear, ends, close, is_fresh=is_fresh)
        self._guard_fd = _watched(self._child.pid)
        theirs.close()
        for each in (hear, *ends.values()):
            os.close(each)
        for each in self._pipes.values():
            os.set_blocking(each, False)
        self._lines = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.gone is None:
            self._order(guard.KILL)
            for _event in self._until_gone(time.monotonic() + LAST_S):
                pass
        self.done()
        self._control.close()
        for each in (self._orders, *self._pipes.values(), *([] if self._guard_fd is None else [self._guard_fd])):
            os.close(each)
        self._child.wait()

    def keep(self, log: Path) -> None:
        """Name the log of which a notebook is made when this process dies."""
        self._order(guard.KEEP + os.fsencode(log) + b"\0")

    def done(self) -> None:
        """Say that the notebook is written: the guard may go."""
        self._order(guard.DONE)

    def preload(self, names: Sequence[str]) -> None:
        """Have modules imported while the runner opens its stores."""
        self._send({"preload": list(names)})

    def execute(self, job: dict[str, Any], timeout_s: float | None, cell_timeout_s: float | None) -> Iterator[Event]:
        """Hand over the job and give its events as they come, until the process has ended."""
        self._send(job)
        self._deadlines["beat"] = time.monotonic() + BEAT_S
        if timeout_s is not None:
            self._deadlines["run"] = time.monotonic() + timeout_s
        for event in self._until_gone():
            if event["event"] == "cell":
                self._deadlines.pop("cell", None)
                if event["status"] == "running" and cell_timeout_s is not None:
                    self._deadlines["cell"] = time.monotonic() + cell_timeout_s
            yield event

    def stop(self, order: bytes = guard.INTERRUPT) -> Iterator[Event]:
        """End the process in order, then by force; give what it still says."""
        if self.gone is None:
            self._is_ending = True
            self._order(order)
            self._deadlines = {"kill": time.monotonic() + GRACE_S}
            yield from self._until_gone(time.monotonic() + GRACE_S + LAST_S)

    def _until_gone(self, limit: float = float("inf")) -> Iterator[Event]:
        with selectors.DefaultSelector() as ready:
            for name, fd in self._pipes.items():
                ready.register(fd, selectors.EVENT_READ, name)
            ready.register(self._control, selectors.EVENT_READ, "control")
            if self._guard_fd is not None:
                ready.register(self._guard_fd, selectors.EVENT_READ, "guard")
            while self.gone is None and time.monotonic() < limit:
                heard = {key.data for key, _ in ready.select(self._patience(limit))}
                for name in self._pipes:
                    if name in heard and not (yield from self._printed(name)):
                        ready.unregister(self._pipes[name])
                if "control" in heard:
                    yield from self._said()
                elif "guard" in heard:  # it died; a process that a cell forked may hold the other end of all this
                    self._lose_guard()
                self._keep_time()

    def _patience(self, limit: float) -> float | None:
        soonest = min([limit, *self._deadlines.values()])
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _keep_time(self) -> None:
        """End what has taken too long: an interrupt first, which a cell may ignore."""
        for name, deadline in list(self._deadlines.items()):
            if time.monotonic() < deadline:
                continue
            del self._deadlines[name]
            if name == "kill":
                self._order(guard.KILL)
            elif name == "beat":
                self._deadlines[name] = time.monotonic() + BEAT_S
                self.beat()
            else:
                self.timed_out, self._is_ending = self.timed_out or name, True
                self._order(guard.INTERRUPT)
                self._deadlines = {"kill": time.monotonic() + GRACE_S}
                return

    def _said(self) -> Iterator[Event]:
        """Read events; what was printed before one of them is given before it."""
        try:
            read = self._control.recv(CHUNK)
        except ConnectionResetError:
            read = b""
        if not read:
            self._lose_guard()
            return
        *lines, self._lines = (self._lines + read).split(b"\n")
        for line in lines:
            for name in self._pipes:
                yield from self._printed(name)
            event: Event = json.loads(line)
            self._take(event)
            if event["event"] != "session":
                yield event

    def _take(self, event: Event) -> None:
        """Heed an event, and let the process go on, which waits for that."""
        has_passed = event["event"] == "cell" and event["status"] in _PASSED
        if has_passed and self.timed_out:  # it made nothing of its interrupt
            event["status"] = "failed"
        match event["event"]:
            case "gone":
                self.gone = event["code"]
                return
            case "session":
                self._sessions.add(event["id"])
                self._order(guard.SESSION + str(event["id"]).encode() + b"\0")
            case "cell":
                self._current = event["cell"]
            case "end":
                self._deadlines = {"kill": min(time.monotonic() + EXIT_S, self._deadlines.get("kill", float("inf")))}
        if self._is_ending and has_passed:
            self._order(guard.KILL)
        else:
            self._acknowledge()

    def _lose_guard(self) -> None:
        """Do the guard's last work where it has died, and the process of the cells with it."""
        if self.gone is None:
            self.gone = self._child.wait()
            guard.sweep(self._sessions)

    def _send(self, told: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: its silence tells
            self._control.sendall(json.dumps(told).encode() + b"\n")

    def _acknowledge(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.sendall(b".")

    def _printed(self, name: str) -> Generator[Event, None, bool]:
        """Read what a stream holds now; False when nothing more will come. One that never rests takes its turn."""
        try:
            read = os.read(self._pipes[name], CHUNK)
        except BlockingIOError:
            return True
        if text := self._texts[name].decode(read, final=not read):
            content = {"name": name, "text": text}
            yield {"event": "output", "cell": self._current, "kind": "stream", "content": content}
        return bool(read)

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, order)


def _watched(pid: int) -> int | None:
    """Open what becomes readable when a process ends; None where there is no such thing, or it has ended."""
    with contextlib.suppress(OSError, AttributeError):
        return os.pidfd_open(pid)
    return None


def start(
    control: socket.socket, orders: int, streams: dict[str, int], close: Sequence[int], *, is_fresh: bool
) -> "subprocess.Popen[bytes] | Forked | client.Worker":
    """Start the process: forked from this one where it has a shell at hand, or by the warm server, or anew."""
    if worker.ready and not is_fresh:
        return Forked(control, orders, streams, close)
    if place.is_wanted() and not is_fresh:
        environment = {name: value for name, value in os.environ.items() if name not in set_by_us}
        fds = (streams["stdout"], streams["stderr"], control.fileno(), orders)
        if warm := client.worker(environment, fds):
            return warm
    return subprocess.Popen(
        [sys.executable, *OPTIONS, "-m", "nbmlops.pipelines.execution.worker", str(control.fileno()), str(orders)],
        stdin=subprocess.DEVNULL,
        stdout=streams["stdout"],
        stderr=streams["stderr"],
        pass_fds=(control.fileno(), orders),
        start_new_session=True,  # Ctrl-C reaches the runner alone, which decides
    )


class Forked:
    """A forked process that runs cells; `close` are the runner's ends of its pipes."""

    def __init__(self, control: socket.socket, orders: int, streams: dict[str, int], close: Sequence[int]) -> None:
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(streams["stdout"], 1)
                os.dup2(streams["stderr"], 2)
                for fd in (*close, *streams.values()):
                    os.close(fd)
                worker.begin(control, orders)
            finally:
                os._exit(1)
        worker.ready.clear()  # by the next time stores are open here, which no process must share

    def wait(self) -> int:
        """Wait for its end; give its exit code."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Do not be told to end any more: what is left takes bounded time, and the truth of the end hangs on it."""
    ours: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        ours = {each: signal.signal(each, _pass_over) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in ours.items():
            signal.signal(each, handler)


def _pass_over(_signum: int, _frame: FrameType | None) -> None: ...


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind this process instead of cutting it off, where nobody else handles them."""

    def leave(signum: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    ours: list[int] = []
    if threading.current_thread() is threading.main_thread():
        ours = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in ours:
        signal.signal(each, leave)
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)
