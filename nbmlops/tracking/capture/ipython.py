"""The one file that talks to IPython: which cells its kernel has executed, and which notebook they are of."""

import json
import os
import re
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbmlops.scrub import scrub_text
from nbmlops.tracking.capture.source import ALWAYS_SAVED, Cell, Executed, Execution, cells_of

# What a kernel of many days keeps at most; the oldest go first.
MOST_EXECUTIONS = 5_000
MOST_CHARACTERS = 5_000_000
NOTEBOOK = "NBMLOPS_NOTEBOOK"  # the notebook that a headless kernel executes a copy of


class Recorder:
    """Remembers every cell that a shell executes from now on, and those that its history has of before."""

    def __init__(self, shell: Any) -> None:
        self.n_forgotten = 0
        self._shell = shell
        self._kept: deque[Execution] = deque()
        self._characters = 0
        for number, source in enumerate(_history(shell), start=1):
            self._keep(Execution(number, source))
        if self._kept:  # the cell that loads this
            self._kept[-1] = replace(self._kept[-1], status="running", started_at=time.time())
        shell.events.register("pre_run_cell", self.began)
        shell.events.register("post_run_cell", self.ended)

    @property
    def executions(self) -> tuple[Execution, ...]:
        """What was executed, in order; the last may still be running."""
        return tuple(self._kept)

    def began(self, info: Any) -> None:
        """Take note of a cell that begins; it is there also if it never ends."""
        if info.store_history and not info.silent:
            cell_id = re.sub(r"[^\w-]", "", (info.cell_id or "").rpartition("#")[2])  # VS Code's is a URL
            number = self._shell.execution_count - 1  # counted already
            self._keep(Execution(number, info.raw_cell, cell_id, "running", time.time()))

    def ended(self, result: Any) -> None:
        """Take note of how a cell ended."""
        place = next((i for i in range(-1, -len(self._kept) - 1, -1) if self._kept[i].status == "running"), None)
        if place is None or not (result.info and result.info.store_history) or result.info.silent:
            return
        running = self._kept[place]
        error = result.error_before_exec or result.error_in_exec
        self._kept[place] = replace(
            running,
            status="failed" if error else "ok",
            duration_s=round(time.time() - running.started_at, 6),
            error=scrub_text(f"{type(error).__name__}: {error}")[:200] if error else "",
        )

    def forget(self) -> None:
        """Stop listening."""
        self._shell.events.unregister("pre_run_cell", self.began)
        self._shell.events.unregister("post_run_cell", self.ended)

    def _keep(self, execution: Execution) -> None:
        self._kept.append(execution)
        self._characters += len(execution.source)
        while len(self._kept) > 1 and (len(self._kept) > MOST_EXECUTIONS or self._characters > MOST_CHARACTERS):
            self._characters -= len(self._kept.popleft().source)
            self.n_forgotten += 1


_recorders: dict[int, Recorder] = {}


def record(shell: Any) -> Recorder:
    """Record a shell's cells from now on; the same shell again gives the same recorder."""
    if id(shell) not in _recorders:
        _recorders[id(shell)] = Recorder(shell)
    return _recorders[id(shell)]


def stop(shell: Any) -> None:
    """Record a shell's cells no more."""
    if recorder := _recorders.pop(id(shell), None):
        recorder.forget()


def executed() -> Executed:
    """Tell what this process has executed so far: the kernel's cells, or the script it runs."""
    shell = _shell()
    if shell is None:
        return _script()
    recorder = record(shell)
    path = notebook_path(shell)
    cells, saved_at = (None, ALWAYS_SAVED) if os.environ.get(NOTEBOOK) else _saved(path)
    return Executed(path, recorder.executions, cells, saved_at, recorder.n_forgotten)


def source_path() -> str:
    """Find the notebook or script that this process executes; "" where there is none."""
    shell = _shell()
    return notebook_path(shell) if shell else _script_path()


def notebook_path(shell: Any) -> str:
    """Find the notebook that a kernel belongs to; "" in a terminal's IPython, and where no front end tells.

    Our own headless runs name it in the environment, papermill where it was asked to
    (``--inject-paths``), VS Code in the namespace, a Jupyter server in the kernel's environment.
    """
    named = (
        os.environ.get(NOTEBOOK),
        shell.user_ns.get("PAPERMILL_INPUT_PATH"),
        shell.user_ns.get("__vsc_ipynb_file__"),
        os.environ.get("JPY_SESSION_NAME"),
    )
    given = next((name for name in named if isinstance(name, str) and name.endswith(".ipynb")), "")
    beside = Path(given).name  # a server that gives no file's name gives a path below its own folder
    return str(Path(given if Path(given).exists() or not Path(beside).exists() else beside).absolute()) if given else ""


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _script() -> Executed:
    path = _script_path()
    try:
        return Executed(path, (Execution(1, Path(path).read_text(encoding="utf-8")),) if path else ())
    except (OSError, UnicodeDecodeError):
        return Executed(path)


def _script_path() -> str:
    """Find the script that Python was started with; a module of a library, as a test runner is, is none."""
    path = Path(sys.argv[0] or "-").absolute()
    is_ours = Path(__file__).parents[1] in path.parents
    is_tool = path.name == "ipykernel_launcher.py" or "site-packages" in path.parts or is_ours
    return "" if is_tool or path.suffix != ".py" else str(path)


def _saved(path: str) -> tuple[tuple[Cell, ...] | None, float]:
    """Read a notebook's cells as they were last saved, and when; (None, ...) where they cannot be read."""
    try:
        return cells_of(json.loads(Path(path).read_text(encoding="utf-8"))), os.stat(path).st_mtime
    except (OSError, ValueError, AttributeError):
        return None, ALWAYS_SAVED


def _history(shell: Any) -> list[str]:
    """List what a shell executed before; IPython's list has an empty entry first."""
    manager = getattr(shell, "history_manager", None)
    return list(getattr(manager, "input_hist_raw", [""]))[1:]
