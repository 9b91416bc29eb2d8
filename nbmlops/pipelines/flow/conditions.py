"""The conditions of ``when``: comparisons over references and literals, parsed by Python's grammar, judged by hand.

The grammar: ``== != < <= > >= in``, ``not in``, ``and or not``, parentheses, numbers, texts, ``true false none`` and
lists of these. Nothing else is Python here: no names, calls, attributes or arithmetic.
"""

import ast
import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.pipelines.flow.references import Reference, parsed

LONGEST = 2000  # characters
_STAND_IN = "_reference_"
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_HINT = "It takes references, numbers, 'texts', lists, == != < <= > >= in, and, or, not, and parentheses."


@dataclass(frozen=True)
class Condition:
    """A condition that has been parsed: `tree` holds only what the grammar allows."""

    text: str
    tree: ast.expr
    references: Mapping[str, Reference]  # by what stands for them in the tree


@functools.lru_cache(maxsize=1024)
def condition(text: str) -> Condition:
    """Parse a condition.

    Raises
    ------
    UsageError
        It is none, or holds what the grammar does not have.

    Examples
    --------
    >>> results = {"auc": 0.8, "kind": "a"}
    >>> judged(condition("${train.auc} > 0.7 and ${train.kind} in ['a', 'b']"), lambda each: results[each.key])
    True
    >>> judged(condition("${train.auc} > 'high'"), lambda each: 0.8)
    Traceback (most recent call last):
    nbmlops.errors.UsageError: The condition "${train.auc} > 'high'" cannot be judged: float and str cannot be compared.
    """
    if not text.strip() or len(text) > LONGEST or "\\" in text or "\n" in text or "\0" in text:
        raise _refused(text, f"a condition is one line of at most {LONGEST} characters without backslashes")
    references: dict[str, Reference] = {}
    source = ""
    for part in parsed(text):
        if isinstance(part, Reference):
            name = f"{_STAND_IN}{len(references)}_"
            references[name] = part
            source += f" {name} "
        else:
            source += part
    try:
        tree = ast.parse(source.strip(), mode="eval").body
        _allowed(tree, references, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise _refused(text, exc.msg if isinstance(exc, SyntaxError) else "it is nested too deeply") from exc
    return Condition(text, tree, references)


def judged(condition: Condition, look_up: Callable[[Reference], Any]) -> bool:
    """Judge a condition; the right side of ``and`` and ``or`` is looked at only if it matters.

    Raises
    ------
    UsageError
        Two values cannot be compared, or what must be true or false is neither: a text ``"false"`` is no truth.
    """
    return _truth(condition.tree, condition, look_up)


def _allowed(node: ast.expr, references: Mapping[str, Reference], text: str) -> None:
    match node:
        case ast.BoolOp(values=inside) | ast.List(elts=inside) | ast.Tuple(elts=inside):
            parts = inside
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            parts = [operand]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
            parts = []
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARISONS for op in ops):
            parts = [left, *others]
        case ast.Constant(value=str() as quoted) if _STAND_IN in quoted:
            raise _refused(text, "a reference takes no quotes")
        case ast.Constant(value=str() | int() | float() | None):
            parts = []
        case ast.Name(id=name) if name in references or name.lower() in _WORDS:
            parts = []
        case ast.Name(id=name):
            raise _refused(text, f"{name} is no value; a text takes quotes: {name!r}")
        case _:
            raise _refused(text, f"it has no place for {ast.unparse(node)!r}")
    for part in parts:
        _allowed(part, references, text)


def _truth(node: ast.expr, condition: Condition, look_up: Callable[[Reference], Any]) -> bool:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_truth(each, condition, look_up) for each in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(_truth(each, condition, look_up) for each in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(operand, condition, look_up)
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [_value(each, condition, look_up) for each in (left, *others)]
            pairs = zip(values, ops, values[1:], strict=False)
            return all(_compared(one, op, other, condition) for one, op, other in pairs)
    value = _value(node, condition, look_up)
    if isinstance(value, bool):
        return value
    raise _unjudged(condition, f"{value!r} is neither true nor false")


def _value(node: ast.expr, condition: Condition, look_up: Callable[[Reference], Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, condition, look_up) for part in parts]
        case ast.Name(id=name) if name in condition.references:
            return look_up(condition.references[name])
        case ast.Name(id=name):
            return _WORDS[name.lower()]
    return _truth(node, condition, look_up)


def _compared(one: Any, op: ast.cmpop, other: Any, condition: Condition) -> bool:
    try:
        return bool(_COMPARISONS[type(op)](one, other))
    except (TypeError, ValueError) as exc:
        reason = f"{type(one).__name__} and {type(other).__name__} cannot be compared"
        raise _unjudged(condition, reason) from exc


def _refused(text: str, reason: str) -> UsageError:
    shown = text if len(text) <= 100 else f"{text[:99]}…"
    return UsageError(f"{shown!r} is no condition: {reason}.", _HINT)


def _unjudged(condition: Condition, reason: str) -> UsageError:
    return UsageError(f"The condition {condition.text!r} cannot be judged: {reason}.")
