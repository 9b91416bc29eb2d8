"""Failed runs as each CI system points at them: GitHub's workflow commands, GitLab's log sections and Code Quality."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence

from nbmlops.pipelines.ci.wording import cut, error_text, failure_of, one_line, plain_text, titles, where
from nbmlops.pipelines.notebook import NotebookRun
from nbmlops.strict_json import dumps

MAX_MESSAGE = 2_000  # characters: GitHub shows 4 kB of one annotation, and ten of them for a step
MAX_TEXT = 20_000
_JSON = json.JSONDecoder()
_GAP = {mark: re.compile(rf"[ \t\r\n]*{re.escape(mark)}?[ \t\r\n]*") for mark in "{[,:"}
_FOLD = "\x1b[0K"  # what GitLab looks for in front of a section's name


def github(runs: Sequence[NotebookRun], lines: Sequence[int]) -> list[str]:
    r"""Give the workflow commands that annotate notebooks: an error for a failed run, a notice for a skipped one.

    Parameters
    ----------
    runs
        Their `notebook` is the path inside of the repository.
    lines
        For each run the line of the file to point at, from 1.

    Returns
    -------
    list of str
        One line each, without its end; empty when all went well.

    Examples
    --------
    >>> from nbmlops.pipelines.notebook import Failure
    >>> why = Failure("raised", "50% of a,b:\nmissing", cell=3, ename="KeyError")
    >>> run = NotebookRun("a,b.ipynb", "", "", "FAILED", 1.0, {}, failure=why)
    >>> print(github([run], [17])[0])
    ::error file=a%2Cb.ipynb,line=17,title=a%2Cb.ipynb%3A cell 3::KeyError: 50%25 of a,b:%0Amissing
    """
    said = []
    for run, line, title in zip(runs, lines, titles(runs), strict=True):
        if failure := failure_of(run):
            headline = f"{title}: {where(failure)}"
            said.append(_command("error", run.notebook, line, headline, error_text(failure)))
        elif run.status == "SKIPPED":
            said.append(_command("notice", run.notebook, line, title, f"Skipped: {run.reason or 'no reason given'}"))
    return said


def _command(kind: str, file: str, line: int, title: str, message: str) -> str:
    """Write one command, escaped as the runner unescapes it (actions/toolkit, core/src/command.ts)."""
    properties = {"file": plain_text(file), "line": str(line), "title": one_line(title)}
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{kind} {listed}::{_data(cut(message, MAX_MESSAGE))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def gitlab(runs: Sequence[NotebookRun], at: int) -> list[str]:
    r"""Give a folded section of the job's log for each failed run: the error, the cell's source, the traceback.

    Parameters
    ----------
    runs
        Only failed ones are shown.
    at
        Now, in seconds since 1970; GitLab shows the time between a section's start and end.

    Examples
    --------
    >>> from nbmlops.pipelines.notebook import Failure
    >>> run = NotebookRun("a.ipynb", "", "", "FAILED", 1.0, {}, failure=Failure("raised", "no", 1, source="f()"))
    >>> gitlab([run], 1795000000)[0]
    '\x1b[0Ksection_start:1795000000:nbmlops_1[collapsed=true]\r\x1b[0KFAILED a.ipynb, cell 1: no'
    """
    said = []
    for number, (run, headline) in enumerate(_failed(runs), start=1):
        said.append(f"{_FOLD}section_start:{at}:nbmlops_{number}[collapsed=true]\r{_FOLD}{headline}")
        said += _details(run)
        said.append(f"{_FOLD}section_end:{at}:nbmlops_{number}\r{_FOLD}")
    return said


def plain_lines(runs: Sequence[NotebookRun]) -> list[str]:
    """Give one line for each failed run, as Jenkins and any other log shows it.

    Examples
    --------
    >>> from nbmlops.pipelines.notebook import Failure
    >>> plain_lines([NotebookRun("a.ipynb", "", "", "KILLED", 1.0, {}, failure=Failure("killed", "out of memory"))])
    ['KILLED a.ipynb, between cells: out of memory']
    """
    return [headline for _, headline in _failed(runs)]


def _failed(runs: Sequence[NotebookRun]) -> Iterator[tuple[NotebookRun, str]]:
    for run, title in zip(runs, titles(runs), strict=True):
        if failure := failure_of(run):
            yield run, f"{run.status} {title}, {where(failure)}: {one_line(error_text(failure), 500)}"


def _details(run: NotebookRun) -> list[str]:
    failure = failure_of(run)
    texts = [failure.source or failure.line, failure.traceback] if failure else []
    return [f"  {line}" for text in texts if text for line in cut(text, MAX_TEXT).split("\n")]


def code_quality(runs: Sequence[NotebookRun], lines: Sequence[int]) -> str:
    """Write failed runs as GitLab's Code Quality report, which merge requests show beside the file.

    A finding's fingerprint is made of notebook, cause and cell, so that the next run's is known for the same.

    Examples
    --------
    >>> code_quality([], [])
    '[]'
    """
    found: dict[str, object] = {}
    for run, line, title in zip(runs, lines, titles(runs), strict=True):
        if failure := failure_of(run):
            identity = json.dumps([title, failure.cause, failure.ename, failure.source or failure.line, failure.cell])
            fingerprint = hashlib.sha256(identity.encode()).hexdigest()
            found[fingerprint] = {
                "description": one_line(f"{title}, {where(failure)}: {error_text(failure)}", MAX_MESSAGE),
                "check_name": f"nbmlops.{one_line(failure.cause)}",
                "fingerprint": fingerprint,
                "severity": "critical",
                "location": {"path": plain_text(run.notebook), "lines": {"begin": line}},
            }
    return dumps(list(found.values()), indent=2 if found else None)


def line_of_cell(text: str, cell: int | None) -> int:
    r"""Find the line of a notebook's file on which a cell's source begins; 1 where there is no such cell.

    Parameters
    ----------
    text
        The notebook's JSON.
    cell
        Counted from 1 over all cells.

    Examples
    --------
    >>> line_of_cell('{\n "cells": [\n  {"source": "a"},\n  {\n   "source": "b"}\n ]\n}', 2)
    5
    """
    try:
        begin, end = _span_of_cell(text, cell or 0)
    except (ValueError, RecursionError):
        return 1
    source = text.find('"source"', begin, end)
    return text.count("\n", 0, source if source >= 0 else begin) + 1


def _span_of_cell(text: str, cell: int) -> tuple[int, int]:
    """Walk over the JSON's top object and its list of cells; ValueError where there is no such cell."""
    key, place = "", _behind(text, 0, "{")
    while key != "cells":
        key, place = _JSON.raw_decode(text, _behind(text, place, ","))
        place = _behind(text, place, ":")
        if key != "cells":
            _, place = _JSON.raw_decode(text, place)
    begin, place = 0, _behind(text, place, "[")
    for _ in range(cell):
        begin = _behind(text, place, ",")
        _, place = _JSON.raw_decode(text, begin)
    if not begin:
        raise ValueError(cell)
    return begin, place


def _behind(text: str, place: int, mark: str) -> int:
    """Step over white space, and a mark that may stand there."""
    found = _GAP[mark].match(text, place)
    return found.end() if found else place
