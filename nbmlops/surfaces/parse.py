"""From typed words to a verb's arguments: Cyclopts over the verb's own signature and docstring."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Annotated, Any, get_origin

from cyclopts import App, CycloptsError, Group, MissingArgumentError, Parameter, UnusedCliTokensError

from nbmlops.errors import UsageError
from nbmlops.surfaces.options import SHORT, long
from nbmlops.verb import BY_NAME, NAMED_BY_ITSELF, load, parameters, ref_of

COMMON = Group("Common options", sort_key=99)


def _flag(name: str, text: str) -> inspect.Parameter:
    annotation = Annotated[bool, Parameter(help=text, group=COMMON, negative=(), show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


# What a surface offers beside every verb's own options.
OPTIONS = (
    _flag("json", "Print the result as JSON."),
    _flag("quiet", "Print neither progress nor result."),
    _flag("show_code", "Print the plain MLflow or papermill code that this stands for, and do nothing."),
    _flag("traceback", "Show the whole traceback of an error."),
)
_WITHOUT_A_RESULT = ("quiet", "show_code", "watch")
INTO = inspect.Parameter(
    "into",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[str | None, Parameter(help="Variable that takes the result.", group=COMMON)],
)
WIDGET = _flag("widget", "Show a view that can be used while the kernel runs, beside the card that stays.")
OPTIONS_OF_MAGIC = (*OPTIONS, INTO, WIDGET)


@dataclass(frozen=True)
class Call:
    """A verb, its arguments, and what the surface was asked beside them."""

    name: str
    arguments: dict[str, Any]
    options: dict[str, Any]


def parse(name: str, words: Sequence[str], options: Sequence[inspect.Parameter] = OPTIONS) -> Call:
    """Read the words after a verb's name.

    Raises
    ------
    UsageError
        The verb, an option or a value is not right; the message names the nearest.

    Examples
    --------
    >>> parse("promote", ["delays/3", "--to", "shadow", "--json"]).arguments
    {'model': 'delays/3', 'to': 'shadow'}
    """
    words, command = _split_command(name, words)
    app = _app(name, options)
    try:
        _, bound, _ = app.parse_args(list(words))
    except CycloptsError as exc:
        raise _usage_error(name, words, exc) from exc
    given = dict(bound.arguments)
    arguments = {key: _value(parameter, given[key]) for key, parameter in parameters(name).items() if key in given}
    arguments |= {"command": command} if command else {}
    return Call(name, arguments, {option.name: given.get(option.name, option.default) for option in options})


def check(words: Sequence[str]) -> None:
    """Check words that a machine is to type, which reads the result as JSON.

    Raises
    ------
    UsageError
        They are no call of a verb, or one that gives no result.

    Examples
    --------
    >>> check(["promote", "delays/3", "--quiet"])
    Traceback (most recent call last):
    nbmlops.errors.UsageError: With --quiet there is no result to read.
      Leave it out.
    """
    name, *rest = words
    call = parse(name, rest)
    if asked := [option for option in _WITHOUT_A_RESULT if (call.options | call.arguments).get(option)]:
        raise UsageError(f"With --{asked[0].replace('_', '-')} there is no result to read.", "Leave it out.")


def help_text(
    name: str, options: Sequence[inspect.Parameter] = OPTIONS, *, prefix: str = "nbmlops ", width: int = 100
) -> str:
    """Word a verb's help: usage, docstring, parameters."""
    from rich.console import Console

    page = StringIO()
    _app(name, options, prefix).help_print(
        [], console=Console(file=page, width=width, color_system=None, force_jupyter=False)
    )
    return page.getvalue().rstrip() + _command_help(name)


def _command_help(name: str) -> str:
    """Word what may stand after ``--``, which is split off before the words are parsed."""
    if "command" not in parameters(name):
        return ""
    from nbmlops.surfaces.schema import schema

    described = schema(name)["arguments"]["properties"]["command"]["description"]
    return f"\n\n-- COMMAND ARGS ...  {described}"


def plain_code(call: Call, tracking: str, experiment: str = "Default") -> str:
    """Fill the verb's "Plain code" section with a call's arguments, and the project's store and experiment.

    Raises
    ------
    UsageError
        The verb stands for no plain code.
    """
    section = _sections(load(call.name).__doc__)[1]
    if not section:
        raise UsageError(f"{call.name} stands for no MLflow or papermill code.")
    defaults = {key: p.default for key, p in parameters(call.name).items() if p.default is not inspect.Parameter.empty}
    values = defaults | {"tracking": tracking, "experiment": experiment} | call.arguments

    def fill(field: re.Match[str]) -> str:
        return repr(values[field[1]]) if field[1] in values else field[0]

    return re.sub(r"\$(\w+)", fill, section)


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Split ``name=value`` words.

    Examples
    --------
    >>> pairs(["month=3", "where=a=b"])
    {'month': '3', 'where': 'a=b'}
    """
    split = [word.partition("=") for word in words]
    for (key, sep, _), word in zip(split, words, strict=True):
        if not sep or not key:
            raise UsageError(f"Expected name=value, not {word!r}.")
    names = [key for key, _, _ in split]
    if twice := {key for key in names if names.count(key) > 1}:
        raise UsageError(f"Given more than once: {', '.join(sorted(twice))}.")
    return {key: value for key, _, value in split}


def _app(name: str, options: Sequence[inspect.Parameter], prefix: str = "") -> App:
    app = App(
        name=f"{prefix}{name}",
        help_format="plaintext",
        help_flags=[],
        version_flags=[],
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    app.default(_as_typed(name, options))
    return app


def _as_typed(name: str, options: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """Make a function with the verb's signature as a person types it; it is parsed for, never called."""

    def typed(*args: Any, **kwargs: Any) -> None: ...

    own = [_typed_parameter(parameter) for key, parameter in parameters(name).items() if key != "command"]
    typed.__name__ = name
    typed.__doc__ = _sections(load(name).__doc__)[0]
    typed.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    typed.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *options)}
    return typed


def _typed_parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    ref = ref_of(parameter.annotation)
    names = [long(parameter.name), *([SHORT[parameter.name]] if parameter.name in SHORT else [])]
    if ref and ref.noun in BY_NAME:
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            return inspect.Parameter(parameter.name, inspect.Parameter.VAR_POSITIONAL, annotation=str)
        words = Annotated[list[str], Parameter(name=names, negative=(), show_default=False)]
        return parameter.replace(annotation=words, default=[])
    if ref and get_origin(parameter.annotation) is list:
        return parameter.replace(
            annotation=Annotated[list[str], Parameter(name=names, negative=(), show_default=False)]
        )
    if ref:
        text = str | None if parameter.default is None else str
        return parameter.replace(annotation=Annotated[text, Parameter(name=names)])
    hyphen = parameter.annotation is str  # `--sort -loss` is a value, not an option
    named_so = Parameter(name=names, negative=(), allow_leading_hyphen=hyphen)
    return parameter.replace(annotation=Annotated[parameter.annotation, named_so])


def _value(parameter: inspect.Parameter, given: Any) -> Any:
    ref = ref_of(parameter.annotation)
    if ref is None or ref.noun not in BY_NAME:
        return given
    return pairs([_named(word) for word in given] if ref.noun in NAMED_BY_ITSELF else given)


def _named(word: str) -> str:
    """Name a bare variable or path by itself.

    Examples
    --------
    >>> _named("roc"), _named("plots/roc.png"), _named("curve=roc")
    ('roc=roc', 'roc=plots/roc.png', 'curve=roc')
    """
    return word if "=" in word else f"{word.rpartition('/')[2].partition('.')[0]}={word}"


def _split_command(name: str, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split off the command after ``--`` where the verb takes one."""
    if "command" not in parameters(name) or "--" not in words:
        return list(words), []
    place = list(words).index("--")
    return list(words[:place]), list(words[place + 1 :])


def numbers(given: Mapping[str, Any]) -> dict[str, float]:
    """Read the values of ``name=value`` words as numbers."""
    return {key: _number(key, value) for key, value in given.items()}


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"{key} must be a number, not {value!r}.", "Log text with -p (a parameter) or --tags."
        ) from None


def _usage_error(name: str, words: Sequence[str], exc: CycloptsError) -> UsageError:
    if isinstance(exc, MissingArgumentError) and exc.argument is not None:
        wanted = exc.argument.name
        is_option = parameters(name)[exc.argument.field_info.name].kind is inspect.Parameter.KEYWORD_ONLY
        message = f"{name} needs {wanted if is_option else wanted.lstrip('-').upper()}."
    elif isinstance(exc, UnusedCliTokensError):
        left = " ".join(exc.unused_tokens or ())
        return UsageError(
            f"{name} can make nothing of: {left}", f"Options are repeated: -p a=1 -p b=2. `{name} --help`"
        )
    else:
        message = str(exc)
    known = [long(key) for key in parameters(name)]
    meant = [close for word in words if word.startswith("--") and word not in known for close in _close(word, known)]
    near = f"Did you mean {meant[0]}? " if meant and "Did you mean" not in message else ""
    return UsageError(message, f"{near}All of its options: `{name} --help`")


def _close(word: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(word.partition("=")[0], known, n=1)


def _sections(doc: str | None) -> tuple[str, str]:
    """Split a docstring into what help shows, and its "Plain code" section."""
    text, _, code = inspect.cleandoc(doc or "").partition("\nPlain code\n----------\n")
    return text.rstrip().replace("``", "`"), code.rstrip()
