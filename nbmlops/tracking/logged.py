"""What `log` keeps as files: figures, tables and texts, written where they are then logged from."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.data.tables import read_table
from nbmlops.errors import DataError, NotFoundError, UsageError
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.verb import is_frame

if TYPE_CHECKING:
    import pandas as pd

FIGURES, TABLES, TEXTS = "figures", "tables", "texts"
_NAME = re.compile(r"[\w][\w .-]*")
_DPI = 144  # sharp on a screen of double density


def files(
    project: Project, scratch: Path, figures: Mapping[str, Any], tables: Mapping[str, Any], texts: Mapping[str, Any]
) -> Iterator[tuple[Path, str]]:
    """Write figures, tables and texts below a scratch folder; give each file and the artifact folder it belongs in.

    Raises
    ------
    UsageError
        A name cannot be a file's, or a thing is not what it was given as.
    NotFoundError
        A path leads to no file.
    DataError
        A table cannot be kept.
    """
    for folder, things, write in (
        (FIGURES, figures, _write_figure),
        (TABLES, tables, _write_table),
        (TEXTS, texts, _write_text),
    ):
        for name, thing in things.items():
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} cannot name a file.", "Letters, digits, - . and _ can: NAME=VARIABLE")
            (scratch / folder).mkdir(exist_ok=True)
            yield write(project, scratch / folder / name, thing), folder


def digests(project: Project, tables: Mapping[str, Any]) -> dict[str, str]:
    """Word the digests of tables as tags: ``nbmlops.data.NAME``."""
    from nbmlops.data.fingerprint import digest

    return {f"nbmlops.data.{name}": digest(_frame(project, table)) for name, table in tables.items()}


def _write_figure(project: Project, path: Path, figure: Any) -> Path:
    """Write a matplotlib figure as PNG, a plotly one as HTML; a file that is there already is copied."""
    if isinstance(figure, str | Path):
        return _copied(project, path, figure)
    if callable(write_html := getattr(figure, "write_html", None)):
        page = _beside(path, ".html")
        write_html(str(page), include_plotlyjs="cdn")
        return page
    picture = _beside(path, ".png")
    _saver(figure)(picture, dpi=_DPI, bbox_inches="tight")
    return picture


def _saver(figure: Any) -> Callable[..., Any]:
    """Find what saves a figure: its own method, or that of the figure that axes are in."""
    for each in (figure, getattr(figure, "figure", None)):
        if callable(save := getattr(each, "savefig", None)):
            return save  # type: ignore[no-any-return]
    raise UsageError(f"A figure is matplotlib's or plotly's, or a path, not {type(figure).__name__}.")


def _write_table(project: Project, path: Path, table: Any) -> Path:
    """Write a table as Parquet, which keeps every type."""
    parquet = _beside(path, ".parquet")
    frame = _frame(project, table)
    try:
        frame.to_parquet(parquet)
    except (ValueError, TypeError, OverflowError) as exc:  # Arrow's errors are ValueErrors
        raise DataError(
            f"The table {path.name} cannot be kept as Parquet: {exc}".partition("\n")[0],
            "Give the column that it names one type, for instance with astype(str).",
        ) from exc
    return parquet


def _frame(project: Project, table: Any) -> "pd.DataFrame":
    """Give a table as a DataFrame, whatever it is given as."""
    if is_frame(table) or isinstance(table, str | Path):
        return read_table(project, table)
    import pandas as pd

    try:
        return pd.DataFrame(table)
    except (ValueError, TypeError) as exc:
        raise UsageError(
            f"A table is a DataFrame, columns by name, a list of rows or a path: {exc}".partition("\n")[0]
        ) from exc


def _write_text(_: Project, path: Path, text: Any) -> Path:
    file = _beside(path, ".txt") if not path.suffix else path
    file.write_text(scrub_text(str(text)), encoding="utf-8")
    return file


def _copied(project: Project, path: Path, name: str | Path) -> Path:
    source = project.path(str(name))
    if not source.is_file():
        raise NotFoundError(f"There is no file {source}.", "Name a figure's variable, or a picture's path.")
    copy = _beside(path, source.suffix)
    copy.write_bytes(source.read_bytes())
    return copy


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")
