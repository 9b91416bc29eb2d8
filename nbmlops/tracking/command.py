"""A command as a run: ``nbmlops track NAME -- COMMAND``. What it logs goes to the run, and its end is the run's.

The command is a process of its own. Its output passes through, and the end of it is kept with the run. It inherits
what lets plain ``mlflow.*`` and ``nbmlops.log`` in it mean this very run. Signals are passed on to it.
"""

import contextlib
import fcntl
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from nbmlops.errors import NotFoundError
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking.capture.facts import source_tags
from nbmlops.tracking.mlflow import Tracking, translated
from nbmlops.tracking.runs import Run

OUTPUT = "nbmlops/output.log"
MAX_OUTPUT_BYTES = 256 * 1024  # of the command's output, its last
NOT_EXECUTABLE = 126  # what a shell says of a command that cannot be executed
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class CommandRun(Run):
    """The run of a command, ended; `exit_code` is the command's, or 128 and the signal's number."""

    exit_code: int = 0


@dataclass(frozen=True)
class End:
    """How a command ended: its exit code, or minus the signal that killed it; whether it was asked to end."""

    code: int
    was_told: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code, as a shell gives it."""
        return self.code if self.code >= 0 else 128 - self.code

    @property
    def status(self) -> str:
        """The end of the run.

        Examples
        --------
        >>> [End(code).status for code in (0, 3, -9, -2, 143)]
        ['FINISHED', 'FAILED', 'FAILED', 'KILLED', 'KILLED']
        """
        if self.code == 0:
            return "FINISHED"
        return "KILLED" if self.was_told or self.exit_code in (130, 143) else "FAILED"

    @property
    def error(self) -> str:
        """What went wrong; empty when nothing did."""
        if self.code < 0:
            killed = f"killed by {signal.Signals(-self.code).name}"
            return f"{killed}, which is what a system out of memory does" if self.code == -signal.SIGKILL else killed
        return f"exit code {self.code}" if self.code else ""


def run_command(
    project: Project,
    name: str | None,
    command: Sequence[str],
    parameters: Mapping[str, Any],
    tags: Mapping[str, Any],
    *,
    has_system: bool = False,
) -> CommandRun:
    """Run a command to its end as a run.

    Raises
    ------
    NotFoundError
        There is no such command; no run has begun.
    """
    from nbmlops.tracking import session
    from nbmlops.tracking.verbs import begin, card

    if not (found := shutil.which(command[0])):
        raise NotFoundError(f"There is no command {command[0]!r}.", "Write it as a shell finds it: -- python train.py")
    source = _source(project, command)
    begun = begin(project, name, source["mlflow.source.name"], parameters, tags, has_system=has_system, more=source)
    tracking = project.open(Tracking)
    output = _Output()
    end = End(NOT_EXECUTABLE)
    try:
        end = _executed([found, *command[1:]], _environment(project, tracking, begun.run_id), output)
    except BaseException as exc:
        session.failed(exc)
        raise
    finally:
        ended = card(project, _end(project, begun.run_id, end, output))
    fields = {each: getattr(ended, each) for each in ended.__dataclass_fields__}
    return CommandRun(**fields, exit_code=end.exit_code)


def _end(project: Project, run_id: str, end: End, output: "_Output") -> Run:
    """End the run as its command did, whatever the command itself has called its end."""
    from nbmlops.tracking import session

    tracking = project.open(Tracking)
    with translated("The run's end"):
        if end.error:
            tracking.client.set_tag(run_id, "nbmlops.error", end.error)
        if text := output.text():
            tracking.client.log_text(run_id, text, OUTPUT)
        return tracking.as_run(session.end(project, end.status))


# ------------------------------------------------------------------- the process
def _executed(command: Sequence[str], environment: Mapping[str, str], output: "_Output") -> End:
    """Run a command to its end; the signals that this process gets meanwhile are passed on."""
    is_foreground = os.isatty(0)  # then the terminal itself interrupts the command
    with _Signals(is_foreground) as signals:
        with output.taken() as (out, err):
            process = subprocess.Popen(
                _mortal(command), env=environment, stdout=out, stderr=err, process_group=None if is_foreground else 0
            )
        signals.pass_on_to(process)
        code = process.wait()
    output.finish()
    return End(code, bool(signals.told))


# Linux ends the command should its wrapper be killed: nobody could tell its end then.
_MORTAL = f"""\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def _mortal(command: Sequence[str]) -> list[str]:
    """Word a command that does not outlive this process."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _MORTAL, str(os.getpid()), *command]


class _Signals:
    """Passes on the signals that this process gets, instead of ending by them."""

    def __init__(self, is_foreground: bool) -> None:
        self.told: list[int] = []
        self._is_foreground = is_foreground
        self._process: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._came) for number in _INTERRUPTS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pass_on_to(self, process: "subprocess.Popen[bytes]") -> None:
        """Pass signals on to a process from now on, and those that came already."""
        self._process = process
        for number in self.told:
            self._send(process, number)

    def _came(self, number: int, _: object) -> None:
        self.told.append(number)
        if self._process:
            self._send(self._process, number)

    def _send(self, process: "subprocess.Popen[bytes]", number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if not self._is_foreground:
                os.killpg(process.pid, number)
            elif number != signal.SIGINT:  # which the terminal has sent to both
                process.send_signal(number)


def _environment(project: Project, tracking: Tracking, run_id: str) -> dict[str, str]:
    """Give the command's environment: in it, this run is the one that is meant."""
    return {
        **os.environ,
        "NBMLOPS_PROJECT": str(project.root),
        "NBMLOPS_RUN": run_id,
        "MLFLOW_RUN_ID": run_id,
        "MLFLOW_TRACKING_URI": tracking.uri,
        "MLFLOW_REGISTRY_URI": tracking.uri,
        "MLFLOW_EXPERIMENT_NAME": tracking.experiment,
    }


def _source(project: Project, command: Sequence[str]) -> dict[str, str]:
    """Name the script that a command runs, else the command itself, as a run's source."""
    scripts = (project.path(word) for word in command if word.endswith((".py", ".ipynb", ".sh", ".R", ".jl")))
    if script := next((path for path in scripts if path.is_file()), None):
        return source_tags(project.root, str(script.resolve()))
    return {"mlflow.source.name": scrub_text(shlex.join(command))[:500], "mlflow.source.type": "LOCAL"}


# -------------------------------------------------------------------- its output
class _Output:
    """A command's output on its way through: it is shown as it comes, and its end is kept."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._is_cut = False
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    @contextlib.contextmanager
    def taken(self) -> Iterator[tuple[int, int]]:
        """Give the ends that a command writes its output and its errors to; they are closed here afterwards."""
        sys.stdout.flush()
        sys.stderr.flush()
        ends = [self._end(1), self._end(2)]
        try:
            yield ends[0], ends[1]
        finally:
            for end in ends:
                os.close(end)

    def finish(self, patience_s: float = 2.0) -> None:
        """Wait for what is still on its way; a process that the command left behind may hold it open."""
        for thread in self._threads:
            thread.join(patience_s)

    def text(self) -> str:
        """Give what was kept, without secrets."""
        with self._lock:
            kept = b"".join(self._kept)
        cut = "[…]\n" if self._is_cut else ""
        return cut + scrub_text(kept.decode(errors="replace").replace("\r\n", "\n"))

    def _end(self, fd: int) -> int:
        """Make a way to a descriptor of ours: to a terminal a terminal, so that the command draws as it is used to."""
        if os.isatty(fd):
            reading, writing = pty.openpty()
            size = fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(writing, termios.TIOCSWINSZ, size)
        else:
            reading, writing = os.pipe()
        thread = threading.Thread(target=self._pass, args=(reading, fd), daemon=True)
        thread.start()
        self._threads.append(thread)
        return writing

    def _pass(self, reading: int, fd: int) -> None:
        is_heard = True
        with contextlib.suppress(OSError):  # a terminal whose other end is closed
            while block := os.read(reading, 65536):
                self._keep(block)
                if is_heard:
                    is_heard = _written(fd, block)
        os.close(reading)

    def _keep(self, block: bytes) -> None:
        with self._lock:
            self._kept.append(block)
            self._size += len(block)
            while len(self._kept) > 1 and self._size > MAX_OUTPUT_BYTES:
                self._size -= len(self._kept.popleft())
                self._is_cut = True


def _written(fd: int, block: bytes) -> bool:
    """Write a block; False when nobody reads any more."""
    try:
        while block:
            block = block[os.write(fd, block) :]
    except OSError:
        return False
    return True
