"""The event and its hash chain: pure, no database.

Each event carries the hash of the one before, so an edit, a deletion or a
reordering breaks the chain at the first bad event.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

GENESIS = "0" * 64
MAX_SUBJECT = 300  # characters


@dataclass(frozen=True)
class Draft:
    """What a verb call leaves, before the ledger gives it a place in the chain."""

    verb: str
    subject: str
    surface: str
    by_human: bool
    outcome: str
    arguments: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Event:
    """One call of a verb, as the ledger keeps it for ever."""

    seq: int
    at: datetime
    verb: str
    subject: str
    actor: str
    surface: str
    by_human: bool
    outcome: str
    arguments: dict[str, Any]
    result: Any
    seconds: float
    previous_hash: str
    hash: str

    def expected_hash(self) -> str:
        """Recompute SHA-256 over every field but the hash itself, as canonical JSON."""
        fields = {name: value for name, value in vars(self).items() if name != "hash"}
        fields["at"] = self.at.isoformat()
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Anchor:
    """A place of the chain remembered outside the database, so that a cut tail shows."""

    seq: int
    hash: str


def first_break(events: Iterable[Event], anchor: Anchor | None = None) -> tuple[int, str] | None:
    """Find the first event at which the chain is broken.

    Parameters
    ----------
    events
        The whole ledger, oldest first.
    anchor
        A past head; the event in its place must still be there, unchanged.

    Returns
    -------
    tuple of (int, str) or None
        The number of the first bad event and what is wrong with it; None for a sound chain.

    Notes
    -----
    One pass, O(n) hashes.
    """
    previous, seq = GENESIS, 0
    for event in events:
        seq += 1
        if event.seq != seq:
            return seq, f"event {seq} is missing: event {event.seq} stands in its place"
        if event.previous_hash != previous:
            return seq, f"event {seq} does not follow the event before it"
        if event.hash != event.expected_hash():
            return seq, f"event {seq} was edited after it was written"
        if anchor and anchor.seq == seq and anchor.hash != event.hash:
            return seq, f"event {seq} is not the one that was written here"
        previous = event.hash
    if anchor and anchor.seq > seq:
        return seq + 1, f"event {seq + 1} is missing: the ledger once held {anchor.seq} events"
    return None
