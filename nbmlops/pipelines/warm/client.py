"""A command handed to the warm server: it runs there as it would here, on this process' own streams.

The server asks back before it forks, so that a command runs there or here, and never at both places.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from nbmlops.pipelines.warm import place

MODULE = "nbmlops.surfaces.warm"
OPTIONS = ("-P", "-Xfrozen_modules=off")  # as kernels are started
ANSWER_S = 5.0  # to say whether it takes a command
LAST_S = 30.0  # for a command to end after its server
GO = place.GO


def run(words: Sequence[str], main: str = "") -> int | None:
    """Run a command in a fork of the server; None when there is none, or when it would not be as here.

    Signals that this process gets are passed on; when it dies, the command is told to end. `main` is what takes the
    words, ``module:function``, instead of the command line.
    """
    try:
        connection = _connected()
    except (OSError, PermissionError):
        return None
    with connection:
        asked = {"words": list(words), "main": main, "folder": os.getcwd(), "environment": dict(os.environ)}
        with _passing_on(connection):  # from before it may begin
            answer = _asked(connection, asked, (0, 1, 2))
            if answer == GO:
                return _followed(connection)
    if answer:
        sys.stderr.write(f"{answer.decode()}\n")
    return None


def worker(environment: Mapping[str, str], fds: tuple[int, int, int, int]) -> "Worker | None":
    """Have the server fork a process that runs cells; None when there is no server, or it would not be as here.

    `fds` are the ends of two pipes to print to, of the control socket, and of the pipe of orders.
    """
    try:
        connection = _connected()
    except (OSError, PermissionError):
        return None
    if _asked(connection, {"folder": os.getcwd(), "environment": dict(environment)}, fds) == GO:
        return Worker(_pid(connection), connection)
    connection.close()
    return None


class Worker:
    """A process of the server's that runs cells for us."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection
        self._code: int | None = None

    def wait(self) -> int:
        """Wait for its end; give its exit code."""
        if self._code is None:
            answer, _ = place.receive(self._connection)
            self._connection.close()
            self._code = int(answer or 1)
        return self._code


def leave_one(environment: Mapping[str, str]) -> None:
    """Start a server for the commands to come, if there is none; it inherits nothing of ours but the environment."""
    with contextlib.suppress(OSError, PermissionError), contextlib.suppress(ConnectionRefusedError), _connected():
        return
    import subprocess

    with contextlib.suppress(OSError):
        subprocess.Popen(
            [sys.executable, *OPTIONS, "-m", MODULE],
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=True,
            start_new_session=True,
        )


def _connected() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(place.socket_path()))
    except BaseException:
        connection.close()
        raise
    return connection


def _asked(connection: socket.socket, asked: dict[str, Any], fds: tuple[int, ...]) -> bytes:
    """Ask for a process; GO when it will come, else why it will not, or nothing."""
    request = {**asked, "umask": place.umask(), "limits": place.limits()}
    try:
        place.send(connection, json.dumps(request).encode(), fds)
        connection.settimeout(ANSWER_S)
        answer, _ = place.receive(connection)
        connection.settimeout(None)
        if answer == GO:
            connection.sendall(GO)
    except OSError:
        return b""
    return answer


def _pid(connection: socket.socket) -> int:
    """Hear which process has come; 0 when the server has gone."""
    return int(_heard(connection) or 0)


def _heard(connection: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return place.receive(connection)[0]
    return b""


def _followed(connection: socket.socket) -> int:
    pid = _pid(connection)
    answer = _heard(connection)
    if not answer:  # the server was ended from outside, and tells its commands to end by that
        sys.stderr.write("The warm server was ended from outside, and this command with it.\n")
        _await_end(pid)
        return 128 + signal.SIGTERM
    code = int(answer)
    if code < 0:  # end as the command did
        with contextlib.suppress(OSError):  # of SIGKILL, which needs no leave
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _await_end(pid: int) -> None:
    from nbmlops.pipelines.execution import guard

    with contextlib.suppress(OSError):  # it has ended already
        process = os.pidfd_open(pid)
        guard.readable([process], LAST_S)
        os.close(process)


@contextlib.contextmanager
def _passing_on(connection: socket.socket) -> Iterator[None]:
    def pass_on(signum: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(bytes([signum]))

    all_signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signals = [each for each in all_signals if signal.getsignal(each) is not signal.SIG_IGN]  # as under nohup
    before = [signal.signal(each, pass_on) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
