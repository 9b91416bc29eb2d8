"""The one file that talks to papermill: a process of its own, ``python -m nbmlops.pipelines.execute PARENT_PID``.

It reads a job as one JSON line from stdin and writes JSON lines to stdout: ``{"event": "cell", ...}``
as each cell starts and ends, and last ``{"event": "end", ...}``. The notebook's output never reaches that
stream. When its parent dies, or tells it to stop, the kernel is interrupted, then killed.
"""

import contextlib
import ctypes
import functools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

GRACE_S = 2.0  # from the kernel's interrupt, which leaves a traceback in the notebook, to its end
_PR_SET_PDEATHSIG = 1

_kernels: list[Any] = []  # the kernel's process, once it is there


def main() -> None:
    """Execute the notebook of the job on stdin."""
    parent = int(sys.argv[1])
    report = _reporter()
    _stop_when_told()
    die_with_parent(signal.SIGTERM)()
    # Half of papermill's import is this checker of internationalised addresses, which no notebook needs.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    import papermill  # noqa: F401  # while the parent opens its stores

    line = sys.stdin.readline()
    if line and os.getppid() == parent:
        job = json.loads(line)
        report(event="end", **_executed(job, report))
        if os.getppid() != parent:  # nobody is left to give the draft its name
            Path(job["draft"]).unlink(missing_ok=True)


def die_with_parent(signum: int) -> Callable[[], None]:
    """Give a call that asks Linux to signal this process when its parent ends; elsewhere it does nothing."""
    if sys.platform != "linux":
        return lambda: None
    return functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signum)


def _reporter() -> Callable[..., None]:
    """Keep stdout for reports alone: whatever else is printed, by whomever, goes to stderr."""
    stream: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(**fields: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(fields), file=stream, flush=True)

    return report


def _stop_when_told() -> None:
    def stop(signum: int, _frame: object) -> None:
        if not _kernels:
            sys.exit(128 + signum)
        _signal_kernel(signal.SIGINT)
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, lambda _signum, _frame: _signal_kernel(signal.SIGKILL))


def _signal_kernel(signum: int) -> None:
    for process in _kernels:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signum)


def _executed(job: dict[str, Any], report: Callable[..., None]) -> dict[str, Any]:
    """Execute a job's draft in place; say how it ended."""
    import papermill

    os.environ.pop("MLFLOW_RUN_ID", None)  # of a run above: a run of the notebook's own is meant
    os.environ.update(job["environment"])
    draft = job["draft"].replace("{", "{{").replace("}", "}}")  # papermill fills paths in
    progress = _Progress(report)
    with tempfile.TemporaryDirectory(prefix="nbmlops-") as sockets:
        try:
            papermill.execute_notebook(
                draft,
                draft,
                cwd=job["folder"],
                kernel_name=_installed(job["kernel"]),
                progress_bar=False,
                iopub_timeout=60,
                kernel_manager_class=_kernel_manager(sockets),
                on_cell_execute=progress.started,
                on_cell_executed=progress.ended,
            )
        except papermill.PapermillExecutionError as exc:
            return {"status": "failed", "cell": exc.cell_index, "count": exc.exec_count} | progress.cause(exc)
        except Exception as exc:  # noqa: BLE001  # whatever it is, the parent reports it
            return {"status": "died", "reason": _death(exc), "code": _exit_code()}
    return {"status": "ok"}


class _Progress:
    """Reports each cell as it starts and ends."""

    def __init__(self, report: Callable[..., None]) -> None:
        self._report = report
        self._since = 0.0
        self._reply: dict[str, Any] = {}

    def started(self, *, cell_index: int, **_: Any) -> None:
        self._since = time.monotonic()
        self._report(event="cell", cell=cell_index, status="started", seconds=0.0)

    def ended(self, *, cell_index: int, execute_reply: dict[str, Any], **_: Any) -> None:
        self._reply = execute_reply["content"]
        has_left = self._reply.get("ename") == "SystemExit" and self._reply.get("evalue") in ("", "0")  # on purpose
        status = "ok" if self._reply["status"] == "ok" or has_left else "failed"
        self._report(event="cell", cell=cell_index, status=status, seconds=time.monotonic() - self._since)

    def cause(self, exc: Any) -> dict[str, Any]:
        """Name the error; where a cell left no error output (a magic's), the kernel's last reply has it."""
        if exc.evalue or exc.traceback:
            return {"ename": exc.ename, "reason": exc.evalue, "is_ours": _is_ours(exc)}
        reason = f"{self._reply.get('ename', '')}: {self._reply.get('evalue', '')}".strip(": ")
        return {"ename": "", "reason": reason or exc.ename, "is_ours": False}


def _is_ours(exc: Any) -> bool:
    """Tell an error of nbmlops from another of that name by how it shows: as its message alone, or with its path."""
    one_message = f"{exc.ename}: {exc.evalue}".splitlines()
    return exc.traceback == one_message or any(
        line.startswith(f"nbmlops.errors.{exc.ename}:") for line in exc.traceback
    )


def _installed(kernel: str) -> str:
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager

    return kernel if kernel in KernelSpecManager().find_kernel_specs() else NATIVE_KERNEL_NAME


def _kernel_manager(sockets: str) -> Any:
    """Make the class of a kernel that talks over Unix sockets and dies with this process.

    TCP ports are raced for by kernels that start at once.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class KernelOfOneRun(AsyncKernelManager):
        def __init__(self, **traits: Any) -> None:
            super().__init__(transport="ipc", connection_file=f"{sockets}/kernel.json", **traits)

        @property
        def kernel_spec(self) -> Any:
            if self.kernel_name == NATIVE_KERNEL_NAME:  # this interpreter, whatever a user's folder calls python3
                return KernelSpec(**get_kernel_dict())
            return super().kernel_spec

        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            await super()._async_launch_kernel(kernel_cmd, preexec_fn=die_with_parent(signal.SIGKILL), **options)
            provisioner: Any = self.provisioner
            _kernels.append(provisioner.process)

    return KernelOfOneRun


def _exit_code() -> int | None:
    """Give the kernel's exit code, below 0 for a signal; None while it lives, or before it was there."""
    return _kernels[0].poll() if _kernels else None


def _death(exc: Exception) -> str:
    """Say how the kernel ended, or what else went wrong."""
    code = _exit_code()
    if code is None:
        return f"the notebook could not be executed: {type(exc).__name__}: {exc}"
    if code == -signal.SIGKILL:
        return "the kernel was killed (SIGKILL), which is what a system out of memory does"
    return (
        f"the kernel was ended by {signal.Signals(-code).name}" if code < 0 else f"the kernel exited with code {code}"
    )


if __name__ == "__main__":
    main()
