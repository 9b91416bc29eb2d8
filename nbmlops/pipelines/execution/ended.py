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
    is_leaving: bool = False
    ours: dict[str, Any] | None = None
