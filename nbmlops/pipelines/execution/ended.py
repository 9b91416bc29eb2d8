"""How a cell ended."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a cell ended: its prompt's number, and the error if there was one.

    `is_leaving`: the error is a notebook's own way to end well, ``sys.exit(0)`` or `skip`. `ours` holds the details of
    an error of nbmlops' own.
    """

    count: int | None
    ename: str = ""
    reason: str = ""
    traceback: tuple[str, ...] = ()
    line: str = ""  # of the cell's source, in which it was raised
    is_leaving: bool = False
    ours: dict[str, Any] | None = None


class SkipNotebook(Exception):  # noqa: N818  # no error: it ends a notebook well
    """The rest of a notebook is not needed; a headless run that ends so has succeeded."""

    def _render_traceback_(self) -> list[str]:
        """Give IPython one line: running all cells stops here."""
        return [f"Skipped: {self}"]
