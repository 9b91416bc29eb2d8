"""A notebook's parameters, read from its tagged cell, and values checked against them; no notebook is run here."""

import ast
import contextlib
import io
import json
import math
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from nbmlops.errors import UsageError, nearest
from nbmlops.scrub import scrub
from nbmlops.strict_json import plain

TAG = "parameters"


@dataclass(frozen=True)
class Parameter:
    """One parameter that a notebook declares.

    `type` is one of int, float, str, bool, list, dict, date, datetime, None, or
    several joined by `` | ``; ``any`` takes what it is given. A default that is
    no literal (``Path.cwd()``) is shown as its source.
    """

    name: str
    type: str
    default: Any = None
    help: str = ""
    choices: tuple[Any, ...] = ()
    is_required: bool = False


# ------------------------------------------------------------------ declaring
def declared(source: str) -> tuple[Parameter, ...]:
    r"""Read the parameters that a cell's source declares, in their order.

    Parameters
    ----------
    source
        Python; lines of magics are passed over. An assignment to a name
        declares a parameter, an annotation without a value a required one.

    Returns
    -------
    tuple of Parameter
        Type from the annotation, else from the default; help from the comment behind it.

    Raises
    ------
    UsageError
        The source is no Python.

    Examples
    --------
    >>> declared("month: int = 1  # month of 2013\nkind: Literal['a', 'b'] = 'a'")[0]
    Parameter(name='month', type='int', default=1, help='month of 2013', choices=(), is_required=False)
    """
    source = re.sub(r"(?m)^\s*[%!].*$", "", source)
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError) as exc:
        reason = f"line {exc.lineno}: {exc.msg}" if isinstance(exc, SyntaxError) else str(exc)
        raise UsageError(
            f"The cell tagged {TAG!r} is not Python ({reason}), so its parameters cannot be read."
        ) from exc
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for statement in body:
        for name, annotation, value in _assignments(statement):
            found[name] = _parameter(name, annotation, value, comments.get(statement.end_lineno or 0, ""))
    return tuple(found.values())


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    match statement:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, None, value
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=optional):
            yield name, annotation, optional


def _parameter(name: str, annotation: ast.expr | None, value: ast.expr | None, help_: str) -> Parameter:
    default, kind = (None, "any") if value is None else _default(value)
    choices: tuple[Any, ...] = ()
    if annotation is not None:
        kind, choices = _annotated(annotation)
    return Parameter(name, kind, default, help_, choices, is_required=value is None)


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("#").strip() for token in tokens if token.type == tokenize.COMMENT}


def _default(node: ast.expr) -> tuple[Any, str]:
    """Evaluate a default where it is a literal or a date; give its type too."""
    with contextlib.suppress(ValueError, TypeError):
        value = ast.literal_eval(node)
        return value, _kind_of(value)
    with contextlib.suppress(ValueError, TypeError):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=[]) if name in _DATES:
                return _DATES[name](*map(ast.literal_eval, args)), name
            case ast.Call(
                func=ast.Attribute(attr="fromisoformat", value=ast.Name(id=name) | ast.Attribute(attr=name)),
                args=[ast.Constant(value=str() as text)],
            ) if name in _DATES:
                return _DATES[name].fromisoformat(text), name
    return ast.unparse(node), "any"


def _annotated(node: ast.expr) -> tuple[str, tuple[Any, ...]]:
    """Read an annotation: its type, and the choices of a ``Literal``."""
    match node:
        case ast.Constant(value=None):
            return "None", (None,)
        case ast.Constant(value=str() as text):
            with contextlib.suppress(SyntaxError):
                return _annotated(ast.parse(text, mode="eval").body)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return _TYPES.get(name, "any"), ()
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([left, right])
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inside):
            return _subscripted(name, inside.elts if isinstance(inside, ast.Tuple) else [inside])
    return "any", ()


def _subscripted(name: str, inside: Sequence[ast.expr]) -> tuple[str, tuple[Any, ...]]:
    if name == "Literal":
        with contextlib.suppress(ValueError):
            choices = tuple(ast.literal_eval(node) for node in inside)
            return _joined(_kind_of(choice) for choice in choices), choices
    if name == "Optional":
        return _union([*inside, ast.Constant(value=None)])
    if name == "Union":
        return _union(inside)
    if name == "Annotated":
        return _annotated(inside[0])
    return _TYPES.get(name, "any"), ()


def _union(members: Sequence[ast.expr]) -> tuple[str, tuple[Any, ...]]:
    parts = [_annotated(member) for member in members]
    every_part_lists = all(choices for _, choices in parts)
    return _joined(kind for kind, _ in parts), tuple(c for _, cs in parts for c in cs) if every_part_lists else ()


def _joined(kinds: Iterable[str]) -> str:
    names = [name for kind in kinds for name in kind.split(" | ")]
    return "any" if "any" in names else " | ".join(dict.fromkeys(names))


def _kind_of(value: Any) -> str:
    return "any" if value is None else _TYPES.get(type(value).__name__, "any")


_DATES: dict[str, Any] = {"date": date, "datetime": datetime}
_TYPES = {name: name for name in ("int", "float", "str", "bool", "list", "dict", "date", "datetime")} | {
    "List": "list",
    "Sequence": "list",
    "tuple": "list",
    "Tuple": "list",
    "Dict": "dict",
    "Mapping": "dict",
}


# ------------------------------------------------------------------- checking
def checked(
    parameters: Sequence[Parameter], given: Mapping[str, Any], notebook: str = "The notebook"
) -> dict[str, Any]:
    """Check values against what a notebook declares, by name and type.

    Returns
    -------
    dict
        The given values alone, each in its declared type.

    Raises
    ------
    UsageError
        A name is malformed or not declared (the hint names the nearest), a value is of
        another type, or a required one is missing.

    Examples
    --------
    >>> checked(declared("month = 1"), {"month": "3"})
    {'month': 3}
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        if not name.isidentifier():
            raise UsageError(f"{name!r} cannot be a parameter's name: it is no Python name.", nearest(name, known))
        if not known:
            raise UsageError(
                f"{notebook} declares no parameters, so it does not take {name!r}.",
                f"Give one of its cells the tag {TAG!r} and assign {name} there.",
            )
        if name not in known:
            raise UsageError(f"{notebook} has no parameter {name!r}.", nearest(name, known))
    if missing := [p.name for p in parameters if p.is_required and p.name not in given]:
        raise UsageError(f"{notebook} needs a value for {', '.join(missing)}.", f"Give it with: -p {missing[0]}=VALUE")
    return {name: coerce(known[name], value) for name, value in given.items()}


def coerce(parameter: Parameter, given: Any) -> Any:
    """Bring a value, or the text that stands for it, to a parameter's type without loss.

    Text is read by the declared type alone: ``0123`` is 123 for an int and stays
    as it is for a str. A value of Python's must be of the type, but an int may
    stand for a float, and a date for a datetime.

    Raises
    ------
    UsageError
        It is of another type; the message says which was expected.

    Examples
    --------
    >>> coerce(Parameter("rows", "int"), "1_000")
    1000
    >>> coerce(Parameter("deep", "bool"), "false")
    False
    >>> coerce(Parameter("rows", "int"), 1.5)
    Traceback (most recent call last):
    nbmlops.errors.UsageError: Parameter rows must be int, not 1.5.
    """
    with contextlib.suppress(ValueError):
        value = _held(given)
        if parameter.choices:
            return _chosen(parameter.choices, value)
        for kind in parameter.type.split(" | "):
            with contextlib.suppress(ValueError):
                return _READERS[kind](value)
    expected = f"one of {', '.join(map(repr, parameter.choices))}" if parameter.choices else parameter.type
    shown = repr(scrub(given, parameter.name))
    raise UsageError(
        f"Parameter {parameter.name} must be {expected}, not {shown if len(shown) < 80 else shown[:77] + '…'}.",
        nearest(given, map(str, parameter.choices)) if isinstance(given, str) and parameter.choices else "",
    )


def effective(parameters: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give every parameter's value: the one given, else the default."""
    return {p.name: given.get(p.name, p.default) for p in parameters}


def _chosen(choices: Sequence[Any], value: Any) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    for choice in choices:
        if str(choice) == value:
            return choice
    raise ValueError(value)


def _held(value: Any) -> Any:
    """Rebuild a value from Python's own types, numpy's scalars included; ValueError for what no cell could spell."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, date):
        kind = datetime if isinstance(value, datetime) else date
        return kind.fromisoformat(value.isoformat())
    if isinstance(value, list | tuple):
        return [_held(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str.__str__(key): _held(item) for key, item in value.items()}
    raise ValueError(value)


def _read_int(value: Any) -> int:
    if isinstance(value, str) or type(value) is int:
        return int(value)
    raise ValueError(value)


def _read_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(value)
    try:
        read = float(value)
    except OverflowError as exc:
        raise ValueError(value) from exc
    overflowed = isinstance(value, str) and math.isinf(read) and "inf" not in value.lower()
    underflowed = isinstance(value, str) and read == 0 and re.search(r"[1-9]", re.split("[eE]", value)[0])
    if overflowed or underflowed or (isinstance(value, int) and int(read) != value):
        raise ValueError(value)
    return read


def _read_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(value)


def _read_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise ValueError(value)


def _read_none(value: Any) -> None:
    if value is not None and value not in ("None", "null"):
        raise ValueError(value)


def _read_list(value: Any) -> list[Any]:
    read = _parsed(value)
    if isinstance(read, list):
        return read
    raise ValueError(value)


def _read_dict(value: Any) -> dict[str, Any]:
    read = _parsed(value)
    if isinstance(read, dict):
        return read
    raise ValueError(value)


def _read_date(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value.strip())
    if type(value) is date:
        return value
    raise ValueError(value)


def _read_datetime(value: Any) -> datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(value.strip())
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001  # a bare date has no zone to give
    raise ValueError(value)


def _parsed(value: Any) -> Any:
    """Read text as JSON, else as a literal of Python's (``1, 2`` is a list)."""
    if not isinstance(value, str):
        return value
    with contextlib.suppress(json.JSONDecodeError, RecursionError):
        return json.loads(value, parse_float=_read_float)
    try:
        read = _held(ast.literal_eval(value.strip()))
    except (SyntaxError, TypeError, MemoryError, RecursionError) as exc:
        raise ValueError(value) from exc
    if "inf" in spelled(read) and "inf" not in value:  # a number too large for a float
        raise ValueError(value)
    return read


_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _read_int,
    "float": _read_float,
    "str": _read_str,
    "bool": _read_bool,
    "list": _read_list,
    "dict": _read_dict,
    "date": _read_date,
    "datetime": _read_datetime,
    "None": _read_none,
    "any": lambda value: value,
}


# ------------------------------------------------------------------- spelling
@dataclass(frozen=True)
class Injection:
    """The source of the cell that sets parameters, and the variables it reads its secrets from."""

    source: str
    environment: Mapping[str, str]


def injection(values: Mapping[str, Any]) -> Injection:
    """Word the cell that sets checked values; a value that looks secret is not written but read from the environment.

    Examples
    --------
    >>> print(injection({"month": 3, "api_key": "s3cr3t"}).source)
    # Parameters
    month = 3
    api_key = __import__("json").loads(__import__("os").environ["NBMLOPS_PARAMETER_api_key"])
    """
    lines, environment = ["# Parameters"], {}
    for name, value in values.items():
        expression = spelled(value)
        if _is_secret(name, value):
            variable = f"NBMLOPS_PARAMETER_{name}"
            environment[variable] = json.dumps(value, default=str)
            expression = f'__import__("json").loads(__import__("os").environ["{variable}"])'
        lines.append(f"{name} = {expression}")
    return Injection("\n".join(lines), environment)


def spelled(value: Any) -> str:
    """Spell a checked value as a Python expression that needs no import.

    Examples
    --------
    >>> spelled([1, float("inf"), date(2013, 1, 31)])
    "[1, float('inf'), __import__('datetime').date.fromisoformat('2013-01-31')]"
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, date):
        return f"__import__('datetime').{type(value).__name__}.fromisoformat({value.isoformat()!r})"
    if isinstance(value, list):
        return f"[{', '.join(map(spelled, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {spelled(item)}' for key, item in value.items())}}}"
    return repr(value)


def _is_secret(name: str, value: Any) -> bool:
    return bool(scrub(value, name) != value) if isinstance(value, str | list | dict) else False


def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give values as they may be kept and shown: without secrets, as strict JSON."""
    return {name: scrub(plain(value), name) for name, value in values.items()}
