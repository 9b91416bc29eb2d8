"""A run's card: what a person needs, curves drawn, a link, and nothing of a store's that becomes markup."""

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from nbmlops.surfaces.show import MAX_HTML_BYTES, blocks, text, to_html
from nbmlops.tracking.comparison import compare_runs
from nbmlops.tracking.runs import Curve, Run, Runs

HOSTILE = "<script>alert(1)</script>\"'><a href='http://evil.example'>x</a>"
BEGAN = datetime(2013, 7, 1, tzinfo=UTC)
BEFORE = Run("a" * 32, "fit", "FINISHED", BEGAN, 1.0, {"auc": 0.5, "loss": 0.25}, {"depth": "3"}, commit="6dbf956e00")
RUN = Run(
    "b" * 32,
    "fit",
    "FAILED",
    BEGAN,
    2.0,
    {"auc": 0.75, "best": math.inf, "loss": 0.1},
    {"depth": "4"},
    commit="6dbf956e00",
    branch="main",
    is_dirty=True,
    attempt=2,
    previous_id="a" * 32,
    order="out of order",
    error="ValueError: no such column",
    cell="3",
    url="http://127.0.0.1:5000/#/experiments/1/runs/" + "b" * 32,
    curves={"loss": Curve([1.0, math.nan, 0.5, 0.1])},
    changes=compare_runs([BEFORE, Run("b", "fit", "FAILED", BEGAN, 2.0, {"auc": 0.75}, {"depth": "4"})]).differences,
)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_a_card_tells_what_happened_and_what_changed() -> None:
    card = text(RUN)
    for words in (
        "FAILED",
        "ValueError: no such column",
        "2, after aaaaaaaa",
        "6dbf956e on main, dirty",
        "out of order",
        "changed since attempt 1",
        "http://127.0.0.1:5000/#/experiments/1/runs/bbbb",
        "█·▄▁",
    ):
        assert words in card
    assert re.search(r"auc +0.75 +0.5 +0.25", card)
    assert re.search(r"best +inf", card)
    assert re.search(r"param +depth +3 +4", card)


def test_a_page_draws_the_curve_and_links_to_mlflow() -> None:
    page = Elements(to_html(RUN))
    (path,) = page.named("path")
    assert len(re.findall("M", path["d"] or "")) == 2, "NaN is a gap"
    assert "█·▄▁" in page.words, "what remains where a page may hold no drawings"
    assert [each["href"] for each in page.named("a")] == [RUN.url]


def test_a_run_without_curves_or_a_link_has_neither() -> None:
    page = Elements(to_html(BEFORE))
    assert not page.named("svg")
    assert not page.named("a")


def test_nothing_of_a_run_becomes_markup() -> None:
    values = {HOSTILE: math.inf}
    run = Run(
        "b" * 32, HOSTILE, HOSTILE, None, None, values, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, source=HOSTILE,
        commit=HOSTILE, user=HOSTILE, branch=HOSTILE, previous_id=HOSTILE, order=HOSTILE, error=HOSTILE, cell=HOSTILE,
        data={HOSTILE: HOSTILE}, curves={HOSTILE: Curve([1, 2])}, changes=compare_runs([RUN, BEFORE]).differences,
    )  # fmt: skip
    for shown in (run, Runs([run, BEFORE])):
        page = Elements(to_html(shown))
        assert not page.named("script")
        assert not page.named("a")
        assert HOSTILE[:12] in page.words


@given(st.lists(st.floats(), min_size=1, max_size=100))
def test_any_values_can_be_drawn(values: list[float]) -> None:
    drawn = blocks(values)
    assert len(drawn) == min(len(values), 24)
    finite = [value for value in values if math.isfinite(value)]
    if len(values) <= 24 and len(set(finite)) > 1:
        assert drawn[values.index(max(finite))] == "█"
        assert drawn[values.index(min(finite))] == "▁"
    (path,) = Elements(to_html(Run("b", "fit", "FINISHED", None, None, {"a": 1}, curves={"a": Curve(values)}))).named(
        "path"
    )
    assert re.fullmatch(r"[-\d., M]*", path["d"] or "")


def test_a_hundred_curves_stay_below_100_kb() -> None:
    names = [f"metric {i}" for i in range(300)]
    curve = Curve(math.sin(i) for i in range(60))
    run = Run("b", "fit", "FINISHED", BEGAN, 1.0, dict.fromkeys(names, 0.5), curves=dict.fromkeys(names, curve))
    assert len(to_html(run).encode()) <= MAX_HTML_BYTES


def test_a_list_of_runs_is_narrow() -> None:
    head = text(Runs([BEFORE, replace(RUN, curves={})])).splitlines()[2].split()
    assert head == ["id", "name", "status", "auc", "loss", "best", "depth", "started", "took", "(s)", "attempt"]


def test_a_comparison_has_a_column_for_each_run() -> None:
    other = replace(RUN, run_id="c" * 32, name="again", params={"depth": "4", "seed": "1"}, metrics=BEFORE.metrics)
    lines = [line.split() for line in text(compare_runs([BEFORE, other])).splitlines()]
    assert ["kind", "name", "fit", "again"] in lines
    assert ["param", "depth", "3", "4"] in lines
    assert ["param", "seed", "1"] in lines
    of_one_name = text(compare_runs([BEFORE, RUN]))
    assert "fit (aaaaaaaa)" in of_one_name
    assert re.search(r"metric +auc +0.5 +0.75 +0.25", of_one_name)
