"""Words that reports share; whatever comes from a notebook becomes plain text here, and nothing else."""

import re
from collections import Counter
from collections.abc import Container, Sequence
from typing import Any

from nbmlops.pipelines.notebook import CellTiming, Failure, NotebookRun
from nbmlops.scrub import scrub, scrub_text
from nbmlops.strict_json import dumps, plain

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?")
# Beside tab and newline, no control is text; the others are what XML 1.0 forbids (https://www.w3.org/TR/xml/#charsets).
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def plain_text(text: str) -> str:
    r"""Reduce a text to what any report can hold: no terminal codes, no controls but tab and newline, no secrets.

    What cannot stand becomes U+FFFD; letters of every script, and the marks that turn their direction, stay.

    Examples
    --------
    >>> plain_text("\x1b[31mValueError\x1b[0m: no\r\nsuch \x00 key")
    'ValueError: no\nsuch � key'
    """
    without = _TERMINAL.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return scrub_text(_NO_TEXT.sub(REPLACEMENT, without))


def one_line(text: str, limit: int = 200) -> str:
    r"""Put a text on one line of at most `limit` characters.

    Examples
    --------
    >>> one_line("ValueError:\n  no such key")
    'ValueError: no such key'
    """
    line = " ".join(plain_text(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def cut(text: str, limit: int) -> str:
    """Make a text plain, and leave out the middle of one above `limit` characters: errors end with their cause.

    Examples
    --------
    >>> print(cut("a" * 30 + "b" * 90, 40))
    aaaaaaaaaa
    … 80 characters are left out here …
    bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
    """
    whole = plain_text(text)
    if len(whole) <= limit:
        return whole
    head = limit // 4
    note = f"… {len(whole) - limit:,} characters are left out here …"
    return f"{whole[:head]}\n{note}\n{whole[len(whole) - limit + head :]}"


def value_text(name: str, value: Any) -> str:
    """Word a parameter's value on one line, secrets masked by name and shape.

    Examples
    --------
    >>> value_text("months", [1, 2]), value_text("api_key", "s3cr3t")
    ('[1, 2]', '***')
    """
    shown = scrub(plain(value), name)
    return one_line(shown if isinstance(shown, str) else dumps(shown))


def titles(runs: Sequence[NotebookRun]) -> list[str]:
    """Name each run: its notebook, with the parameters in which it differs from other runs of that notebook.

    Names stay the same from build to build, which is how CI systems find a test's history.

    Examples
    --------
    >>> run = NotebookRun("train.ipynb", "", "", "FINISHED", 1.0, {"kind": "a", "n": 1})
    >>> other = NotebookRun("train.ipynb", "", "", "FINISHED", 1.0, {"kind": "b", "n": 1})
    >>> titles([run, other])
    ['train.ipynb [kind=a]', 'train.ipynb [kind=b]']
    """
    spellings: dict[tuple[str, str], Counter[str]] = {}
    for run in runs:
        for name, value in run.parameters.items():
            spellings.setdefault((run.notebook, name), Counter())[dumps(value)] += 1
    notebooks = Counter(run.notebook for run in runs)
    common = {key for key, found in spellings.items() if list(found.values()) == [notebooks[key[0]]]}
    named = [_titled(run, common) for run in runs]
    seen: Counter[str] = Counter()
    for place, name in enumerate(named):
        seen[name] += 1
        named[place] = f"{name} #{seen[name]}" if seen[name] > 1 else name
    return named


def _titled(run: NotebookRun, common: Container[tuple[str, str]]) -> str:
    own = {name: value for name, value in run.parameters.items() if (run.notebook, name) not in common}
    words = [f"{name}={value_text(name, value)}" for name, value in own.items()]
    notebook = one_line(run.notebook, 500)
    return f"{notebook} [{', '.join(words)}]" if words else notebook


def cell_name(cell: CellTiming) -> str:
    """Name a cell by its number and first line."""
    return f"cell {cell.index}: {one_line(cell.source_line)}".rstrip(": ")


def failure_of(run: NotebookRun) -> Failure | None:
    """Give why a run failed, also where no more is known than that it did."""
    if run.failure or run.status not in ("FAILED", "KILLED"):
        return run.failure
    place = next((cell for cell in run.cells if cell.status == "failed"), None)
    return Failure(
        cause="killed" if run.status == "KILLED" else "raised",
        message=run.reason or f"The run ended {run.status}.",
        cell=place.index if place else None,
        line=place.source_line if place else "",
    )


def where(failure: Failure) -> str:
    """Say where a run ended.

    Examples
    --------
    >>> where(Failure("raised", "no", cell=3, count=2)), where(Failure("killed", "no")), where(Failure("raised", "", 0))
    ('cell 3 [In 2]', 'between cells', 'the cell of given parameters')
    """
    if failure.cell is None:
        return "between cells"
    if failure.cell == 0:
        return "the cell of given parameters"
    return f"cell {failure.cell}{f' [In {failure.count}]' if failure.count else ''}"


def error_text(failure: Failure) -> str:
    """Word an error as Python does: its name and what it says.

    Examples
    --------
    >>> error_text(Failure("raised", "no such key", ename="KeyError"))
    'KeyError: no such key'
    """
    named = failure.ename and not failure.message.startswith(f"{failure.ename}:")
    return plain_text(f"{failure.ename}: {failure.message}" if named else failure.message).strip() or failure.cause
