"""What a cell sends without the secrets in it, also where one arrives in two pieces."""

from collections.abc import Iterator
from typing import Any

from nbmlops.scrub import scrub_text

HELD = 4096  # characters of a line without an end that are held back, for a secret may go on in the next piece
LONGEST = 1 << 20  # characters that are ever held back
STEP = 61  # characters between two places at which a long line may be cut
Event = dict[str, Any]


class Masked:
    """Masks events; printed text goes on by whole lines, the rest of it before the next event."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Event, str]] = {}

    def of(self, event: Event) -> Iterator[Event]:
        """Give what of an event, and of those before it, may go on."""
        if event["event"] == "output" and event["kind"] == "stream":
            yield from self._printed(event)
            return
        for held, text in self._held.values():
            yield _with(held, scrub_text(text))
        self._held.clear()
        yield scrubbed(event)

    def _printed(self, event: Event) -> Iterator[Event]:
        name, text = event["content"]["name"], event["content"]["text"]
        if name in self._held:
            text = self._held.pop(name)[1] + text
        place = _cut(text)
        if place:
            yield _with(event, scrub_text(text[:place]))
        if text[place:]:
            self._held[name] = (event, text[place:])


def _cut(text: str) -> int:
    """Find how much of a text may go on: its whole lines, or of one that has no end what ends with no secret begun."""
    place = text.rfind("\n") + 1
    key = text.rfind("-----BEGIN ", 0, place)  # of a private key, the one kind of secret that has several lines
    if key >= 0 and "PRIVATE KEY" in text[key : key + 60] and "-----END " not in text[key:] and len(text) < LONGEST:
        return key
    if len(text) - place <= HELD:
        return place
    whole = scrub_text(text)
    for cut in range(len(text) - HELD, max(place, len(text) - 2 * HELD), -STEP):
        if scrub_text(text[:cut]) + scrub_text(text[cut:]) == whole:
            return cut
    return place if len(text) - place <= LONGEST else len(text)


def scrubbed(value: Any) -> Any:
    """Mask the texts in a value of JSON; pictures and the like hold none.

    Examples
    --------
    >>> scrubbed({"text": "postgresql://ops:hunter2@db/ledger", "n": 1})
    {'text': 'postgresql://ops:***@db/ledger', 'n': 1}
    """
    if isinstance(value, str):
        return scrub_text(value)
    if isinstance(value, list):
        return [scrubbed(each) for each in value]
    if isinstance(value, dict):
        return {scrub_text(key): each if _is_binary(key) else scrubbed(each) for key, each in value.items()}
    return value


def _is_binary(key: str) -> bool:
    return (key.startswith(("image/", "audio/", "video/")) and key != "image/svg+xml") or key == "buffers"


def _with(event: Event, text: str) -> Event:
    return {**event, "content": {**event["content"], "text": text}}
