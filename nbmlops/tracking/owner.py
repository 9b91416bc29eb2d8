"""Whose a run is: the process that began it, and whether that process is known to have ended."""

import functools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

LEASE_S = 900.0  # without a sign of life, after which a process on another machine counts as gone
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def owner_tags() -> dict[str, str]:
    """Name this process for good: a pid alone may be given again, and begins anew with the machine.

    The name of the machine's running kernel goes with the name space of its process ids, so that
    containers with one kernel are told apart.
    """
    return {
        "nbmlops.host": socket.gethostname(),
        "nbmlops.boot": boot(),
        "nbmlops.pid": str(os.getpid()),
        "nbmlops.pid_started": f"{psutil.Process().create_time():.2f}",
        "nbmlops.alive_at": str(int(time.time())),
    }


@functools.cache
def boot() -> str:
    """Name this start of the machine, and the name space of its process ids."""
    kernel = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else f"{psutil.boot_time():.0f}"
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return f"{kernel[:13]}-{space}"


def owner_is_dead(tags: Mapping[str, str], now: float | None = None) -> bool:
    """Say whether the process that owns a run is known to be gone.

    On this machine that is seen at once: it was started anew, or the process is not there. A process of
    another machine, or of another container, counts as gone when its lease has run out.

    Parameters
    ----------
    tags
        The run's tags.
    now
        Seconds of the epoch.
    """
    if "nbmlops.pid" not in tags:
        return False
    if tags.get("nbmlops.host") == socket.gethostname():
        kernel, _, space = tags.get("nbmlops.boot", boot()).rpartition("-")
        own_kernel, _, own_space = boot().rpartition("-")
        if kernel != own_kernel:
            return True
        if space == own_space:
            return _has_ended(int(tags["nbmlops.pid"]), float(tags["nbmlops.pid_started"]))
    alive_at = float(tags.get("nbmlops.alive_at", "inf"))
    return (now or time.time()) - alive_at > LEASE_S


def _has_ended(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        is_another = abs(process.create_time() - started) > 1
        return bool(is_another or process.status() == psutil.STATUS_ZOMBIE)  # ended, and its parent did not look yet
    except psutil.NoSuchProcess:
        return True
