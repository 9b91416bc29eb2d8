"""The renderer: text that fits, HTML that is one harmless element, JSON that is strict."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import GateError, StoreError, UsageError
from nbmlops.surfaces.show import MAX_HTML_BYTES, error_json, error_text, json_text, text, to_html
from nbmlops.verb import MACHINE_ONLY, Result, Rows, Text

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;\n<a href='http://evil.example'>{x}</a>\x00\x1b[31m"
)
ALLOWED = {"div", "table", "thead", "tbody", "tr", "th", "td", "code"}


@dataclass(frozen=True)
class Check:
    """A row."""

    name: str
    status: str
    value: float
    note: str = ""


@dataclass(frozen=True)
class Report(Result):
    """A result with every kind of field that a card has a form for."""

    name: str
    checks: tuple[Check, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    values: tuple[Any, ...] = ()
    at: datetime | None = None
    detail: str = field(default="", metadata=MACHINE_ONLY)

    @property
    def headline(self) -> str:
        return f"{self.name} was judged"

    @property
    def next_step(self) -> str:
        return f"show {self.name}"


def report(words: str = "delays", n: int = 2) -> Report:
    checks = tuple(Check(f"{words} {i}", "passed", i / 3, words) for i in range(n))
    metrics = {f"{words}{i}": words for i in range(5)}
    return Report(words, checks, metrics, (words, None, True, 0.5), datetime(2013, 1, 2, tzinfo=UTC), words)


class Page(HTMLParser):
    """What a page holds: its tags, their attributes, its text, and how many elements stand at its top."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.styles: list[str] = []
        self.words = ""
        self.n_top = self._depth = 0
        self.feed(page)
        self.close()
        assert self._depth == 0, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.n_top += self._depth == 0
        self._depth += 1
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.styles += [value or "" for name, value in attrs if name == "style"]

    def handle_endtag(self, tag: str) -> None:
        self._depth -= 1

    def handle_data(self, data: str) -> None:
        assert self._depth or not data.strip(), "all text stands inside the one element"
        self.words += data


# -------------------------------------------------------------------------- HTML
def assert_harmless(page: str) -> Page:
    parsed = Page(page)
    assert parsed.n_top == 1
    assert parsed.tags <= ALLOWED
    assert parsed.attributes <= {"style", "class"}
    assert not any(word in style for style in parsed.styles for word in ("url(", "http", "expression", "@import"))
    return parsed


def test_a_card_is_one_element_that_needs_nothing_from_outside() -> None:
    page = assert_harmless(to_html(report()))
    for words in ("delays was judged", "delays 1", "0.3333", "2013-01-0", "next: ", "%mlops show delays"):
        assert words in page.words


@pytest.mark.parametrize("result", [report(HOSTILE), Rows(report(HOSTILE).checks), Rows([report(HOSTILE)]), HOSTILE])
def test_nothing_from_a_store_becomes_markup(result: Any) -> None:
    page = assert_harmless(to_html(result))
    assert "<script>alert(1)</script>" in page.words
    assert "\x1b" not in to_html(result)
    assert "\x1b" not in text(result)


TURNED = "model \u202eexe.\u2066\u200f\x1b[31m"


@pytest.mark.parametrize("result", [report(TURNED), Rows(report(TURNED).checks), TURNED, Text(f"a\n{TURNED}")])
def test_no_sign_that_turns_a_line_around_or_that_nobody_sees_is_shown(result: Any) -> None:
    assert not re.search("[\x1b\u200f\u202e\u2066]", to_html(result))
    assert "exe." in assert_harmless(to_html(result)).words


@pytest.mark.parametrize("result", [report("$x$"), Rows(report("$x$").checks), "$x$", Text("$x$")])
def test_a_name_with_dollar_signs_is_no_formula(result: Any) -> None:
    first, _, rest = to_html(result).partition(">")
    assert "mathjax_ignore tex2jax_ignore" in first
    assert "$x$" in rest


def test_an_error_keeps_its_lines_and_nothing_that_nobody_sees() -> None:
    assert error_text(UsageError(f"No {TURNED}.\nType another.")) == "UsageError: No model  exe. [31m.\nType another."


@given(st.text())
def test_whatever_stands_in_a_field_stays_text(words: str) -> None:
    assert_harmless(to_html(report(words)))


@pytest.mark.parametrize("words", ["delays", "<&\"'>" * 60, "ü" * 300])
def test_ten_thousand_rows_stay_below_100_kb(words: str) -> None:
    for result in (report(words, 10_000), Rows(report(words, 10_000).checks)):
        page = to_html(result)
        assert len(page.encode()) <= MAX_HTML_BYTES
        assert "more" in assert_harmless(page).words


def test_many_tables_and_many_facts_stay_below_100_kb_too() -> None:
    wide = Report("delays", metrics={f"metric {i}": "x" * 300 for i in range(10_000)}, values=("y" * 300,) * 10_000)
    assert len(to_html(wide).encode()) <= MAX_HTML_BYTES


# -------------------------------------------------------------------------- text
@pytest.mark.parametrize("width", [80, 120])
def test_text_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for result in (report("a rather long name of a model " * 5, 300), Rows(report("x" * 500, 3).checks), report()):
        lines = [line for line in text(result).splitlines() if not line.startswith("next: ")]  # kept whole, to copy
        assert max(len(line) for line in lines) <= width
    assert "more; --json has all of them" in text(report(n=300))


def test_a_field_for_machines_stays_off_the_card_and_in_the_json() -> None:
    shown = Report("delays", detail="for machines")
    assert "for machines" not in text(shown) + to_html(shown)
    assert json.loads(json_text(shown))["detail"] == "for machines"


@pytest.mark.parametrize(
    ("prefix", "shown"), [("nbmlops ", "next: nbmlops show delays"), ("%mlops ", "next: %mlops show delays")]
)
def test_the_next_step_is_typed_as_the_surface_types(prefix: str, shown: str) -> None:
    assert text(report(), prefix).endswith(shown)


@pytest.mark.parametrize(("n", "headline"), [(1, "1 check"), (2, "2 checks"), (1234, "1,234 checks")])
def test_a_listing_counts_its_rows(n: int, headline: str) -> None:
    assert text(Rows(report(n=n).checks)).splitlines()[0] == headline


def test_an_empty_listing_says_so() -> None:
    assert text(Rows()) == "Nothing yet."
    assert Page(to_html(Rows())).words == "Nothing yet."


# -------------------------------------------------------------------------- JSON
def test_json_is_strict() -> None:
    values = (math.nan, math.inf, -math.inf, np.float64("nan"), np.float32(0.5), np.int64(3), np.bool_(True))
    told = json.loads(json_text(Report("delays", values=values)), parse_constant=pytest.fail)
    assert told["values"] == ["NaN", "Infinity", "-Infinity", "NaN", 0.5, 3, True]


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_every_value_becomes_strict_json(value: Any) -> None:
    json.loads(json_text({"value": value}), parse_constant=pytest.fail)


def test_a_listing_is_an_array_and_everything_else_an_object() -> None:
    assert json.loads(json_text(Rows())) == []
    assert [row["name"] for row in json.loads(json_text(Rows(report().checks)))] == ["delays 0", "delays 1"]
    assert json.loads(json_text(report()))["checks"][0] == {
        "name": "delays 0",
        "status": "passed",
        "value": 0.0,
        "note": "delays",
    }


def test_no_form_shows_a_secret() -> None:
    shown = Report("postgresql://ops:hunter2@db/ledger", metrics={"api_key": "hunter2", "a": 1, "b": 2, "c": 3})
    error = StoreError("postgresql://ops:hunter2@db is out of reach.", "Check postgresql://ops:hunter2@db")
    for form in (text(shown), to_html(shown), json_text(shown), error_text(error), error_json(error)):
        assert "hunter2" not in form
        assert "***" in form


# ------------------------------------------------------------------------ errors
def test_an_error_shows_its_report_first_and_keeps_it_in_json() -> None:
    error = GateError("delays/1 failed.", "Train longer.", report=report())
    shown = error_text(error)
    assert shown.index("delays was judged") < shown.index("GateError: delays/1 failed.\n  Train longer.")
    told = json.loads(error_json(error))["error"]
    assert (told["type"], told["exit_code"], told["hint"]) == ("GateError", 4, "Train longer.")
    assert told["report"]["checks"][1]["name"] == "delays 1"
