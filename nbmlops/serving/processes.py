"""The one file that starts, finds and stops server processes on this machine."""

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from nbmlops import background
from nbmlops.errors import DeployError, StoreError
from nbmlops.project import STATE
from nbmlops.scrub import scrub_text
from nbmlops.serving.instructions import Ready

WORKER, MODEL_PROCESS, PREFLIGHT = (f"nbmlops.serving.{name}" for name in ("worker", "model_process", "preflight"))
RAY = "nbmlops.serving.targets.ray_applications"
MODULES = (WORKER, MODEL_PROCESS)
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 40.0  # longer than a server takes to finish the requests it has
LOOK_S = 0.002
LAST_LINES = 8


@dataclass(frozen=True)
class Running:
    """A server process of a project's, as the machine lists it."""

    pid: int
    pid_started: float
    module: str
    folder: str


def ready(process: subprocess.Popen[bytes], folder: Path, what: str, log: Path, already: int) -> Ready:
    """Wait until a process that was started has said that it is ready.

    Parameters
    ----------
    process
        The process.
    folder
        Where it says so.
    what
        What it is, for the message.
    log, already
        Its log, and how many bytes were in it before.

    Raises
    ------
    DeployError
        It ended, or said nothing in time; its last lines are in the message. It is gone.
    """

    def told() -> Ready | None:
        found = Ready.read(folder)
        return found if found and found.pid == process.pid else None

    if until(process, lambda: told() is not None) and process.poll() is None and (found := told()):
        return found
    raise DeployError(f"{what} did not start: {said(log, already)}", f"Read {log}")


def until(process: subprocess.Popen[bytes], is_done: Callable[[], bool]) -> bool:
    """Wait until a process has done something; one that ends before, or does not do it in time, is gone."""
    deadline = time.monotonic() + START_TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            has_ended = process.poll() is not None  # looked at first: what it did, it did before
            if is_done():
                return True
            if has_ended:
                return False
            time.sleep(LOOK_S)
        return False
    finally:
        if not is_done():
            process.kill()
            process.wait()


def finished(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """Wait for the end of a process that ends by itself, and give its exit code; one that takes longer is ended."""
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def is_alive(pid: int, pid_started: float) -> bool:
    """Say whether exactly that process runs: a number that was given to another since does not count."""
    try:
        process = psutil.Process(pid)
        runs = bool(abs(process.create_time() - pid_started) < 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        runs = False
    if not runs:
        background.reap()
    return runs


def living(folder: Path) -> Ready | None:
    """Find the process that has said in a folder that it is ready, if it is alive."""
    told = Ready.read(folder)
    return told if told and is_alive(told.pid, told.pid_started) else None


def stop(pid: int, pid_started: float) -> None:
    """Ask a server to finish what it has and end; after a while, end it."""
    if not is_alive(pid, pid_started):
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).terminate()
        if not _ended(pid, pid_started, STOP_TIMEOUT_S):
            psutil.Process(pid).kill()
            _ended(pid, pid_started, STOP_TIMEOUT_S)


def running(project_root: Path) -> list[Running]:
    """List a project's server processes, whoever wants them; the children of a model process are not listed."""
    place = str(project_root / STATE / "endpoints") + os.sep
    found: dict[int, tuple[int, Running]] = {}  # by pid, with the parent's
    for process in psutil.process_iter(["pid", "cmdline", "create_time", "status", "ppid"]):
        command = process.info["cmdline"] or []
        module = next((each for each in MODULES if each in command), "")
        folder = next((word for word in command if word.startswith(place)), "")
        if module and folder and process.info["status"] != psutil.STATUS_ZOMBIE:
            pid, started = process.info["pid"], process.info["create_time"]
            found[pid] = (process.info["ppid"], Running(pid, started, module, folder))
    return [each for parent, each in found.values() if parent not in found]


def leftovers(project_root: Path, owned_pids: Collection[int]) -> list[Running]:
    """List the server processes of a project that no endpoint owns."""
    return [each for each in running(project_root) if each.pid not in owned_pids]


@contextlib.contextmanager
def only_one(lock: Path, *, waits: bool = True) -> Iterator[bool]:
    """Let one process at a time in; the lock goes with its holder, however that ends.

    Gives whether one is in, which is always so for one that waits.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as exc:
        raise StoreError(f"The lock {lock} cannot be held: {exc.strerror}.", "Check the disk.") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _ended(pid: int, pid_started: float, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not is_alive(pid, pid_started):
            return True
        time.sleep(0.02)
    return False


def said(log: Path, already: int = 0) -> str:
    """Give the last lines that were logged after the first `already` bytes."""
    begun_anew = already > size(log)  # by one of those that write to it
    lines = log.read_bytes()[0 if begun_anew else already :].decode(errors="replace").split("\n")
    return scrub_text("\n".join([line for line in lines if line.strip()][-LAST_LINES:])) or "it said nothing."


def size(log: Path) -> int:
    """Give the bytes of a log; 0 where there is none yet."""
    return log.stat().st_size if log.exists() else 0
