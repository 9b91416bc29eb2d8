"""Graphs and their pictures: order, cycles, lanes that lead where they should, and SVG that holds nothing but text."""

import itertools
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.pipelines.flow.card import PipelineCard
from nbmlops.pipelines.flow.declared import Pick, Pipeline, Step
from nbmlops.pipelines.flow.drawing import drawn
from nbmlops.pipelines.flow.graph import cycle, direct, following, levels, ordered
from nbmlops.pipelines.flow.svg import svg
from nbmlops.surfaces.show import json_text, text, to_html

Edges = dict[str, list[str]]


def acyclic(most: int) -> st.SearchStrategy[Edges]:
    rows = st.lists(st.sets(st.integers(0, most)), min_size=1, max_size=most)
    return rows.map(lambda rows: {f"s{n}": [f"s{m}" for m in sorted(row) if m < n] for n, row in enumerate(rows)})


def anything(most: int) -> st.SearchStrategy[Edges]:
    rows = st.lists(st.sets(st.integers(0, most)), max_size=most)
    return rows.map(lambda rows: {f"s{n}": [f"s{m}" for m in sorted(row)] for n, row in enumerate(rows)})


def pipeline(edges: Mapping[str, list[str]]) -> Pipeline:
    return Pipeline("p", tuple(Step(name, "function", f"steps:{name}", tuple(needs)) for name, needs in edges.items()))


def above(edges: Edges, name: str) -> set[str]:
    """All that a step needs, directly or not, the slow way."""
    found: set[str] = set()
    waiting = list(edges[name])
    while waiting:
        if (need := waiting.pop()) not in found and need in edges:
            found.add(need)
            waiting += edges[need]
    return found


# --------------------------------------------------------------------- graphs
@given(anything(8))
def test_a_cycle_is_found_where_there_is_one(edges: Edges) -> None:
    found = cycle(edges)
    assert bool(found) == any(name in above(edges, name) for name in edges)
    assert all(one in edges[other] for one, other in itertools.pairwise(found))
    assert not found or (found[0] == found[-1] and len(set(found)) == len(found) - 1)


@given(acyclic(10))
def test_order_levels_and_what_follows_agree_with_the_needs(edges: Edges) -> None:
    order = ordered(edges)
    assert sorted(order) == sorted(edges)
    assert all(order.index(need) < order.index(name) for name in edges for need in edges[name])
    height = levels(edges)
    assert all(height[name] == max((height[need] + 1 for need in edges[name]), default=0) for name in edges)
    for name in edges:
        assert following(edges, [name]) == {name, *(each for each in edges if name in above(edges, each))}
    few = {name: list(needs) for name, needs in direct(edges).items()}
    assert all(above(few, name) == above(edges, name) for name in edges)


# ----------------------------------------------------------------------- text
@given(acyclic(12))
def test_each_step_has_one_line_below_those_that_it_needs(edges: Edges) -> None:
    lines = drawn(pipeline(edges)).splitlines()
    at = {name: [n for n, line in enumerate(lines) if re.search(rf" {name} ", line)] for name in edges}
    assert all(len(found) == 1 for found in at.values())
    assert all(at[need] < at[name] for name in edges for need in edges[name])


def follow(lines: list[str]) -> set[tuple[str, str]]:
    """Read the lanes of a drawing back into edges: what a person's eye does."""
    edges: set[tuple[str, str]] = set()
    lanes: dict[int, set[str]] = {}
    for line in lines:
        head = re.split(r"  +s\d+ ", line)[0] if re.search(r" s\d+ ", line) else line
        name = (re.search(r" (s\d+) ", line) or [""])[0].strip()
        at = {n: sign for n, sign in enumerate(head) if n % 2 == 0 and sign != " "}
        ends = [n for n, sign in at.items() if sign in "├┬╮┴╯"]
        if "╮" in head:
            came = lanes.pop(ends[0])
            lanes.update({n: set(came) for n in ends})
        elif "╯" in head:
            lanes[ends[0]] = set().union(*(lanes.pop(n) for n in ends))
        else:
            lanes = {n: lanes.get(n, set()) for n in at}
        if name:
            (place,) = [n for n, sign in at.items() if sign == "○"]
            edges |= {(need, name) for need in lanes.get(place, set())}
            lanes[place] = {name}
    return edges


@given(acyclic(9))
def test_the_lanes_lead_from_each_step_to_those_that_need_it(edges: Edges) -> None:
    expected = {(need, name) for name, needs in direct(edges).items() for need in needs}
    assert follow(drawn(pipeline(edges)).splitlines()) == expected


def test_a_drawing_tells_what_each_step_does_and_how_it_stands() -> None:
    steps = (
        Step("extract", "notebook", "notebooks/extract.ipynb"),
        Step("train", "notebook", "t.ipynb", ("extract",), matrix={"kind": ("a", "b")}, pick=Pick("max", "auc")),
        Step("ask", "approval", "Deploy\nit?", ("train",)),
        Step("tell", "verb", f"show {'x' * 90}", ("ask",)),
    )
    assert drawn(Pipeline("p", steps), {"extract": "cached", "train": "failed in cell 3", "ask": "waiting"}) == (
        "●  extract  notebooks/extract.ipynb                           cached\n"
        "✗  train    t.ipynb for 2 kind → max:auc                      failed in cell 3\n"
        "◔  ask      ask: Deploy it?                                   waiting\n"
        f"○  tell     show {'x' * 42}…"
    )


def test_steps_that_have_nothing_to_do_with_each_other_are_not_drawn_as_a_chain() -> None:
    lines = drawn(pipeline({"s0": [], "s1": []})).splitlines()
    assert [line[:1] for line in lines] == ["○", "", "○"]


# ------------------------------------------------------------------------ svg
@given(acyclic(10))
def test_the_svg_has_a_box_for_each_step_and_none_lies_on_another(edges: Edges) -> None:
    root = ET.fromstring(svg(pipeline(edges)))
    boxes = [{key: float(value) for key, value in rect.items() if key in ("x", "y", "width", "height")}
             for rect in root.iter("{http://www.w3.org/2000/svg}rect")]  # fmt: skip
    assert len(boxes) == len(edges)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for n, one in enumerate(boxes):
        assert one["x"] >= 0
        assert one["y"] >= 0
        assert one["x"] + one["width"] <= width
        assert one["y"] + one["height"] <= height
        for other in boxes[n + 1 :]:
            apart_x = abs(one["x"] - other["x"]) >= one["width"]
            apart_y = abs(one["y"] - other["y"]) >= one["height"]
            assert apart_x or apart_y


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"/><image href="x" onerror="alert(1)"/>', "a & b", "'"])
def test_no_text_becomes_markup(text: str) -> None:
    picture = svg(Pipeline(text, (Step(text, "verb", f"show {text!r}"),)), {text: text})
    root = ET.fromstring(picture)
    assert {each.tag.rpartition("}")[2] for each in root.iter()} == {"svg", "title", "g", "rect", "text"}
    assert not [name for each in root.iter() for name in each.attrib if name.startswith("on") or "href" in name]
    assert root.findtext("{http://www.w3.org/2000/svg}title") == text


def test_the_svg_has_the_colour_of_the_text_around_it_and_no_style_of_its_own() -> None:
    picture = svg(pipeline({"s0": [], "s1": ["s0"], "s2": ["s0", "s1"]}))
    assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', picture)) == {"currentColor", "none"}
    assert "<style" not in picture


# ----------------------------------------------------------------------- cards
@given(acyclic(10))
def test_a_card_has_each_step_at_a_place_of_its_own_behind_what_it_needs(edges: Edges) -> None:
    card = PipelineCard.of(pipeline(edges))
    at = {node.name: (node.column, node.row) for node in card.nodes}
    assert [node.name for node in card.nodes] == [*edges]
    assert [list(node.needs) for node in card.nodes] == [*edges.values()]
    assert len(set(at.values())) == len(edges)
    assert all(row >= 0 for _, row in at.values())
    assert {name for name, (column, _) in at.items() if column == 0} == {name for name in edges if not edges[name]}
    assert all(at[need][0] < at[name][0] for need, name in card.edges)
    assert {(need, name) for name, needs in direct(edges).items() for need in needs} == set(card.edges)


def test_a_card_is_drawn_as_ever_and_json_has_the_graph() -> None:
    steps = (Step("train", "notebook", "train.ipynb"), Step("agree", "approval", "Take it?", ("train",)))
    whole = Pipeline("retrain", steps)
    card = PipelineCard.of(whole)
    assert text(card) == drawn(whole)
    assert svg(whole) in to_html(card)
    nodes = [
        {"name": "train", "kind": "notebook", "target": "train.ipynb", "does": "train.ipynb", "needs": []},
        {"name": "agree", "kind": "approval", "target": "Take it?", "does": "ask: Take it?", "needs": ["train"]},
    ]
    places = [{"column": column, "row": 0.0} for column in (0, 1)]
    assert json.loads(json_text(card)) == {
        "name": "retrain",
        "nodes": [node | place for node, place in zip(nodes, places, strict=True)],
        "edges": [["train", "agree"]],
    }
    assert card == PipelineCard.of(whole)
