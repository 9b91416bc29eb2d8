"""Processes of ours that outlive the one that starts them; and the agent as one: whether it runs, its start and end."""

import atexit
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from nbmlops.errors import ConflictError, KernelError, StoreError
from nbmlops.project import STATE, Project

MODULE = "nbmlops.agent.loop"
LOCK, LOG = "agent.lock", "agent.log"
OFF = "NBMLOPS_AGENT"  # ``off``: no command leaves an agent behind
DETACHED = "NBMLOPS_DETACHED"  # set for what goes on by itself: what it does is no person's doing
START_S, STOP_S, LOOK_S = 20.0, 30.0, 0.05
OF_ONE_RUN = (  # variables that a run has for itself and what it starts: an agent is part of none
    *("NBMLOPS_RUN", "NBMLOPS_RUN_OFFLINE", "NBMLOPS_PARAMETER_", "NBMLOPS_NOTEBOOK", "NBMLOPS_FENCE"),
    *("NBMLOPS_RESULTS", "NBMLOPS_DUE", "NBMLOPS_JOB", "MLFLOW_RUN_ID"),
)
OF_A_KERNEL = (  # which a kernel sets for what it shows: an agent shows nothing, and its runs set their own
    *("CLICOLOR", "FORCE_COLOR", "PAGER", "GIT_PAGER", "MPLBACKEND", "JPY_", "PYDEVD_USE_FRAME_EVAL"),
)

_children: list[subprocess.Popen[bytes]] = []  # what this process started: only it can reap them


@dataclass(frozen=True)
class Living:
    """The agent that runs for a project on this machine."""

    pid: int
    pid_started: float
    host: str
    since: str  # ISO 8601, UTC


def is_wanted() -> bool:
    """Say whether a command may leave an agent behind: not in CI, nor where it is off."""
    return not os.environ.get("CI") and os.environ.get(OFF, "").lower() not in ("off", "0", "no", "false")


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the environment without what belongs to the run or the kernel that this process may be part of.

    Examples
    --------
    >>> own_environment({"HOME": "/root", "NBMLOPS_RUN": "5f0c", "NBMLOPS_PARAMETER_token": "[]", "CLICOLOR": "1"})
    {'HOME': '/root'}
    """
    return {name: value for name, value in environment.items() if not name.startswith((*OF_ONE_RUN, *OF_A_KERNEL))}


def living(root: Path) -> Living | None:
    """Find the agent of a project: it holds the lock as long as it lives, however it ends."""
    reap()
    path = root / STATE / LOCK
    try:
        with path.open("rb") as file:
            if not _is_held(file):
                return None
            return Living(**json.loads(file.read()))
    except (FileNotFoundError, ValueError, TypeError):  # none yet, or one that is about to write who it is
        return None


def start(project: Project) -> None:
    """Start the project's agent, unless one runs; it outlives this process and inherits none of its descriptors."""
    if not living(project.root):
        spawn(project, MODULE, [str(project.root)], LOG)


def called(project: Project) -> str:
    """Have an agent run where one is wanted, and say so."""
    if living(project.root):
        return "runs"
    if not is_wanted():
        return "runs nowhere on this machine: start it with `agent`"
    start(project)
    return "started"


def spawn(project: Project, module: str, words: Sequence[str], log_name: str) -> None:
    """Start a process of ours in a project's root; its output goes to a file of the project's state."""
    detached(module, words, project.root, project.state(log_name))


def detached(
    module: str, words: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process of ours that outlives this one, and inherits neither its descriptors nor what is of its run.

    Parameters
    ----------
    module, words
        What is run, and its arguments.
    folder
        Its working folder.
    log
        The file to which its output is appended.
    environment
        Variables that it has besides this process' own.

    Raises
    ------
    StoreError
        It cannot be started.
    """
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *words],
                cwd=folder,
                env=own_environment(os.environ) | {DETACHED: "on"} | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                close_fds=True,
                start_new_session=True,
            )
    except OSError as exc:
        raise StoreError(f"{module} cannot be started in {folder}: {exc.strerror}.", "Check the disk.") from exc
    _children.append(process)
    return process


def reap() -> None:
    """Look at the processes that this one has started: those that have ended are zombies until somebody does."""
    for child in _children[:]:
        if child.poll() is not None:
            _forget(child)


@atexit.register
def _let_go() -> None:
    """Have this process end without a warning that others go on: that is what they are for."""
    for child in _children:
        child.returncode = 0


def _forget(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ValueError):  # another thread was first
        _children.remove(child)


def started(project: Project) -> Living:
    """Start the project's agent and wait until it lives.

    Raises
    ------
    KernelError
        It does not come to life; its log tells why.
    """
    deadline = time.monotonic() + START_S
    start(project)
    while time.monotonic() < deadline:
        if agent := living(project.root):
            return agent
        time.sleep(LOOK_S)
    raise KernelError(f"The agent did not start within {START_S:.0f} s.", f"Read {project.root / STATE / LOG}")


def stop(root: Path) -> Living | None:
    """Have a project's agent end, and wait until it has; give the one that ran, None where none did.

    Raises
    ------
    ConflictError
        It runs on another machine.
    KernelError
        It goes on.
    """
    agent = living(root)
    if agent is None:
        return None
    if agent.host != socket.gethostname():
        raise ConflictError(f"The agent runs on {agent.host}.", "Stop it there: `agent --stop`")
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(agent.pid)
        if abs(process.create_time() - agent.pid_started) < 1:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if living(root) != agent:
            _reap(agent.pid, deadline)
            return agent
        time.sleep(LOOK_S)
    raise KernelError(f"The agent (process {agent.pid}) was told to stop, and goes on.", "Read .nbmlops/agent.log")


def _reap(pid: int, deadline: float) -> None:
    """Wait for an agent that we have started: it lets go of its lock a moment before its process ends."""
    for child in [each for each in _children if each.pid == pid]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
            _forget(child)


@contextlib.contextmanager
def only_one(project: Project, since: str) -> Iterator[Callable[[], bool] | None]:
    """Be the project's agent on this machine, as long as this lasts; None where another is.

    Gives a call that says whether the lock's file is still the one that is held: it may be deleted with its folder.
    """
    path = project.state(LOCK)
    with path.open("a+b") as file:
        if not _held(file):
            yield None
            return
        me = Living(os.getpid(), psutil.Process().create_time(), socket.gethostname(), since)
        file.truncate(0)
        file.write(json.dumps(asdict(me)).encode())
        file.flush()
        yield lambda: path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))


def _is_held(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask take neither for an agent
    except BlockingIOError:
        return True
    return False


def _held(file: IO[bytes]) -> bool:
    for _ in range(20):  # one who only asks holds the lock for a moment
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(LOOK_S)
    return False
