"""What a run would do and why: keys, verdicts, reasons, selections, matrices, conditions."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import UsageError
from nbmlops.pipelines.flow.checks import checked
from nbmlops.pipelines.flow.declared import Pick, Pipeline, Step
from nbmlops.pipelines.flow.ingredients import Ingredients, Known, Published, differences
from nbmlops.pipelines.flow.instances import instances_of, picked
from nbmlops.pipelines.flow.plan import PlannedStep, Planning, Selection, context, finished, left_out, planned
from nbmlops.pipelines.flow.sources import Part, Source
from tests.pipelines.flow.conftest import LOOP, WriteProject, notebook

DUE = datetime(2013, 2, 1, 7, 30, tzinfo=UTC)


def function(name: str, *needs: str, **keys: Any) -> Step:
    return Step(name, "function", f"steps:{name}", needs, **keys)


def planning(*steps: Step, **keys: Any) -> Planning:
    pipeline = Pipeline("p", steps)
    return Planning(pipeline, keys.pop("sources", {}), context=context(pipeline, DUE), **keys)


def verdicts(plan: Planning) -> dict[str, tuple[str, str]]:
    return {each.name: (each.verdict, each.reason) for each in planned(plan)}


def run(plan: Planning, results: Mapping[str, Any] | None = None) -> list[Published]:
    """Go through a plan as a driver does: each instance is planned when those before it are settled, then 'run'."""
    settled: dict[str, PlannedStep] = {}
    published = []
    for instance in plan.instances:
        step = plan.step(instance, settled)
        if step.verdict == "run":
            given_ = (results or {}).get(instance.name, {"n": 1})
            published.append(Published(step.name, step.key, given_, step.ingredients))
            step = finished(step, published[-1])
        settled[instance.name] = step
    return published


def again(plan: Planning, published: list[Published], **keys: Any) -> Planning:
    return replace(plan, known=Known.of(published), **keys)


CHAIN = (function("extract"), function("train", "extract", parameters={"n": "${extract.n}"}), function("gate", "train"))


# ---------------------------------------------------------------- the verdict
def test_at_first_everything_runs_and_what_follows_says_on_what_it_depends() -> None:
    assert verdicts(planning(*CHAIN)) == {
        "extract": ("run", "new"),
        "train": ("run", "depends on extract"),
        "gate": ("run", "train runs first"),
    }
    extract, train, _ = planned(planning(*CHAIN))
    assert extract.key
    assert not train.key
    assert train.parameters == {"n": "${extract.n}"}


def test_an_unchanged_pipeline_is_cached_whole() -> None:
    plan = planning(*CHAIN)
    assert set(verdicts(again(plan, run(plan))).values()) == {("cached", "unchanged")}


def test_a_result_that_is_as_before_spares_the_steps_behind_it() -> None:
    plan = planning(*CHAIN)
    first = run(plan)
    forced = again(plan, first, selection=Selection(force=("extract",)))
    assert [each.name for each in run(forced)] == ["extract"]
    assert [each.name for each in run(forced, {"extract": {"n": 2}})] == ["extract", "train", "gate"]
    redone = [*first, *run(forced, {"extract": {"n": 2}})]
    assert set(verdicts(again(plan, redone)).values()) == {("cached", "unchanged")}


def test_what_results_point_to_counts_as_well() -> None:
    plan = planning(*CHAIN)
    published = [replace(each, digest="other bytes") if each.name == "extract" else each for each in run(plan)]
    assert verdicts(again(plan, published))["train"] == ("run", "changed input: extract")


def test_each_change_is_named() -> None:
    step = function("train", parameters={"rows": 10, "kind": "a"})
    sources = {"train": Source((Part("cell 2", "a"), Part("cell 3", "b"), Part("features.py", "c")))}
    plan = planning(step, sources=sources, environment="e1")
    plan = replace(plan, file_digest=lambda text: "d1" if text == "a" else "")
    published = run(plan)

    def reason(**keys: Any) -> str:
        return verdicts(again(plan, published, **keys))["train"][1]

    def other(**keys: Any) -> Pipeline:
        return Pipeline("p", (replace(step, **keys),))

    def parts(*pairs: tuple[str, str]) -> dict[str, Source]:
        return {"train": Source(tuple(Part(*pair) for pair in pairs))}

    assert reason() == "unchanged"
    assert reason(environment="e2") == "changed environment"
    assert reason(file_digest=lambda text: "d2" if text == "a" else "") == "changed input: a"
    assert reason(pipeline=other(parameters={"rows": 20, "kind": "a"})) == "changed parameter rows: 10 -> 20"
    assert reason(pipeline=other(parameters={"rows": "10", "kind": "a"})) == "changed parameter rows: 10 -> 10"
    assert reason(pipeline=other(parameters={"kind": "a"})) == "changed parameter rows: 10 -> nothing"
    assert reason(pipeline=other(target="steps:fit")) == "changed step: steps:train -> steps:fit"
    assert reason(pipeline=other(is_cached=False)) == "cache = false"
    assert reason(sources=parts(("cell 2", "a"), ("cell 3", "x"), ("features.py", "y"))) == (
        "changed source: cell 3 and features.py"
    )
    assert reason(sources=parts(("cell 1", "new"), ("cell 3", "a"), ("cell 4", "b"), ("features.py", "c"))) == (
        "changed source: cell 1"
    )
    assert reason(sources=parts(("cell 2", "a"), ("features.py", "c"))) == "changed source: cell 3 is gone"
    assert reason(sources=parts(("cell 2", "b"), ("cell 3", "a"), ("features.py", "c"))) == (
        "changed source: the order of its cells"
    )
    assert reason(sources=parts(("cell 7", "a"), ("cell 8", "b"), ("features.py", "c"))) == "unchanged"
    assert reason(selection=Selection(force=("*",))) == "forced"


def test_going_back_to_what_was_before_finds_the_earlier_result() -> None:
    ten, twenty = (planning(function("a", parameters={"rows": rows})) for rows in (10, 20))
    published = run(ten) + run(twenty)
    assert verdicts(again(ten, published))["a"] == ("cached", "unchanged")
    (step,) = planned(again(ten, published))
    assert step.published == published[0]


def test_a_scheduled_step_is_the_same_step_however_late_it_runs() -> None:
    step = function("extract", parameters={"until": "${due.date}"})
    plan = planning(step)
    later = replace(plan, context=context(plan.pipeline, DUE.replace(hour=23)))
    next_day = replace(plan, context=context(plan.pipeline, DUE.replace(day=2)))
    published = run(plan)
    assert verdicts(again(later, published))["extract"] == ("cached", "unchanged")
    assert verdicts(again(next_day, published))["extract"] == (
        "run",
        "changed parameter until: 2013-02-01 -> 2013-02-02",
    )


def test_a_secret_stands_in_no_ingredient_and_its_change_changes_no_key() -> None:
    one, other = (planning(function("a", parameters={"api_key": secret})) for secret in ("s3cr3t", "0ther"))
    (step,) = planned(one)
    assert "s3cr3t" not in repr(step.ingredients)
    assert step.key == planned(other)[0].key
    assert step.parameters == {"api_key": "s3cr3t"}


# ------------------------------------------------------------------ selection
def test_only_the_selected_steps_run_and_the_last_results_stand_for_the_others() -> None:
    plan = planning(*CHAIN)
    published = run(plan)
    changed = replace(again(plan, published), environment="new")
    assert verdicts(replace(changed, selection=Selection(only=("train",)))) == {
        "extract": ("cached", "not selected: its last result stands"),
        "train": ("run", "changed environment"),
        "gate": ("cached", "not selected: its last result stands"),
    }
    assert verdicts(replace(changed, selection=Selection(from_=("train",))))["gate"] == ("run", "train runs first")
    assert verdicts(replace(plan, selection=Selection(only=("extract",))))["gate"] == ("skip", "not selected")


def test_a_selection_that_cannot_be_run_is_refused() -> None:
    plan = planning(*CHAIN)
    with pytest.raises(UsageError, match="train needs extract, which is not selected and has no result yet"):
        planned(replace(plan, selection=Selection(only=("train",))))
    for selection in (Selection(only=("tarin",)), Selection(from_=("tarin",)), Selection(force=("tarin",))):
        with pytest.raises(UsageError, match="has no step 'tarin'") as caught:
            planned(replace(plan, selection=selection))
        assert caught.value.hint == "Did you mean train?"


def test_force_runs_what_is_cached_and_nothing_that_is_not_selected() -> None:
    plan = planning(*CHAIN)
    forced = again(plan, run(plan), selection=Selection(only=("gate",), force=("*",)))
    assert [verdict for verdict, _ in verdicts(forced).values()] == ["cached", "cached", "run"]


# --------------------------------------------------------------------- matrix
SWEEP = function("train", matrix={"kind": ("a", "b")})


def test_a_matrix_step_gives_a_list_in_matrix_order_and_pick_keeps_one() -> None:
    results = {"train[kind=a]": {"auc": 0.7}, "train[kind=b]": {"auc": 0.8}}
    for pick, expected in {None: [0.7, 0.8], Pick("max", "auc"): 0.8, Pick("min", "auc"): 0.7}.items():
        plan = planning(replace(SWEEP, pick=pick), function("card", "train", parameters={"auc": "${train.auc}"}))
        *_, card = planned(again(plan, run(plan, results)[:2]))
        assert card.parameters == {"auc": expected}
        assert card.needs == ("train[kind=a]", "train[kind=b]")


def test_an_added_value_runs_alone() -> None:
    published = run(planning(SWEEP))
    wider = planning(replace(SWEEP, matrix={"kind": ("a", "b", "c")}), known=Known.of(published))
    assert [name for name, (verdict, _) in verdicts(wider).items() if verdict == "run"] == ["train[kind=c]"]


def test_one_instance_can_be_selected_and_forced() -> None:
    plan = planning(SWEEP)
    forced = again(plan, run(plan), selection=Selection(force=("train[kind=b]",)))
    assert [verdict for verdict, _ in verdicts(forced).values()] == ["cached", "run"]


@pytest.mark.parametrize(
    "values", [(1, "1"), ("a,b", "a=b"), ("x" * 90, "x" * 91), ("[", "]"), (" ", "\n"), (True, "true")]
)
def test_instances_have_names_of_their_own(values: tuple[Any, ...]) -> None:
    names = [each.name for each in instances_of(function("a", matrix={"k": values}))]
    assert len(set(names)) == len(values)
    assert all(name.count("[") == name.count("=") == 1 and len(name) < 60 and "\n" not in name for name in names)


def test_without_a_number_there_is_nothing_to_pick() -> None:
    with pytest.raises(UsageError, match="nothing to choose from"):
        picked(Pick("max", "auc"), [{"auc": float("nan")}, {"auc": "0.9"}, {"auc": True}, {}])


# ---------------------------------------------------------- conditions, skips
def test_a_false_condition_skips_the_step_and_what_needs_it() -> None:
    plan = planning(
        function("train"),
        function("deploy", "train", when="${train.auc} > 0.75"),
        function("tell", "deploy"),
        function("card", "train"),
    )
    assert verdicts(plan)["deploy"] == ("run", "depends on train")
    done = {each.name: each for each in run(plan, {"train": {"auc": 0.7}})}
    assert [*done] == ["train", "card"]
    assert verdicts(again(plan, [*done.values()])) == {
        "train": ("cached", "unchanged"),
        "deploy": ("skip", "when is false: ${train.auc} > 0.75"),
        "card": ("cached", "unchanged"),
        "tell": ("skip", "needs deploy, which is skipped"),
    }


def test_a_notebook_that_said_skip_takes_along_what_needs_it() -> None:
    plan = planning(*CHAIN)
    extract, train, gate = plan.instances
    settled = {"extract": left_out(plan.step(extract, {}), "no new data")}
    settled["train"] = plan.step(train, settled)
    assert settled["train"].reason == "needs extract, which is skipped"
    assert plan.step(gate, settled).verdict == "skip"


def test_an_instance_that_is_skipped_is_left_out_of_the_list() -> None:
    sweep = replace(SWEEP, when="${matrix.kind} != 'a'")
    plan = planning(sweep, function("card", "train", parameters={"auc": "${train.auc}"}))
    *_, card = planned(again(plan, run(plan, {"train[kind=b]": {"auc": 0.8}})))
    assert card.parameters == {"auc": [0.8]}


# ---------------------------------------------------------------------- verbs
def test_a_verbs_words_get_values_that_stay_words() -> None:
    train, show = function("train"), Step("show", "verb", "show ${train.uri} --against x=${train.n}", ("train",))
    plan = planning(train, show)
    uri = "models:/a b; rm -rf / $(x) --force"
    *_, step = planned(again(plan, run(plan, {"train": {"uri": uri, "n": -3}})))
    assert step.words == ("show", uri, "--against", "x=-3")


def test_a_list_in_a_verbs_words_is_a_word_for_each() -> None:
    plan = planning(SWEEP, Step("compare", "verb", "compare ${train.id}", ("train",)))
    results = {"train[kind=a]": {"id": "r1"}, "train[kind=b]": {"id": "r2"}}
    *_, step = planned(again(plan, run(plan, results)))
    assert step.words == ("compare", "r1", "r2")


def test_no_value_turns_into_an_option() -> None:
    plan = planning(function("train"), Step("show", "verb", "show ${train.uri}", ("train",)))
    with pytest.raises(UsageError, match=r"Step show: \$\{train\.uri\} is '--force' here"):
        run(plan, {"train": {"uri": "--force"}})


def test_a_result_that_is_missing_is_told_with_the_step_that_asks_for_it() -> None:
    with pytest.raises(UsageError, match="Step train: extract has no 'n'") as caught:
        run(planning(*CHAIN), {"extract": {"m": 1}})
    assert caught.value.hint == "There are: m."


# ------------------------------------------------------------------- together
def test_the_design_s_example_is_planned_from_its_files(write_project: WriteProject, tmp_path: Path) -> None:
    def plan(toml: str = LOOP, **files: str) -> Planning:
        found = checked(write_project(toml, **files), "retrain", tmp_path)
        return Planning(found.pipeline, found.sources, context=context(found.pipeline, DUE))

    results = {
        "extract": {"table": "t.parquet"},
        "train[kind=logistic]": {"model_uri": "m1", "roc_auc": 0.7},
        "train[kind=boosting]": {"model_uri": "m2", "roc_auc": 0.8},
        "gate": {"passed": True},
    }
    first = plan()
    extract, *_ = planned(first)
    assert extract.parameters["until"].isoformat() == "2013-02-01"
    published = run(first, results)
    assert {each.name for each in published} == set(results)
    assert set(verdicts(again(plan(), published)).values()) == {("cached", "unchanged")}
    edited = verdicts(again(plan(**{"features.py": "def clean(x): ...\n"}), published))
    assert edited["extract"][0] == "cached"
    assert edited["train[kind=boosting]"] == ("run", "changed source: features.py")
    assert edited["gate"] == ("run", "train runs first")
    gates = verdicts(again(plan(LOOP.replace("min = 0.7", "min = 0.8")), published))
    assert gates["gate"] == ("run", "changed source: [gates]")
    cell = notebook("path = 'y'", "%mlops result table=path", tagged="until: date = None")
    assert verdicts(again(plan(**{"notebooks/extract.ipynb": cell}), published))["extract"] == (
        "run",
        "changed source: cell 3",
    )


def test_two_hundred_steps_that_hang_together_are_cached_together() -> None:
    chance = random.Random(4)
    names = [f"step_{n}" for n in range(200)]
    steps = []
    for n, name in enumerate(names):
        needs = chance.sample(names[max(0, n - 8) : n], min(n, 2))
        parameters = {need: f"${{{need}.n}}" for need in needs}
        steps.append(function(name, *needs, parameters=parameters, when=f"${{{needs[0]}.n}} > 0" if needs else ""))
    sources = {name: Source(tuple(Part(f"cell {n}", "0" * 64) for n in range(10))) for name in names}
    plan = planning(*steps, sources=sources)
    ready = again(plan, run(plan))
    assert {each.verdict for each in planned(ready)} == {"cached"}
    last = again(plan, [*run(plan)], selection=Selection(force=("step_199",)))
    assert [each.name for each in planned(last) if each.verdict == "run"] == ["step_199"]


@given(st.lists(st.sets(st.integers(0, 11)), max_size=12), st.integers(0, 11))
def test_what_runs_is_exactly_what_is_forced_and_what_follows(needs: list[set[int]], forced: int) -> None:
    steps = [function(f"s{n}", *(f"s{m}" for m in each if m < n)) for n, each in enumerate(needs)]
    if forced >= len(steps):
        return
    plan = planning(*steps)
    ready = again(plan, run(plan), selection=Selection(force=(f"s{forced}",)))
    expected = {f"s{forced}"}
    for step in steps:
        if expected & set(step.needs):
            expected.add(step.name)
    assert {name for name, (verdict, _) in verdicts(ready).items() if verdict == "run"} == expected


def test_the_order_of_parameters_is_no_change() -> None:
    one = Ingredients("p/a", "notebook", ["a"], [], {"x": 1, "y": 2}, {}, "")
    assert one.key == replace(one, parameters={"y": 2, "x": 1}).key
    assert differences(one, replace(one, parameters={"y": 2, "x": 1})) == []
