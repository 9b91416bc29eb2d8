"""Job summaries show what a person needs, and hostile text in them is nothing but text in every renderer."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import mistune
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nbmlops.pipelines.ci.summary import LIMIT_BYTES, escaped, fenced, markdown
from nbmlops.pipelines.ci.wording import one_line, plain_text
from nbmlops.pipelines.notebook import CellTiming, NotebookRun

from .conftest import HOSTILE, hostile_run

RENDERERS = {
    "markdown-it": MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render,
    "mistune": mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url", "footnotes", "math"]),
}
OURS = {
    "h3",
    "h4",
    "p",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "code",
    "pre",
    "strong",
    "em",
    "details",
    "summary",
}


class Page(HTMLParser):
    """The elements of a page, and the text of each of some."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data


def test_a_failed_run_is_shown_with_cell_source_error_parameters_times_and_next_step(failed: NotebookRun) -> None:
    text = markdown([failed])
    assert text.startswith("### nbmlops: 1 run, 1 failed\n")
    assert "| ❌ | notebooks/train.ipynb | FAILED (cell 3 &#91;In 2&#93;) | 2.5 s | <code>4f1c8a20</code> |" in text
    assert "<code>KeyError&#58; no such column</code>" in text
    assert "```python\nmodel.fit(X, y)\nprint(1)\n```" in text
    assert "```text\nTraceback\nKeyError\n```" in text
    assert "| <code>month</code> | <code>3</code> |" in text
    assert text.index("1.25 s") < text.index("0.50 s")
    assert "out/train.ipynb" in text
    assert "<code>nbmlops resume</code>" in text


def test_failed_runs_come_first(failed: NotebookRun) -> None:
    good = replace(failed, notebook="good.ipynb", status="FINISHED", failure=None)
    text = markdown([good, failed])
    assert text.index("notebooks/train.ipynb") < text.index("good.ipynb")


def test_secrets_are_masked(failed: NotebookRun) -> None:
    assert failed.failure is not None
    url = "postgresql://ops:hunter2@db/x"
    failure = replace(failed.failure, message=f"no {url}", source=f"connect('{url}')", traceback=url)
    text = markdown([replace(failed, failure=failure, parameters={"password": "hunter2", "url": url})])
    assert "hunter2" not in text


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_add_no_element_to_the_page(text: str, renderer: str) -> None:
    shape = Page(RENDERERS[renderer](markdown([hostile_run("x")])))
    page = Page(RENDERERS[renderer](markdown([hostile_run(text)])))
    assert page.tags == shape.tags
    assert page.attributes <= {"class", "style"}
    assert set(page.tags) <= OURS
    visible = one_line(text)
    assert any(" ".join(cell.split()) == visible for cell in page.texts["code"])
    source = plain_text(text).strip("\n")
    assert any(code.strip("\n") == source for code in page.texts["pre"])


@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_is_shown_as_it_is_in_a_table_and_in_a_fence(text: str) -> None:
    render = RENDERERS["markdown-it"]
    cell = Page(render(f"| a | b |\n|---|---|\n| x | <code>{escaped(text)}</code> |"))
    assert cell.tags.count("td") == 2
    assert " ".join("".join(cell.texts["code"]).split()) == one_line(text)
    fence = Page(render(f"before\n\n{fenced(text)}\n\nafter"))
    assert fence.tags == ["p", "pre", "code", "p"]
    assert fence.texts["code"][0] == plain_text(text) + "\n"


def test_no_line_of_a_summary_is_a_workflow_command_outside_of_a_fence() -> None:
    text = markdown([hostile_run("::error::forged")])
    outside = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", text)
    assert "::" not in outside


@pytest.mark.parametrize("count", [1, 300])
def test_a_summary_stays_below_the_limit_and_says_what_it_leaves_out(failed: NotebookRun, count: int) -> None:
    assert failed.failure is not None
    huge = "ü" * 300_000
    failure = replace(failed.failure, source=huge, traceback=huge, message=huge)
    cells = tuple(CellTiming(n, huge[:300], 1.0, "ok") for n in range(500))
    parameters = {f"p{n}": huge[:500] for n in range(1_000)}
    run = replace(failed, failure=failure, cells=cells, parameters=parameters)
    text = markdown([run] * count)
    assert len(text.encode()) <= LIMIT_BYTES
    assert text.count("characters are left out here") >= 2
    assert ("runs left out below" in text) == (count > 1)
    assert "and 900 more" in text


def test_a_summary_without_room_is_empty(failed: NotebookRun) -> None:
    assert markdown([failed], 100) == ""


def test_references_are_decoded_to_what_they_stand_for() -> None:
    for text in HOSTILE:
        assert html.unescape(escaped(text)) == one_line(text, 1_000)
