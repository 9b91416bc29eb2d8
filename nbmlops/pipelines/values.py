"""Values, or the text that stands for them, read by a declared type without loss; what does not fit is refused."""

import ast
import contextlib
import functools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timezone
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, Self
from zoneinfo import ZoneInfo

from nbmlops import secrets
from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines.declaring import SECRET, Parameter, members
from nbmlops.scrub import scrub

DEEPEST = 60  # containers in one another: Python reads source up to about a hundred brackets deep
LARGEST_BITS = 14_000  # of an int: Python writes no more than 4,300 digits

Reader = Callable[[Any], Any]


class RefusedError(ValueError):
    """A value that is not taken; the message says why where the type alone does not."""


class Quoted(str):
    """Text that is given as text, in quotes: it is read as another type only where text will not do."""

    __slots__ = ()


class Plain(str):
    """A scalar of YAML without quotes: where no type is declared it is what JSON would read, or else text."""

    __slots__ = ()


class Number(float):
    """A float that keeps how it was written, of which a Decimal loses nothing."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Read a float without loss of its size."""
        try:
            number = super().__new__(cls, _read_float(text))
        except ValueError:
            raise RefusedError(f"{text[:40]} is beyond the range of a float.") from None
        number.text = text
        return number


def coerce(parameter: Parameter, given: Any) -> Any:
    """Bring a value, or the text that stands for it, to a parameter's type without loss.

    Text is read by the declared type alone: ``0123`` is 123 for an int and stays as it is for a
    str; a union is tried in its order; without a declared type it stays text. Lists, dicts and
    tuples are JSON or literals of Python's, their elements are read by the declared types too. A
    value of Python's must be of the type, but an int may stand for a float, a date for a datetime,
    a list for a tuple. Text for a str that begins with ``env:`` or ``file:`` is a reference to a
    secret (`nbmlops.secrets`); a ``Secret`` takes nothing else.

    Raises
    ------
    UsageError
        It is of another type; the message says which was expected. A refused Secret is not shown.

    Examples
    --------
    >>> coerce(Parameter("rows", "int"), "1_000")
    1000
    >>> coerce(Parameter("deep", "bool"), "false")
    False
    >>> coerce(Parameter("months", "list[int]"), '["1", 2]')
    [1, 2]
    >>> coerce(Parameter("rows", "int"), 1.5)
    Traceback (most recent call last):
    nbmlops.errors.UsageError: Parameter rows must be int, not 1.5.
    """
    try:
        value = _chosen(parameter.choices, given) if parameter.choices else _reader(parameter.type)(given)
        if _depth(value) > DEEPEST:
            raise RefusedError(f"It is nested more than {DEEPEST} deep.")
    except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as exc:
        why = str(exc) if isinstance(exc, RefusedError) else ""
        raise _refusal(parameter, given, why) from None  # the cause may hold a secret
    return secrets.read(value) if isinstance(value, str) and not parameter.choices else value


def _refusal(parameter: Parameter, given: Any, why: str) -> UsageError:
    """Word why a value is refused; one that may be a secret is not shown."""
    if SECRET in parameter.type:
        message = f"Parameter {parameter.name} takes a reference to a secret, and not the secret itself."
        return UsageError(message, f"Give env:NAME or file:PATH: -p {parameter.name}=env:{parameter.name.upper()}")
    expected = f"one of {', '.join(map(repr, parameter.choices))}" if parameter.choices else parameter.type
    shown = _brief(given, parameter.name)
    hint = nearest(given, map(str, parameter.choices)) if isinstance(given, str) and parameter.choices else ""
    kind = parameter.type.partition("[")[0]
    if isinstance(given, str) and kind in _WRITTEN:
        hint = f"Write it as {_WRITTEN[kind]}, in quotes for the shell."
    return UsageError(f"Parameter {parameter.name} must be {expected}, not {shown}.", why or hint)


_WRITTEN = {"list": "JSON: [1, 2]", "tuple": "JSON: [1, 2]", "dict": 'JSON: {"a": 1}'}


def _brief(value: Any, name: str) -> str:
    try:
        shown = repr(scrub(value, name))
    except (ValueError, RecursionError):  # an int of too many digits, a list in itself
        shown = f"that {type(value).__name__}"
    return shown if len(shown) < 80 else shown[:77] + "…"


# ------------------------------------------------------------- readers by type
@functools.cache
def _reader(kind: str) -> Reader:
    """Make what reads values of a type, from the type as it is written."""
    return _compiled(ast.parse(kind, mode="eval").body)


def _compiled(node: ast.expr) -> Reader:
    match node:
        case ast.BinOp():
            return functools.partial(_read_union, [_compiled(member) for member in members(node)])
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
            return functools.partial(_chosen, [ast.literal_eval(each) for each in _elements(inside)])
        case ast.Subscript(value=ast.Name(id="list"), slice=inside):
            return functools.partial(_read_list, _compiled(inside))
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, value])):
            return functools.partial(_read_dict, _compiled(key), _compiled(value))
        case ast.Subscript(value=ast.Name(id="tuple"), slice=inside):
            *elements, last = _elements(inside)
            if isinstance(last, ast.Constant) and last.value is ...:
                return functools.partial(_read_tuple, _compiled(elements[0]))
            return functools.partial(_read_record, [_compiled(each) for each in (*elements, last)])
    return _READERS[ast.unparse(node)]


def _elements(inside: ast.expr) -> list[ast.expr]:
    return inside.elts if isinstance(inside, ast.Tuple) else [inside]


def _read_union(readers: Sequence[Reader], value: Any) -> Any:
    """Read text by the first type that takes it; a value by the type that it has, if that is among them."""
    value, read = _own(value), []
    for reader in readers:
        with contextlib.suppress(ValueError, TypeError, ArithmeticError):
            read.append(reader(value))
    if not read:
        raise ValueError(value)
    is_text = isinstance(value, str) and not isinstance(value, Quoted)
    return read[0] if is_text else next((each for each in read if repr(each) == repr(value)), read[0])


def _chosen(choices: Sequence[Any], value: Any) -> Any:
    """Find the choice that a value is, or else the one that its text stands for."""
    value = _own(value)
    text = str.__str__(value) if isinstance(value, str) else None
    for choice in choices:
        if (type(choice), choice) == (str if text is not None else type(value), value):
            return choice
    for choice in choices:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if text is not None and text in (str(choice), repr(choice)):
                return choice
            if text is not None and _READERS[_name(choice)](text) == choice:
                return choice
    raise ValueError(value)


def _name(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _own(value: Any) -> Any:
    """Give numpy's scalars as Python's own; datetimes of nanoseconds have none."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return value.item() if getattr(getattr(value, "dtype", None), "kind", "") not in "Mm" else value
    return value


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(each) for pair in value.items() for each in pair), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list | tuple) else 0


# --------------------------------------------------------------------- scalars
def _read_any(value: Any) -> Any:
    """Rebuild a value from Python's own types; text stays text."""
    value = _own(value)
    if value is None:
        return None
    for kind, reader in _OWN.items():
        if isinstance(value, kind):
            return reader(value)
    raise ValueError(value)


def _read_text(value: str) -> Any:
    if isinstance(value, Plain):
        if value in _EMPTY:
            return None
        with contextlib.suppress(ValueError):
            return _read_any(json.loads(value, parse_float=Number, parse_constant=_read_float))
    return str.__str__(value)


def _read_int(value: Any) -> int:
    value = _own(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(value)
    read = int(value)
    if read.bit_length() > LARGEST_BITS:
        raise RefusedError("It has more digits than Python reads and writes.")
    return read


def _read_float(value: Any) -> float:
    value = _own(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(value)
    read = float(value)
    if isinstance(value, str):
        overflowed = math.isinf(read) and "inf" not in value.lower()
        underflowed = read == 0 and re.search(r"[1-9]", re.split("[eE]", value)[0])
        if overflowed or underflowed:
            raise ValueError(value)
        value = int(value) if _WHOLE.fullmatch(value) else read
    if isinstance(value, int) and int(read) != value:
        raise RefusedError("A float holds it only rounded.")
    return read


_WHOLE = re.compile(r"\s*[+-]?\d[\d_]*\s*")


def _read_str(value: Any) -> str:
    if isinstance(value := _own(value), str):
        return str.__str__(value)
    raise ValueError(value)


def _read_secret(value: Any) -> str:
    if isinstance(value, str) and isinstance(reference := secrets.read(value), secrets.Reference):
        return reference
    raise ValueError


def _read_bool(value: Any) -> bool:
    value = _own(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise ValueError(value)


def _read_none(value: Any) -> None:
    is_empty = isinstance(value, Plain) and value in _EMPTY
    if not (value is None or is_empty or (isinstance(value, str) and value in ("None", "null"))):
        raise ValueError(value)


_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_EMPTY = ("", "~", "null", "Null", "NULL")  # as YAML spells it


def _read_decimal(value: Any) -> Decimal:
    value = _own(value)
    if isinstance(value, float) and not isinstance(value, Number):
        raise RefusedError("A float is rounded already: give it as text, for instance '0.10'.")
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal | Number):
        raise ValueError(value)
    read = Decimal(value.text if isinstance(value, Number) else value)
    if read.is_snan():
        raise ValueError(value)
    return read


def _read_path(value: Any) -> Path:
    if (isinstance(value, str) and value) or isinstance(value, Path):
        return Path(value)
    raise ValueError(value)


def _read_date(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value.strip())
    if type(value) is date:
        return value
    raise ValueError(value)


def _read_datetime(value: Any) -> datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(_whole_microseconds(value))
    if isinstance(value, datetime):
        return _rebuilt(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001  # a bare date has no zone to give
    raise ValueError(value)


def _read_time(value: Any) -> time:
    if isinstance(value, str):
        return time.fromisoformat(_whole_microseconds(value))
    if isinstance(value, time):
        zone = _zone(value) if value.tzinfo else None
        return time(value.hour, value.minute, value.second, value.microsecond, zone, fold=value.fold)
    raise ValueError(value)


def _whole_microseconds(text: str) -> str:
    """Refuse a time of which Python would cut off digits."""
    if re.search(r"[.,]\d{6}\d*[1-9]", text):
        raise RefusedError("Python's times hold microseconds, and no less.")
    return text.strip()


def _rebuilt(value: datetime) -> datetime:
    """Rebuild a datetime of another class (pandas has one), if it holds no more than Python's does."""
    if getattr(value, "nanosecond", 0):
        raise RefusedError("Python's datetimes hold microseconds, and no less.")
    zone = _zone(value) if value.tzinfo else None
    whole = datetime(value.year, value.month, value.day, value.hour, value.minute, value.second)  # noqa: DTZ001  # below
    return whole.replace(microsecond=value.microsecond, tzinfo=zone, fold=value.fold)


def _zone(value: datetime | time) -> timezone | ZoneInfo:
    zone = value.tzinfo
    if isinstance(zone, ZoneInfo) and zone.key and isinstance(value, datetime):
        return ZoneInfo(zone.key)
    if isinstance(zone, timezone) and (offset := value.utcoffset()) is not None:
        return timezone(offset)
    raise RefusedError("Its time zone must be a fixed offset, or for a datetime one of zoneinfo's by name.")


# ------------------------------------------------------------------ containers
def _read_list(element: Reader, value: Any) -> list[Any]:
    read = _parsed(value)
    if isinstance(read, list | tuple):
        return [element(_inner(each)) for each in read]
    raise ValueError(value)


def _read_tuple(element: Reader, value: Any) -> tuple[Any, ...]:
    return tuple(_read_list(element, value))


def _read_record(elements: Sequence[Reader], value: Any) -> tuple[Any, ...]:
    read = _parsed(value)
    if isinstance(read, list | tuple) and len(read) == len(elements):
        return tuple(element(_inner(each)) for element, each in zip(elements, read, strict=True))
    raise ValueError(value)


def _read_dict(key: Reader, item: Reader, value: Any) -> dict[Any, Any]:
    read = _parsed(value)
    if not isinstance(read, Mapping):
        raise ValueError(value)
    made = {key(_inner(name)): item(_inner(each)) for name, each in read.items()}
    if len(made) != len(read):
        raise RefusedError("Two of its keys are the same.")
    return made


def _inner(value: Any) -> Any:
    """Give an element of a container: text in there is text."""
    return Quoted(value) if type(value) is str else value


def _parsed(value: Any) -> Any:
    """Read text as JSON, else as a literal of Python's (``1, 2`` is a list)."""
    if not isinstance(value, str):
        return value
    with contextlib.suppress(json.JSONDecodeError, RecursionError):
        return json.loads(value, parse_float=Number, object_pairs_hook=unique)
    try:
        tree = ast.parse(value.strip(), mode="eval")
        read = ast.literal_eval(tree)
    except SyntaxError as exc:
        raise ValueError(value) from exc
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            _read_float(ast.get_source_segment(value.strip(), node))
        elif isinstance(node, ast.Dict) and len(node.keys) != len(ast.literal_eval(node)):
            raise RefusedError("Two of its keys are the same.")
    return read


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON's pairs, none of which may overwrite another."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise RefusedError(f"{next(name for name in names if names.count(name) > 1)!r} is in it twice.")
    return made


_READERS: dict[str, Reader] = {
    "int": _read_int,
    "float": _read_float,
    "str": _read_str,
    "bool": _read_bool,
    "list": functools.partial(_read_list, _read_any),
    "dict": functools.partial(_read_dict, _read_any, _read_any),
    "tuple": functools.partial(_read_tuple, _read_any),
    "date": _read_date,
    "datetime": _read_datetime,
    "time": _read_time,
    "Decimal": _read_decimal,
    "Path": _read_path,
    SECRET: _read_secret,
    "None": _read_none,
    "any": _read_any,
}
_OWN: dict[Any, Reader] = {  # a subclass before its class
    str: _read_text,
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    Decimal: _read_decimal,
    datetime: _read_datetime,
    date: _read_date,
    time: _read_time,
    PurePath: _read_path,
    list: _READERS["list"],
    tuple: _READERS["tuple"],
    Mapping: _READERS["dict"],
}
