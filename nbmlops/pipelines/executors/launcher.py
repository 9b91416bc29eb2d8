"""The process that starts the processes of steps, waits for them, and ends them when its own starter is gone.

It is run as a file by a bare interpreter (``python -I -S launcher.py``) and imports nothing but Python's own library,
so that it starts in a few milliseconds and forks in less than one. It reads requests from a socket, a line of JSON
each, and answers each with a line once the process has ended. The end of that stream is the order to end everything: it
comes also when the starter was killed.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

GRACE_S = 4.0  # from the request to end to the end by force; a notebook is written in less
LARGEST = 8_000_000  # bytes of a step's stdout
LAST = 4_000  # bytes of a step's stderr that are told
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
Json = dict[str, Any]


class Running:
    """A process that was started: since when, what it leaves, and when it must have ended."""

    def __init__(self, request: Json, place: str) -> None:
        self.id = request["id"]
        self.cpus = request["cpus"]
        self.timed_out = False
        timeout_s = request["timeout_s"]
        self.parameters = os.path.join(place, f"{self.id}.json")
        self.out = _private(os.path.join(place, f"{self.id}.out"))
        os.unlink(os.path.join(place, f"{self.id}.out"))
        words = list(request["command"])
        if request["parameters"] is not None:
            file = _private(self.parameters)
            os.write(file, request["parameters"].encode())
            os.close(file)
            words += ["-f", self.parameters]
        self.err, self.begin_of_err = _log(request["log"])
        self.deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
        self.pid = _started(words, request["folder"], request["environment"], self.out, self.err)

    def signal(self, signum: int) -> None:
        """Signal it and what it has begun."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signum)

    def press(self, now: float) -> None:
        """End it where its time is over: in order first, by force then."""
        if now < self.deadline:
            return
        self.signal(signal.SIGKILL if self.timed_out else signal.SIGTERM)
        self.timed_out = True
        self.deadline = now + GRACE_S

    def end(self, status: int) -> Json:
        """Clear up, and tell how it ended."""
        self.signal(signal.SIGKILL)  # what it left in its group
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.parameters)
        size = os.fstat(self.err).st_size
        return {
            "id": self.id,
            "code": os.waitstatus_to_exitcode(status),
            "stdout": _read(self.out, 0, LARGEST + 1),
            "stderr": _read(self.err, max(self.begin_of_err, size - LAST), LAST),
            "timed_out": self.timed_out,
        }


class Launcher:
    """Runs what is asked for, at most so many processors' worth at once."""

    def __init__(self, control: socket.socket, cpus: float, place: str) -> None:
        self.control, self.cpus, self.place = control, cpus, place
        self.waiting: list[Json] = []
        self.running: dict[int, Running] = {}
        self.unread = b""
        self.wake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for heard in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # The starter decides, whom a terminal's Ctrl-C reaches too; ignoring would be inherited, hearing is not.
            signal.signal(heard, lambda *_: None)

    def serve(self) -> None:
        """Serve until the starter is gone, then end what is left."""
        while self.hear():
            self.reap()
            self.begin()
        self.waiting.clear()
        for each in self.running.values():
            each.deadline = 0.0
        while self.running:
            self.press()
            _readable([self.wake], 0.5)
            self.reap()

    def hear(self) -> bool:
        """Wait for something to do; False when there is nobody any more to do it for."""
        self.press()
        soon = min((each.deadline for each in self.running.values()), default=float("inf"))
        timeout = max(0.0, min(soon - time.monotonic(), 3600.0))
        if self.control.fileno() not in _readable([self.control.fileno(), self.wake], timeout):
            return True
        try:
            read = self.control.recv(1 << 20)
        except ConnectionError:
            read = b""
        *lines, self.unread = (self.unread + read).split(b"\n")
        self.waiting += map(json.loads, lines)
        return bool(read)

    def begin(self) -> None:
        """Start what there is room for, in order."""
        while self.waiting:
            free = self.cpus - sum(each.cpus for each in self.running.values())
            needed = min(self.waiting[0]["cpus"], self.cpus)
            if self.running and needed > free:
                return
            request = {**self.waiting.pop(0), "cpus": needed}
            try:
                started = Running(request, self.place)
            except OSError as exc:
                self.tell({"id": request["id"], "failed": f"{exc.strerror}: {exc.filename}"})
            else:
                self.running[started.pid] = started

    def press(self) -> None:
        """End what has no more time."""
        now = time.monotonic()
        for each in self.running.values():
            each.press(now)

    def reap(self) -> None:
        """Tell of what has ended."""
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(self.wake, False)
            os.read(self.wake, 512)
        for pid in list(self.running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running = self.running.pop(pid)
                self.tell(running.end(status))
                os.close(running.out)
                os.close(running.err)

    def tell(self, answer: Json) -> None:
        """Answer, if somebody still listens."""
        with contextlib.suppress(OSError):
            self.control.sendall(json.dumps(answer).encode() + b"\n")


def _readable(fds: list[int], seconds: float) -> set[int]:
    """Wait until one of some descriptors can be read; a poll takes any number, which `select.select` does not."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(seconds * 1000)}


def _private(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)


def _log(path: str) -> tuple[int, int]:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    return file, os.fstat(file).st_size


def _read(file: int, begin: int, size: int) -> str:
    parts = []
    with contextlib.suppress(OSError):  # a device holds nothing
        while size > 0 and (part := os.pread(file, size, begin)):
            parts.append(part)
            begin, size = begin + len(part), size - len(part)
    return b"".join(parts).decode("utf-8", "replace")


def _started(words: list[str], folder: str, environment: Json, out: int, err: int) -> int:
    """Start a command in a session of its own, which ends when this process does."""
    launcher = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        if _prctl:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != launcher:
                os._exit(1)
        os.chdir(folder)
        os.execvpe(words[0], words, environment)  # noqa: S606  # words, no shell
    except BaseException as exc:  # noqa: BLE001  # in the new process: it has no caller to tell
        os.write(2, f"{words[0]} cannot be started in {folder}: {exc}\n".encode())
    os._exit(127)


def _clear(place: str) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(place):
            os.unlink(os.path.join(place, name))
        os.rmdir(place)


if __name__ == "__main__":
    try:
        Launcher(socket.socket(fileno=os.dup(0)), float(sys.argv[1]), sys.argv[2]).serve()
    finally:
        _clear(sys.argv[2])
