"""The process that executes a notebook, as its parent holds it: started, followed, and never left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

GRACE_S = 10.0  # for the executing process to interrupt its kernel, kill it, and write the notebook


class Executor:
    """A process that imports papermill while its parent opens the stores, and then executes one notebook.

    Leaving the ``with`` block stops it, whatever happened.
    """

    def __init__(self) -> None:
        self.has_timed_out = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed on exit
        self._process = subprocess.Popen(
            # -P: a notebook's folder must not shadow modules
            [sys.executable, "-P", "-m", "nbmlops.pipelines.execute", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            process_group=0,  # Ctrl-C reaches the parent alone, which decides
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def execute(self, job: dict[str, Any], timeout_s: float | None) -> Iterator[dict[str, Any]]:
        """Hand over the job and give its events as they come; the last is ``end``, unless the process died."""
        timer = threading.Timer(timeout_s or 0, self._time_out)
        timer.daemon = True
        if timeout_s is not None:
            timer.start()
        try:
            self._hand_over(job)
            for line in self._process.stdout or ():
                yield json.loads(line)
        finally:
            timer.cancel()

    def stop(self) -> None:
        """End the process and its kernel; returns when both are gone."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)  # and the kernel dies with it
            self._process.wait()

    def last_words(self) -> str:
        """Give the last line that the process wrote to stderr."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _hand_over(self, job: dict[str, Any]) -> None:
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # it died: its silence tells
                self._process.stdin.write(json.dumps(job) + "\n")
                self._process.stdin.close()

    def _time_out(self) -> None:
        self.has_timed_out = True
        self.stop()

    def _signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signum)


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind this process instead of cutting it off, where nobody else handles them."""

    def leave(signum: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    ours: list[int] = []
    if threading.current_thread() is threading.main_thread():
        ours = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in ours:
        signal.signal(each, leave)
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)
