"""A verb's JSON schema, and the check of what a program sends against it: pydantic over the verb's signature."""

import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from nbmlops.errors import UsageError, nearest
from nbmlops.surfaces.options import spelling
from nbmlops.verb import load, parameters, ref_of
from nbmlops.vocabulary import VERBS


def schema(name: str) -> dict[str, Any]:
    """Describe one verb for a program: its place in the table and its arguments as JSON Schema.

    An argument has two keys of ours: ``option``, what stands before its value on a line (null: nothing), and
    ``names``, what it names, where it names something.

    Examples
    --------
    >>> schema("promote")["arguments"]["properties"]["to"]["option"]
    '--to'
    """
    entry = VERBS[name]
    return {
        "name": name,
        "summary": entry.summary,
        "effect": entry.effect,
        "group": entry.group,
        "arguments": _model(name).model_json_schema(),
    }


def checked(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments that a program sent, and give them as the verb takes them.

    Raises
    ------
    UsageError
        An argument is unknown, missing or of a wrong type; the hint names the nearest.
    """
    own = parameters(name)
    for given in arguments:
        if given not in own:
            raise UsageError(f"{name} takes no argument {given!r}.", nearest(given, own))
    try:
        model = _model(name).model_validate(dict(arguments))
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{name}: {place}: {first['msg']}.", f"GET the schema of {name} for what it takes.") from exc
    return {key: getattr(model, f"{key}_") for key in arguments}


@functools.cache
def _model(name: str) -> type[BaseModel]:
    texts = _descriptions(load(name).__doc__ or "")
    fields: dict[str, Any] = {}
    for key, parameter in parameters(name).items():
        ref = ref_of(parameter.annotation)
        extra: Any = {"option": spelling(parameter), **({"names": ref.noun} if ref else {})}
        annotation = _sendable(parameter) if ref else parameter.annotation
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        described = Field(default, alias=key, description=texts.get(key), json_schema_extra=extra)
        fields[f"{key}_"] = (annotation, described)  # names such as `schema` are pydantic's own
    return create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)


def _sendable(parameter: inspect.Parameter) -> Any:
    """Give the type that can be sent: a table or a model in memory cannot, so text names it."""
    annotation = parameter.annotation
    optional = parameter.default is None
    inner = {getattr(part, "__origin__", part) for part in (annotation, *getattr(annotation, "__args__", ()))}
    if Any not in inner:
        return annotation
    return str | None if optional else str


def _descriptions(doc: str) -> dict[str, str]:
    """Read the numpydoc "Parameters" section: name -> text."""
    _, _, rest = inspect.cleandoc(doc).partition("Parameters\n----------\n")
    section = re.split(r"\n\w[\w ]*\n-{3,}\n", rest)[0]
    blocks = re.findall(r"^(\w[^\n]*)\n((?:[ \t]+[^\n]*\n?)+)", section, re.MULTILINE)
    return {
        name.strip(): " ".join(text.split()) for names, text in blocks for name in names.partition(":")[0].split(",")
    }
