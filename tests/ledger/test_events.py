"""The chain as pure mathematics: any change to any event breaks it, and is found where it happened."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nbmlops.ledger.events import GENESIS, Anchor, Event, first_break

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
LENGTHS = st.integers(1, 12)


def chain(n: int, result: Any = None) -> list[Event]:
    events: list[Event] = []
    for seq in range(1, n + 1):
        event = Event(
            seq=seq,
            at=datetime(2013, 1, 1, 12, 0, seq, tzinfo=UTC),
            verb="promote",
            subject=f"model/delays/{seq}",
            actor="ops",
            surface="cli",
            by_human=False,
            outcome="ok",
            arguments={},
            result=result,
            seconds=0.5,
            previous_hash=events[-1].hash if events else GENESIS,
            hash="",
        )
        events.append(dataclasses.replace(event, hash=event.expected_hash()))
    return events


@given(LENGTHS, JSON)
def test_an_untouched_chain_is_sound(n: int, result: Any) -> None:
    events = chain(n, result)
    assert first_break(events) is None
    assert first_break(events, Anchor(n, events[-1].hash)) is None


@given(st.data(), LENGTHS)
def test_an_edit_of_any_field_is_found_at_its_event(data: st.DataObject, n: int) -> None:
    events = chain(n)
    place = data.draw(st.integers(0, n - 1))
    edits = {"verb": "deploy", "actor": "eve", "outcome": "GateError", "by_human": True, "result": 1, "seconds": 0.6}
    field = data.draw(st.sampled_from(sorted(edits)))
    events[place] = dataclasses.replace(events[place], **{field: edits[field]})
    assert first_break(events) == (place + 1, f"event {place + 1} was edited after it was written")


@given(st.data(), LENGTHS)
def test_an_edit_with_its_hash_made_anew_breaks_the_next_link(data: st.DataObject, n: int) -> None:
    events = chain(n + 1)
    place = data.draw(st.integers(0, n - 1))
    forged = dataclasses.replace(events[place], outcome="forged")
    events[place] = dataclasses.replace(forged, hash=forged.expected_hash())
    assert first_break(events) == (place + 2, f"event {place + 2} does not follow the event before it")


@given(st.data(), LENGTHS)
def test_a_history_rewritten_to_its_end_contradicts_the_anchor(data: st.DataObject, n: int) -> None:
    anchored = data.draw(st.integers(1, n))
    anchor = Anchor(anchored, chain(n)[anchored - 1].hash)
    broken = first_break(chain(n, result="rewritten"), anchor)
    assert broken == (anchored, f"event {anchored} is not the one that was written here")


@given(st.data(), LENGTHS)
def test_a_deletion_is_found_where_it_happened(data: st.DataObject, n: int) -> None:
    events = chain(n)
    place = data.draw(st.integers(0, n - 1))
    del events[place]
    broken = first_break(events, Anchor(n, chain(n)[-1].hash))
    assert broken is not None
    assert broken[0] == place + 1
    assert "missing" in broken[1]


@given(st.data(), st.integers(2, 12))
def test_a_swap_is_found_at_the_first_of_the_two(data: st.DataObject, n: int) -> None:
    events = chain(n)
    a, b = sorted(data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2, unique=True)))
    events[a], events[b] = events[b], events[a]
    broken = first_break(events)
    assert broken is not None
    assert broken[0] == a + 1
