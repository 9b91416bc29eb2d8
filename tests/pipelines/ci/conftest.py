"""Runs of notebooks as reports see them, and texts that try to be more than text."""

import pytest

from nbmlops.pipelines.notebook import CellTiming, Failure, NotebookRun

HOSTILE = (
    "a | b || c",
    "```\n# no heading\n~~~",
    "`````` six",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "</code></details></summary><b>",
    "::error file=x::forged",
    "##[error]forged",
    "a,line=9,b:c::d=e",
    "first\nsecond\r\nthird\rfourth",
    "]]><!-- & &amp; &#60; 'single' \"double\"",
    "[link](javascript:alert(1)) ![](x) www.evil.example a@b.example :tada: @ann #1 $x$",
    "*bold* _it_ ~~no~~ \\* 1. - + > quote\n\n    code\n---\n===",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[0Ksection_end:1:nbmlops_1\r\x1b[0K",
    "nul \x00 bell \x07 \x0b \x0c \x85 \x9b31m \ufffe \uffff \ud800",
    "right to left \u202e gnp.exe \u2066 \u200f שלום 你好 🎉",
    "%0A::warning::x %25 50%",
    "${{ secrets.TOKEN }} $(touch marker) `touch marker` ; touch marker #",
)


@pytest.fixture
def failed() -> NotebookRun:
    """A run whose third cell failed, with one cell behind it."""
    cells = (
        CellTiming(2, "import pandas as pd", 0.5, "ok"),
        CellTiming(3, "model.fit(X, y)", 1.25, "failed"),
        CellTiming(5, "model.score(X, y)", 0.0, "pending"),
    )
    failure = Failure(
        "raised",
        "no such column",
        3,
        2,
        "model.fit(X, y)",
        "model.fit(X, y)\nprint(1)",
        "KeyError",
        "Traceback\nKeyError",
    )
    return NotebookRun(
        "notebooks/train.ipynb", "out/train.ipynb", "4f1c8a20", "FAILED", 2.5, {"month": 3}, cells, failure=failure
    )


def hostile_run(text: str) -> NotebookRun:
    """A failed run in which every text is this one."""
    cells = (CellTiming(1, text, 0.1, "ok"), CellTiming(2, text, 0.2, "failed"), CellTiming(3, text, 0.0, "pending"))
    failure = Failure("raised", text, 2, 1, text, text, text, text)
    return NotebookRun(text, text, text, "FAILED", 1.0, {text: text}, cells, text, {text: text}, text, failure)
