"""The one file that starts, finds and stops server processes on this machine."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from nbmlops.errors import DeployError, StoreError
from nbmlops.project import STATE
from nbmlops.scrub import scrub_text
from nbmlops.serving.endpoints import ServerSpec

MODULE = "nbmlops.serving.server"
SPEC_FILE = "spec.json"
READY_FILE = "ready.json"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 40.0  # longer than a server takes to finish the requests it has
LAST_LINES = 8

_children: list[subprocess.Popen[bytes]] = []  # servers that this process started: only it can reap them


@dataclass(frozen=True)
class Ready:
    """What a server tells once it answers: who it is, and its port."""

    pid: int
    pid_started: float
    port: int


@dataclass(frozen=True)
class Leftover:
    """A server process of a project's that no endpoint owns."""

    pid: int
    pid_started: float
    folder: str


def start(folder: Path, spec: ServerSpec, log: Path) -> Ready:
    """Start a server that outlives us and inherits nothing of ours, and wait until it answers.

    Parameters
    ----------
    folder
        Its own folder, and its working folder.
    spec
        What it serves.
    log
        Its output is appended here.

    Raises
    ------
    DeployError
        It ended, or did not answer in time; its last lines are in the message. No process is left.
    """
    (folder / SPEC_FILE).write_text(json.dumps(asdict(spec)))
    with log.open("ab") as output:
        already = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, str(folder / SPEC_FILE)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            close_fds=True,
            start_new_session=True,
        )
    _children.append(process)
    try:
        return _wait_until_ready(process, folder / READY_FILE, spec.endpoint, log, already)
    except BaseException:
        process.kill()
        process.wait()
        raise


def is_alive(pid: int, pid_started: float) -> bool:
    """Say whether exactly that process runs: a number that was given to another since does not count."""
    try:
        process = psutil.Process(pid)
        runs = bool(abs(process.create_time() - pid_started) < 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        runs = False
    if not runs:
        for child in _children:
            child.poll()  # one of ours that has ended is a zombie until somebody looks
    return runs


def stop(pid: int, pid_started: float) -> None:
    """Ask a server to finish what it has and end; after a while, end it."""
    if not is_alive(pid, pid_started):
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).terminate()
        if not _ended(pid, pid_started, STOP_TIMEOUT_S):
            psutil.Process(pid).kill()
            _ended(pid, pid_started, STOP_TIMEOUT_S)


def leftovers(project_root: Path, owned_pids: Collection[int]) -> list[Leftover]:
    """List server processes of a project that no endpoint owns, for instance after a deploy was killed midway."""
    place = str(project_root / STATE / "endpoints") + os.sep
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "create_time", "status"]):
        command = process.info["cmdline"] or []
        ours = MODULE in command and command[-1].startswith(place)
        if ours and process.info["pid"] not in owned_pids and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(Leftover(process.info["pid"], process.info["create_time"], str(Path(command[-1]).parent)))
    return found


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Let one process at a time in; the lock goes with its holder, however that ends."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as exc:
        raise StoreError(f"The lock {lock} cannot be held: {exc.strerror}.", "Check the disk.") from exc
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Path, endpoint: str, log: Path, already: int) -> Ready:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        ended = process.poll() is not None  # looked at first: a server that wrote the file and ended is not ready
        if ready.exists() and not ended:
            told: dict[str, Any] = json.loads(ready.read_text())
            return Ready(**told)
        if ended:
            raise DeployError(f"The new server of {endpoint} did not start: {_said(log, already)}", f"Read {log}")
        time.sleep(0.05)
    raise DeployError(
        f"The new server of {endpoint} did not answer within {START_TIMEOUT_S:.0f} s: {_said(log, already)}",
        f"Read {log}",
    )


def _ended(pid: int, pid_started: float, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not is_alive(pid, pid_started):
            return True
        time.sleep(0.02)
    return False


def _said(log: Path, already: int) -> str:
    """Give the last lines that were logged after the first `already` bytes."""
    lines = log.read_bytes()[already:].decode(errors="replace").split("\n")
    return scrub_text("\n".join([line for line in lines if line.strip()][-LAST_LINES:])) or "it said nothing."
