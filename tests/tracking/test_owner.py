"""Whose a run is, and when its process counts as gone."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from nbmlops.tracking.owner import LEASE_S, boot, owner_is_dead, owner_tags

NOW = time.time()
HOUR_AGO = str(int(NOW - 3600))
KERNEL, _, SPACE = boot().rpartition("-")
OURS = owner_tags()


@pytest.mark.parametrize(
    ("tags", "is_dead"),
    [
        ({}, False),  # nobody's of ours
        (OURS, False),
        (OURS | {"nbmlops.alive_at": HOUR_AGO}, False),  # its network was cut, but it lives
        (OURS | {"nbmlops.pid": str(2**22 + 1)}, True),
        (OURS | {"nbmlops.pid_started": "1000.00"}, True),  # another has its pid by now
        (OURS | {"nbmlops.boot": f"0123abcd-0123-{SPACE}"}, True),  # the machine was started anew
        (OURS | {"nbmlops.boot": f"{KERNEL}-1"}, False),  # another container with a fresh lease
        (OURS | {"nbmlops.boot": f"{KERNEL}-1", "nbmlops.alive_at": HOUR_AGO}, True),
        (OURS | {"nbmlops.host": "elsewhere"}, False),
        (OURS | {"nbmlops.host": "elsewhere", "nbmlops.alive_at": str(int(NOW - LEASE_S + 60))}, False),
        (OURS | {"nbmlops.host": "elsewhere", "nbmlops.alive_at": str(int(NOW - LEASE_S - 60))}, True),
        (OURS | {"nbmlops.host": "elsewhere", "nbmlops.boot": "0123abcd-0123-1"}, False),
    ],
)
def test_a_process_is_dead_only_when_that_is_known(tags: dict[str, str], is_dead: bool) -> None:
    assert owner_is_dead(tags, NOW) is is_dead


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def test_a_stopped_process_lives_and_a_zombie_does_not(child: "subprocess.Popen[bytes]") -> None:
    started = f"{psutil.Process(child.pid).create_time():.2f}"
    tags = OURS | {"nbmlops.pid": str(child.pid), "nbmlops.pid_started": started, "nbmlops.alive_at": HOUR_AGO}
    os.kill(child.pid, signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert not owner_is_dead(tags)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner_is_dead(tags)
    assert tags["nbmlops.host"] == socket.gethostname()
