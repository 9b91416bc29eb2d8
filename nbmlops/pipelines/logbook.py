"""A job's log, read as text, and for the cell that runs."""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nbmlops.pipelines.execution.record import events
from nbmlops.pipelines.notebook import INJECTED, cell_named, shortened, source_of

LOOK_S = 0.2
BLOCK = 1 << 16  # bytes of a log that are read at once, from its end
_CELL = b'\n{"event":"cell",'  # an end of line stands nowhere else in a log
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def lines(path: Path) -> Iterator[str]:
    """Give the lines of a log: a heading for each cell, then what it printed and showed."""
    text = Text()
    for event in events(path):
        yield from text.of(event)
    yield from text.rest()


def follow(path: Path, say: Callable[[str], object], goes_on: Callable[[], bool]) -> None:
    """Say the lines of a log as they come, until the job has ended."""
    text, place, is_last = Text(), 0, False
    while True:
        with path.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                place += len(line)
                for each in text.of(json.loads(line)):
                    say(each)
        if is_last:
            break
        is_last = not goes_on()
        time.sleep(0 if is_last else LOOK_S)
    for each in text.rest():
        say(each)


def running_cell(path: Path, *, was_given: bool) -> str:
    """Name the cell that runs; empty between two cells, and where there is no log on this machine.

    Parameters
    ----------
    path
        The log.
    was_given
        Whether the run was given parameters, for which a cell was put in that the source lacks.
    """
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        cells = json.loads(file.readline())["notebook"]["cells"]
        newest = json.loads(_newest_about_cells(file))
        if newest["status"] == "running":
            return _named(cells, newest["cell"], was_given=was_given)
    return ""


def _newest_about_cells(file: BinaryIO) -> bytes:
    """Give the last line about a cell's beginning or end; it is looked for from the end: a cell may print much."""
    place, behind = file.seek(0, os.SEEK_END), b""
    while place:
        size = min(BLOCK, place)
        place = file.seek(place - size)
        block = file.read(size)
        if (found := (block + behind).rfind(_CELL)) >= 0:
            file.seek(place + found + 1)
            return file.readline()
        behind = block[: len(_CELL)]
    return b""


def _named(cells: list[dict[str, Any]], index: int, *, was_given: bool) -> str:
    return cell_named(*numbered(cells, index, was_given=was_given))


def numbered(cells: list[dict[str, Any]], index: int, *, was_given: bool) -> tuple[int, str]:
    """Give a cell's number in its source, 0 for the one that was put in, and its first line, shortened."""
    ours = [place for place, cell in enumerate(cells) if INJECTED in cell["metadata"].get("tags", ())][:was_given]
    number = 0 if index in ours else index + 1 - sum(place < index for place in ours)
    return number, shortened(_first_line(cells[index]))


class Text:
    """Words events as lines; a printed line goes on over several events."""

    def __init__(self) -> None:
        self._cells: list[dict[str, Any]] = []
        self._open = ""

    def of(self, event: dict[str, Any]) -> Iterator[str]:
        """Give the whole lines that an event ends."""
        kind = event.get("event")
        if kind == "begun":
            self._cells = event["notebook"]["cells"]
        elif kind == "cell":
            yield from self.rest()
            if event["status"] == "running":
                yield f"--- {_first_line(self._cells[event['cell']])}"
        elif kind == "output":
            yield from self._printed(_words(event["kind"], event["content"]))

    def rest(self) -> Iterator[str]:
        """Give the line that has no end yet."""
        if self._open:
            yield self._open
            self._open = ""

    def _printed(self, text: str) -> Iterator[str]:
        *whole, self._open = (self._open + _COLOURS.sub("", text)).split("\n")
        for line in whole:
            yield line.rstrip("\r").rpartition("\r")[2]


def _first_line(cell: dict[str, Any]) -> str:
    return next(iter(source_of(cell).strip().splitlines()), "")


def _words(kind: str, content: dict[str, Any]) -> str:
    """Word what a cell has shown."""
    if kind == "stream":
        return str(content["text"])
    if kind == "error":
        return "\n".join(content["traceback"]) + "\n"
    if kind not in ("display_data", "execute_result"):
        return ""
    data = content["data"]
    text = data.get("text/plain") or f"<{', '.join(data)}>"
    return ("".join(text) if isinstance(text, list) else str(text)) + "\n"
