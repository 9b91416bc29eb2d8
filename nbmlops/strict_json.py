"""Results, errors and arguments as strict JSON: what a machine reads, and what the ledger keeps."""

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Reduce a value to what strict JSON can hold.

    Dataclasses become objects, times ISO 8601, paths and decimals text. JSON has no NaN or
    infinity, so these become the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.
    Anything else becomes a short description of itself, never its content.

    Examples
    --------
    >>> from datetime import datetime
    >>> plain({"auc": float("nan"), "at": datetime(2013, 1, 2)})
    {'auc': 'NaN', 'at': '2013-01-02T00:00:00'}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Path | Decimal):
        return str(value)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a numpy scalar
        value = value.item()
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")
    shape = getattr(value, "shape", None)
    return f"<{type(value).__name__}{f' {shape}' if shape is not None else ''}>"


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Write a value as one strict JSON text with a stable key order as given."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}
