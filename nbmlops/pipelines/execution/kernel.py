"""Cells in a kernel of another interpreter or language, over Jupyter's protocol; the kernel dies with this process."""

import base64
import queue
import signal
import tempfile
import time
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from nbmlops.pipelines.execution.ended import Ended
from nbmlops.pipelines.execution.guard import die_with_parent
from nbmlops.pipelines.execution.shell import Emit

START_S = 60.0
LOOK_S = 0.5  # between two looks whether a silent kernel lives


class KernelCells:
    """Cells of an installed kernel, by its name.

    It talks over Unix sockets: ports are raced for by kernels that start at once.
    """

    def __init__(self, name: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nbmlops-")
        self._kernel = KernelManager(
            kernel_name=name, transport="ipc", connection_file=f"{self._folder.name}/kernel.json"
        )
        self._kernel.start_kernel(preexec_fn=die_with_parent(signal.SIGKILL))
        self._client: BlockingKernelClient = self._kernel.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=START_S)

    @property
    def session(self) -> int:
        """Give that which the kernel leads."""
        return int(getattr(self._kernel.provisioner, "pid", 0))

    def settle_in(self, emit: Emit) -> None:
        """Send what the cells show to `emit`."""
        self._emit = emit

    def run(self, index: int, source: str, cell_id: str | None) -> Ended:  # noqa: ARG002  # the protocol has no place for it
        """Run a cell; the kernel's death ends this process as it ended the kernel."""
        request = self._client.execute(source, allow_stdin=False, stop_on_error=False)
        was_interrupted = False
        while True:
            try:
                return self._followed(index, request)
            except KeyboardInterrupt:
                if was_interrupted:
                    raise
                was_interrupted = True
                self._kernel.interrupt_kernel()

    def _followed(self, index: int, request: str) -> Ended:
        while True:
            message = self._heard(self._client.get_iopub_msg)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status":
                if content["execution_state"] == "idle":
                    break
                continue
            if buffers := message.get("buffers"):
                content = content | {"buffers": [base64.b64encode(each).decode() for each in buffers]}
            self._emit(cell=index, kind=kind, content=content)
        while (reply := self._heard(self._client.get_shell_msg))["parent_header"].get("msg_id") != request:
            pass
        return _ended(reply["content"])

    def _heard(self, get: Any) -> dict[str, Any]:
        while True:
            try:
                message: dict[str, Any] = get(timeout=LOOK_S)
            except queue.Empty:
                if not self._kernel.is_alive():
                    raise SystemExit(_exit_code(self._kernel)) from None
            else:
                return message


def _ended(reply: dict[str, Any]) -> Ended:
    count = reply.get("execution_count")
    if reply["status"] == "ok":
        return Ended(count)
    ename, reason = reply.get("ename", "aborted"), str(reply.get("evalue", ""))
    is_leaving = ename == "SkipNotebook" or (ename == "SystemExit" and reason in ("", "0", "None"))
    return Ended(count, ename, reason, tuple(reply.get("traceback", ())), is_leaving=is_leaving)


def _exit_code(kernel: KernelManager) -> int:
    """End ourselves by the signal that ended the kernel; give its exit code otherwise."""
    process = getattr(kernel.provisioner, "process", None)
    code = process.poll() if process else None
    if code is not None and code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        signal.raise_signal(-code)
        time.sleep(1)
    return code or 1
