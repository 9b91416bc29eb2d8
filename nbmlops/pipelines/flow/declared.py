"""A pipeline and its steps as nbmlops.toml declares them; all problems of a declaration are told at once."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines.flow.conditions import condition
from nbmlops.pipelines.flow.graph import cycle
from nbmlops.pipelines.flow.problems import Notes, Place, Problem, refuse
from nbmlops.pipelines.flow.references import CONTEXT, NAME, Reference, references_in, within
from nbmlops.pipelines.flow.timing import Timing, duration_of, table_of, timing_of
from nbmlops.project import Settings

Kind = Literal["notebook", "function", "verb", "approval"]
KINDS: tuple[Kind, ...] = ("notebook", "function", "verb", "approval")
MOST_INSTANCES = 1000  # of one matrix
MOST_RETRIES = 100
_NONE: tuple[Reference, ...] = ()
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", re.ASCII)


# --------------------------------------------------------------------- nouns
@dataclass(frozen=True)
class Pick:
    """Which instance of a matrix is kept: the one whose `key` is greatest (max) or least (min)."""

    better: Literal["max", "min"]
    key: str

    def __str__(self) -> str:
        return f"{self.better}:{self.key}"


@dataclass(frozen=True)
class Resources:
    """What one attempt of a step takes."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = 0  # 0: not said


@dataclass(frozen=True)
class Step:
    """One step. `needs` holds the steps that it names and those that it refers to; `target` is what `kind` says."""

    name: str
    kind: Kind
    target: str
    needs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    matrix: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    pick: Pick | None = None
    when: str = ""
    is_cached: bool = True
    retries: int = 0
    backoff_s: float = 0.0
    timeout_s: float | None = None
    resources: Resources = Resources()
    place: Place = ()

    @property
    def words(self) -> tuple[str, ...]:
        """A verb and its arguments, or the question of an approval as one word; references still stand in them."""
        return tuple(shlex.split(self.target)) if self.kind == "verb" else (self.target,)

    @property
    def references(self) -> tuple[Reference, ...]:
        """Every reference of the step, in the order in which it stands."""
        spoken = [] if self.kind in ("notebook", "function") else list(within(self.words))
        asked = _asked(self.when) if self.when else ()
        return tuple(dict.fromkeys([*within(self.parameters), *spoken, *asked]))


@dataclass(frozen=True)
class Pipeline:
    """A pipeline as declared; `parameters` are its own, with their defaults."""

    name: str
    steps: tuple[Step, ...]
    timing: Timing = field(default_factory=Timing)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def edges(self) -> dict[str, tuple[str, ...]]:
        """What each step needs, by name, in the order of declaration."""
        return {step.name: step.needs for step in self.steps}

    def step(self, name: str) -> Step:
        """Find a step by its name.

        Raises
        ------
        UsageError
            There is none; the hint names the nearest.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise UsageError(f"Pipeline {self.name} has no step {name!r}.", nearest(name, [s.name for s in self.steps]))


# ------------------------------------------------------------------- reading
def declared(settings: Settings, name: str) -> Pipeline:
    """Read a pipeline as nbmlops.toml declares it; what stands behind its steps is not looked at.

    Raises
    ------
    NotFoundError
        There is no such pipeline; the hint names the nearest.
    UsageError
        Its declaration is wrong; one error lists every problem with its line.
    """
    pipeline, problems = read(settings, name)
    refuse(settings, f"Pipeline {name}", problems)
    return pipeline


def read(settings: Settings, name: str) -> tuple[Pipeline, tuple[Problem, ...]]:
    """Read a pipeline as far as it can be read, with the problems of its declaration."""
    table = table_of(settings.pipelines, "pipeline", name)
    place = ("pipelines", name)
    notes = Notes()
    notes.name(place, "a pipeline's name", name)
    rows = table.get("steps", [])
    if not rows:
        notes.add(place, "it has no steps.", f"Add [[pipelines.{name}.steps]] with a name and a notebook.")
    for key, value in table.get("parameters", {}).items():
        if notes.take((*place, "parameters", key), _NONE, references_in, value):
            notes.add((*place, "parameters", key), f"parameters.{key} refers to something; only steps can.")
    steps = tuple(_step(row, (*place, "steps", n), notes) for n, row in enumerate(rows))
    _refuse_doubles(steps, notes)
    names = [step.name for step in steps]
    pipeline = Pipeline(
        name,
        tuple(_with_needs(step, names, notes) for step in steps),
        timing_of(table, place, notes),
        table.get("parameters", {}),
    )
    if circle := cycle(pipeline.edges):
        notes.add((*pipeline.step(circle[0]).place, "needs"), f"steps wait for each other: {' → '.join(circle)}.")
    return pipeline, tuple(notes.problems)


# -------------------------------------------------------------------- a step
def _step(row: Mapping[str, Any], place: Place, notes: Notes) -> Step:
    name = row.get("name", "")
    notes.name((*place, "name"), "a step's name", name)
    if name in CONTEXT:
        notes.add((*place, "name"), f"a step cannot be called {name}: ${{{name}.…}} means something else.")
    kind, target = _kind(row, name, place, notes)
    step = Step(
        name=name,
        kind=kind,
        target=target,
        needs=tuple(dict.fromkeys(row.get("needs", ()))),
        parameters=row.get("parameters", {}),
        matrix=_matrix(row.get("matrix", {}), (*place, "matrix"), notes),
        pick=notes.take((*place, "pick"), None, _pick, row),
        when=row.get("when", ""),
        is_cached=row.get("cache", True),
        retries=_retries(row, place, notes),
        backoff_s=duration_of(row, "backoff", place, notes),
        timeout_s=duration_of(row, "timeout", place, notes) if "timeout" in row else None,
        resources=_resources(row.get("resources", {}), (*place, "resources"), notes),
        place=place,
    )
    _refuse_what_has_no_meaning(step, row, notes)
    return step


def _kind(row: Mapping[str, Any], name: str, place: Place, notes: Notes) -> tuple[Kind, str]:
    kinds = [kind for kind in KINDS if kind in row]
    if len(kinds) != 1:
        said = f"has {' and '.join(kinds)}" if kinds else "does nothing"
        notes.add(place, f"step {name!r} {said}.", "A step has one of notebook, function, verb and approval.")
    kind = kinds[0] if kinds else "approval"
    target = row.get(kind, "")
    if kinds and not target.strip():
        notes.add((*place, kind), f"{kind} is empty.")
    elif kind == "notebook" and not target.endswith(".ipynb"):
        notes.add((*place, kind), f"{target!r} is no notebook: its name does not end in .ipynb.")
    elif kind == "function" and not _FUNCTION.fullmatch(target):
        notes.add((*place, kind), f"{target!r} names no function.", "Write module:function, as steps:clean")
    elif kind == "verb" and not notes.take((*place, kind), False, _split, target):
        return kind, ""
    return kind, target


def _split(words: str) -> bool:
    try:
        return bool(shlex.split(words))
    except ValueError as exc:
        raise UsageError(f"the words {words!r} cannot be told apart: {exc}.") from exc


def _matrix(table: Mapping[str, Any], place: Place, notes: Notes) -> dict[str, tuple[Any, ...]]:
    kept: dict[str, tuple[Any, ...]] = {}
    n = 1
    for name, values in table.items():
        if not isinstance(values, list) or not values:
            notes.add((*place, name), f"matrix.{name} must be a list of values, not {values!r}.")
        elif any(values[i] in values[:i] for i in range(len(values))):
            notes.add((*place, name), f"matrix.{name} has a value twice.")
        elif notes.take((*place, name), _NONE, references_in, values):
            notes.add((*place, name), f"matrix.{name} refers to other steps; what a matrix spans is known beforehand.")
        else:
            kept[name] = tuple(values)
            n *= len(values)
    if n > MOST_INSTANCES:
        notes.add(place, f"the matrix has {n:,} combinations; at most {MOST_INSTANCES:,} are run.")
        return {}
    return kept


def _pick(row: Mapping[str, Any]) -> Pick | None:
    if "pick" not in row:
        return None
    better, _, key = row["pick"].partition(":")
    if better not in ("max", "min") or not NAME.fullmatch(key):
        raise UsageError(f"pick cannot be {row['pick']!r}.", "Write max:RESULT or min:RESULT, as max:roc_auc")
    return Pick(cast(Literal["max", "min"], better), key)


def _retries(row: Mapping[str, Any], place: Place, notes: Notes) -> int:
    retries: int = row.get("retries", 0)
    if 0 <= retries <= MOST_RETRIES:
        return retries
    notes.add((*place, "retries"), f"retries must be from 0 to {MOST_RETRIES}, not {retries}.")
    return 0


def _resources(table: Mapping[str, Any], place: Place, notes: Notes) -> Resources:
    cpus, gpus = float(table.get("cpus", 1)), float(table.get("gpus", 0))
    for key, amount in {"cpus": cpus, "gpus": gpus}.items():
        if not 0 <= amount < 1e6:
            notes.add((*place, key), f"{key} cannot be {amount:g}.")
    memory = notes.take((*place, "memory"), 0, memory_bytes, table.get("memory", "0B"))
    return Resources(cpus, gpus, memory)


def memory_bytes(text: str) -> int:
    """Read an amount of memory.

    Examples
    --------
    >>> memory_bytes("4GB"), memory_bytes("512MiB")
    (4000000000, 536870912)
    """
    if not (match := _MEMORY.fullmatch(text.strip())):
        raise UsageError(f"memory cannot be {text!r}.", "Write it as 512MB, 4GB or 4GiB.")
    step = 1024 if match[3] else 1000
    return int(float(match[1]) * step ** " KMGT".index(match[2] or " "))


def _refuse_what_has_no_meaning(step: Step, row: Mapping[str, Any], notes: Notes) -> None:
    """Refuse keys that would be ignored in a step of this kind."""
    if step.kind in ("verb", "approval") and step.parameters:
        advice = (
            "Write its arguments behind the verb's name." if step.kind == "verb" else "Write them into the question."
        )
        notes.add((*step.place, "parameters"), f"a step with {step.kind} takes no parameters.", advice)
    if step.pick and "matrix" not in row:
        notes.add((*step.place, "pick"), "pick keeps one of a matrix, and there is none.")
    if step.kind == "approval":
        for key in {"matrix", "retries", "resources"} & set(row):
            notes.add((*step.place, key), f"a step with approval takes no {key}.")
    if row.get("backoff") and not row.get("retries"):
        notes.add((*step.place, "backoff"), "backoff is the wait before a retry, and there are none: retries is 0.")
    for name in set(step.parameters) & set(step.matrix):
        notes.add((*step.place, "parameters", name), f"{name} stands in parameters and in matrix.")


# --------------------------------------------------------------------- needs
def _refuse_doubles(steps: Sequence[Step], notes: Notes) -> None:
    seen: set[str] = set()
    for step in steps:
        if step.name in seen:
            notes.add((*step.place, "name"), f"two steps are called {step.name}.")
        seen.add(step.name)


def _with_needs(step: Step, names: Sequence[str], notes: Notes) -> Step:
    """Complete what a step needs by what it refers to; note what does not exist."""
    for need in step.needs:
        if need not in names:
            notes.add(
                (*step.place, "needs"), f"step {step.name} needs {need!r}, which is no step.", nearest(need, names)
            )
    implied = _implied(step, names, notes)
    return replace(step, needs=tuple(n for n in dict.fromkeys([*step.needs, *implied]) if n in names))


def _implied(step: Step, names: Sequence[str], notes: Notes) -> list[str]:
    implied = []
    for part, value in _spoken(step).items():
        found = notes.take((*step.place, *part), _NONE, references_in, value)
        implied += _owners(step, part, found, names, notes)
    if step.when:
        found = notes.take((*step.place, "when"), _NONE, _asked, step.when)
        implied += _owners(step, ("when",), found, names, notes)
    return implied


def _asked(when: str) -> tuple[Reference, ...]:
    return tuple(condition(when).references.values())


def _spoken(step: Step) -> dict[tuple[str, ...], Any]:
    """Give the parts of a step in which references may stand, by their place."""
    parts: dict[tuple[str, ...], Any] = {("parameters", name): value for name, value in step.parameters.items()}
    return parts | ({(step.kind,): step.words} if step.kind in ("verb", "approval") else {})


def _owners(
    step: Step, part: tuple[str, ...], found: Iterable[Reference], names: Sequence[str], notes: Notes
) -> list[str]:
    owners = []
    for reference in found:
        if reference.owner in names:
            owners.append(reference.owner)
        elif reference.owner not in CONTEXT:
            hint = nearest(reference.owner, [*names, *CONTEXT])
            notes.add((*step.place, *part), f"step {step.name}: {reference} names no step.", hint)
    return owners
