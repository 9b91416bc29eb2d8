"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

import re
import shutil
import sys

_STEP = re.compile(r"\w+ (\d+)/(\d+)  ")  # as the lines of cells and steps begin
WIDTH = 24  # characters of the bar
_CLEAR = "\r\x1b[K"


def say(line: str) -> None:
    """Say a line; on a terminal a step's line is drawn over the one before, behind a bar."""
    if not sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)
        return
    step = _STEP.match(line)
    text = bar(line, int(step[1]), int(step[2])) if step else line
    ends = "" if step and step[1] != step[2] else "\n"
    print(f"{_CLEAR}{text}", end=ends, file=sys.stderr, flush=True)


def bar(line: str, done: int, total: int, columns: int | None = None) -> str:
    """Draw a bar and as much of the line as there is room for.

    Examples
    --------
    >>> bar("cell 3/4  model.fit(X, y)  1.2 s", 3, 4, columns=60)
    '[##################------] cell 3/4  model.fit(X, y)  1.2 s'
    """
    full = round(WIDTH * done / max(total, 1))
    text = f"[{'#' * full}{'-' * (WIDTH - full)}] {line}"
    return text[: (columns or shutil.get_terminal_size().columns) - 1]
