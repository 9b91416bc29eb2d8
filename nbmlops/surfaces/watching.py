"""What goes on, shown for as long as somebody looks: a page that is drawn anew, or a line for each change."""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from nbmlops.scrub import scrub, scrub_text
from nbmlops.strict_json import dumps, plain
from nbmlops.surfaces import show
from nbmlops.verb import Rows, Stream

CLEAR, HOME = "\x1b[2J", "\x1b[H"  # what is drawn later is drawn over it: clearing each time would flicker
REST_OF_LINE, REST_OF_PAGE = "\x1b[K", "\x1b[J"


def watch(stream: Stream, say: Callable[[str], object], *, as_json: bool, on_a_page: bool) -> None:
    """Show in a notebook what goes on, until that is interrupted; what is shown last stays there."""
    with contextlib.suppress(KeyboardInterrupt):
        if as_json or not on_a_page:
            for line in changes(stream, as_json=as_json):
                say(line)
        else:
            _draw(stream)


def _draw(stream: Stream) -> None:
    """Draw each listing in the place of the one before."""
    from IPython.display import display

    listings = iter(stream)
    handle = display(next(listings), display_id=True)
    for rows in listings:
        handle.update(rows)


def pages(stream: Stream) -> Iterator[str]:
    """Draw each listing over the one before, from a terminal's upper left corner, as much as there is room for."""
    for number, rows in enumerate(stream):
        yield page(rows) if number else CLEAR + page(rows)


def page(rows: Rows[Any]) -> str:
    r"""Draw one listing.

    Examples
    --------
    >>> page(Rows()).endswith("Nothing yet.\x1b[K\x1b[J")
    True
    """
    lines = [f"{datetime.now().astimezone():%H:%M:%S}  Ctrl-C ends this", "", *show.text(rows).splitlines()]
    room = shutil.get_terminal_size().lines - 1
    return HOME + "\n".join(line + REST_OF_LINE for line in lines[:room]) + REST_OF_PAGE


def changes(stream: Stream, *, as_json: bool) -> Iterator[str]:
    """Give a line for each row as it is first, and again whenever what it says in one line is another."""
    for row in changed(stream):
        yield dumps(scrub(plain(row))) if as_json else scrub_text(row.headline)


def changed(stream: Iterable[Rows[Any]]) -> Iterator[Any]:
    """Give each row that is new, or says something else than in the look before."""
    before: set[str] = set()
    for rows in stream:
        yield from (row for row in rows if row.headline not in before)
        before = {row.headline for row in rows}
