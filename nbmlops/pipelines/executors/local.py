"""Steps on this machine: a process each, at most so many at once. They end when this is closed, or its process dies."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from nbmlops.errors import KernelError
from nbmlops.pipelines.executors import FUNCTION, PYTHON, StepEnd, StepSpec
from nbmlops.pipelines.executors.launcher import LARGEST
from nbmlops.strict_json import dumps

_LAUNCHER = Path(__file__).with_name("launcher.py")
_PROGRAMS = {
    PYTHON: (sys.executable,),
    FUNCTION: (sys.executable, "-P", str(Path(__file__).parents[1] / "flow" / "function.py")),
}


class Local:
    """The executor of one machine.

    Parameters
    ----------
    at_most
        Processors' worth of steps that run at once; as many as this process may use without it. A step that takes more
        runs alone.
    """

    def __init__(self, at_most: int | None = None) -> None:
        self._futures: dict[int, Future[StepEnd]] = {}
        self._lock = threading.Lock()
        self._n_submitted = 0
        self._is_closed = False
        self._control, theirs = socket.socketpair()
        place = tempfile.mkdtemp(prefix="nbmlops-steps-")  # the launcher removes it, also when this process dies
        words = [sys.executable, "-I", "-S", str(_LAUNCHER), str(at_most or _processors()), place]
        with theirs:
            self._process = subprocess.Popen(words, stdin=theirs.fileno())
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def submit(self, spec: StepSpec) -> Future[StepEnd]:
        """Run a step as soon as there is room for it."""
        future: Future[StepEnd] = Future()
        with self._lock:
            self._n_submitted += 1
            number = self._n_submitted
            self._futures[number] = future
            try:
                self._control.sendall(_request(number, spec))
            except OSError:
                self._futures.pop(number)
                future.set_exception(_lost())
        return future

    def close(self) -> None:
        """End what is running, and the launcher."""
        if self._is_closed:
            return
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        self._process.wait()
        self._listener.join()
        self._control.close()

    def _listen(self) -> None:
        """Hand on the ends of steps as they come; what has none when nobody tells any more is lost."""
        with contextlib.suppress(ConnectionError), self._control.makefile("rb") as answers:
            for line in answers:
                answer = json.loads(line)
                with self._lock:
                    future = self._futures.pop(answer.pop("id"))
                _settle(future, answer)
        with self._lock:
            left, self._futures = list(self._futures.values()), {}
        for future in left:
            future.set_exception(_lost())


def _request(number: int, spec: StepSpec) -> bytes:
    program, *words = spec.command
    request = {
        "id": number,
        "command": [*_PROGRAMS.get(program, (program,)), *words],
        "folder": spec.folder,
        "environment": {**os.environ, **spec.environment},
        "parameters": None if spec.parameters is None else dumps(spec.parameters),
        "log": spec.log,
        "timeout_s": spec.timeout_s,
        "cpus": spec.resources.get("cpus", 1.0),
    }
    return json.dumps(request).encode() + b"\n"


def _settle(future: Future[StepEnd], answer: dict[str, Any]) -> None:
    if "failed" in answer:
        future.set_result(StepEnd(127, "", f"It could not be started: {answer['failed']}"))
    elif len(answer["stdout"]) > LARGEST:
        future.set_result(StepEnd(1, "", f"It printed more than {LARGEST:,} characters where its result belongs."))
    else:
        future.set_result(StepEnd(**answer))


def _lost() -> KernelError:
    return KernelError("The executor was closed, or its process has died, before the step ended.")


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
