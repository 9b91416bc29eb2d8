"""A notebook's parameters, read from the source of its tagged cell; nothing is executed for that."""

import ast
import contextlib
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from nbmlops.errors import UsageError
from nbmlops.verb import MACHINE_ONLY

TAG = "parameters"
SECRET = "Secret"  # noqa: S105  # the type's name
Kind = Literal[
    "",
    "text",
    "whole number",
    "number",
    "true/false",
    "choice",
    "date",
    "date and time",
    "time",
    "path",
    "secret",
    "list",
    "names and values",
    "any",
]


class Source(str):
    """A default that is no literal (``date.today()``), as its source."""

    __slots__ = ()


@dataclass(frozen=True)
class Parameter:
    """One parameter that a notebook declares.

    `type` is written as an annotation is: int, float, str, bool, list, dict, tuple, date, datetime,
    time, Decimal, Path, Secret, None; with their elements' types in brackets (``list[int]``,
    ``dict[str, float]``, ``tuple[int, ...]``), and several joined by `` | ``. ``any`` takes what it
    is given. A default that is no literal (``Path.cwd()``) is shown as its source.

    `kind` and `is_secret` say the same to a form, once it has been described; `kind` of a parameter is empty before.
    """

    name: str
    type: str
    default: Any = None
    help: str = ""
    choices: tuple[Any, ...] = ()
    is_required: bool = False
    kind: Kind = field(default="", repr=False, metadata=MACHINE_ONLY)
    is_secret: bool = field(default=False, repr=False, metadata=MACHINE_ONLY)


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
    try:
        body, source = parsed(source)
    except ValueError as exc:
        raise UsageError(f"The cell tagged {TAG!r} is not Python ({exc}), so its parameters cannot be read.") from exc
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for statement in body:
        for name, annotation, value in _assignments(statement):
            if not (name.startswith("__") and name.endswith("__")):  # Python's own
                found[name] = _parameter(name, annotation, value, comments.get(statement.end_lineno or 0, ""))
    return tuple(found.values())


def parsed(source: str) -> tuple[list[ast.stmt], str]:
    r"""Parse a cell's source, where lines of magics are left empty.

    Raises
    ------
    ValueError
        It is no Python; the message names the line.

    Examples
    --------
    >>> parsed("%matplotlib inline\nmonth = 1")[1]
    '\nmonth = 1'
    """
    lines = source.split("\n")
    while True:
        try:
            with warnings.catch_warnings(action="ignore"):  # of the notebook's own style
                return ast.parse("\n".join(lines)).body, "\n".join(lines)
        except SyntaxError as exc:
            place = (exc.lineno or 0) - 1
            if not (0 <= place < len(lines) and _MAGIC.match(lines[place])):
                raise ValueError(f"line {exc.lineno}: {exc.msg}") from exc
            lines[place] = ""
        except (RecursionError, MemoryError) as exc:
            raise ValueError("it is nested too deeply") from exc


_MAGIC = re.compile(r"\s*(?:[%!?]|.*\?\s*$)")


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
        kind = _annotated(annotation)
        choices = _choices(kind)
        kind = _joined(_kind_of(choice) for choice in choices) if choices else kind
    return Parameter(name, kind, default, help_, choices, is_required=value is None)


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("#").strip() for token in tokens if token.type == tokenize.COMMENT}


# -------------------------------------------------------------------- defaults
def _default(node: ast.expr) -> tuple[Any, str]:
    """Evaluate a default where it is a literal or constructs one of our types; give its type too."""
    with contextlib.suppress(ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        value = _constructed(node)
        return value, _kind_of(value, "any")
    return Source(ast.unparse(node)), "any"


def _constructed(node: ast.expr) -> Any:
    match node:
        case ast.Attribute(value=ast.Name(id="math" | "np" | "numpy"), attr="inf" | "nan" as name):
            return float(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
            return -_constructed(operand)
        case ast.Call(
            func=ast.Attribute(attr="fromisoformat", value=ast.Name(id=name) | ast.Attribute(attr=name)),
            args=[ast.Constant(value=str() as text)],
            keywords=[],
        ) if name in _TIMES:
            return _TIMES[name].fromisoformat(text)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=[]) if (
            name in _CONSTRUCTORS
        ):
            return _CONSTRUCTORS[name](*map(ast.literal_eval, args))
    return ast.literal_eval(node)


def _kind_of(value: Any, of_none: str = "None") -> str:
    return of_none if value is None else _NAMES.get(type(value).__name__, "Path" if isinstance(value, Path) else "any")


_TIMES: dict[str, Any] = {"date": date, "datetime": datetime, "time": time}
_CONSTRUCTORS: dict[str, Any] = _TIMES | {"Decimal": Decimal, "Path": Path, "float": float}


# ----------------------------------------------------------------- annotations
def _annotated(node: ast.expr) -> str:
    """Word an annotation as a parameter's type."""
    match node:
        case ast.Constant(value=None):
            return "None"
        case ast.Constant(value=str() as text):
            with contextlib.suppress(SyntaxError):
                return _annotated(ast.parse(text, mode="eval").body)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return _NAMES.get(name, "any")
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _joined(map(_annotated, (left, right)))
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inside):
            return _subscripted(name, inside.elts if isinstance(inside, ast.Tuple) else [inside])
    return "any"


def _subscripted(name: str, inside: Sequence[ast.expr]) -> str:
    match name:
        case "Literal":
            return _literal(inside)
        case "Optional":
            return _joined([_annotated(inside[0]), "None"])
        case "Union":
            return _joined(map(_annotated, inside))
        case "Annotated" | "Final":
            return _annotated(inside[0])
    return _container(_NAMES.get(name, "any"), inside)


def _literal(inside: Sequence[ast.expr]) -> str:
    with contextlib.suppress(ValueError):
        return f"Literal[{', '.join(repr(ast.literal_eval(node)) for node in inside)}]"
    return "any"  # members of an Enum: what they are stands elsewhere


def _container(kind: str, inside: Sequence[ast.expr]) -> str:
    if not inside or kind not in ("list", "dict", "tuple"):
        return kind
    is_open = kind == "tuple" and isinstance(inside[-1], ast.Constant) and inside[-1].value is ...
    elements = [_annotated(node) for node in (inside[:-1] if is_open else inside)]
    expected = {"list": 1, "dict": 2}.get(kind, len(elements))
    if len(elements) != expected or (set(elements) == {"any"} and (is_open or kind != "tuple")):
        return kind
    return f"{kind}[{', '.join([*elements, *(['...'] if is_open else [])])}]"


def _joined(kinds: Iterable[str]) -> str:
    """Join types, each once; whatever is joined with any is any."""
    parts = [part for kind in kinds for part in members(ast.parse(kind, mode="eval").body)]
    names = list(dict.fromkeys(map(ast.unparse, parts)))
    return "any" if "any" in names else " | ".join(names)


def _choices(kind: str) -> tuple[Any, ...]:
    """Give the choices of a type that is Literals alone, None among them."""
    found: list[Any] = []
    for node in members(ast.parse(kind, mode="eval").body):
        match node:
            case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
                elements = inside.elts if isinstance(inside, ast.Tuple) else [inside]
                found += map(ast.literal_eval, elements)
            case ast.Constant(value=None):
                found.append(None)
            case _:
                return ()
    return tuple(found) if found != [None] else ()


def members(node: ast.expr) -> Iterator[ast.expr]:
    """Give the types that a type's source joins by ``|``."""
    if isinstance(node, ast.BinOp):
        yield from members(node.left)
        yield from members(node.right)
    else:
        yield node


_OURS = ("int", "float", "str", "bool", "list", "dict", "tuple", "date", "datetime", "time", "Decimal", "Path", SECRET)
_NAMES = {name: name for name in _OURS} | {
    "None": "None",
    "List": "list",
    "Sequence": "list",
    "Iterable": "list",
    "Tuple": "tuple",
    "Dict": "dict",
    "Mapping": "dict",
}
