"""JUnit files are what CI systems' schema allows, and say of each cell what became of it."""

import re
from collections import Counter
from dataclasses import replace
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.pipelines.ci.junit import xml
from nbmlops.pipelines.notebook import CellTiming, Failure, NotebookRun

from .conftest import HOSTILE, hostile_run

# Jenkins' junit-10.xsd in short: an element's children in their order, the attributes it must and may have.
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?")
SCHEMA: dict[str, tuple[tuple[str, ...], set[str], set[str]]] = {
    "testsuites": (("testsuite",), set(), {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        ("properties", "testcase"),
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url", "version"},
    ),
    "properties": (("property",), set(), set()),
    "property": ((), {"name", "value"}, set()),
    "testcase": (("skipped", "error", "failure"), {"name"}, {"time", "classname", "group"}),
    "skipped": ((), set(), {"type", "message"}),
    "error": ((), set(), {"type", "message"}),
    "failure": ((), set(), {"type", "message"}),
}


def check(element: Element) -> None:
    children, must, may = SCHEMA[element.tag]
    assert must <= set(element.attrib) <= must | may
    assert TIME.fullmatch(element.get("time", "0"))
    assert all(element.get(name, "0").isdigit() for name in ("tests", "failures", "errors", "skipped"))
    order = [children.index(child.tag) for child in element]
    assert order == sorted(order)
    for child in element:
        check(child)
    if element.tag == "testsuite":
        found = Counter(child.tag for case in element.iter("testcase") for child in case)
        told = {tag: int(element.attrib[name]) for name, tag in COUNTS.items()}
        assert told == {tag: found[tag] for tag in COUNTS.values()}
        assert int(element.attrib["tests"]) == len(element.findall("testcase"))


COUNTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def read(*runs: NotebookRun) -> Element:
    root = fromstring(xml(runs))
    assert root.tag == "testsuites"
    check(root)
    return root


def test_each_cell_is_a_case_with_its_time_and_what_became_of_it(failed: NotebookRun) -> None:
    cases = read(failed).findall(".//testcase")
    assert [(case.get("name"), case.get("time")) for case in cases] == [
        ("cell 2: import pandas as pd", "0.500"),
        ("cell 3: model.fit(X, y)", "1.250"),
        ("cell 5: model.score(X, y)", "0.000"),
    ]
    assert {case.get("classname") for case in cases} == {"notebooks/train"}
    passed, broke, never = cases
    assert list(passed) == []
    failure = broke.find("failure")
    assert failure is not None
    assert failure.attrib == {"type": "KeyError", "message": "cell 3 [In 2]: KeyError: no such column"}
    assert failure.text == "Traceback\nKeyError"
    skipped = never.find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "not run: the run ended before it (cell 3 [In 2], raised)"


def test_properties_name_run_output_and_parameters_without_secrets(failed: NotebookRun) -> None:
    root = read(replace(failed, parameters={"month": 3, "api_key": "s3cr3t", "nan": float("nan")}))
    properties = {each.get("name"): each.get("value") for each in root.iter("property")}
    assert properties == {
        "status": "FAILED",
        "run_id": "4f1c8a20",
        "output": "out/train.ipynb",
        "parameter month": "3",
        "parameter api_key": "***",
        "parameter nan": "NaN",
    }


@pytest.mark.parametrize(("cell", "name"), [(None, "between cells"), (0, "the cell of given parameters")])
def test_a_run_that_ended_outside_of_its_cells_has_an_error_of_its_own(
    failed: NotebookRun, cell: int | None, name: str
) -> None:
    cells = tuple(replace(each, status="pending") for each in failed.cells)
    root = read(replace(failed, cells=cells, status="KILLED", failure=Failure("killed", "SIGKILL", cell)))
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("errors"), suite.get("failures"), suite.get("skipped"), suite.get("tests")) == (
        "1",
        "0",
        "3",
        "4",
    )
    (case,) = [case for case in root.iter("testcase") if case.find("error") is not None]
    assert case.get("name") == name


def test_a_failed_run_of_which_no_more_is_known_still_fails() -> None:
    root = read(NotebookRun("a.ipynb", "", "1", "FAILED", 1.0, {}))
    assert root.get("errors") == "1"


def test_a_notebook_that_skipped_its_rest_passes_and_says_why(failed: NotebookRun) -> None:
    cells = tuple(replace(each, status="pending") if each.status == "failed" else each for each in failed.cells)
    root = read(replace(failed, status="SKIPPED", reason="no new data", failure=None, cells=cells))
    assert (root.get("errors"), root.get("failures")) == ("0", "0")
    assert {each.get("message") for each in root.iter("skipped")} == {
        "not run: the notebook skipped the rest: no new data"
    }


@pytest.mark.parametrize("status", ["FINISHED", "PLANNED"])
def test_a_run_without_cells_has_one_case_because_an_empty_file_is_taken_for_a_mistake(status: str) -> None:
    root = read(NotebookRun("a.ipynb", "", "1", status, 1.0, {}))
    assert root.get("tests") == "1"
    assert root.get("failures") == root.get("errors") == "0"


def test_runs_of_one_notebook_are_told_apart_by_the_parameters_that_differ(failed: NotebookRun) -> None:
    runs = [replace(failed, parameters={"month": month, "kind": "a"}) for month in (1, 2, 2)]
    names = [suite.get("name") for suite in read(*runs)]
    assert names == [
        "notebooks/train.ipynb [month=1]",
        "notebooks/train.ipynb [month=2]",
        "notebooks/train.ipynb [month=2] #2",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_text(text: str) -> None:
    root = read(hostile_run(text))
    assert len(root.findall(".//testcase")) == 3
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x1b]", xml([hostile_run(text)]))


def test_letters_of_every_script_and_their_direction_stay() -> None:
    text = "right to left \u202e gnp.exe \u200f שלום 你好 🎉"
    failure = read(hostile_run(text)).find(".//failure")
    assert failure is not None
    assert failure.text == text


@given(st.lists(st.text(st.characters(exclude_categories=())), min_size=1, max_size=3), st.floats())
def test_any_text_and_any_time_gives_a_valid_file(texts: list[str], seconds: float) -> None:
    runs = [replace(hostile_run(text), duration_s=seconds) for text in texts]
    runs += [replace(run, cells=(CellTiming(1, run.notebook, seconds, "ok"),)) for run in runs]
    xml(runs).encode("utf-8")
    assert len(read(*runs)) == len(runs)


def test_a_huge_traceback_is_cut_and_keeps_its_end(failed: NotebookRun) -> None:
    assert failed.failure is not None
    huge = replace(failed.failure, traceback="x" * 5_000_000 + "\nKeyError: the cause")
    text = xml([replace(failed, failure=huge)])
    assert len(text) < 120_000
    assert "KeyError: the cause" in text
