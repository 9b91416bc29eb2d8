"""Everything that can be wrong with a pipeline and be known before it runs; all of it is told in one error."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbmlops import secrets
from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines import contract
from nbmlops.pipelines.contract import Parameter
from nbmlops.pipelines.flow.declared import KINDS, Pipeline, Step, read
from nbmlops.pipelines.flow.problems import Problem, refuse
from nbmlops.pipelines.flow.references import CONTEXT, Reference, filled, references_in, whole
from nbmlops.pipelines.flow.sources import Looking, Source, behind
from nbmlops.pipelines.flow.timing import NotebookSchedule, notebook_schedule
from nbmlops.project import Settings
from nbmlops.verb import check_words, choices

CheckWords = Callable[[Sequence[str]], object]  # raises UsageError for words that are no call of a verb
# What a value of a known type may stand for; text is read by the parameter's type when it is there.
_STANDS_FOR = {
    "int": {"int", "float"},
    "date": {"date", "datetime", "str"},
    "datetime": {"datetime", "str"},
}
_OWN_TYPES = ("str", "int", "float", "bool", "list", "dict", "date", "datetime")


@dataclass(frozen=True)
class Checked:
    """A pipeline without a known fault, literal values in their declared types, and what stands behind its steps."""

    pipeline: Pipeline
    sources: Mapping[str, Source]


def checked(settings: Settings, name: str, root: Path, words: CheckWords = check_words) -> Checked:
    """Check a pipeline as far as it can be checked before it runs.

    Looked for are: wrong keys and values, doubled names, cycles, missing notebooks, functions and verbs, references to
    steps or results that do not exist, parameters that are unknown, missing or of another type, words that are no call
    of their verb, and conditions that are none.

    Parameters
    ----------
    settings
        Of the project.
    name
        The pipeline.
    root
        The project's folder.
    words
        Takes a verb and its arguments, and raises UsageError where they are no call of it. A reference among them is
        tried as it stands, as a number, and as each of the words between which the verb lets choose.

    Raises
    ------
    NotFoundError
        There is no such pipeline.
    UsageError
        Something is wrong; one error lists all of it, each with its line in nbmlops.toml.
    """
    pipeline, declared = read(settings, name)
    sources, missing = behind(pipeline, root, {"gates": settings.gates})
    faulty = _faulty(pipeline, declared)
    further = [
        problem
        for step in pipeline.steps
        if step.place[3] not in faulty
        for problem in problems_of(step, pipeline, sources, words)
    ]
    refuse(settings, f"Pipeline {name}", [*declared, *(m for m in missing if m.place[3] not in faulty), *further])
    return Checked(replace(pipeline, steps=tuple(_typed(step, sources[step.name]) for step in pipeline.steps)), sources)


def _faulty(pipeline: Pipeline, declared: Sequence[Problem]) -> set[str | int]:
    """Collect the steps, by their number, that are declared too badly to be looked at further."""
    at_heart = {(), *((kind,) for kind in KINDS)}
    faulty = {each.place[3] for each in declared if len(each.place) > 3 and each.place[4:] in at_heart}
    return faulty | {step.place[3] for step in pipeline.steps if not _is_readable(step)}


def _is_readable(step: Step) -> bool:
    try:
        return bool(step.name) and step.references is not None
    except UsageError:
        return False


def checked_schedule(settings: Settings, name: str, root: Path) -> NotebookSchedule:
    """Check the schedule of a notebook: that the notebook is there and takes the parameters.

    Raises
    ------
    NotFoundError
        There is no such schedule, or no such notebook.
    UsageError
        Something is wrong; one error lists all of it.
    """
    schedule = notebook_schedule(settings, name)
    source = Looking(root).notebook(schedule.notebook)
    step = Step(name, "notebook", schedule.notebook, parameters=schedule.parameters, place=("schedules", name))
    pipeline = Pipeline(name, (step,))
    found = [
        Problem((*step.place, "parameters"), f"{reference} names a step, and there are none.")
        for reference in step.references
        if reference.owner not in CONTEXT
    ]
    refuse(settings, f"Schedule {name}", [*found, *problems_of(step, pipeline, {name: source})])
    return schedule


def own_parameters(pipeline: Pipeline) -> tuple[Parameter, ...]:
    """Give a pipeline's own parameters, typed by their defaults, for values given at a run.

    Examples
    --------
    >>> contract.checked(own_parameters(Pipeline("p", (), parameters={"rows": 10})), {"rows": "20"}, "Pipeline p")
    {'rows': 20}
    """
    return tuple(Parameter(name, _type_name(value), value) for name, value in pipeline.parameters.items())


def problems_of(
    step: Step, pipeline: Pipeline, sources: Mapping[str, Source], words: CheckWords = check_words
) -> Iterator[Problem]:
    """Find what is wrong with one step that is declared well, from what stands behind it and the others."""
    for reference in step.references:
        yield from _reference_problems(reference, step, pipeline, sources)
    if step.name not in sources:
        return
    source = sources[step.name]
    if step.pick and not source.is_open and step.pick.key not in source.results:
        hint = nearest(step.pick.key, source.results)
        yield Problem((*step.place, "pick"), f"step {step.name} gives no result {step.pick.key!r}.", hint)
    if step.kind in ("notebook", "function"):
        yield from _parameter_problems(step, pipeline, sources)
    else:
        yield from _matrix_that_nothing_reads(step)
    if step.kind == "verb" and step.words[:2] == ("run", pipeline.name):
        yield Problem((*step.place, "verb"), f"step {step.name} would run its own pipeline, and that one again.")
    elif step.kind == "verb":
        yield from _word_problems(step, words)


# ---------------------------------------------------------------- references
def _reference_problems(
    reference: Reference, step: Step, pipeline: Pipeline, sources: Mapping[str, Source]
) -> Iterator[Problem]:
    known = _known_keys(reference, step, pipeline, sources)
    if known is not None and reference.key not in known:
        whose = f"{reference.owner} gives no" if reference.owner not in CONTEXT else f"{reference.owner} has no"
        text = f"step {step.name}: {reference}: {whose} {reference.key!r}."
        yield Problem(_place_of(reference, step), text, nearest(reference.key, known))


def _known_keys(
    reference: Reference, step: Step, pipeline: Pipeline, sources: Mapping[str, Source]
) -> Sequence[str] | None:
    """List the keys that a reference may name; None where others may come at the run."""
    if reference.owner == "parameters":
        return [*pipeline.parameters]
    if reference.owner == "matrix":
        return [*step.matrix]
    if reference.owner in CONTEXT:
        return [*CONTEXT[reference.owner]]
    source = sources.get(reference.owner)
    return None if source is None or source.is_open else [*source.results]


def type_of(reference: Reference, pipeline: Pipeline, sources: Mapping[str, Source]) -> str:
    """Tell the type of what a reference names, as far as it is known; ``any`` otherwise."""
    if len(reference.path) > 1:
        return "any"
    if reference.owner == "parameters":
        return _type_name(pipeline.parameters.get(reference.key))
    if reference.owner == "matrix":
        return "any"
    if reference.owner in CONTEXT:
        return CONTEXT[reference.owner].get(reference.key, "any")
    other = next((each for each in pipeline.steps if each.name == reference.owner), None)
    if other and other.matrix and not other.pick:
        return "list"
    source = sources.get(reference.owner)
    return source.results.get(reference.key, "any") if source else "any"


def _place_of(reference: Reference, step: Step) -> tuple[str | int, ...]:
    for name, value in step.parameters.items():
        if reference in references_in(value):
            return (*step.place, "parameters", name)
    return (*step.place, step.kind if reference in references_in(step.words) else "when")


# ---------------------------------------------------------------- parameters
def _parameter_problems(step: Step, pipeline: Pipeline, sources: Mapping[str, Source]) -> Iterator[Problem]:
    declared = sources[step.name].parameters
    if declared is None:
        for name in (*step.parameters, *step.matrix):
            if not name.isidentifier():
                yield Problem((*step.place, "parameters"), f"step {step.name}: {name!r} is no parameter's name.")
        return
    known = {parameter.name: parameter for parameter in declared}
    for name, value in step.parameters.items():
        place = (*step.place, "parameters", name)
        if name not in known:
            yield _unknown(name, known, step, place)
        else:
            yield from _value_problems(known[name], value, place, step, pipeline, sources)
    for name, values in step.matrix.items():
        place = (*step.place, "matrix", name)
        if name not in known:
            yield _unknown(name, known, step, place)
        else:
            for value in values:
                yield from _value_problems(known[name], value, place, step, pipeline, sources)
    given = {*step.parameters, *step.matrix}
    if missing := [p.name for p in declared if p.is_required and p.name not in given]:
        yield Problem(step.place, f"step {step.name}: {step.target} needs a value for {', '.join(missing)}.")


def _unknown(name: str, known: Mapping[str, Parameter], step: Step, place: tuple[str | int, ...]) -> Problem:
    if not known and step.kind == "notebook":
        hint = f"Give one of its cells the tag {contract.TAG!r} and assign {name} there."
        return Problem(place, f"step {step.name}: {step.target} declares no parameters.", hint)
    return Problem(place, f"step {step.name}: {step.target} has no parameter {name!r}.", nearest(name, known))


def _value_problems(
    parameter: Parameter,
    value: Any,
    place: tuple[str | int, ...],
    step: Step,
    pipeline: Pipeline,
    sources: Mapping[str, Source],
) -> Iterator[Problem]:
    if reference := whole(value):
        known = type_of(reference, pipeline, sources)
        if not fits(known, parameter.type):
            text = f"step {step.name}: {parameter.name} must be {parameter.type}, and {reference} is {known}."
            hint = "A matrix step gives a list; pick keeps one." if known == "list" else ""
            yield Problem(place, text, hint)
    elif not references_in(value):
        try:
            contract.coerce(parameter, filled(value, str))
        except UsageError as exc:
            yield Problem(place, f"step {step.name}: {exc.message}", exc.hint)


def fits(known: str, wanted: str) -> bool:
    """Tell whether a value of a known type can be a parameter's; text is judged when it is there.

    Examples
    --------
    >>> fits("int", "float"), fits("list", "str"), fits("date", "str | None"), fits("any", "int")
    (True, False, True, True)
    """
    kinds = set(wanted.split(" | "))
    return "any" in {known, *kinds} or known == "str" or bool(kinds & _STANDS_FOR.get(known, {known}))


def _typed(step: Step, source: Source) -> Step:
    """Bring literal values to the types that are declared."""
    known = {parameter.name: parameter for parameter in source.parameters or ()}
    return replace(
        step,
        parameters={name: _coerced(known.get(name), value) for name, value in step.parameters.items()},
        matrix={name: tuple(_literal(known.get(name), v) for v in values) for name, values in step.matrix.items()},
    )


def _literal(parameter: Parameter | None, value: Any) -> Any:
    plain = filled(value, str)
    return contract.coerce(parameter, plain) if parameter else plain


def _coerced(parameter: Parameter | None, value: Any) -> Any:
    if parameter is None or references_in(value):
        return value
    return _escaped(secrets.escaped(_literal(parameter, value)))


def _escaped(value: Any) -> Any:
    """Write a plain value so that it is read as itself: it may hold the characters of a reference."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value


def _type_name(value: Any) -> str:
    return type(value).__name__ if type(value).__name__ in _OWN_TYPES else "any"


# --------------------------------------------------------------------- words
def _matrix_that_nothing_reads(step: Step) -> Iterator[Problem]:
    read_keys = {reference.key for reference in step.references if reference.owner == "matrix"}
    for name in step.matrix:
        if name not in read_keys:
            text = f"step {step.name}: nothing reads matrix.{name}."
            yield Problem((*step.place, "matrix", name), text, f"Write ${{matrix.{name}}} among the verb's words.")


def _word_problems(step: Step, check: CheckWords) -> Iterator[Problem]:
    fillers = ("1", *choices(step.words[0])) if references_in(step.words) else ()
    calls = [step.words, *(filled(step.words, _always(filler)) for filler in fillers)]
    refusals = [exc for words in calls if (exc := _refusal(check, words))]
    if len(refusals) == len(calls):
        yield Problem((*step.place, "verb"), f"step {step.name}: {refusals[0].message}", refusals[0].hint)


def _always(word: str) -> Callable[[Reference], str]:
    return lambda _: word


def _refusal(check: CheckWords, words: Sequence[str]) -> UsageError | None:
    try:
        check(words)
    except UsageError as exc:
        return exc
    return None
