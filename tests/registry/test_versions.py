from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import UsageError
from nbmlops.ledger.events import Event
from nbmlops.registry.versions import AliasStack, Reference, alias_stack, parse_reference, version_before


def event(verb: str, version: str, previous: str, alias: str = "champion", outcome: str = "ok") -> Event:
    result = {"name": "delays", "alias": alias, "version": version, "previous": previous}
    at = datetime(2013, 1, 1, tzinfo=UTC)
    return Event(1, at, verb, f"model/delays/{version}", "ana", "cli", True, outcome, {}, result, 0.1, "", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("delays/12", Reference("delays", "12", "")),
        ("delays@shadow", Reference("delays", "", "shadow")),
        ("delays", Reference("delays", "", "champion")),
        ("models:/delays/2", Reference("delays", "2", "")),
    ],
)
def test_reference_is_read(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize("text", ["", "delays/", "delays/x", "delays@", "delays@a/1", "a/1/2", "de'lays", "@champion"])
def test_what_is_no_reference_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="delays/3"):
        parse_reference(text)


def test_rollback_repeated_goes_further_back() -> None:
    events = [event("promote", "1", ""), event("promote", "2", "1"), event("promote", "3", "2")]
    existing = {"1", "2", "3"}
    current = "3"
    seen = []
    while before := version_before(alias_stack(events, "delays", "champion"), current, existing):
        events.append(event("rollback", before, current))
        current = before
        seen.append(before)
    assert seen == ["2", "1"]


def test_what_was_rolled_back_is_forgotten_by_the_next_promotion() -> None:
    events = [event("promote", "1", ""), event("promote", "2", "1"), event("rollback", "1", "2")]
    events.append(event("promote", "3", "1"))
    assert alias_stack(events, "delays", "champion") == ["1", "3"]


def test_alias_set_outside_nbmlops_is_remembered_at_the_next_promotion() -> None:
    assert alias_stack([event("promote", "2", "7")], "delays", "champion") == ["7", "2"]


def test_other_aliases_and_refused_promotions_do_not_count() -> None:
    events = [event("promote", "1", ""), event("promote", "2", "", alias="shadow")]
    events.append(event("promote", "3", "1", outcome="GateError"))
    assert alias_stack(events, "delays", "champion") == ["1"]


def test_rollback_passes_over_versions_that_were_deleted() -> None:
    assert version_before(["1", "2", "3"], "3", {"1", "3"}) == "1"


@given(st.lists(st.sampled_from("123"), min_size=1))
def test_stack_never_holds_the_same_version_twice_in_a_row(moves: list[str]) -> None:
    stack = AliasStack()
    current = ""
    for version in moves:
        stack.push(current, version)
        current = version
    assert all(a != b for a, b in zip(stack.versions, stack.versions[1:], strict=False))
    assert stack.versions[-1] == moves[-1]
