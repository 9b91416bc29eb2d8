"""Parameters for what fills in forms and checks requests: the kind of each, and all of them as JSON Schema."""

import ast
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nbmlops.pipelines.declaring import SECRET, Kind, Parameter, Source, members
from nbmlops.pipelines.spelling import is_secret
from nbmlops.scrub import names_secret, scrub_text
from nbmlops.strict_json import plain
from nbmlops.verb import Result

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


class ParameterSchema(dict[str, Any], Result):
    """What `params --schema` returns: a JSON Schema, which every surface gives as it is."""

    @property
    def headline(self) -> str:
        """What it describes."""
        return f"JSON Schema of {self['title']}"


def schema(parameters: Sequence[Parameter], title: str) -> Schema:
    """Describe parameters as a JSON Schema of draft 2020-12.

    Times are strings of ISO 8601, a Decimal is a string or a number, a Secret a string that is a
    reference. A default that is no literal, no JSON (NaN) or a secret is left out.

    Examples
    --------
    >>> schema([Parameter("month", "int", 1, "of 2013")], "train.ipynb")["properties"]
    {'month': {'type': 'integer', 'description': 'of 2013', 'default': 1}}
    """
    return {
        "$schema": DIALECT,
        "title": title,
        "type": "object",
        "properties": {parameter.name: _property(parameter) for parameter in parameters},
        "required": [parameter.name for parameter in parameters if parameter.is_required],
        "additionalProperties": False,
    }


def described(parameter: Parameter) -> Parameter:
    """Say of a parameter which kind of value it takes, and whether that is a secret, for whoever makes a form of it.

    Examples
    --------
    >>> [described(Parameter("x", kind)).kind for kind in ("int", "float | None", "list[str]", "int | str")]
    ['whole number', 'number', 'list', 'any']
    >>> described(Parameter("api_key", "str")).is_secret
    True
    """
    is_secret = SECRET in parameter.type or names_secret(parameter.name)
    return replace(parameter, kind=_kind(parameter), is_secret=is_secret)


def _kind(parameter: Parameter) -> Kind:
    if parameter.choices:
        return "choice"
    if SECRET in parameter.type:
        return "secret"
    whole = _typed(parameter.type)
    kinds = [_KINDS.get(each.get("format") or each.get("type"), "any") for each in whole.get("anyOf", [whole])]
    told = [kind for kind in kinds if kind]
    return told[0] if len(told) == 1 else "any"


def _property(parameter: Parameter) -> Schema:
    known: Schema = {"enum": plain(parameter.choices)} if parameter.choices else _typed(parameter.type)
    if names_secret(parameter.name):
        known["writeOnly"] = True
    if parameter.help:
        known["description"] = scrub_text(parameter.help)
    return known | _default(parameter)


def _default(parameter: Parameter) -> Schema:
    default = parameter.default
    is_told = not (parameter.is_required or isinstance(default, Source) or is_secret(default, parameter.name))
    if SECRET in parameter.type and not str(default).startswith(_REFERENCES):
        is_told = False
    return {"default": plain(default)} if is_told and _is_json(default) else {}


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, bytes | set | complex | type(...))


def _typed(kind: str) -> Schema:
    return _of(ast.parse(kind, mode="eval").body)


def _of(node: ast.expr) -> Schema:
    match node:
        case ast.BinOp():
            return {"anyOf": [_of(member) for member in members(node)]}
        case ast.Subscript(value=ast.Name(id=name), slice=inside):
            return _CONTAINERS[name](inside.elts if isinstance(inside, ast.Tuple) else [inside])
    return dict(_SCALARS[ast.unparse(node)])


def _tuple(elements: Sequence[ast.expr]) -> Schema:
    *first, last = elements
    if isinstance(last, ast.Constant) and last.value is ...:
        return {"type": "array", "items": _of(first[0])}
    items = [_of(each) for each in elements]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}


def _dict(elements: Sequence[ast.expr]) -> Schema:
    key, item = elements
    names = {"propertyNames": {"pattern": r"^\s*[+-]?\d[\d_]*\s*$"}} if ast.unparse(key) == "int" else {}
    return {"type": "object", **names, "additionalProperties": _of(item)}


def _literal(elements: Sequence[ast.expr]) -> Schema:
    return {"enum": [plain(ast.literal_eval(each)) for each in elements]}


_REFERENCES = ("env:", "file:")
_KINDS: dict[Any, Kind] = {  # by a schema's format, or its type; that something may be missing is no kind
    "null": "",
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "decimal": "number",
    "boolean": "true/false",
    "date": "date",
    "date-time": "date and time",
    "time": "time",
    "path": "path",
    "array": "list",
    "object": "names and values",
}
_CONTAINERS = {
    "list": lambda elements: {"type": "array", "items": _of(elements[0])},
    "dict": _dict,
    "tuple": _tuple,
    "Literal": _literal,
}
_SCALARS: dict[str, Schema] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "tuple": {"type": "array"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
    "Decimal": {"type": ["string", "number"], "format": "decimal"},
    "Path": {"type": "string", "format": "path", "minLength": 1},
    SECRET: {"type": "string", "writeOnly": True, "pattern": "^(env|file):"},
    "None": {"type": "null"},
    "any": {},
}
