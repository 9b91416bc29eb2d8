"""A notebook's parameter contract: what it declares, and given values checked against that before anything starts."""

import ast
import keyword
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines.declaring import SECRET, TAG, Parameter, declared, parsed
from nbmlops.pipelines.spelling import Injection, injection, is_secret, references, secret_values, spelled
from nbmlops.pipelines.values import coerce
from nbmlops.scrub import MASK, names_secret, scrub, shapes_in
from nbmlops.secrets import Reference
from nbmlops.strict_json import plain

__all__ = [
    "TAG",
    "Injection",
    "Parameter",
    "checked",
    "coerce",
    "declared",
    "effective",
    "hints",
    "injection",
    "public",
    "references",
    "secret_values",
    "secrets_in",
    "shown",
    "spelled",
]


# -------------------------------------------------------------------- checking
def checked(
    parameters: Sequence[Parameter],
    given: Mapping[str, Any],
    notebook: str = "The notebook",
    *,
    takes_references: bool = True,
) -> dict[str, Any]:
    """Check values against what a notebook declares, by name and type.

    Parameters
    ----------
    parameters
        What the notebook declares.
    given
        Values by name, or the texts that stand for them.
    notebook
        How messages call it.
    takes_references
        Whether a given value may be a reference to a secret. Not where somebody
        gives values who may not read this machine's variables and files.

    Returns
    -------
    dict
        What is to be set in the notebook: the given values, each in its declared type and under
        its name as Python has it, and the references that a Secret has for a default.

    Raises
    ------
    UsageError
        A name is malformed or not declared (the hint names the nearest), a value is of
        another type, or a required one is missing.

    Examples
    --------
    >>> checked(declared("month = 1"), {"month": "3"})
    {'month': 3}
    >>> checked(declared("token: 'Secret' = 'env:TOKEN'"), {})
    {'token': 'env:TOKEN'}
    """
    known = {parameter.name: parameter for parameter in parameters}
    named = _named(known, given, notebook)
    if missing := [p for p in parameters if p.is_required and p.name not in named]:
        value = "env:NAME" if SECRET in missing[0].type else "VALUE"
        names = ", ".join(parameter.name for parameter in missing)
        raise UsageError(f"{notebook} needs a value for {names}.", f"Give it with: -p {missing[0].name}={value}")
    values = {name: coerce(known[name], value) for name, value in named.items()}
    if not takes_references and (named := {name: value for name, value in values.items() if references(value)}):
        raise UsageError(f"References to secrets are not taken from here: {', '.join(named)}.")
    return values | _own_references(parameters, values)


def _named(known: Mapping[str, Parameter], given: Mapping[str, Any], notebook: str) -> dict[str, Any]:
    """Give values under their names as Python reads them: compatibility forms of a letter are the same name."""
    named: dict[str, Any] = {}
    for written, value in given.items():
        name = unicodedata.normalize("NFKC", written) if isinstance(written, str) else ""
        if not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(f"{written!r} cannot be a parameter's name: it is no Python name.", nearest(name, known))
        if not known:
            raise UsageError(
                f"{notebook} declares no parameters, so it does not take {written!r}.",
                f"Give one of its cells the tag {TAG!r} and assign {name} there.",
            )
        if name not in known:
            raise UsageError(f"{notebook} has no parameter {written!r}.", nearest(name, known))
        if name in named:
            raise UsageError(f"{written!r} is given twice: Python takes it for {name!r}.")
        named[name] = value
    return named


def _own_references(parameters: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the defaults that are references where only such are taken: in the notebook they stand unresolved."""
    own = {p.name: p.default for p in parameters if SECRET in p.type and p.name not in given and not p.is_required}
    read = {name: _reference(default) for name, default in own.items()}
    return {name: reference for name, reference in read.items() if reference is not None}


def _reference(default: Any) -> Reference | None:
    try:
        return coerce(Parameter("", SECRET), default)  # type: ignore[no-any-return]
    except UsageError:
        return None


def effective(parameters: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give every parameter's value: the one given, else the default."""
    return {p.name: given.get(p.name, p.default) for p in parameters}


# --------------------------------------------------------------------- showing
def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give values as they may be kept and shown: without secrets, as strict JSON."""
    return {name: scrub(plain(value), name) for name, value in values.items()}


def public(parameter: Parameter) -> Parameter:
    """Give a parameter as it may be shown: its default without a secret.

    Examples
    --------
    >>> public(Parameter("token", "Secret", "s3cr3t")).default
    '***'
    """
    default = scrub(parameter.default, parameter.name)
    if SECRET in parameter.type and default and _reference(default) is None:
        default = MASK
    return replace(parameter, default=default)


def hints(values: Mapping[str, Any]) -> list[str]:
    """Say of each given secret that is no reference how it stays out of a shell's history.

    Examples
    --------
    >>> hints({"api_key": "s3cr3t", "token": Reference("env:TOKEN"), "month": 3})
    ["api_key is a secret. As a reference it stays out of the shell's history: -p api_key=env:API_KEY"]
    """
    plainly = [name for name, value in values.items() if not references(value) and is_secret(value, name)]
    return [
        f"{name} is a secret. As a reference it stays out of the shell's history: -p {name}=env:{name.upper()}"
        for name in plainly
    ]


# ------------------------------------------------------------- secrets in source
def secrets_in(sources: Sequence[str]) -> list[tuple[int, str]]:
    """Find the cells whose own source holds a secret: by its shape, or as a text that a name like a secret's has.

    Parameters
    ----------
    sources
        The source of every cell of a notebook, markdown included.

    Returns
    -------
    list of (int, str)
        The cell's number, from 1, and what it holds; never the secret itself.

    Examples
    --------
    >>> secrets_in(["# A heading", "db = 'postgresql://ops:hunter2@db/x'", "api_key = 'hunter2'; token = 'env:TOKEN'"])
    [(2, 'a password in a URL'), (3, 'the value of api_key')]
    """
    found = []
    for number, source in enumerate(sources, start=1):
        named = _named_in(source)
        by_shape = [what for what in shapes_in(source) if not (named and what == "a secret by its name")]
        found += [(number, what) for what in (*by_shape, *named)]
    return found


def _named_in(source: str) -> list[str]:
    try:
        body, _ = parsed(source)
    except ValueError:  # markdown, and what runs in no Python
        return []
    pairs = (pair for statement in body for node in ast.walk(statement) for pair in _pairs(node))
    given_away = (name for name, value, is_typed in pairs if _is_given_away(name, value, is_typed))
    return list(dict.fromkeys(f"the value of {name}" for name in given_away))


def _pairs(node: ast.AST) -> Iterator[tuple[str, ast.expr | None, bool]]:
    """Give the names that a piece of code gives to values, and whether an annotation calls them secrets."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((_name_of(target), value, False) for target in targets)
        case ast.AnnAssign(target=target, value=value, annotation=annotation):
            yield _name_of(target), value, SECRET in ast.unparse(annotation)
        case ast.keyword(arg=str() as name, value=value):
            yield name, value, False
        case ast.Dict(keys=keys, values=values):
            yield from ((_name_of(key), value, False) for key, value in zip(keys, values, strict=True))


def _name_of(node: ast.expr | None) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str() as name):
            return name
        case ast.Subscript(slice=inside):
            return _name_of(inside)
    return ""


def _is_given_away(name: str, value: ast.expr | None, is_typed: bool) -> bool:
    """Say whether a name like a secret's has a text for a value that is neither empty, a reference, nor the mask."""
    if not (isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.strip("*. ")):
        return False
    is_named = names_secret(name) and not name.lower().endswith(_ABOUT)
    return (is_named or is_typed) and _reference(value.value) is None


_ABOUT = (  # what tells of a secret and is none
    *("_name", "_column", "_col", "_field", "_path", "_file", "_env", "_var", "_variable", "_url", "_uri", "_id"),
    *("_label", "_pattern", "_regex", "_prompt", "_type", "_policy", "_length", "_arn", "_scope"),
)
