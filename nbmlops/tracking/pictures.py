"""Pictures of how a classifier does, as SVG text: a confusion matrix and a curve. Pure: no plotting library, no files.

They take a millisecond, where importing a plotting library alone takes a second.
"""

from collections.abc import Sequence
from html import escape

_SIDE = 300.0  # of the drawing area, in user units
_EDGE = 60.0  # around it, for labels
_MAX_POINTS = 500  # of a curve; more would not be seen
_MAX_LABELS = 20  # of a matrix; more would not be read


def confusion(labels: Sequence[object], shares: Sequence[Sequence[float]], title: str) -> str:
    """Draw a confusion matrix.

    Parameters
    ----------
    labels
        Of the n classes.
    shares
        (n, n), true class by predicted class, each row adding up to 1; each in [0, 1].
    title
        Stands above it.

    Returns
    -------
    str
        The SVG. Beyond 20 classes the squares have no words.

    Examples
    --------
    >>> picture = confusion(["on time", "late"], [[0.9, 0.1], [0.4, 0.6]], "Confusion")
    >>> picture.count("<rect"), "0.90" in picture
    (5, True)
    """
    size = _SIDE / max(1, len(labels))
    is_worded = len(labels) <= _MAX_LABELS
    parts = []
    for row, each in enumerate(shares):
        parts += [_square(row, column, share, size, is_worded) for column, share in enumerate(each)]
        if is_worded:
            middle = _EDGE + (row + 0.5) * size
            parts += [_text(_EDGE - 6, middle, labels[row], "end"), _text(middle, _EDGE + _SIDE + 14, labels[row])]
    return _svg(title, "predicted", "true", parts)


def curve(across: Sequence[float], up: Sequence[float], title: str, names: tuple[str, str]) -> str:
    """Draw a curve in the unit square.

    Parameters
    ----------
    across, up
        (n_points,) each, in [0, 1]; of more than 500 points some are left out.
    title
        Stands above it.
    names
        Of the two axes.

    Returns
    -------
    str
        The SVG.

    Examples
    --------
    >>> "60.0,360.0 210.0,60.0" in curve([0, 0.5, 1], [0, 1, 1], "ROC", ("false positive rate", "true positive rate"))
    True
    """
    every = max(1, -(-len(across) // _MAX_POINTS))
    points = [*zip(across[::every], up[::every], strict=True), *zip(across[-1:], up[-1:], strict=True)]
    line = " ".join(f"{_EDGE + x * _SIDE:.1f},{_EDGE + (1 - y) * _SIDE:.1f}" for x, y in points)
    frame = f'<rect x="{_EDGE}" y="{_EDGE}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#888"/>'
    ends = [_text(_EDGE - 6, _EDGE + 4, 1, "end"), _text(_EDGE - 6, _EDGE + _SIDE, 0, "end")]
    ends += [_text(_EDGE, _EDGE + _SIDE + 14, 0), _text(_EDGE + _SIDE, _EDGE + _SIDE + 14, 1)]
    drawn = f'<polyline points="{line}" fill="none" stroke="#1f77b4" stroke-width="2"/>'
    return _svg(title, *names, [frame, drawn, *ends])


def _square(row: int, column: int, share: float, size: float, is_worded: bool) -> str:
    x, y = _EDGE + column * size, _EDGE + row * size
    blue = f"rgb({round(255 - 224 * share)},{round(255 - 136 * share)},{round(255 - 75 * share)})"
    square = f'<rect x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}" fill="{blue}"/>'
    ink = "#fff" if share > 0.5 else "#222"
    return square + (_text(x + size / 2, y + size / 2 + 4, f"{share:.2f}", ink=ink) if is_worded else "")


def _text(x: float, y: float, words: object, anchor: str = "middle", ink: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{ink}">{escape(str(words))}</text>'


def _svg(title: str, across: str, up: str, parts: Sequence[str]) -> str:
    side = _SIDE + 2 * _EDGE
    middle = side / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side:g} {side:g}" width="{side:g}" height="{side:g}" '
        'font-family="sans-serif" font-size="12">'
        '<rect width="100%" height="100%" fill="#fff"/>'
        f"{_text(middle, 30, title)}{_text(middle, side - 16, across)}"
        f'<g transform="rotate(-90 16 {middle:g})">{_text(16, middle, up)}</g>{"".join(parts)}</svg>\n'
    )
