"""A pipeline drawn as SVG: static, without script, in the colour of the text around it."""

from collections.abc import Mapping, Sequence
from html import escape

from nbmlops.pipelines.flow.declared import Pipeline, Step
from nbmlops.pipelines.flow.drawing import does, sign_of
from nbmlops.pipelines.flow.graph import Edges, direct, levels

ROW, GAP, MARGIN = 64, 56, 12  # pixels: a row's height, the space between columns, around all
BOX = 46  # a box's height
LETTER = 7.4  # a letter's width in a name
LONGEST = 30  # letters
SWEEPS = 6  # of ordering columns; more change nothing visible

Column = list[str]
_PASSING = "\0"  # begins the name of a place where a line passes a column


def svg(pipeline: Pipeline, states: Mapping[str, str] | None = None) -> str:
    """Draw a pipeline from left to right; what a step needs stands to its left.

    Parameters
    ----------
    pipeline
        Without cycles.
    states
        By step: words such as ``cached``; shown in the box.

    Returns
    -------
    str
        One ``<svg>`` element; every text is escaped, lines and letters have ``currentColor``.

    Examples
    --------
    >>> svg(Pipeline("p", (Step("a<b", "verb", "status"),)))[:38]
    '<svg xmlns="http://www.w3.org/2000/svg'
    """
    states = states or {}
    edges = direct(pipeline.edges)
    columns, lines = _columns(edges)
    steps = {step.name: step for step in pipeline.steps}
    width = max((_width(step, states.get(step.name, "")) for step in pipeline.steps), default=0)
    spots = _spots(columns, width)
    height = MARGIN * 2 + ROW * max((len(column) for column in columns), default=0) - (ROW - BOX)
    total = MARGIN * 2 + len(columns) * (width + GAP) - GAP
    drawn = [_line(spots[one], spots[other], width) for one, other in lines]
    drawn += [_passing(spots[name], width) for name in spots if name.startswith(_PASSING)]
    drawn += [_box(steps[name], spots[name], width, states.get(name, "")) for name in edges]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="13" fill="currentColor" stroke="none">'
        f"<title>{escape(pipeline.name)}</title>{''.join(drawn)}</svg>"
    )


def places(pipeline: Pipeline) -> dict[str, tuple[int, float]]:
    """Give each step's place in the drawing, counted from 0: its column from the left and its row from the top.

    Examples
    --------
    >>> fork = Step("b", "verb", "runs", ("a",)), Step("c", "verb", "runs", ("a",))
    >>> places(Pipeline("p", (Step("a", "verb", "status"), *fork)))
    {'a': (0, 0.5), 'b': (1, 0.0), 'c': (1, 1.0)}
    """
    spots = _grid(_columns(direct(pipeline.edges))[0])
    return {step.name: spots[step.name] for step in pipeline.steps}


def _columns(edges: Edges) -> tuple[list[Column], list[tuple[str, str]]]:
    """Give each level's names from the top, and the lines between neighbours; a long line passes each column."""
    place = levels(edges)
    columns: list[Column] = [[] for _ in range(max(place.values(), default=-1) + 1)]
    for name in edges:
        columns[place[name]].append(name)
    lines = []
    for name, needs in edges.items():
        for need in needs:
            before = need
            for level in range(place[need] + 1, place[name]):
                columns[level].append(f"{_PASSING}{need}\0{name}\0{level}")
                lines.append((before, columns[level][-1]))
                before = columns[level][-1]
            lines.append((before, name))
    return _untangled(columns, lines), lines


def _untangled(columns: Sequence[Column], lines: Sequence[tuple[str, str]]) -> list[Column]:
    """Order each column by the middle of its neighbours, to and fro."""
    left: dict[str, list[str]] = {}
    right: dict[str, list[str]] = {}
    for one, other in lines:
        left.setdefault(other, []).append(one)
        right.setdefault(one, []).append(other)
    ordered = [list(column) for column in columns]
    for sweep in range(SWEEPS):
        neighbours = right if sweep % 2 else left
        for column in reversed(ordered) if sweep % 2 else ordered:
            at = {name: _middle(each, n) for each in ordered for n, name in enumerate(each)}
            now = {name: n for n, name in enumerate(column)}
            column.sort(key=lambda name: _mean([at[each] for each in neighbours.get(name, ())], now[name]))
    return ordered


def _middle(column: Column, n: int) -> float:
    """Tell how far a row lies from the middle of its column."""
    return n - (len(column) - 1) / 2


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _grid(columns: Sequence[Column]) -> dict[str, tuple[int, float]]:
    """Give each name's column and row; columns stand around one middle."""
    tallest = max((len(column) for column in columns), default=0)
    return {
        name: (x, _middle(column, y) + (tallest - 1) / 2)
        for x, column in enumerate(columns)
        for y, name in enumerate(column)
    }


def _spots(columns: Sequence[Column], width: int) -> dict[str, tuple[float, float]]:
    """Give each name its left edge and the middle of its height, in pixels."""
    grid = _grid(columns)
    return {name: (MARGIN + x * (width + GAP), MARGIN + BOX / 2 + ROW * y) for name, (x, y) in grid.items()}


def _width(step: Step, state: str) -> int:
    longest = max(len(_short(step.name)) + len(_short(state)) * 0.85 + 3, len(_short(does(step))) * 0.85)
    return int(longest * LETTER) + 28


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _line(one: tuple[float, float], other: tuple[float, float], width: int) -> str:
    (x1, y1), (x2, y2) = (one[0] + width, one[1]), other
    middle = (x1 + x2) / 2
    return (
        f'<path d="M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}" '
        f'fill="none" stroke="currentColor" stroke-opacity="0.5" stroke-width="1.5"/>'
    )


def _passing(spot: tuple[float, float], width: int) -> str:
    return (
        f'<path d="M{spot[0]:g} {spot[1]:g}h{width}" '
        f'fill="none" stroke="currentColor" stroke-opacity="0.5" stroke-width="1.5"/>'
    )


def _box(step: Step, spot: tuple[float, float], width: int, state: str) -> str:
    x, y = spot
    dashed = ' stroke-dasharray="5 4"' if step.kind == "approval" else ""
    said = escape(f"{step.name}: {step.target}{f' ({state})' if state else ''}")
    shown = f"{sign_of(state)} {_short(state)}" if state else ""
    target = escape(_short(does(step)))
    return (
        f"<g><title>{said}</title>"
        f'<rect x="{x:g}" y="{y - BOX / 2:g}" width="{width}" height="{BOX}" rx="7" fill="currentColor" '
        f'fill-opacity="0.06" stroke="currentColor" stroke-opacity="0.6"{dashed}/>'
        f'<text x="{x + 12:g}" y="{y - 4:g}" font-weight="600">{escape(_short(step.name))}</text>'
        f'<text x="{x + width - 12:g}" y="{y - 4:g}" font-size="11" text-anchor="end">{escape(shown)}</text>'
        f'<text x="{x + 12:g}" y="{y + 13:g}" font-size="11" fill-opacity="0.75">{target}</text></g>'
    )
