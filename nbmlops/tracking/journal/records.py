"""A journal's lines: how each kind of record is worded, and how it is read again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from nbmlops.scrub import scrub_text

FORMAT = 1
# how many words a record of each kind has at least
_WORDS = {"metric": 6, "param": 4, "tag": 4, "begin": 2, "create": 3, "update": 3, "inputs": 3, "file": 3, "model": 3}

Record = list[Any]


@dataclass(frozen=True)
class Header:
    """A journal's first line: whose it is, and the store that its records are meant for."""

    target: str
    host: str
    pid: int
    created_at: float
    format: int = FORMAT


_HEADER = {each.name for each in fields(Header)}


def portable(target: str, folder: Path) -> str:
    """Word a store's URL as a journal remembers it: no password, and what lies in the project relative to it.

    Examples
    --------
    >>> portable("sqlite:////p/.nbmlops/mlflow.db", Path("/p/.nbmlops/journal"))
    'sqlite:///{project}/.nbmlops/mlflow.db'
    """
    return scrub_text(target).replace(f":///{folder.parent.parent.as_posix()}/", ":///{project}/")


def metric(
    run_id: str, key: str, value: float, at_ms: int, step: int, extras: Mapping[str, str] | None = None
) -> bytes:
    """Word a metric; JSON has no words for NaN and infinities, so these become text that ``float`` reads."""
    number: float | str = value if value - value == 0 else _NOT_FINITE(value)
    record: Record = ["metric", run_id, key, number, at_ms, step]
    if extras:
        record.append(extras)
    return orjson.dumps(record, None, orjson.OPT_APPEND_NEWLINE)


def line(kind: str, run_id: str, *rest: Any) -> bytes:
    """Word any other record: ``param``, ``tag`` (key, value); ``create``, ``update``, ``inputs``, ``model`` (mapping).

    ``begin`` says that the journal's writer owns the run; the id that its creation carried may follow, and
    ``intend`` with this id alone goes before a run is asked for. ``above`` names the run above the writer.
    ``file`` stands for an artifact: the place it belongs under, its path there, and its copy in the journal.
    """
    return orjson.dumps([kind, run_id, *rest], None, orjson.OPT_APPEND_NEWLINE)


def _NOT_FINITE(value: float) -> str:  # noqa: N802  # never called for a number one meets
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def parsed(raw: bytes) -> Record:
    """Read a line; of one that a power cut has filled with zeros, what stands behind them."""
    try:
        found = orjson.loads(raw.lstrip(b"\0"))
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict) and found.keys() == _HEADER and found["format"] == FORMAT:
        return ["header", found]
    if isinstance(found, list) and len(found) > 1 and len(found) >= _WORDS.get(str(found[0]), 2):
        return found
    return ["torn", "", raw.decode(errors="replace")[:200]]
