"""The one renderer: a result or an error as text, as self-contained HTML, or as JSON."""

import dataclasses
import html
import itertools
import math
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nbmlops.errors import NbmlopsError
from nbmlops.scrub import scrub, scrub_text
from nbmlops.strict_json import dumps, plain
from nbmlops.tracking.runs import Curve, Link
from nbmlops.verb import Picture, Result, Rows, Text, counted
from nbmlops.vocabulary import VERBS

MAX_HTML_BYTES = 100_000
MAX_ROWS = 200
MAX_CELL = 120
MAX_UNBROKEN = 32  # characters of a cell that stays on one line: a time, an id, a metric
_GOOD = {"ok", "pass", "passed", "finished", "answers", "ready", "completed", "sound", "yes"}
_BAD = {"fail", "failed", "dead", "killed", "drifted", "broken", "gateerror"}
_WARN = {"warn", "running", "skip", "skipped"}
_UNSEEN = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # terminals and pages obey them
_IN_LINES = re.compile(f"[{_UNSEEN}]+")
_CONTROL = re.compile(f"[{_UNSEEN}\t\n]+")
_AS_IS = "mathjax_ignore tex2jax_ignore"  # a name with dollar signs is no formula
_BLOCKS = "▁▂▃▄▅▆▇█"
_GAP = "·"  # in a curve, where there is no finite number
MAX_BLOCKS = 24
CURVE_PX = (140, 18)  # width and height
PICTURE_PX = (480, 120)
_COLORS = {  # the theme's own, where there is one
    "good": "var(--jp-success-color1,#1a7f37)",
    "bad": "var(--jp-error-color1,#cf222e)",
    "warn": "var(--jp-warn-color1,#9a6700)",
    "link": "var(--jp-content-link-color,#1976d2)",
    "curve": "var(--jp-brand-color1,#1976d2)",
}


class Address(str):
    """The text of a link."""


class Drawing(str):
    """A curve in blocks, with the values that a page draws instead."""

    values: Curve


@dataclass(frozen=True)
class Table:
    """Rows under named columns, all of them text, some of which a page shows as links and drawings."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Card:
    """What is shown of a result, before it is text or HTML."""

    headline: str
    facts: Sequence[tuple[str, str]] = field(default_factory=list)
    tables: Sequence[Table] = field(default_factory=list)
    next_step: str = ""


# ------------------------------------------------------------------ three forms
def text(result: Any, prefix: str = "nbmlops ") -> str:
    """Show a result as text for a terminal; `prefix` begins the next command to type."""
    if isinstance(result, Text):
        return str(result)
    if isinstance(result, Picture):
        return str(result.text)
    if isinstance(result, Mapping):  # a document of JSON
        return json_text(result)
    card = card_of(result)
    width = shutil.get_terminal_size((120, 24)).columns
    parts = [_wrapped(card.headline, width)] if card.headline else []
    if card.facts:
        longest = max(len(name) for name, _ in card.facts)
        parts.append("\n".join(_wrapped(value, width, f"  {name:<{longest}}  ") for name, value in card.facts))
    parts += [_text_table(table, width) for table in card.tables]
    if card.next_step:
        parts.append(f"next: {prefix}{card.next_step}")
    return "\n\n".join(parts)


def to_html(result: Any, prefix: str = "%mlops ") -> str:
    """Show a result as one inline HTML element of at most 100 kB, everything escaped."""
    if isinstance(result, Picture):
        return f'<div class="{_AS_IS}">{visible(result.svg)}</div>'
    if isinstance(result, Text):
        shown = html.escape(visible(result[: MAX_HTML_BYTES // 6]), quote=True)
        return f'<div class="{_AS_IS}" style="white-space:pre-wrap;font-family:monospace">{shown}</div>'
    card, rows = card_of(result), MAX_ROWS
    while len((page := _html(card, rows, prefix)).encode()) > MAX_HTML_BYTES and rows > 1:
        rows //= 2
    return page


def json_text(result: Any) -> str:
    """Show a result as strict JSON; a list verb's is an array."""
    return dumps(scrub(plain(result)), indent=2)


def error_json(error: NbmlopsError) -> str:
    """Show an error as strict JSON, in the one shape that all surfaces use."""
    return dumps(error_object(error), indent=2)


def error_object(error: NbmlopsError) -> dict[str, Any]:
    """Reduce an error to the object that stands under ``error``."""
    return {"error": scrub(plain(error.details()))}


def error_text(error: NbmlopsError, prefix: str = "nbmlops ") -> str:
    """Show an error as text: its report first where it has one, then what happened and what to do."""
    report = getattr(error, "report", None)
    shown = f"{text(report, prefix)}\n\n" if isinstance(report, Result) else ""
    return f"{shown}{type(error).__name__}: {spelled(visible(scrub_text(str(error))), prefix)}"


def visible(words: str) -> str:
    r"""Put a space for what nobody sees and terminals or pages obey, such as marks that turn a line's direction around.

    Ends of lines and tabs stay.

    Examples
    --------
    >>> visible("model\u202eexe.\n\x1b[31mred")
    'model exe.\n [31mred'
    """
    return _IN_LINES.sub(" ", words)


def spelled(words: str, prefix: str) -> str:
    """Spell the commands in a text, which stand in backticks, as they are typed on one surface.

    Examples
    --------
    >>> spelled("Look at it: `history delays`", "%mlops ")
    'Look at it: %mlops history delays'
    >>> spelled("There is no column `late`.", "%mlops ")
    'There is no column `late`.'
    """

    def command(found: re.Match[str]) -> str:
        return f"{prefix}{found[1]}" if found[1].split()[0] in VERBS else found[0]

    return re.sub(r"`(\w[^`]*)`", command, words)


# ------------------------------------------------------------------- the card
def card_of(result: Any) -> Card:
    """Reduce a result to a card: its one-line verdict, facts, tables and next step."""
    if isinstance(result, Rows):
        return _listing(result)
    if not dataclasses.is_dataclass(result):
        return Card(cell(result))
    facts, tables = [], []
    for name, value in _shown(result):
        if _is_table(value):
            tables.append(_table(_words(name), value))
        elif isinstance(value, Mapping) and len(value) > 3:
            tables.append(Table(_words(name), ("name", "value"), [(cell(k), cell(v, k)) for k, v in value.items()]))
        else:
            facts.append((_words(name), cell(value, name)))
    return Card(cell(getattr(result, "headline", "")), facts, tables, cell(getattr(result, "next_step", "")))


def _listing(rows: Rows[Any]) -> Card:
    """Show rows of one type as one table, and those of several as one for each, counted in its title."""
    groups = [tuple(each) for _, each in itertools.groupby(rows, key=type)]
    if len(groups) > 1:
        return Card(cell(rows.headline), tables=[_table(_counted(each), each) for each in groups])
    return Card(
        rows.headline or (_counted(rows) if rows else "Nothing yet."), tables=[_table("", rows)] if rows else []
    )


def cell(value: Any, name: str = "") -> str:
    """Show one value as short text.

    Examples
    --------
    >>> cell(0.7234567), cell(True), cell({"auc": 0.5}), cell(1234567)
    ('0.7235', 'yes', 'auc 0.5', '1,234,567')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}" if not name.endswith(("version", "port", "pid", "seq")) else str(value)
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Curve | Link):
        return _drawn(value) if isinstance(value, Curve) else Address(scrub_text(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{cell(key)} {cell(item, key)}" for key, item in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(cell(item) for item in value[:10]) + (f", … {len(value) - 10:,} more" if value[10:] else "")
    if dataclasses.is_dataclass(value):
        return str(getattr(value, "headline", "")) or ", ".join(cell(v, n) for n, v in _shown(value))
    shown = _CONTROL.sub(" ", scrub(str(value), name))
    return shown[:8] if name.endswith("_id") and len(shown) == 32 else shown


def blocks(values: Sequence[float], most: int = MAX_BLOCKS) -> str:
    """Draw a curve in one line of text: its lowest value as the lowest block, its highest as the highest.

    Of more than `most` values, evenly spaced ones are drawn, the last among them; a dot
    stands for NaN and infinities.

    Examples
    --------
    >>> blocks([0.9, 0.5, float("nan"), 0.3, 0.1])
    '█▅·▃▁'
    >>> blocks([2.0, 2.0])
    '▄▄'
    """
    n = min(most, len(values))
    thinned = [values[(place + 1) * len(values) // n - 1] for place in range(n)]
    return "".join(_GAP if height is None else _BLOCKS[round(height * 7)] for height in _heights(thinned, 3 / 7))


def _heights(values: Sequence[float], of_a_flat_one: float) -> list[float | None]:
    """Scale values to 0 for the lowest and 1 for the highest; None for what is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if low == high:
        return [of_a_flat_one if math.isfinite(value) else None for value in values]
    return [  # halved, so that the span of huge numbers stays finite
        (value / 2 - low / 2) / (high / 2 - low / 2) if math.isfinite(value) else None for value in values
    ]


def _drawn(values: Curve) -> Drawing:
    drawing = Drawing(blocks(values))
    drawing.values = values
    return drawing


def _shown(result: Any) -> Iterable[tuple[str, Any]]:
    """Give what a card shows: what a result chooses and words itself, or its fields; without what is empty."""
    chosen = result.shown() if hasattr(result, "shown") else _fields(result)
    for name, value in chosen.items():
        empty = value is None or (isinstance(value, str | tuple | Mapping) and len(value) == 0)
        empty = empty or (dataclasses.is_dataclass(value) and not value)
        if not empty and not (name == "dry_run" and not value):
            yield name, value


def _fields(result: Any) -> dict[str, Any]:
    fields = dataclasses.fields(result)
    return {each.name: getattr(result, each.name) for each in fields if not each.metadata.get("machine_only")}


def _is_table(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and dataclasses.is_dataclass(value[0])


def _table(title: str, rows: Sequence[Any]) -> Table:
    """Show dataclasses as rows, under the columns that they choose together or their fields; without empty columns."""
    kind = type(rows[0])
    columns = kind.listed(rows) if hasattr(kind, "listed") else _listed(rows)
    cells = [(_words(name), [cell(value, name) for value in values]) for name, values in columns]
    filled = [(name, values) for name, values in cells if any(values)]
    return Table(title, [name for name, _ in filled], list(zip(*(values for _, values in filled), strict=True)))


def _listed(rows: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    return [(name, [getattr(row, name) for row in rows]) for name in _fields(rows[0])]


def _counted(rows: Sequence[Any]) -> str:
    kind = type(rows[0])
    noun = getattr(kind, "noun", "") or re.sub("(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
    return counted(len(rows), noun)


def _words(name: str) -> str:
    return re.sub("_s$", " (s)", name).replace("_", " ")


# ----------------------------------------------------------------------- text
def _text_table(table: Table, width: int) -> str:
    rows = [[_clip(value, MAX_CELL) for value in row] for row in table.rows[:MAX_ROWS]]
    widths = [max(len(line[i]) for line in [table.columns, *rows]) for i in range(len(table.columns))]
    while sum(widths) + 2 * len(widths) > width and max(widths) > 12:
        widths[widths.index(max(widths))] -= 1
    lines = [[_clip(value, size) for value, size in zip(row, widths, strict=True)] for row in [table.columns, *rows]]
    aligned = ["  " + "  ".join(v.ljust(size) for v, size in zip(row, widths, strict=True)).rstrip() for row in lines]
    aligned.insert(1, "  " + "  ".join("-" * size for size in widths))
    if more := len(table.rows) - len(rows):
        aligned.append(f"  … {more:,} more; --json has all of them")
    return "\n".join([table.title, *aligned] if table.title else aligned)


def _wrapped(value: str, width: int, begin: str = "") -> str:
    """Break a text between its words; one that is longer than a line stays whole, so that it can be copied."""
    return (
        textwrap.fill(
            value,
            width,
            initial_indent=begin,
            subsequent_indent=" " * len(begin),
            break_long_words=False,
            break_on_hyphens=False,
        )
        or begin
    )


def _clip(value: str, size: int) -> str:
    flat = " ".join(value.split())
    return flat if len(flat) <= size else f"{flat[: size - 1]}…"


# ----------------------------------------------------------------------- HTML
def _html(card: Card, max_rows: int, prefix: str) -> str:
    parts = []
    if card.headline:
        parts.append(f'<div style="font-weight:600;margin-bottom:4px">{_escaped(card.headline)}</div>')
    if card.facts:
        parts.append(_html_table(Table("", (), card.facts), max_rows))
    parts += [_html_table(table, max_rows) for table in card.tables]
    if card.next_step:
        parts.append(f'<div style="margin-top:4px">next: <code>{_escaped(prefix + card.next_step)}</code></div>')
    style = "font-family:var(--jp-ui-font-family,sans-serif);font-size:13px;line-height:1.5;overflow-x:auto"
    return f'<div class="nbmlops-card {_AS_IS}" style="{style}">{"".join(parts)}</div>'


def _html_table(table: Table, max_rows: int) -> str:
    pad = "text-align:left;padding:1px 12px 1px 0;vertical-align:top"
    head = "".join(
        f'<th style="{pad};opacity:.7;font-weight:500;white-space:nowrap">{_escaped(name)}</th>'
        for name in table.columns
    )
    rows = [f"<tr>{''.join(_html_cell(value, pad) for value in row)}</tr>" for row in table.rows[:max_rows]]
    more = len(table.rows) - len(rows)
    rest = f"<div>… {more:,} more; <code>x = %mlops …</code> keeps all of them</div>" if more > 0 else ""
    title = f'<div style="margin-top:6px;font-weight:500">{_escaped(table.title)}</div>' if table.title else ""
    thead = f"<thead><tr>{head}</tr></thead>" if head else ""
    style = "border-collapse:collapse;margin:2px 0"
    return f'{title}<table style="{style}">{thead}<tbody>{"".join(rows)}</tbody></table>{rest}'


def _html_cell(value: str, style: str) -> str:
    if isinstance(value, Drawing):
        return f'<td style="{style}">{_svg(value)}</td>'
    if isinstance(value, Address):
        href = html.escape(value, quote=True)
        link = f'<a href="{href}" target="_blank" rel="noopener noreferrer" style="color:{_COLORS["link"]}">{href}</a>'
        return f'<td style="{style}">{link}</td>'
    unbroken = ";white-space:nowrap" if len(value) <= MAX_UNBROKEN else ""
    return f'<td style="{style}{unbroken}{_tone(value)}">{_escaped(value)}</td>'


def picture(words: str, values: Curve) -> dict[str, str]:
    """Show a curve under a line of words, large: as text and as self-contained HTML, by their media types."""
    drawing, finite = _drawn(values), [value for value in values if math.isfinite(value)]
    low, high = (cell(limit) for limit in (min(finite, default=math.nan), max(finite, default=math.nan)))
    style = "font-family:var(--jp-ui-font-family,sans-serif);font-size:13px"
    limits = f'<div style="opacity:.7">{_escaped(f"{low} to {high}")}</div>'
    head = f'<div style="font-weight:600">{_escaped(words)}</div>'
    drawn = f"{head}{_svg(drawing, PICTURE_PX)}{limits}"
    return {
        "text/plain": f"{words}  {drawing}",
        "text/html": f'<div class="nbmlops-curve {_AS_IS}" style="{style}">{drawn}</div>',
    }


def _svg(drawing: Drawing, size: tuple[int, int] = CURVE_PX) -> str:
    """Draw a curve; where a page may hold no drawings, its title remains, which is the curve in blocks."""
    width, height = size
    scaled = _heights(drawing.values, 0.5)
    step = (width - 4) / max(len(scaled) - 1, 1)
    points = [
        None if y is None else f"{2 + i * step:.1f},{2 + (1 - y) * (height - 4):.1f}" for i, y in enumerate(scaled)
    ]
    strokes = [[point for point in group if point] for _, group in itertools.groupby(points, key=bool)]
    lines = "".join(f"M{' '.join([stroke[0], *stroke])}" for stroke in strokes if stroke)  # one point alone is a dot
    style = f"fill:none;stroke:{_COLORS['curve']};stroke-width:1.5;stroke-linecap:round;stroke-linejoin:round"
    shape = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" style="vertical-align:middle"'
    return f'<svg {shape}><title>{_escaped(drawing)}</title><path d="{lines}" style="{style}"></path></svg>'


def _tone(value: str) -> str:
    word = value.lower()
    tone = "good" if word in _GOOD else "bad" if word in _BAD else "warn" if word in _WARN else ""
    return f";color:{_COLORS[tone]};font-weight:600" if tone else ""


def _escaped(value: str) -> str:
    return html.escape(_clip(visible(value), 300), quote=True)
