"""The process in which a notebook's cells run: ``python -m nbmlops.pipelines.execution.worker CONTROL ORDERS``.

It reads from the control socket what to import beforehand, then one job, a line of JSON each, and answers with events,
a line each: for every cell ``cell`` as it begins and ends, and ``output`` for what it shows; last ``end``. What is
printed goes to the pipes that are its standard streams, whoever prints it; all of it is there before the next event.
"""

import contextlib
import functools
import gc
import importlib
import io
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from nbmlops.pipelines.execution import guard
from nbmlops.pipelines.execution.ended import Ended

if TYPE_CHECKING:
    from nbmlops.pipelines.execution.shell import Cells, ShellCells


INLINE = "module://matplotlib_inline.backend_inline"  # what a kernel draws figures with
_GARBAGE = gc.get_threshold()  # Python's own; a command, of which this may be a fork, has another
ready: "list[ShellCells]" = []  # a shell that a warm server has made before it forked this process


def main(words: list[str]) -> None:
    """Split off the guard, and run the cells of the job that comes."""
    begin(socket.socket(fileno=int(words[0])), int(words[1]))


def begin(control: socket.socket, orders: int) -> NoReturn:
    """Run the cells in a guarded process; nothing returns from here."""
    guard.stand(control, orders)
    gc.set_threshold(*_GARBAGE)
    code = 1
    try:
        own_streams()
        code = _serve(control)
    except SystemExit as exc:  # a kernel of its own ended with this code
        code = exc.code if isinstance(exc.code, int) else 1
    finally:
        leave(code, functools.partial(_tell_end, control))


def _tell_end(control: socket.socket, code: int) -> None:
    """Say how this process ends, a moment before it does: that its memory is given back takes a while."""
    control.sendall(json.dumps({"event": "gone", "code": code}).encode() + b"\n")


def _serve(control: socket.socket) -> int:
    gc.disable()  # what is imported stays: to look for garbage meanwhile takes a fifth of the time, and finds none
    import nbmlops.pipelines.execution.shell  # noqa: F401  # a second, in which the runner opens its stores

    with control.makefile("rb") as lines:
        job = json.loads(lines.readline() or b"{}")
        if "preload" in job:
            _preload(job["preload"])
            job = json.loads(lines.readline() or b"{}")
    gc.enable()
    if not job:  # the runner thought better of it, or is gone
        return 1
    _settle_in(job)
    send = _Wire(control).send
    send(event="session", id=os.getpid())
    cells = _cells(job["kernel"])
    if cells.session != os.getpid():
        send(event="session", id=cells.session)
    cells.settle_in(functools.partial(send, event="output"))
    keep = _keeper(cells, job["snapshot"], send)
    if told := _restored(cells, job["snapshot"]):
        send(event="end", **told)
        return 1
    with _profiled(job["profile"]):
        end = _executed(cells, job["cells"], send, keep)
    send(event="end", **end)
    return 0


@contextlib.contextmanager
def _profiled(folder: str) -> Iterator[None]:
    """Profile what runs meanwhile, where a folder is named: figures for tools, and a text of the costliest calls."""
    if not folder:
        yield
        return
    import cProfile
    import pstats

    with cProfile.Profile() as profile:
        yield
    profile.dump_stats(f"{folder}/profile.pstats")
    with open(f"{folder}/profile.txt", "w", encoding="utf-8") as text:
        pstats.Stats(profile, stream=text).strip_dirs().sort_stats("cumulative").print_stats(40)


def _cells(kernel_name: str) -> "Cells":
    if kernel_name:
        from nbmlops.pipelines.execution.kernel import KernelCells

        return KernelCells(kernel_name)
    from nbmlops.pipelines.execution.shell import ShellCells

    return ready.pop() if ready else ShellCells()


def _preload(names: list[str]) -> None:
    """Import what the notebook will, with a shell at hand as there will be then, while the runner opens its stores."""
    from nbmlops.pipelines.execution.shell import ShellCells

    if not ready:
        os.environ.setdefault("MPLBACKEND", INLINE)
        ready.append(ShellCells())
        with ready[0].shell.builtin_trap:  # which gives `get_ipython`, by which a library knows where it is
            for name in names:
                with contextlib.suppress(Exception):  # the cell that imports it will say what is wrong
                    importlib.import_module(name)
    else:
        from nbmlops.pipelines.warm import rehearsal

        rehearsal.repeat(ready[0].shell, names)


class _Wire:
    """Sends events, one at a time.

    The runner acknowledges each when it has read all that was printed before: so prints and displays keep their order.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._turn = threading.Lock()
        self._owed = 0  # acknowledgements

    def send(self, **event: Any) -> None:
        line = json.dumps(event, default=repr).encode() + b"\n"
        with self._turn, _without_interrupts():
            _flush()
            self._control.sendall(line)
            self._owed += 1
            while self._owed and (told := self._control.recv(self._owed)):
                self._owed -= len(told)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let no interrupt tear a line."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _restored(cells: "Cells", wanted: dict[str, Any]) -> dict[str, Any]:
    """Bring back the variables of a snapshot, where the job goes on from one; say what is in the way of it."""
    if "digest" not in wanted:
        return {}
    from nbmlops.pipelines.execution import snapshot

    try:
        snapshot.restore(Path(wanted["path"]), wanted["digest"], cast("ShellCells", cells))
    except Exception as exc:  # noqa: BLE001  # the runner tells of it
        return {"status": "unrestored", "reason": f"{type(exc).__name__}: {exc}"}
    if settings := snapshot.settings_in(wanted["sources"]):
        shell = cast("ShellCells", cells).shell
        count = shell.execution_count
        ended = cells.run(-1, settings, None)
        shell.execution_count = count
        if ended.ename:
            return {"status": "unrestored", "reason": f"{ended.ename}: {ended.reason}, where it was set up again"}
    return {}


def _keeper(cells: "Cells", wanted: dict[str, Any], send: Any) -> Callable[[int], None]:
    """Make what takes a snapshot after a cell that went well, where the runner wants any."""
    if "keep" not in wanted or not hasattr(cells, "namespace"):
        return lambda _: None
    from nbmlops.pipelines.execution import snapshot

    since, shell_cells = time.monotonic(), cast("ShellCells", cells)

    def keep(index: int) -> None:
        nonlocal since
        try:
            seconds = time.monotonic() - since
            digest = snapshot.take(Path(wanted["keep"]), shell_cells, seconds, wanted["references"])
        except snapshot.Unfit as exc:
            send(event="unkept", cell=index, reason=str(exc))
        except OSError as exc:  # the disk may be full: nothing that the notebook has to do with
            send(event="unkept", cell=index, reason=exc.strerror or str(exc))
        else:
            send(event="snapshot", cell=index, digest=digest)
            since = time.monotonic()

    return keep


def _executed(cells: "Cells", wanted: list[dict[str, Any]], send: Any, keep: Callable[[int], None]) -> dict[str, Any]:
    """Run the cells in their order, up to the first that fails or says that it is the last."""
    own = os.getpid()
    for cell in wanted:
        index, began = cell["index"], time.monotonic()
        send(event="cell", cell=index, status="running", at=time.time())
        is_blank = not cell["source"].strip()  # front ends send no such cell, and it has no number
        ended = Ended(None) if is_blank else cells.run(index, cell["source"], cell["id"])
        if os.getpid() != own:  # a process that the cell has forked, and forgotten to end
            _flush()
            os._exit(0)
        status = _status(ended, is_allowed=cell["may_fail"])
        figures = {"seconds": time.monotonic() - began, "memory_bytes": _peak_bytes(), "at": time.time()}
        send(event="cell", cell=index, status=status, count=ended.count, **figures)
        if status == "failed" or ended.is_leaving:
            return _last(index, ended, status)
        if cell is not wanted[-1]:
            keep(index)
    return {"status": "ok"}


def _status(ended: Ended, *, is_allowed: bool) -> str:
    if not ended.ename or ended.is_leaving:
        return "ok"
    return "kept" if is_allowed and ended.ename not in ("KeyboardInterrupt", "SystemExit") else "failed"


def _last(index: int, ended: Ended, status: str) -> dict[str, Any]:
    """Tell the runner why no further cell runs."""
    status = "left" if status == "ok" else "failed"
    told = {"status": status, "cell": index, "count": ended.count, "traceback": list(ended.traceback)}
    return told | {"ename": ended.ename, "line": ended.line, "reason": ended.reason, "ours": ended.ours}


def _settle_in(job: dict[str, Any]) -> None:
    """Make this process the one that a kernel in the notebook's folder would be."""
    os.environ.pop("MLFLOW_RUN_ID", None)  # of a run above: a run of the notebook's own is meant
    os.environ.update(job["environment"])
    os.environ.setdefault("MPLBACKEND", INLINE)
    os.chdir(job["folder"])
    sys.argv[:] = [""]
    sys.path[:] = [each for each in sys.path if each]  # the shell puts the working folder in front


def own_streams() -> None:
    """Let Python's streams be the pipes, so that everybody's lines come in the order in which they were written."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        raw = io.FileIO(fd, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def leave(code: int, tell: Callable[[int], object]) -> NoReturn:
    """End as a kernel does: exit hooks run, other threads are not waited for; what waits for the code is told it."""
    import atexit

    if error := sys.exception():
        sys.excepthook(type(error), error, error.__traceback__)
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    _flush()
    with contextlib.suppress(OSError):
        tell(code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
