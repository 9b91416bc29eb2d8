"""Annotations are read back by each CI system's own rules as what they were, whatever their texts."""

import json
import re
from dataclasses import replace

import pytest

from nbmlops.pipelines.ci.annotations import code_quality, github, gitlab, line_of_cell, plain_lines
from nbmlops.pipelines.ci.wording import one_line, plain_text
from nbmlops.pipelines.notebook import NotebookRun

from .conftest import HOSTILE, hostile_run


def read_command(line: str) -> tuple[str, dict[str, str], str]:
    """Read a workflow command as GitHub's runner does."""
    found = re.fullmatch(r"::(\w+) (.*?)::(.*)", line)
    assert found, line
    pairs = dict(each.split("=", 1) for each in found[2].split(","))

    def unescaped(text: str, *, is_property: bool) -> str:
        for code, char in (("%0D", "\r"), ("%0A", "\n"), *((("%3A", ":"), ("%2C", ",")) if is_property else ())):
            text = text.replace(code, char)
        return text.replace("%25", "%")

    return (
        found[1],
        {name: unescaped(value, is_property=True) for name, value in pairs.items()},
        unescaped(found[3], is_property=False),
    )


def test_a_failed_notebook_is_annotated_at_its_cell(failed: NotebookRun) -> None:
    (line,) = github([failed], [42])
    assert read_command(line) == (
        "error",
        {"file": "notebooks/train.ipynb", "line": "42", "title": "notebooks/train.ipynb: cell 3 [In 2]"},
        "KeyError: no such column",
    )


def test_a_skipped_notebook_gets_a_notice_and_a_good_one_nothing(failed: NotebookRun) -> None:
    good = replace(failed, status="FINISHED", failure=None)
    skipped = replace(good, status="SKIPPED", reason="no new data", notebook="other.ipynb")
    (line,) = github([good, skipped], [1, 1])
    assert line == "::notice file=other.ipynb,line=1,title=other.ipynb::Skipped: no new data"
    assert gitlab([good, skipped], 0) == plain_lines([good, skipped]) == []
    assert code_quality([good, skipped], [1, 1]) == "[]"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_in_their_place_of_one_command(text: str) -> None:
    (line,) = github([hostile_run(text)], [1])
    assert "\n" not in line
    assert "\r" not in line
    kind, properties, message = read_command(line)
    assert kind == "error"
    assert set(properties) == {"file", "line", "title"}
    if "%0" not in text:  # which the runner takes for an escape only once
        assert properties["file"] == plain_text(text)
        assert plain_text(text).strip()[:100] in message


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_end_no_section_of_gitlabs_log_and_begin_none(text: str) -> None:
    lines = gitlab([hostile_run(text)], 1_795_000_000)
    marked = [line for line in lines if "\x1b" in line or "\r" in line]
    assert marked == [lines[0], lines[-1]]
    assert re.fullmatch(r"\x1b\[0Ksection_start:1795000000:nbmlops_1\[collapsed=true\]\r\x1b\[0K[^\x1b\r\n]*", lines[0])
    assert lines[-1] == "\x1b[0Ksection_end:1795000000:nbmlops_1\r\x1b[0K"
    assert not any("\n" in line for line in lines)
    assert all(line.startswith("  ") for line in lines[1:-1])
    (plain,) = plain_lines([hostile_run(text)])
    assert plain == one_line(plain, 10_000)


def test_code_quality_has_what_gitlab_asks_for_and_knows_a_finding_again(failed: NotebookRun) -> None:
    (found,) = json.loads(code_quality([failed], [7]))
    assert found["location"] == {"path": "notebooks/train.ipynb", "lines": {"begin": 7}}
    assert found["severity"] in ("info", "minor", "major", "critical", "blocker")
    assert found["check_name"] == "nbmlops.raised"
    assert "KeyError: no such column" in found["description"]
    (again,) = json.loads(code_quality([replace(failed, run_id="another", duration_s=9.0)], [9]))
    assert again["fingerprint"] == found["fingerprint"]
    assert len(json.loads(code_quality([failed, replace(failed, notebook="other.ipynb")], [1, 1]))) == 2


def test_the_line_of_a_cell_is_that_of_its_source_in_any_layout() -> None:
    cells = [{"cell_type": "markdown", "source": "a"}, {"cell_type": "code", "outputs": [], "source": ["b"]}]
    content = {"metadata": {"cells": [1, 2]}, "cells": cells, "nbformat": 4}
    text = json.dumps(content, indent=1)
    assert text.split("\n")[line_of_cell(text, 2) - 1].strip() == '"source": ['
    assert line_of_cell(json.dumps(content), 2) == 1
    assert [line_of_cell(text, cell) for cell in (None, 0, 3)] == [1, 1, 1]
    for broken in ("", "[]", "{", '{"cells": 1}', '{"cells": [', text[:80], "[" * 100_000):
        assert line_of_cell(broken, 2) == 1
