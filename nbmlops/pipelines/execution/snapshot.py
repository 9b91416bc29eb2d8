"""Snapshots of a notebook's variables between two cells, from which a run that failed goes on.

One is taken where that is cheap and sure: every variable can be pickled, no MLflow run, task or process is under way,
and no secret is among the values. It is read only when its digest is the one that was told when it was taken.
"""

import ast
import asyncio
import hashlib
import io
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import cloudpickle

from nbmlops import secrets
from nbmlops.errors import ConflictError
from nbmlops.pipelines.execution.shell import ShellCells
from nbmlops.scrub import scrub_text

LARGEST = 512 << 20  # bytes
LEAST_S = 0.25  # that one may always take
SHARE = 0.1  # of the seconds that the cells took since the one before
_MARK = {"__name__": "__main__"}  # stands for the notebook's own namespace
_HISTORY = re.compile(r"_(i|ii|iii|oh|dh|ih|_|__|\d+|i\d+)?$")
_SETTERS = re.compile(  # calls on what was imported that set it, and do no harm the second time
    r"(set_(option|options|printoptions|theme|style|context|palette|config|loglevel|experiment|tracking_uri|registry_uri)"
    r"|autolog|use|filterwarnings|simplefilter|seterr|basicConfig|setlocale)$"
)
_KEPT_ANYWAY = frozenset(("os", "sys"))  # the environment and the path are in the snapshot


class Unfit(Exception):  # noqa: N818  # no error: there is no snapshot here, and why
    """Why no snapshot can be taken here."""


def take(path: Path, cells: ShellCells, seconds: float, references: Mapping[str, str]) -> str:
    """Write the state of the cells' process to a file; give its digest.

    Parameters
    ----------
    path
        The file; the one before stays until this one is whole.
    cells
        The cells that have run.
    seconds
        That they took since the last snapshot: this one may take a tenth of it.
    references
        Variables that hold a secret, with the reference that it came from: only that is kept.

    Raises
    ------
    Unfit
        There is something that a snapshot cannot hold, or it would take too long.
    """
    _look_around(cells)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".snapshot", delete=False) as draft:
        try:
            file = _Budgeted(draft, time.monotonic() + max(LEAST_S, SHARE * seconds))
            _Pickler(file, cells.namespace).dump(_state(cells, references))
            draft.flush()
            os.replace(draft.name, path)
        except BaseException as exc:
            os.unlink(draft.name)
            if isinstance(exc, Unfit | OSError) or not isinstance(exc, Exception):
                raise
            raise Unfit(f"{type(exc).__name__}: {exc}".partition("\n")[0]) from exc
    return file.digest.hexdigest()


def restore(path: Path, digest: str, cells: ShellCells) -> None:
    """Bring the state of a snapshot back into a fresh process.

    Raises
    ------
    ConflictError
        The file is not the one that was written.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ConflictError(f"The snapshot {path} is not the one that was written.", "Run the notebook from its start.")
    os.chdir(_Unpickler(io.BytesIO(content), cells.namespace).load_into(cells))


def settings_in(sources: Sequence[str]) -> str:
    r"""Find the lines that set what is no variable, to be run again: settings of libraries, and magics that load.

    Examples
    --------
    >>> print(settings_in(["%load_ext nbmlops\nimport pandas as pd\npd.set_option('display.width', 80)", "x = f()"]))
    %load_ext nbmlops
    pd.set_option('display.width', 80)
    """
    imported: set[str] = set()
    return "\n".join(line for source in sources for line in _settings(source, imported))


def _settings(source: str, imported: set[str]) -> Iterator[str]:
    yield from re.findall(r"(?m)^%(?:load_ext|matplotlib|config)\b.*$", source)
    try:
        body = ast.parse(re.sub(r"(?m)^\s*[%!?].*$", "", source)).body
    except (SyntaxError, ValueError):
        return
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imported |= {each.asname or each.name.partition(".")[0] for each in statement.names} - _KEPT_ANYWAY
        elif _sets(statement, imported):
            yield ast.unparse(statement)


def _sets(statement: ast.stmt, imported: Set[str]) -> bool:
    """Say whether a statement sets something of what was imported, which is no variable of the notebook."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name) as called)):
            return bool(_SETTERS.match(name)) and _root(called) in imported
        case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
            return bool(_SETTERS.match(name)) and name in imported
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript() as target]):
            return _root(target) in imported
    return False


def _root(place: ast.expr) -> str:
    while isinstance(place, ast.Attribute | ast.Subscript):
        place = place.value
    return place.id if isinstance(place, ast.Name) else ""


# ------------------------------------------------------------------------- writing
def _look_around(cells: ShellCells) -> None:
    """Refuse where something goes on that no file can hold."""
    mlflow = sys.modules.get("mlflow")
    if mlflow and mlflow.active_run():
        raise Unfit("an MLflow run is open")
    if any(not task.done() for task in asyncio.all_tasks(cells.loop)):
        raise Unfit("a task of asyncio is under way")
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing and multiprocessing.active_children():
        raise Unfit("a child process is under way")


def _state(cells: ShellCells, references: Mapping[str, str]) -> dict[str, Any]:
    known = {name: each for name, each in references.items() if cells.namespace.get(name) == secrets.resolved(each)}
    hidden = {*cells.shell.user_ns_hidden, *known}
    names = {name: value for name, value in cells.namespace.items() if name not in hidden and not _HISTORY.match(name)}
    numpy = sys.modules.get("numpy")
    return {
        "names": names,
        "references": known,
        "count": cells.shell.execution_count,
        "folder": os.getcwd(),
        "variables": {name: value for name, value in os.environ.items() if cells.environment.get(name) != value},
        "removed": sorted(cells.environment.keys() - os.environ.keys()),
        "path": list(sys.path),
        "random": random.getstate(),
        "numpy_random": numpy.random.get_state() if numpy else None,
    }


class _Budgeted:
    """A file that refuses what would be too large or too late, or holds a secret."""

    def __init__(self, file: Any, deadline: float) -> None:
        self._file, self._deadline = file, deadline
        self._size, self._last = 0, b""
        self.digest = hashlib.sha256()

    def write(self, piece: Any) -> int:
        piece = bytes(piece)
        self._size += len(piece)
        if self._size > LARGEST:
            raise Unfit(f"the variables hold more than {LARGEST >> 20} MB")
        if time.monotonic() > self._deadline:
            raise Unfit("writing the variables takes too long beside what the cells took")
        if len(piece) < 1 << 16:
            text = (self._last + piece).decode("utf-8", "replace")
            if scrub_text(text) != text:
                raise Unfit("a secret is among the variables")
            self._last = piece[-256:]
        self.digest.update(piece)
        return int(self._file.write(piece))


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Functions of the notebook keep its namespace as theirs, instead of a copy of what they use of it."""

    def __init__(self, file: Any, namespace: Mapping[str, Any]) -> None:
        super().__init__(file)
        self.globals_ref[id(namespace)] = _MARK

    def persistent_id(self, value: Any) -> str | None:
        if isinstance(value, io.IOBase):
            raise Unfit("a file is open")  # cloudpickle would read it and keep its content
        return "namespace" if value is _MARK else None


# ------------------------------------------------------------------------- reading
class _Unpickler(cloudpickle.pickle.Unpickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, namespace: dict[str, Any]) -> None:
        super().__init__(file)
        self._namespace = namespace

    def persistent_load(self, _: str) -> dict[str, Any]:
        return self._namespace

    def load_into(self, cells: ShellCells) -> str:
        """Load all; give the working folder."""
        state = self.load()
        self._namespace.update(state["names"])
        self._namespace.update({name: secrets.resolved(each) for name, each in state["references"].items()})
        cells.shell.execution_count = state["count"]
        os.environ.update(state["variables"])
        for name in state["removed"]:
            os.environ.pop(name, None)
        sys.path[:] = state["path"]
        random.setstate(state["random"])
        if state["numpy_random"] is not None:
            import numpy as np

            np.random.set_state(state["numpy_random"])
        return str(state["folder"])
