"""What a cell sends, as much of it as is kept: one that prints for ever must not fill the disk."""

from collections.abc import Iterator
from typing import Any

MOST_BYTES = 100_000_000  # of one cell's outputs, counted in characters
NOTICE = "\n[nbmlops: this cell printed or showed more than {:,} MB; what followed was left out]\n"
Event = dict[str, Any]


class Bounded:
    r"""Lets events pass until a cell has sent too much, says so in its place, and leaves out the rest but its error.

    Examples
    --------
    >>> bounded = Bounded(5)
    >>> events = ({"event": "output", "cell": 0, "kind": "stream", "content": {"name": "stdout", "text": each}}
    ...           for each in ("one\n", "two\n", "three\n"))
    >>> [told["content"]["text"][:12] for event in events for told in bounded.of(event)]
    ['one\n', 't', '\n[nbmlops: t']
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = MOST_BYTES if most is None else most
        self._cell: int | None = None
        self._left = self._most  # below 0 once the notice stands there

    def of(self, event: Event) -> Iterator[Event]:
        """Give what of an event is kept."""
        if event["event"] != "output" or event["kind"] == "error":
            yield event
            return
        if event["cell"] != self._cell:
            self._cell, self._left = event["cell"], self._most
        size = _size(event["content"].get("text") or event["content"])
        if size <= self._left:
            self._left -= size
            yield event
        elif self._left >= 0:
            yield from self._last(event)

    def _last(self, event: Event) -> Iterator[Event]:
        if event["kind"] == "stream":
            yield {**event, "content": {**event["content"], "text": event["content"]["text"][: self._left]}}
        self._left = -1
        text = NOTICE.format(self._most // 1_000_000)
        yield {**event, "kind": "stream", "content": {"name": "stderr", "text": text}}


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else len(str(value))
