"""Write what the sidebar takes from the code: TypeScript types of all that verbs return, of their schemas, of errors.

Run it bare to write ``types.ts`` and ``verbs.ts`` in ``labextension/src``, and the schemas for the front end's tests;
with ``--check`` it writes nothing and exits 1 when one of them is stale.
"""

import dataclasses
import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from nbmlops.errors import NbmlopsError
from nbmlops.surfaces.schema import schema
from nbmlops.verb import Stream, load
from nbmlops.vocabulary import VERBS, Effect

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "labextension" / "src" / "types.ts"
MEND = "Write it anew with: .venv/bin/python tools/typescript_types.py"
WIDTH = 120

HEAD = """\
/** What verbs take and return, as JSON. Written by tools/typescript_types.py from the Python code: not by hand. */

/** A number, or the word for one that JSON does not have. */
export type Float = number | 'NaN' | 'Infinity' | '-Infinity';
"""
PROPERTY = {  # what pydantic's JSON schemas and ours have, by its key
    "additionalProperties": "boolean | Property",
    "anyOf": "readonly Property[]",
    "default": "unknown",
    "description": "string",
    "enum": "readonly string[]",
    "items": "Property",
    "names": "string",
    "option": "string | null",
    "title": "string",
    "type": "string",
}
_SCALARS: dict[Any, str] = {
    NoneType: "null",
    Any: "unknown",
    object: "unknown",
    bool: "boolean",
    int: "number",
    float: "Float",
}
OF_THIS_FILE = ("Float", "Results", "VerbName", "Property", "VerbArguments", "VerbSchema", "Failure")
_TEXTS = (str, date, time, Path, Decimal)  # as strict JSON has them; a datetime is a date


# ------------------------------------------------------------------- what verbs return
def results() -> dict[str, Any]:
    """Give each verb's return annotation."""
    return {name: get_type_hints(load(name))["return"] for name in VERBS}


def nouns(annotations: Iterable[Any]) -> list[type]:
    """Find the dataclasses in annotations, and those in their fields, in the order in which they are met."""
    found: dict[type, None] = {}
    ahead = list(annotations)
    while ahead:
        for kind in _dataclasses(ahead.pop(0)):
            if kind not in found:
                found[kind] = None
                ahead += _fields(kind).values()
    return list(found)


def _dataclasses(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield annotation
    else:
        for part in _parts(annotation):
            yield from _dataclasses(part)


def _parts(annotation: Any) -> Sequence[Any]:
    """Give what an annotation is made of: its arguments, or what a class of rows holds."""
    if get_origin(annotation) is Literal:
        return ()
    return get_args(annotation) or tuple(getattr(annotation, "__orig_bases__", ()))


def _fields(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}  # type: ignore[arg-type]


def named(kinds: Sequence[type]) -> dict[type, str]:
    """Name dataclasses in TypeScript: as in Python, with their folder before it where several have one name."""
    n_of = Counter([*OF_THIS_FILE, *(kind.__name__ for kind in kinds)])
    names = {kind: _apart(kind) if n_of[kind.__name__] > 1 else kind.__name__ for kind in kinds}
    if twice := [name for name, n in Counter(names.values()).items() if n > 1]:
        raise TypeError(f"Several dataclasses would be {', '.join(twice)} in TypeScript: rename all but one.")
    return names


def _apart(kind: type) -> str:
    return f"{kind.__module__.split('.')[1].capitalize()}{kind.__name__}"


# ----------------------------------------------------------------------- one type
def spelled(annotation: Any, names: Mapping[type, str]) -> str:
    """Spell a type as TypeScript has it, once it is JSON.

    Raises
    ------
    TypeError
        Nothing is known of how it looks in JSON.

    Examples
    --------
    >>> spelled(dict[str, float | None], {}), spelled(tuple[int, ...], {}), spelled(Literal["ok", "fail"], {})
    ('Readonly<Record<string, Float | null>>', 'readonly number[]', "'ok' | 'fail'")
    """
    if annotation in names:
        return names[annotation]
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, parts = get_origin(annotation), _parts(annotation)
    if origin is Literal:
        return " | ".join(f"'{word}'" for word in get_args(annotation))
    if origin in (Union, UnionType):
        return _union([spelled(part, names) for part in parts if part is not Stream])
    if origin is Annotated:
        return spelled(parts[0], names)
    kind = origin or annotation
    if isinstance(kind, type) and issubclass(kind, _TEXTS):
        return "string"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return f"Readonly<Record<string, {spelled(parts[-1], names) if origin else 'unknown'}>>"
    if isinstance(kind, type) and issubclass(kind, Sequence | set | frozenset):
        return _array(annotation, names)
    raise TypeError(f"How {annotation!r} looks in JSON is not known: teach it to tools/typescript_types.py.")


def _union(words: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(words))


def _array(annotation: Any, names: Mapping[type, str]) -> str:
    parts = get_args(annotation)
    if not parts:  # a class of rows, whose base says of what
        (base,) = (each for each in annotation.__orig_bases__ if isinstance(each, GenericAlias) or get_args(each))
        return _array(base, names)
    inside = [spelled(part, names) for part in parts if part is not ...]
    if get_origin(annotation) is tuple and ... not in parts:
        return f"readonly [{', '.join(inside)}]"
    is_one_word = " | " not in inside[0] and not inside[0].startswith("readonly ")
    return f"readonly {inside[0]}[]" if is_one_word else f"readonly ({inside[0]})[]"


# ------------------------------------------------------------------------ the file
def page() -> str:
    """Word the whole file."""
    returned = results()
    kinds = nouns(returned.values())
    names = named(kinds)
    parts = [HEAD, *(_interface(names[kind], _said(kind), _spelled_fields(kind, names)) for kind in kinds)]
    of_verbs = {name: (spelled(kind, names), False) for name, kind in returned.items()}
    parts.append(_interface("Results", "What each verb returns.", of_verbs))
    parts.append("/** The verbs of this version. */\nexport type VerbName = keyof Results;\n")
    return "\n".join([*parts, *_of_schemas(), _failure()])


def _said(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _spelled_fields(kind: type, names: Mapping[type, str]) -> dict[str, tuple[str, bool]]:
    return {name: (spelled(annotation, names), False) for name, annotation in _fields(kind).items()}


def _interface(name: str, said: str, fields: Mapping[str, tuple[str, bool]]) -> str:
    """Word an interface; of each field its type, and whether it may be missing."""
    lines = "\n".join(_field(field, *told) for field, told in fields.items())
    return f"/** {said.replace('``', '`')} */\nexport interface {name} {{\n{lines}\n}}\n"


def _field(name: str, kind: str, may_be_missing: bool) -> str:
    begin = f"  readonly {name}{'?' if may_be_missing else ''}:"
    line = f"{begin} {kind};"
    if len(line) <= WIDTH or " | " not in kind:
        return line
    return "\n".join([begin, *(f"    | {part}" for part in kind.split(" | "))]) + ";"


def _of_schemas() -> list[str]:
    """Word what `GET nbmlops/verbs` gives; its keys are those that the schemas of today have."""
    effects = " | ".join(f"'{word}'" for word in get_args(Effect))
    properties = [each for name in VERBS for each in schema(name)["arguments"]["properties"].values()]
    keys = sorted({key for each in properties for part in _nested(each) for key in part})
    always = {key for key in keys if all(key in each for each in properties)}
    described = {key: (PROPERTY[key], key not in always or key == "title") for key in keys}
    arguments = {
        "properties": ("Readonly<Record<string, Property>>", False),
        "required": ("readonly string[]", True),
        "title": ("string", False),
        "type": ("'object'", False),
        "additionalProperties": ("false", False),
    }
    verb = {
        "name": ("VerbName", False),
        "summary": ("string", False),
        "effect": (effects, False),
        "group": ("string", False),
        "arguments": ("VerbArguments", False),
    }
    return [
        _interface("Property", "One argument of a verb, or a part of its type, as JSON Schema.", described),
        _interface("VerbArguments", "What a verb takes, as JSON Schema.", arguments),
        _interface("VerbSchema", "A verb: its place in the table, and what it takes.", verb),
    ]


def _nested(described: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield described
    inside = [*described.get("anyOf", ()), described.get("items"), described.get("additionalProperties")]
    for part in inside:
        if isinstance(part, Mapping):
            yield from _nested(part)


def _failure() -> str:
    """Word an error: what all have, and what some have beside it."""
    shared = {"type": "string", "message": "string", "hint": "string", "exit_code": "number"}
    beside = sorted({name for kind in _errors(NbmlopsError) for name in kind.detail_fields})
    fields = {name: (kind, False) for name, kind in shared.items()}
    fields |= {name: ("unknown" if name == "report" else "string", True) for name in beside}
    return _interface("Failure", "What stands under `error` in an answer that is no.", fields)


def _errors(kind: type[NbmlopsError]) -> Iterator[type[NbmlopsError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("nbmlops."):
            yield from _errors(child)


def listed() -> str:
    """Word the list of the verbs, from which commands are made before the server is asked anything."""
    rows = [f"  {{ name: {_quoted(name)}, summary: {_quoted(entry.summary)} }}" for name, entry in VERBS.items()]
    head = "/** The verbs of this version. Written by tools/typescript_types.py, not by hand. */\n\n"
    head += "import { VerbName } from './types';\n\n"
    kind = "readonly { readonly name: VerbName; readonly summary: string }[]"
    return head + f"export const VERBS: {kind} = [\n" + ",\n".join(rows) + "\n];\n"


def _quoted(text: str) -> str:
    return f'"{text}"' if "'" in text else f"'{text}'"


def schemas() -> str:
    """Give all schemas as JSON, for the front end's tests of the lines that it writes."""
    return json.dumps([schema(name) for name in VERBS], indent=1, ensure_ascii=False) + "\n"


def main(words: list[str]) -> int:
    """Write the files, or with ``--check`` only say which are stale."""
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        if "--check" not in words:
            path.write_text(text, encoding="utf-8")
        print(f"{'Stale:' if '--check' in words else 'Wrote'} {path.relative_to(ROOT)}")
    if "--check" in words and stale:
        print(MEND)
    return int("--check" in words and bool(stale))


def files() -> dict[Path, str]:
    """Give every file that is written, with its text."""
    front_end = ROOT / "labextension"
    return {TARGET: page(), front_end / "src" / "verbs.ts": listed(), front_end / "tests" / "schemas.json": schemas()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
