"""Runs as a job summary in Markdown, as GitHub, GitLab and Jenkins' plug-ins render it; hostile text stays text."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nbmlops.pipelines.ci.wording import (
    cell_name,
    cut,
    error_text,
    failure_of,
    one_line,
    plain_text,
    titles,
    value_text,
    where,
)
from nbmlops.pipelines.notebook import Failure, NotebookRun
from nbmlops.verb import counted

LIMIT_BYTES = 1_000_000  # GitHub takes 1 MiB for a step (https://docs.github.com/actions, job summaries)
MAX_ROWS = 500  # of the table of runs
MAX_TEXT = 20_000  # characters of one source or traceback
MAX_VALUES = 100  # parameters or results of one run
SLOWEST = 5  # cells
_MARKS = {"FINISHED": "✅", "FAILED": "❌", "KILLED": "🛑", "SKIPPED": "⏭️", "PLANNED": "📝"}
_BAD_FIRST = ("FAILED", "KILLED", "SKIPPED", "PLANNED", "FINISHED")
_PUNCTUATION = re.compile(r"[&<>|`*_\[\](){}#!~\\@:$^?]|(?<=www)\.", re.IGNORECASE)


def markdown(runs: Sequence[NotebookRun], limit_bytes: int = LIMIT_BYTES) -> str:
    """Write runs as a job summary: a table of all, then each with its failing cell, parameters and slowest cells.

    Parameters
    ----------
    runs
        In any number; failed ones are shown first.
    limit_bytes
        The most that the summary may take as UTF-8; runs for which there is no room are counted in a note.

    Returns
    -------
    str
        Markdown; empty where not even the table has room.

    Examples
    --------
    >>> run = NotebookRun("train.ipynb", "out.ipynb", "4f1c8a20", "FINISHED", 2.0, {"kind": "a|b"})
    >>> print(markdown([run]))
    ### nbmlops: 1 run, 0 failed
    <BLANKLINE>
    | | notebook | status | time | run |
    |---|---|---|---:|---|
    | ✅ | train.ipynb | FINISHED | 2.0 s | <code>4f1c8a20</code> |
    <BLANKLINE>
    <details><summary>✅ train.ipynb</summary>
    <BLANKLINE>
    | parameter | value |
    |---|---|
    | <code>kind</code> | <code>a&#124;b</code> |
    <BLANKLINE>
    Executed notebook: <code>out.ipynb</code>
    <BLANKLINE>
    Next: <code>nbmlops show 4f1c8a20</code>
    <BLANKLINE>
    </details>
    <BLANKLINE>
    """
    ordered = sorted(zip(runs, titles(runs), strict=True), key=lambda pair: _rank(pair[0]))
    parts = [_table(ordered)]
    room = limit_bytes - len(parts[0].encode()) - 200  # for the note
    if room < 0:
        return ""
    for done, (run, title) in enumerate(ordered):
        section = _section(run, title)
        room -= len(section.encode())
        if room < 0:
            left_out = counted(len(ordered) - done, "run")
            parts.append(f"_{left_out} left out below: a summary may take {limit_bytes:,} bytes at most._\n")
            break
        parts.append(section)
    return "\n".join(parts)


def escaped(text: str) -> str:
    """Write a text on one line so that Markdown and HTML show it as it is.

    Punctuation becomes numeric references, which CommonMark never takes for structure (0.31.2, section 2.5).

    Examples
    --------
    >>> escaped("<b>|`x`")
    '&#60;b&#62;&#124;&#96;x&#96;'
    """
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", one_line(text, 1_000))


def fenced(text: str, language: str = "") -> str:
    """Put a text into a fence that is longer than any in it.

    Examples
    --------
    >>> print(fenced("a ``` b"))
    ````
    a ``` b
    ````
    """
    content = cut(text, MAX_TEXT)
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{content}\n{fence}"


def _rank(run: NotebookRun) -> int:
    return _BAD_FIRST.index(run.status) if run.status in _BAD_FIRST else 0


def _table(ordered: Sequence[tuple[NotebookRun, str]]) -> str:
    failed = sum(failure_of(run) is not None for run, _ in ordered)
    lines = [f"### nbmlops: {counted(len(ordered), 'run')}, {failed:,} failed", ""]
    lines += ["| | notebook | status | time | run |", "|---|---|---|---:|---|"]
    lines += [_row(run, title) for run, title in ordered[:MAX_ROWS]]
    if left := len(ordered) - MAX_ROWS:
        lines += [f"| | and {counted(left, 'run')} more | | | |"] if left > 0 else []
    return "\n".join([*lines, ""])


def _row(run: NotebookRun, title: str) -> str:
    place = f" ({escaped(where(failure))})" if (failure := failure_of(run)) else ""
    status = f"{escaped(run.status)}{place}"
    return f"| {_mark(run)} | {escaped(title)} | {status} | {run.duration_s:.1f} s | {_code(run.run_id[:8])} |"


def _mark(run: NotebookRun) -> str:
    return _MARKS.get(run.status, "❔")


def _code(text: str) -> str:
    return f"<code>{escaped(text)}</code>" if text else ""


def _section(run: NotebookRun, title: str) -> str:
    failure = failure_of(run)
    blocks = [*_failed(failure)] if failure else []
    blocks += [f"Reason: {escaped(run.reason)}"] if run.reason else []
    blocks += _values("parameter", run.parameters) + _values("result", run.results) + _slowest(run)
    blocks += [f"Executed notebook: {_code(run.output)}"] if run.output else []
    blocks += [f"Next: {_code(f'nbmlops {run.next_step}')}"] if run.next_step else []
    body = "\n\n".join(blocks)
    head = f"{_mark(run)} {escaped(title)}"
    if failure:
        return f"#### {head}\n\n{body}\n"
    return f"<details><summary>{head}</summary>\n\n{body}\n\n</details>\n"


def _failed(failure: Failure) -> Iterator[str]:
    yield f"**{escaped(where(failure))}**: {_code(error_text(failure))}"
    if source := failure.source or failure.line:
        yield fenced(source, "python")
    if failure.traceback:
        yield f"<details><summary>Traceback</summary>\n\n{fenced(failure.traceback, 'text')}\n\n</details>"
    elif "\n" in plain_text(failure.message).strip():
        yield fenced(failure.message, "text")


def _values(noun: str, values: Mapping[str, Any]) -> list[str]:
    pairs = list(values.items())
    rows = [f"| {_code(name)} | {_code(value_text(name, value))} |" for name, value in pairs[:MAX_VALUES]]
    more = [f"| and {len(pairs) - MAX_VALUES:,} more | |"] if len(pairs) > MAX_VALUES else []
    return ["\n".join([f"| {noun} | value |", "|---|---|", *rows, *more])] if rows else []


def _slowest(run: NotebookRun) -> list[str]:
    timed = sorted((cell for cell in run.cells if cell.status != "pending"), key=lambda cell: -cell.seconds)[:SLOWEST]
    rows = [f"| {_code(one_line(cell_name(cell)))} | {cell.seconds:.2f} s |" for cell in timed]
    return ["\n".join(["| slowest cells | time |", "|---|---:|", *rows])] if rows else []
