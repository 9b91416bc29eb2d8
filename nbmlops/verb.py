"""What a verb is: a typed function, the marks on its arguments, its result, and the event it leaves.

Nothing here parses, displays or knows a surface: those derive from the
function's signature, its docstring and the marks below.
"""

import functools
import importlib
import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Concatenate, Literal, ParamSpec, TypeVar, cast, get_args, get_origin

from nbmlops.errors import NbmlopsError, UsageError, nearest
from nbmlops.ledger.events import MAX_SUBJECT, Draft
from nbmlops.project import Project
from nbmlops.scrub import scrub, scrub_text
from nbmlops.strict_json import plain
from nbmlops.vocabulary import CHECK, VERBS

P = ParamSpec("P")
R = TypeVar("R")
Row = TypeVar("Row")


FENCE = "NBMLOPS_FENCE"  # the attempts at pipelines' steps that this process is part of: one, or one inside another
MACHINE_ONLY = {"machine_only": True}  # metadata of a result's field that JSON has and a card leaves out


# ------------------------------------------------------------------- results
class Result:
    """What a verb returns: a frozen dataclass; a surface shows it.

    `subject` is the thing it is about, as the ledger files it, for instance
    ``model/delays/3``. `headline` says it in one line. `next_step` is a command to type. One
    of a verb that writes, but has only looked this time, is `only_seen`: it leaves no event.
    """

    headline: ClassVar[Any] = ""
    subject: ClassVar[Any] = ""
    next_step: ClassVar[Any] = ""
    only_seen: ClassVar[Any] = False


class Text(str, Result):
    """What a verb that shows a text returns: the text itself, as it is."""

    headline = ""


class Picture(Result):
    """What a verb that draws something returns: as text, as SVG where that can be shown, and as JSON its fields."""

    text: ClassVar[Any] = ""
    svg: ClassVar[Any] = ""


class Rows(tuple[Row, ...], Result):
    """What a verb that lists returns: a tuple of dataclasses, shown as one table."""

    headline = ""


class Stream(Result):
    """What a verb that goes on looking returns: result after result, about one a second, for as long as one asks."""

    headline = ""

    def __init__(self, results: Iterator[Rows[Any]]) -> None:
        self._results = results

    def __iter__(self) -> Iterator[Rows[Any]]:
        return self._results


# ------------------------------------------------------------------ arguments
def counted(n: int, noun: str) -> str:
    """Word a number of things.

    Examples
    --------
    >>> counted(1, "metric"), counted(1200, "record"), counted(0, "story")
    ('1 metric', '1,200 records', '0 stories')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else plural}"


@dataclass(frozen=True)
class Ref:
    """The mark on an argument that names something.

    `noun` tells completion what to offer. `accepts` tells a notebook which
    variables the argument may name; without it only text is meant.
    """

    noun: str
    accepts: Callable[[Any], bool] | None = None


def is_frame(value: Any) -> bool:
    """Say whether a value is a pandas DataFrame, without importing pandas."""
    return any(c.__module__.startswith("pandas") and c.__name__ == "DataFrame" for c in type(value).__mro__)


def is_model(value: Any) -> bool:
    """Say whether a value looks like a fitted model: it predicts."""
    return callable(getattr(value, "predict", None)) and not isinstance(value, type)


def is_figure(value: Any) -> bool:
    """Say whether a value is a figure: of matplotlib, or what it draws in, or of plotly."""
    drawings = (value, getattr(value, "figure", None))
    is_drawn = any(callable(getattr(each, name, None)) for each in drawings for name in ("savefig", "write_html"))
    return is_drawn and not isinstance(value, type) and not inspect.ismodule(value)


def is_table(value: Any) -> bool:
    """Say whether a value is a table: a DataFrame, columns by name, or a list of rows."""
    columns = isinstance(value, dict) and bool(value) and all(isinstance(each, list) for each in value.values())
    rows = isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
    return columns or rows or is_frame(value)


def is_number(value: Any) -> bool:
    """Say whether a value is one real number, numpy's included."""
    return not isinstance(value, str) and hasattr(value, "__float__") and getattr(value, "shape", ()) == ()


RunRef = Annotated[str, Ref("run")]
ModelRef = Annotated[str, Ref("model")]
ModelName = Annotated[str, Ref("model name")]
AliasName = Annotated[str, Ref("alias")]
EndpointName = Annotated[str, Ref("endpoint")]
GateName = Annotated[str, Ref("gate")]
AlertName = Annotated[str, Ref("alert")]
JobRef = Annotated[str, Ref("job")]
RunnableRef = Annotated[str, Ref("notebook or pipeline")]
NotebookPath = Annotated[str, Ref("notebook")]
AnyRef = Annotated[str, Ref("any")]
DataRef = Annotated[Any, Ref("data", is_frame)]
FittedModel = Annotated[Any, Ref("fitted model", is_model)]
Pairs = Annotated[Mapping[str, Any], Ref("pair")]
Values = Annotated[Mapping[str, Any], Ref("value", lambda _: True)]
Numbers = Annotated[Mapping[str, float], Ref("number", is_number)]
Figures = Annotated[Mapping[str, Any], Ref("figure", is_figure)]
Tables = Annotated[Mapping[str, Any], Ref("table", is_table)]
Command = Annotated[list[str], Ref("command")]

BY_NAME = ("pair", "value", "number", "figure", "table")  # nouns of arguments that are typed as name=value
NAMED_BY_ITSELF = ("figure", "table")  # of these a bare variable or path is its own name


# ------------------------------------------------------------------- the verb
def verb(function: Callable[Concatenate[Project, P], R]) -> Callable[Concatenate[Project, P], R]:
    """Make a typed function a verb: every write and govern call leaves an event, failures included.

    The ledger is reached before the verb acts, so that nothing is done without a
    record. A dry run changes nothing and leaves none, nor does a call that only looked.

    Examples
    --------
    >>> load("promote").__name__
    'promote'
    """
    name = function.__name__.removesuffix("_")
    effect = VERBS[name].effect
    if effect in ("read", "session"):
        return function
    signature = inspect.signature(function)

    @functools.wraps(function)
    def recorded(project: Project, *args: P.args, **kwargs: P.kwargs) -> R:
        arguments = signature.bind(project, *args, **kwargs).arguments
        arguments.pop("project", None)
        if arguments.get("dry_run"):
            return function(project, *args, **kwargs)
        if project.exists and name != "init":  # which may find the project of a folder above, and makes another
            _ledger(project).reach()
            refuse_stale(project)
        started = time.monotonic()
        try:
            result = function(project, *args, **kwargs)
        except BaseException as exc:
            _record_failure(project, name, arguments, exc, time.monotonic() - started)
            raise
        if not getattr(result, "only_seen", False):
            _record(project, name, arguments, "ok", result, time.monotonic() - started)
        return result

    return cast(Callable[Concatenate[Project, P], R], recorded)


def refuse_stale(project: Project) -> None:
    """Let nobody change anything for an attempt at a pipeline's step in whose place another one was begun.

    What writes or governs asks when it begins, and again right before it registers or moves an alias. Costs nothing
    outside of a step.

    Raises
    ------
    ConflictError
        This process is part of such an attempt.
    """
    for fence in os.environ.get(FENCE, "").split():
        from nbmlops.ledger.steps import Steps, stale

        if not project.open(Steps).is_current(fence):
            job, _, rest = fence.partition("/")
            raise stale(rest.rpartition("/")[0], job)


def load(name: str) -> Callable[..., Any]:
    """Find a verb's function by its name, importing its module on first use.

    Raises
    ------
    UsageError
        No verb has that name; the hint names the nearest.
    """
    if name not in VERBS:
        raise UsageError(f"There is no verb {name!r}.", nearest(name, VERBS))
    module, _, function = VERBS[name].target.partition(":")
    return cast(Callable[..., Any], getattr(importlib.import_module(module), function))


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """List a verb's own parameters, annotations resolved, without the bound project."""
    resolved = inspect.signature(load(name), eval_str=True).parameters
    return {key: parameter for key, parameter in resolved.items() if key != "project"}


def choices(name: str) -> tuple[str, ...]:
    """List the words between which a verb's arguments let choose.

    Examples
    --------
    >>> choices("schedule")
    ('one', 'all', 'none', 'skip', 'queue')
    """
    return tuple(word for parameter in parameters(name).values() for word in _literals(parameter.annotation))


def check_words(words: Sequence[str]) -> None:
    """Check that words, as a person would type them, are a call of a verb whose result can be read.

    Raises
    ------
    UsageError
        They are none; the message names the nearest.

    Examples
    --------
    >>> check_words(["validate", "delays", "--gate", "default"])
    """
    module, _, function = CHECK.partition(":")
    getattr(importlib.import_module(module), function)(words)


def _literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for part in get_args(annotation):
            yield from _literals(part)


def ref_of(annotation: Any) -> Ref | None:
    """Find the mark on an annotation, ``X | None`` included."""
    for part in (annotation, *getattr(annotation, "__args__", ())):
        for mark in getattr(part, "__metadata__", ()):
            if isinstance(mark, Ref):
                return mark
    return None


def _ledger(project: Project) -> Any:
    from nbmlops.ledger.database import Ledger  # SQLAlchemy takes half a second: only those who write pay

    return project.open(Ledger)


def _record(project: Project, name: str, arguments: dict[str, Any], outcome: str, result: Any, seconds: float) -> None:
    if not project.exists:
        return
    _ledger(project).append(
        Draft(
            verb=name,
            subject=getattr(result, "subject", "")[:MAX_SUBJECT],
            surface=project.surface,
            by_human=project.by_human,
            arguments=scrub(plain(arguments)) | _part_of(),
            outcome=outcome,
            result=scrub(plain(result)),
            seconds=round(seconds, 4),
        )
    )


def _part_of() -> dict[str, str]:
    """Name the attempt at a pipeline's step that this process is, where it is one: its pipeline tells its end, too."""
    fences = os.environ.get(FENCE, "").split()
    return {"fence": fences[-1]} if fences else {}


def _record_failure(project: Project, name: str, arguments: dict[str, Any], exc: BaseException, seconds: float) -> None:
    report = getattr(exc, "report", None)
    result = report if report is not None else {"message": scrub_text(str(exc)) or type(exc).__name__}
    try:
        _record(project, name, arguments, type(exc).__name__, result, seconds)
    except NbmlopsError as also:
        exc.add_note(f"and the ledger did not take the event: {also}")
