"""Read a table, whatever it is given as: a DataFrame, or the path of a Parquet, CSV or JSON file."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.errors import DataError, NotFoundError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.verb import is_frame

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".parquet", ".csv", ".csv.gz", ".json", ".jsonl")


def read_table(project: Project, data: Any) -> pd.DataFrame:
    """Give a DataFrame as it is, and read a path into one.

    Parameters
    ----------
    project
        Resolves relative paths.
    data
        A DataFrame, or the path of a file; its ending tells the format. ``.json``
        holds one list of records, ``.jsonl`` one record a line.

    Returns
    -------
    pandas.DataFrame
        The table; what was passed in is not copied.

    Raises
    ------
    NotFoundError
        No file is there; the hint names those in the same folder that are most alike.
    UsageError
        It is neither a DataFrame nor a path with an ending that is known.
    DataError
        The file cannot be read as what its ending says.
    """
    if is_frame(data):
        return data  # type: ignore[no-any-return]
    if not isinstance(data, str | Path):
        raise UsageError(f"A table is a DataFrame or a path, not {type(data).__name__}.", f"A path ends in {_LISTED}.")
    is_declared = isinstance(data, Path) and data.is_absolute()  # by a gate: callers of other machines send text
    path = project.declared_path(str(data)) if is_declared else project.path(str(data))
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}.", nearest(path.name, _neighbours(path.parent)))
    return _read(path, check_ending(path))


def check_ending(path: Path) -> str:
    """Give the ending that tells a table's format.

    Raises
    ------
    UsageError
        The ending is not known.

    Examples
    --------
    >>> check_ending(Path("march.csv.gz"))
    '.csv.gz'
    """
    if ending := _ending(path):
        return ending
    raise UsageError(f"{path.name} has an ending that is not known.", f"A table's file ends in {_LISTED}.")


def names_a_table(text: str) -> bool:
    """Say whether text ends as a table's file does; the name of something else does not.

    Examples
    --------
    >>> names_a_table("data/march.csv.gz"), names_a_table("delays")
    (True, False)
    """
    return bool(_ending(Path(text)))


def table_name(data: Any) -> str:
    """Name a table: the file's name without its ending; for a DataFrame its ``attrs["name"]``, or ``frame``.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"delay": [3]})
    >>> table.attrs["name"] = "march"
    >>> table_name(table)
    'march'
    >>> table_name("data/march.csv.gz")
    'march'
    """
    if is_frame(data):
        return str(data.attrs.get("name", "frame"))
    path = Path(str(data))
    return path.name[: -len(_ending(path))] if _ending(path) else path.name


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a DataFrame, without its index, in the format that the path's ending names.

    Raises
    ------
    UsageError
        The ending is not known.
    DataError
        The file cannot be written.
    """
    ending = check_ending(path)
    try:
        match ending:
            case ".parquet":
                frame.to_parquet(path, index=False)
            case ".csv" | ".csv.gz":
                frame.to_csv(path, index=False)
            case _:
                frame.to_json(path, orient="records", lines=ending == ".jsonl")
    except (OSError, ValueError, TypeError) as exc:
        raise DataError(f"{path} cannot be written: {_reason(exc)}") from exc


_LISTED = f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"


def _ending(path: Path) -> str:
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")


def _neighbours(folder: Path) -> list[str]:
    return [place.name for place in folder.iterdir() if _ending(place)] if folder.is_dir() else []


def _read(path: Path, ending: str) -> pd.DataFrame:
    import pandas as pd

    try:
        match ending:
            case ".parquet":
                return pd.read_parquet(path)
            case ".csv" | ".csv.gz":
                return pd.read_csv(path)
            case _:
                return pd.read_json(path, orient="records", lines=ending == ".jsonl")
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zlib.error) as exc:
        raise DataError(f"{path} cannot be read as {ending[1:]}: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
