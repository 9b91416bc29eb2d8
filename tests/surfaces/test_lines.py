"""Lines as a person would type them: what they mean to the parser is what the front end writes for the same call."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nbmlops.surfaces.parse import parse

LINES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("lines.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", LINES, ids=[case["line"] for case in LINES])
def test_a_line_that_the_front_end_writes_means_what_was_asked(case: dict[str, Any]) -> None:
    verb, *words = shlex.split(case["line"])
    assert (verb, parse(verb, words).arguments) == (case["verb"], case["arguments"])
