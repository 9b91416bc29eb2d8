"""Children forked from one warm parent, so that killing a thousand of them does not pay for a thousand imports."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

PARENT = """
import ctypes, importlib, json, os, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print("warm", flush=True)
for line in sys.stdin:
    told = json.loads(line)
    pid = os.fork()
    if not pid:
        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: it is killed with its parent
        os.setsid()
        os.chdir(told["folder"])
        os.environ.update(told["environment"])
        os.dup2(os.open(told["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(os.open(told["complained"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        sys.stdin = open(os.devnull)
        sys.argv = ["child", *told["arguments"]]
        exec(compile(told["script"], "child", "exec"), {"__name__": "__main__"})
        sys.exit(0)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
WARM = (
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.rest_store",
    "mlflow.tracking._model_registry.fluent",
    "mlflow.tracking.request_header.default_request_header_provider",
    "nbmlops.tracking.plugin.stores",
    "nbmlops.tracking.plugin.context",
    "nbmlops.tracking.mlflow",
    "nbmlops.tracking.journal.target_http",
    "nbmlops.tracking.journal.target_sql",
)


class Forks:
    """A warm parent that forks a child at a time, which the test kills; what a child prints it acknowledges.

    Parameters
    ----------
    place
        Folder for what the children say.
    """

    def __init__(self, place: Path) -> None:
        self.chance = random.Random()  # of the moments of death; seeded by each test
        self.count = 0
        self._place = place
        self._parent = subprocess.Popen(
            [sys.executable, "-u", "-c", PARENT, json.dumps(WARM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "GIT_PYTHON_REFRESH": "quiet"},
        )
        assert self._line() == "warm"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parent.kill()  # a child that a failed test has left dies with it
        self._parent.communicate()

    def _line(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline().strip()

    def start(self, script: str, folder: Path, *arguments: str, **environment: str) -> "Child":
        """Fork a child that executes a script in a folder."""
        self.count += 1
        said, complained = (self._place / f"{self.count}.{name}" for name in ("said", "complained"))
        told = {
            "script": script,
            "folder": str(folder),
            "arguments": arguments,
            "environment": environment,
            "said": str(said),
            "complained": str(complained),
        }
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(told) + "\n")
        self._parent.stdin.flush()
        return Child(self, int(self._line()), said, complained)

    def kill(self, script: str, folder: Path, *arguments: str, within_s: float = 0.2, **environment: str) -> list[Any]:
        """Kill a child at a random time, counted from the first thing it says; give what it said, as JSON.

        A child that the test has not killed, because it ended by itself, fails.
        """
        child = self.start(script, folder, *arguments, **environment)
        child.wait_for_first()
        time.sleep(self.chance.uniform(0, within_s))
        os.kill(child.pid, signal.SIGKILL)
        code = child.end()
        assert code == -signal.SIGKILL, f"the child ended by itself, with {code}: {child.complained.read_text()}"
        return child.acknowledged()


class Child:
    """A forked child, and what it has said."""

    def __init__(self, forks: Forks, pid: int, said: Path, complained: Path) -> None:
        self.forks, self.pid, self.said, self.complained = forks, pid, said, complained

    def wait_for_first(self, timeout_s: float = 60.0) -> None:
        """Wait until it has said something, or has ended."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and psutil.pid_exists(self.pid):
            with contextlib.suppress(FileNotFoundError):
                if self.said.stat().st_size:
                    return
            time.sleep(0.002)

    def end(self) -> int:
        """Wait for its end; give its exit code."""
        return int(self.forks._line())

    def acknowledged(self) -> list[Any]:
        """Give the whole lines that it said, read as JSON."""
        return [json.loads(line) for line in self.said.read_text().split("\n")[:-1]]
