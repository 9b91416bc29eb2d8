"""The tracked cell, ``%%mlops track NAME``: its code is the notebook's own, in a run that ends as the cell does.

The cell's first line becomes a call that begins the run, before IPython compiles the cell: so ``await``, the
display of the last expression, magics and tracebacks are IPython's, and a cell with a syntax error begins no run.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nbmlops.errors import NbmlopsError

BEGIN = "mlops_cell"  # the magic that the first line becomes
_FIRST = re.compile(r"%%mlops\s+(?P<words>\S.*)")
_NOT_RUN = re.compile(r"(^|\s)(--help|-h|--show-code|--)(\s|$)")  # these tell, or run something else


def with_run(lines: list[str]) -> list[str]:
    r"""Rewrite a tracked cell so that its first line begins the run; any other cell stays as it is.

    Examples
    --------
    >>> with_run(["%%mlops track baseline -p a=1\n", "fit(X)\n"])
    ["get_ipython().run_line_magic('mlops_cell', 'track baseline -p a=1')\n", 'fit(X)\n']
    >>> with_run(["%%time\n", "fit(X)\n"])
    ['%%time\n', 'fit(X)\n']
    """
    first = _FIRST.match(lines[0]) if lines else None
    if first is None or not _tracks(first["words"]):
        return lines
    return [f"get_ipython().run_line_magic({BEGIN!r}, {first['words'].strip()!r})\n", *lines[1:]]


def _tracks(words: str) -> bool:
    """Say whether a line's verb is `track`, and whether it is about the cell below."""
    from nbmlops.surfaces.call import split

    try:
        return split(words.split())[1] == "track" and not _NOT_RUN.search(words)
    except NbmlopsError:  # the magic itself tells what is wrong
        return False


@dataclass
class Open:
    """A tracked cell that is being executed, how deep in cells that execute cells, and what ends it."""

    depth: int
    end: Callable[[BaseException | None], None]


class TrackedCells:
    """Follows a shell's cells, and ends each tracked one's run with it."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._depth = 1  # the cell that loads this
        self._open: list[Open] = []
        shell.input_transformers_cleanup.append(with_run)
        shell.events.register("pre_run_cell", self._began)
        shell.events.register("post_run_cell", self._ended)

    def begin(self, end: Callable[[BaseException | None], None]) -> None:
        """Take note that the cell which is being executed is tracked; `end` is told the error that ended it, if any."""
        self._open.append(Open(self._depth, end))

    def leave(self) -> None:
        """Follow no more."""
        self._shell.input_transformers_cleanup.remove(with_run)
        for event, follower in self._followers():
            self._shell.events.unregister(event, follower)

    def _followers(self) -> Sequence[tuple[str, Any]]:
        return (("pre_run_cell", self._began), ("post_run_cell", self._ended))

    def _began(self, _: Any) -> None:
        self._depth += 1

    def _ended(self, result: Any) -> None:
        depth, self._depth = self._depth, max(0, self._depth - 1)
        while self._open and self._open[-1].depth >= depth:
            self._open.pop().end(result.error_in_exec or result.error_before_exec)
