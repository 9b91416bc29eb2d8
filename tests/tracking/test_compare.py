"""What differs between runs: pure, checked against its definition."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import NotFoundError, UsageError
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.comparison import compare_runs
from nbmlops.tracking.mlflow import Tracking
from nbmlops.tracking.runs import Run

words = st.sampled_from(["auc", "depth", "status", "commit", "loss"])
runs = st.builds(
    Run,
    run_id=st.text("abcdef", min_size=1, max_size=4),
    name=words,
    status=st.sampled_from(["FINISHED", "FAILED"]),
    started_at=st.none(),
    duration_s=st.none(),
    metrics=st.dictionaries(words, st.floats()),
    params=st.dictionaries(words, words),
    tags=st.dictionaries(words, words),
    source=words,
    commit=words,
    is_dirty=st.sampled_from([None, True]),
    data=st.dictionaries(words, words),
    environment=st.sampled_from(["", "9f86d081884c"]),
)


def table(run: Run) -> dict[tuple[str, str], Any]:
    """Everything that is compared of a run."""
    commit = f"{run.commit[:8]}, dirty" if run.is_dirty else run.commit[:8]
    kinds = {
        "metric": run.metrics,
        "param": run.params,
        "tag": run.tags,
        "data": run.data,
        "code": {"source": run.source, "commit": commit},
        "environment": {"lock": run.environment} if run.environment else {},
        "fact": {"status": run.status},
    }
    return {(kind, name): value for kind, values in kinds.items() for name, value in values.items()}


def same(a: Any, b: Any) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


@given(runs)
def test_a_run_does_not_differ_from_itself(run: Run) -> None:
    found = compare_runs([run, run])
    assert found.differences == ()
    assert found.equal == len(table(run))


@given(st.lists(runs, min_size=2, max_size=4))
def test_exactly_what_differs_is_listed_with_every_runs_value(several: list[Run]) -> None:
    tables = [table(run) for run in several]
    differing = {
        key: values
        for key in set().union(*tables)
        for values in [[each.get(key) for each in tables]]
        if not all(same(value, values[0]) for value in values)
    }
    found = compare_runs(several)
    assert {(row.kind, row.name) for row in found.differences} == set(differing)
    for row in found.differences:
        assert all(same(a, b) for a, b in zip(row.values, differing[row.kind, row.name], strict=True))
    assert found.equal == len(set().union(*tables)) - len(differing)


@given(runs, runs)
def test_the_other_way_round_values_are_reversed_and_gaps_negated(one: Run, other: Run) -> None:
    there = {(row.kind, row.name): row for row in compare_runs([one, other]).differences}
    back = {(row.kind, row.name): row for row in compare_runs([other, one]).differences}
    assert there.keys() == back.keys()
    for key, row in there.items():
        assert all(same(a, b) for a, b in zip(row.values, reversed(back[key].values), strict=True))
        gap, reverse = row.gap, back[key].gap
        assert (gap is None) == (reverse is None)
        assert gap is None or reverse is None or same(gap, -reverse)


@given(runs, runs)
def test_a_gap_is_last_minus_first_for_metrics_that_both_runs_have_and_for_nothing_else(one: Run, other: Run) -> None:
    for row in compare_runs([one, other]).differences:
        if row.kind == "metric" and None not in row.values:
            assert row.gap is not None
            assert same(row.gap, row.values[1] - row.values[0])
        else:
            assert row.gap is None


def test_metrics_come_first_the_widest_relative_gap_before_the_others() -> None:
    one = Run("1", "a", "FINISHED", None, None, {"small": 100.0, "wide": 1.0, "gone": 1.0}, {"depth": "3"})
    other = Run("2", "b", "FAILED", None, None, {"small": 101.0, "wide": 2.0}, {"depth": "4"}, {"owner": "ann"})
    rows = compare_runs([one, other]).differences
    assert [row.name for row in rows] == ["gone", "wide", "small", "depth", "owner", "status"]
    assert compare_runs([one, other]).headline == "a → b: 6 differ, 0 are equal"


def test_a_tag_called_like_a_fact_hides_nothing() -> None:
    one = Run("1", "a", "FINISHED", None, None, tags={"status": "same"})
    other = Run("2", "b", "FAILED", None, None, tags={"status": "same"})
    assert [(row.kind, row.values) for row in compare_runs([one, other]).differences] == [
        ("fact", ("FINISHED", "FAILED"))
    ]


def test_compare_needs_two_runs(ops: Operations) -> None:
    with pytest.raises(NotFoundError, match="compare needs two finished runs, and there are 0"):
        ops.compare()
    ops.track("alone")
    ops.end()
    with pytest.raises(UsageError, match="two runs or more"):
        ops.compare(["alone"])


def test_bare_compare_takes_the_last_two_that_finished_the_older_first(ops: Operations) -> None:
    for auc, status in ((0.5, "FINISHED"), (0.6, "FINISHED"), (0.75, "FINISHED"), (0.9, "FAILED")):
        ops.track(f"auc {auc}")
        ops.log({"auc": auc})
        ops.end(status=status)
    found = ops.compare()
    assert found.names == ("auc 0.6", "auc 0.75")
    assert [(row.name, round(row.gap, 9)) for row in found.differences] == [("auc", 0.15)]


def test_code_data_and_environment_are_told_apart() -> None:
    one = Run("1", "a", "FINISHED", None, None, commit="6dbf956e00", is_dirty=False, data={"flights": "9f86"})
    other = replace(one, run_id="2", is_dirty=True, data={"flights": "60bf"}, environment="abcd", code="1234")
    found = [(row.kind, row.name, row.values) for row in compare_runs([one, other]).differences]
    assert found == [
        ("data", "flights", ("9f86", "60bf")),
        ("code", "commit", ("6dbf956e, clean", "6dbf956e, dirty")),
        ("code", "executed", (None, "1234")),
        ("environment", "lock", (None, "abcd")),
    ]


def tracked(ops: Operations, name: str, auc: float) -> Run:
    ops.track(name)
    ops.log({"auc": auc})
    return ops.end()


def test_a_run_is_compared_with_the_run_of_an_alias(ops: Operations) -> None:
    old, new = tracked(ops, "old", 0.7), tracked(ops, "new", 0.8)
    client = ops.project.open(Tracking).client
    for name, run in (("delays", old), ("prices", new)):
        client.create_registered_model(name)
        client.create_model_version(name, "file:///nowhere", run.run_id)
    client.set_registered_model_alias("delays", "champion", "1")
    for found in (ops.compare(against="champion"), ops.compare(["new"], against="delays@champion")):
        assert found.names == ("old", "new")
        assert [round(row.gap, 9) for row in found.differences] == [0.1]
    client.set_registered_model_alias("prices", "champion", "1")
    assert ops.compare(["old"], against="champion").names == ("old", "old"), "its own model's"
    third = tracked(ops, "third", 0.9)
    with pytest.raises(UsageError, match="2 models have a champion"):
        ops.compare(["third"], against="champion")
    assert ops.compare([third.run_id[:10]], against="new").names == ("new", "third")
    with pytest.raises(NotFoundError, match="no run 'challenger'"):
        ops.compare(against="challenger")


def test_against_needs_a_run_that_finished(ops: Operations) -> None:
    with pytest.raises(NotFoundError, match="There is no finished run"):
        ops.compare(against="champion")
