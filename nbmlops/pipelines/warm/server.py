"""The server's loop: one process, one thread, which forks a process for each command and tells its client the end."""

import contextlib
import fcntl
import importlib
import json
import os
import random
import selectors
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from nbmlops.pipelines.execution import guard, worker
from nbmlops.pipelines.warm import place
from nbmlops.pipelines.warm.preload import Preloaded, preload

IDLE_S = 1800.0  # without a command, after which a server ends
FRESH_S = 0.5  # that a look at the files of what was imported holds
LOOK_S = 60.0  # between two looks whether it is still the server of its socket

Main = Callable[[Sequence[str]], int]


def serve(main: Main, rehearse: Callable[[], None]) -> None:
    """Serve until nobody has asked for a while, or what was imported has changed on disk.

    Parameters
    ----------
    main
        The command line: takes its words, gives an exit code.
    rehearse
        What is to be done once before it is forked.
    """
    path = Path(place.socket_path())
    with open(f"{path}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # there is one
            return
        server = Server(main, preload(path.parent, rehearse), [lock])
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        with socket.socket(socket.AF_UNIX) as listening:
            server.held.append(listening)
            listening.bind(str(path))
            listening.listen(64)
            try:
                server.run(listening, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()


@dataclass
class Server:
    """The commands that run, by process; each with its client's connection."""

    main: Main
    preloaded: Preloaded
    held: list[Any]  # open files that are the server's alone
    clients: dict[int, socket.socket] = field(default_factory=dict)
    ends: set[int] = field(default_factory=set)  # pipes by which commands tell how they ended
    limits: dict[str, Any] = field(default_factory=place.limits)
    used_at: float = field(default_factory=time.monotonic)
    looked_at: float = float("-inf")

    def run(self, listening: socket.socket, path: Path) -> None:
        """Take commands, pass signals on, and tell ends; returns when it is time to end."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(wake_read, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as ready:
            ready.register(listening, selectors.EVENT_READ)
            ready.register(wake_read, selectors.EVENT_READ)
            while self.clients or (
                time.monotonic() - self.used_at < IDLE_S and path.exists() and str(path) == place.socket_path()
            ):
                for key, _ in ready.select(LOOK_S):
                    if key.fileobj is listening:
                        if not self._take(listening, ready):
                            return
                    elif key.fd == wake_read:
                        with contextlib.suppress(BlockingIOError):
                            os.read(wake_read, 64)
                    elif key.fileobj == key.fd:
                        self._hear_end(key.data, key.fd, ready)
                    else:
                        self._pass_on(key.data, key.fileobj, ready)
                self._reap(ready)

    def _take(self, listening: socket.socket, ready: selectors.BaseSelector) -> bool:
        """Take one request; False when this server is out of date and may end."""
        connection, _ = listening.accept()
        connection.settimeout(2.0)
        fds: list[int] = []
        try:
            message, fds = place.receive(connection, 4)
            request = json.loads(message)
            changed = self._changed()
            reason = f"{changed} has changed" if changed else self._otherwise(request)
            place.send(connection, f"cold: {reason}".encode() if reason else place.GO)
            is_meant = not reason and connection.recv(len(place.GO)) == place.GO
        except (OSError, ValueError):
            changed, is_meant = "", False
        if not is_meant:
            connection.close()
            _close(fds)
            return not changed or bool(self.clients)
        self._fork(connection, request, fds, ready)
        return True

    def _changed(self) -> str:
        """Name a file that has changed; thousands are looked at, so not anew for each of many commands in a row."""
        if time.monotonic() - self.looked_at < FRESH_S:
            return ""
        self.looked_at = time.monotonic()
        return self.preloaded.changed()

    def _otherwise(self, request: dict[str, Any]) -> str:
        """Say what would be otherwise for a command here than at its client's; empty when nothing would."""
        differs = self.preloaded.differs(request["environment"])
        differs = differs or next(
            (name for name, each in self.limits.items() if request["limits"].get(name) != each), ""
        )
        return differs and f"{differs} is set otherwise than for the warm server"

    def _fork(
        self, connection: socket.socket, request: dict[str, Any], fds: list[int], ready: selectors.BaseSelector
    ) -> None:
        connection.settimeout(None)
        self.used_at = time.monotonic()
        ends, tells = os.pipe()
        pid = os.fork()
        if pid == 0:
            _close([ends, *self.ends])
            request["environment"] = {**self.preloaded.left, **request["environment"]}
            _settle_in(request, [*self.held, connection, *self.clients.values()])
            if "words" in request:
                _be_command(self.main, request, fds, tells)
            os.close(tells)
            _be_worker(fds)
        _close([*fds, tells])
        self.clients[pid] = connection
        self.ends.add(ends)
        with contextlib.suppress(OSError):
            place.send(connection, str(pid).encode())
        ready.register(connection, selectors.EVENT_READ, pid)
        ready.register(ends, selectors.EVENT_READ, pid)

    def _pass_on(self, pid: int, connection: Any, ready: selectors.BaseSelector) -> None:
        """Pass a signal on to the command; a client that has gone ends it."""
        try:
            signums = connection.recv(16)
        except OSError:
            signums = b""
        if pid not in self.clients:
            return
        for signum in signums or bytes([signal.SIGTERM]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        if not signums:
            ready.unregister(connection)

    def _hear_end(self, pid: int, ends: int, ready: selectors.BaseSelector) -> None:
        """Pass on how a command ended as soon as it says so: that its memory is given back takes a while."""
        code = os.read(ends, 8)
        ready.unregister(ends)
        self.ends.remove(ends)
        os.close(ends)
        if code:
            self._tell(pid, int(code), ready)

    def _tell(self, pid: int, code: int, ready: selectors.BaseSelector) -> None:
        if connection := self.clients.pop(pid, None):
            with contextlib.suppress(KeyError, ValueError):
                ready.unregister(connection)
            with contextlib.suppress(OSError):
                place.send(connection, str(code).encode())
            connection.close()

    def _reap(self, ready: selectors.BaseSelector) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._tell(ended[0], os.waitstatus_to_exitcode(ended[1]), ready)


def _settle_in(request: dict[str, Any], of_server: list[Any]) -> None:
    """Be a process like the client: in its folder, with its environment, and nothing of the server's."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each_file in of_server:
        each_file.close()
    os.umask(request["umask"])
    os.chdir(request["folder"])
    _take_environment(request["environment"])
    refresh()


def _be_command(main: Main, request: dict[str, Any], fds: list[int], tells: int) -> NoReturn:
    """Run a command on the client's own streams; how it ended goes to a pipe."""
    code = 1
    try:
        guard.die_with_parent(signal.SIGTERM)()  # nobody would tell the client of its end, nor us of the client's
        _take_streams(fds)
        worker.own_streams()
        sys.argv[:] = ["nbmlops", *request["words"]]
        if request["main"]:
            module, _, function = request["main"].partition(":")
            main = getattr(importlib.import_module(module), function)
        code = main(request["words"])
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    finally:
        worker.leave(code, lambda code: os.write(tells, str(code).encode()))


def _be_worker(fds: list[int]) -> NoReturn:
    """Run the cells of a runner elsewhere; given are two pipes to print to, its socket, and its orders."""
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        _take_streams([nothing, *fds[:2]])
        worker.begin(socket.socket(fileno=fds[2]), fds[3])
    finally:
        os._exit(1)


def _take_streams(fds: list[int]) -> None:
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
    _close(fds)


def refresh() -> None:
    """Give this process what a fork must not share with its parent: random numbers, its folder of temporary files."""
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    tempfile.tempdir = None
    time.tzset()


def _take_environment(environment: dict[str, str]) -> None:
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
