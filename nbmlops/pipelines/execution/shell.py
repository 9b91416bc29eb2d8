"""The IPython shell in which a headless notebook's cells run: a kernel's in all but its sockets.

Display, widgets, magics, top-level ``await`` and ``get_ipython().kernel`` are ipykernel's own. What a kernel would
send to its front ends goes to one function here.
"""

import asyncio
import base64
import contextlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ipykernel import zmqshell
from ipykernel.ipkernel import IPythonKernel
from jupyter_client.session import Session
from traitlets import Type
from traitlets.config import Config

from nbmlops.errors import NbmlopsError
from nbmlops.first_use import offer
from nbmlops.pipelines.execution.ended import Ended, SkipNotebook

_INSTALLED = ("site-packages", "dist-packages")


class Emit(Protocol):
    """Takes what a cell sends."""

    def __call__(self, *, cell: int, kind: str, content: dict[str, Any]) -> None:
        """Take the cell's index, the kind of message (``display_data``, ``error`` ...), and its content."""


class Cells(Protocol):
    """Runs one cell after the other, with one namespace."""

    @property
    def session(self) -> int:
        """The id of the session (of processes) in which they run."""

    def settle_in(self, emit: Emit) -> None:
        """Send what the cells show to `emit` from now on."""

    def run(self, index: int, source: str, cell_id: str | None) -> Ended:
        """Run a cell."""


class ZMQInteractiveShell(zmqshell.ZMQInteractiveShell):  # type: ignore[misc]
    """A kernel's shell that needs no event loop of a window system; libraries know a kernel by its class' name."""

    def enable_gui(self, gui: Any = None) -> None:
        """Take note of the loop that was asked for; figures are drawn inline."""
        self.active_eventloop = gui

    def _showtraceback(self, kind: Any, error: Any, lines: list[str]) -> None:
        """Show an error; one by which a notebook ends well is told as a line of text."""
        if not _is_leaving(error):
            super()._showtraceback(kind, error, lines)
        elif isinstance(error, SkipNotebook):
            print(f"Skipped: {error}")  # noqa: T201  # into the cell's output


class ShellCells:
    """Cells of this interpreter, with one namespace and one event loop.

    Making one takes a while, so a warm server has one made before it forks; `settle_in` makes it the process' own.
    """

    def __init__(self) -> None:
        config = Config()
        config.IPKernelApp = Config()  # by which others, tqdm among them, know a kernel
        config.HistoryManager.enabled = False  # its database and its thread are for people who type
        self._wire = _Wire()
        self._kernel = _Kernel.instance(session=self._wire, iopub_socket=object(), config=config)
        self._kernel._forward_input(allow_stdin=False)  # `input()` is refused with a reason: nobody sits there
        self.shell = self._kernel.shell

    def settle_in(self, emit: Emit) -> None:
        """Send what the cells show to `emit` from now on, and take the environment and folder of this process."""
        self._wire.aim(emit)
        self.shell.init_environment()
        offer(self.shell)  # as IPython's startup does in a kernel
        if "" not in sys.path:  # as in a kernel: before what is installed, behind Python's own library
            installed = [place for place, each in enumerate(sys.path) if Path(each).name in _INSTALLED]
            sys.path.insert(min(installed, default=len(sys.path)), "")
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.environment = dict(os.environ)  # before any cell changed it
        self.namespace.setdefault("Secret", str)  # the annotation needs no import
        self.shell.user_ns_hidden["Secret"] = str

    @property
    def session(self) -> int:
        """Give that which the process leads."""
        return os.getpid()

    @property
    def namespace(self) -> dict[str, Any]:
        """The variables of the cells."""
        names: dict[str, Any] = self.shell.user_ns
        return names

    def run(self, index: int, source: str, cell_id: str | None) -> Ended:
        """Run a cell; an interrupt ends it, wherever it arrives."""
        self._kernel.set_parent([], {"header": {"msg_id": str(index)}})
        task = self.loop.create_task(self._executed(source, cell_id))
        try:
            error = self.loop.run_until_complete(task)
        except KeyboardInterrupt as interrupt:  # while the cell awaited something
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
                self.loop.run_until_complete(task)
            error = interrupt
        count = self.shell.execution_count - 1
        return Ended(count) if error is None else _failed(count, error, self.shell._last_traceback or ())

    async def _executed(self, source: str, cell_id: str | None) -> BaseException | None:
        shell = self.shell
        shell._last_traceback, shell._last_traceback_during_displayhook = None, False
        try:
            transformed, failed = shell.transform_cell(source), None
        except Exception as exc:  # noqa: BLE001  # IPython shows it as the cell's error
            transformed, failed = source, (type(exc), exc, exc.__traceback__)
        result = await shell.run_cell_async(
            source, store_history=True, transformed_cell=transformed, preprocessing_exc_tuple=failed, cell_id=cell_id
        )
        shell.events.trigger("post_execute")
        shell.events.trigger("post_run_cell", result)
        error = result.error_before_exec or result.error_in_exec
        if error is None and shell._last_traceback_during_displayhook:
            return RuntimeError("the cell's result could not be shown")
        return error  # type: ignore[no-any-return]


class _NoDebugger:
    """Stands where ipykernel has its debugger: nobody can attach one, and making it takes a third of a second."""

    def __init__(self, *_: Any) -> None: ...


class _Kernel(IPythonKernel):  # type: ignore[misc]
    debugger_class = Type(_NoDebugger)
    shell_class = Type(ZMQInteractiveShell)


class _Wire(Session):
    """Hands over what the kernel sends, in the place of a session over sockets."""

    def __init__(self) -> None:
        super().__init__(key=b"")
        self._emit: Emit | None = None
        self._pid = 0

    def aim(self, emit: Emit) -> None:
        self._emit, self._pid = emit, os.getpid()

    def send(  # type: ignore[override]
        self,
        stream: Any,  # noqa: ARG002
        message: str | Mapping[str, Any],
        content: dict[str, Any] | None = None,
        parent: Mapping[str, Any] | None = None,
        ident: Any = None,  # noqa: ARG002
        buffers: list[Any] | None = None,
        **_: Any,
    ) -> None:
        if self._emit is None or os.getpid() != self._pid:  # a process that a cell forked has no notebook to write to
            return
        kind = message if isinstance(message, str) else str(message["msg_type"])
        if not isinstance(message, str):
            parent, content = message["parent_header"], message["content"]
        if buffers:
            content = {**(content or {}), "buffers": [base64.b64encode(each).decode() for each in buffers]}
        header = (parent or {}).get("header", parent) or {}
        self._emit(cell=int(header.get("msg_id", -1)), kind=kind, content=content or {})


def _failed(count: int, error: BaseException, shown: Sequence[str]) -> Ended:
    ours = error.details() if isinstance(error, NbmlopsError) else None
    return Ended(count, type(error).__name__, str(error), tuple(shown), _line_of(error), _is_leaving(error), ours)


def _line_of(error: BaseException) -> str:
    """Find the line of the cell in which an error was raised, or what raised it was called; none of a cell's magic."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.line or "" for frame in frames if "ipykernel_" in frame.filename), "").strip()


def _is_leaving(error: BaseException) -> bool:
    """Say whether an error is a notebook's own way to end well."""
    return (isinstance(error, SystemExit) and error.code in (None, 0)) or isinstance(error, SkipNotebook)
