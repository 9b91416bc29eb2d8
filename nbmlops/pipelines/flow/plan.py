"""What a run of a pipeline would do, step by step, and why; pure: files, digests and earlier results are given.

A matrix step is planned once for each combination: ``train[kind=boosting]`` is an instance of the step ``train``.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from nbmlops import secrets
from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines import contract
from nbmlops.pipelines.flow.conditions import condition, judged
from nbmlops.pipelines.flow.declared import Pipeline, Step
from nbmlops.pipelines.flow.graph import following, ordered
from nbmlops.pipelines.flow.ingredients import Ingredients, Known, Published, differences, listed
from nbmlops.pipelines.flow.instances import Instance, instances_of, picked
from nbmlops.pipelines.flow.references import CONTEXT, Reference, as_text, filled, found, parsed, whole
from nbmlops.pipelines.flow.sources import Source
from nbmlops.scrub import scrub_text

Verdict = Literal["run", "cached", "skip"]


# --------------------------------------------------------------------- nouns
@dataclass(frozen=True)
class Selection:
    """Which steps a person wants: `only` these, or `from_` these on; `force` runs what is cached, ``*`` all.

    A step that is not selected does not run; its last result stands for it, however old.
    """

    only: tuple[str, ...] = ()
    from_: tuple[str, ...] = ()
    force: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedStep:
    """What would become of one instance, and why.

    `key` and `ingredients` are empty where they depend on results that are not there yet. `parameters` and `words`
    show a reference where its value is not known. `published` holds the result of what is cached, or has run.
    """

    name: str
    step: str
    verdict: Verdict
    reason: str
    needs: tuple[str, ...] = ()
    key: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    ingredients: Ingredients | None = None
    published: Published | None = None


# ------------------------------------------------------------------ planning
def no_file(text: str) -> str:  # noqa: ARG001
    """Take every text for a plain one, that names no file."""
    return ""


@dataclass(frozen=True)
class Planning:
    """Everything that a plan depends on.

    Parameters
    ----------
    pipeline, sources
        As checked (`checks.checked`).
    known
        What was published before.
    context
        What references name beside steps: see `context`.
    environment
        Digest of the environment that the steps run in.
    file_digest
        Gives the digest of the file or URI that a text value names, and an empty text for what names none.
    selection
        What a person wants.
    resumed
        The jobs that this run goes on with: what they have published stands, also where files have changed since.
    """

    pipeline: Pipeline
    sources: Mapping[str, Source]
    known: Known = field(default_factory=Known)
    context: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: str = ""
    file_digest: Callable[[str], str] = no_file
    selection: Selection = field(default_factory=Selection)
    resumed: frozenset[str] = frozenset()

    @functools.cached_property
    def instances(self) -> tuple[Instance, ...]:
        """Every instance, each behind those that it needs."""
        steps = {step.name: step for step in self.pipeline.steps}
        return tuple(each for name in ordered(self.pipeline.edges) for each in instances_of(steps[name]))

    @functools.cached_property
    def instance_names(self) -> Mapping[str, tuple[str, ...]]:
        """The names of each step's instances, in matrix order."""
        names: dict[str, tuple[str, ...]] = {}
        for each in self.instances:
            names[each.step.name] = (*names.get(each.step.name, ()), each.name)
        return names

    @functools.cached_property
    def selected(self) -> frozenset[str]:
        """The names of the instances that may run."""
        return frozenset(_selected(self))

    @functools.cached_property
    def forced(self) -> frozenset[str]:
        """The names of the instances that run even where they are cached."""
        if "*" in self.selection.force:
            return self.selected
        return frozenset(name for given in self.selection.force for name in _meant(self, given))

    def step(self, instance: Instance, settled: Mapping[str, PlannedStep]) -> PlannedStep:
        """Plan one instance, when all that it needs is settled: planned, or finished (see `finished`)."""
        return _View(self, instance, settled).planned()


def planned(planning: Planning) -> tuple[PlannedStep, ...]:
    """Plan every instance of a pipeline, each behind those that it needs. O(instances + needs).

    Raises
    ------
    UsageError
        A selected name does not exist (the hint names the nearest), a selected step needs one that is neither selected
        nor has a result, or an earlier result lacks what a reference names.

    Examples
    --------
    >>> steps = (Step("extract", "function", "steps:extract"), Step("train", "function", "steps:train", ("extract",)))
    >>> first = Planning(Pipeline("retrain", steps), {})
    >>> [(each.name, each.verdict, each.reason) for each in planned(first)]
    [('extract', 'run', 'new'), ('train', 'run', 'extract runs first')]
    >>> done = Published("extract", planned(first)[0].key)
    >>> [(each.name, each.verdict, each.reason) for each in planned(Planning(first.pipeline, {}, Known.of([done])))]
    [('extract', 'cached', 'unchanged'), ('train', 'run', 'new')]
    """
    settled: dict[str, PlannedStep] = {}
    for instance in planning.instances:
        settled[instance.name] = planning.step(instance, settled)
    return tuple(settled.values())


def finished(step: PlannedStep, published: Published) -> PlannedStep:
    """Settle an instance that has run: the steps behind it are planned with its result."""
    return replace(step, verdict="cached", reason="finished", key=published.key, published=published)


def left_out(step: PlannedStep, reason: str) -> PlannedStep:
    """Settle an instance that said itself that there is nothing to do: what needs it is skipped too."""
    return replace(step, verdict="skip", reason=reason, published=None)


def context(
    pipeline: Pipeline, due: datetime, run_id: str = "", parameters: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Give what references name beside steps.

    Parameters
    ----------
    pipeline
        Its timezone is the one in which `due` is told.
    due
        When the run is due, aware: a late or repeated run keeps the time that it was due at.
    run_id
        Of this run; a step that refers to it is never cached.
    parameters
        Values for the pipeline's own parameters; the defaults stand for those not given.

    Examples
    --------
    >>> from datetime import UTC
    >>> from nbmlops.pipelines.flow.timing import Timing
    >>> vienna = Pipeline("retrain", (), Timing(timezone="Europe/Vienna"))
    >>> context(vienna, datetime(2013, 1, 31, 23, 30, tzinfo=UTC))["due"]
    {'date': '2013-02-01', 'time': '2013-02-01T00:30:00+01:00'}
    """
    local = due.astimezone(ZoneInfo(pipeline.timing.timezone))
    return {
        "due": {"date": local.date().isoformat(), "time": local.isoformat()},
        "run": {"id": run_id},
        "pipeline": {"name": pipeline.name},
        "parameters": {**pipeline.parameters, **(parameters or {})},
    }


# ----------------------------------------------------------------- selection
def _meant(planning: Planning, given: str) -> tuple[str, ...]:
    """Find the instances that a person means by a step's name, or an instance's."""
    if given in planning.instance_names:
        return planning.instance_names[given]
    names = [each.name for each in planning.instances]
    if given in names:
        return (given,)
    known = dict.fromkeys([*planning.instance_names, *names])
    raise UsageError(f"Pipeline {planning.pipeline.name} has no step {given!r}.", nearest(given, known))


def _selected(planning: Planning) -> set[str]:
    wanted = planning.selection
    everything = {each.name for each in planning.instances}
    if not wanted.only and not wanted.from_:
        return everything
    chosen = {name for given in wanted.only for name in _meant(planning, given)}
    step_of = {each.name: each.step.name for each in planning.instances}
    for given in wanted.from_:
        first = _meant(planning, given)
        begun = {step_of[name] for name in first}
        behind = following(planning.pipeline.edges, begun) - begun
        chosen |= {*first, *(name for name, step in step_of.items() if step in behind)}
    _refuse_without_results(planning, chosen)
    return chosen


def _refuse_without_results(planning: Planning, chosen: set[str]) -> None:
    for instance in planning.instances:
        for need in instance.step.needs if instance.name in chosen else ():
            for name in planning.instance_names[need]:
                if name not in chosen and name not in planning.known.latest:
                    raise UsageError(
                        f"{instance.name} needs {name}, which is not selected and has no result yet.",
                        f"Select it too: `run {planning.pipeline.name} --only {name} --only {instance.name}`",
                    )


# -------------------------------------------------------------- one instance
class _NotYetError(Exception):
    """A reference names a result that is not there yet."""


@dataclass(frozen=True)
class _View:
    """One instance, seen from what is settled before it."""

    planning: Planning
    instance: Instance
    settled: Mapping[str, PlannedStep]

    def planned(self) -> PlannedStep:
        """Give the verdict, the first that applies."""
        if self.instance.name not in self.planning.selected:
            return self._not_selected()
        if skipped := [need for need, rows in self.upstream.items() if all(row.verdict == "skip" for row in rows)]:
            return self._told("skip", f"needs {listed(skipped)}, which is skipped")
        try:
            return self._judged()
        except UsageError as exc:
            raise UsageError(f"Step {self.instance.name}: {exc.message}", exc.hint) from exc

    @functools.cached_property
    def upstream(self) -> dict[str, list[PlannedStep]]:
        """What is settled of each step that this one needs."""
        names = self.planning.instance_names
        return {need: [self.settled[name] for name in names[need]] for need in self.instance.step.needs}

    @functools.cached_property
    def pending(self) -> list[str]:
        """The steps that run before this one, whose results are not there yet."""
        return [need for need, rows in self.upstream.items() if any(row.verdict == "run" for row in rows)]

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """What references may name, as far as it is there."""
        steps = {step.name: step for step in self.planning.pipeline.steps}
        results = {
            need: _results(steps[need], rows) for need, rows in self.upstream.items() if need not in self.pending
        }
        return {**self.planning.context, "matrix": self.instance.values, **results}

    def _look_up(self, reference: Reference) -> Any:
        if reference.owner in self.pending or (reference.owner in CONTEXT and reference.owner not in self.values):
            raise _NotYetError
        return found(reference, self.values)

    def _judged(self) -> PlannedStep:
        step = self.instance.step
        try:
            if step.when and not judged(condition(step.when), self._look_up):
                return self._told("skip", f"when is false: {step.when}")
            if self.pending:
                raise _NotYetError
            ingredients = self._ingredients()
        except _NotYetError:
            return self._waiting()
        key = ingredients.key
        published = self.planning.known.by_key.get(key) or self._published_before(ingredients)
        reason = self._reason_to_run(ingredients, published)
        return replace(
            self._told("run" if reason else "cached", reason or "unchanged"),
            key=published.key if published and not reason else key,
            ingredients=ingredients,
            published=None if reason else published,
        )

    def _published_before(self, ingredients: Ingredients) -> Published | None:
        """Find what the run that this one goes on with has published, from files that may have changed since."""
        known = self.planning.known
        latest = known.latest.get(self.instance.name)
        if latest is None or latest.job not in self.planning.resumed or latest.key not in known.by_key:
            return None  # it is of another run, or what it points to is not as it was
        was = latest.ingredients
        return latest if was and was.is_same_but_for_files(ingredients) else None

    def _reason_to_run(self, ingredients: Ingredients, published: Published | None) -> str:
        name = self.instance.name
        if name in self.planning.forced:
            return "forced"
        if not self.instance.step.is_cached:
            return "cache = false"
        if published:
            return ""
        latest = self.planning.known.latest.get(name)
        if latest is None or latest.ingredients is None:
            return "new"
        return "; ".join(differences(latest.ingredients, ingredients)) or "its result is no longer kept"

    def _waiting(self) -> PlannedStep:
        read = {reference.owner for reference in self.instance.step.references} & {*self.pending}
        if not self.pending:
            return self._told("run", "depends on when it is due")
        if read:
            return self._told("run", f"depends on {listed([need for need in self.pending if need in read])}")
        return self._told("run", f"{listed(self.pending)} {'runs' if len(self.pending) == 1 else 'run'} first")

    def _not_selected(self) -> PlannedStep:
        if latest := self.planning.known.latest.get(self.instance.name):
            shown = self._told("cached", "not selected: its last result stands")
            return replace(shown, key=latest.key, published=latest, ingredients=latest.ingredients)
        return self._told("skip", "not selected")

    def _told(self, verdict: Verdict, reason: str) -> PlannedStep:
        step = self.instance.step
        needs = tuple(row.name for rows in self.upstream.values() for row in rows)
        given = {name: self._as_known(name, value) for name, value in step.parameters.items()}
        spoken = () if step.kind in ("notebook", "function") else tuple(self._words(self._as_known_text))
        return PlannedStep(
            self.instance.name, step.name, verdict, reason, needs, parameters={**given, **self._own()}, words=spoken
        )

    def _own(self) -> Mapping[str, Any]:
        """Give the matrix values, which are parameters of a notebook or function."""
        return self.instance.values if self.instance.step.kind in ("notebook", "function") else {}

    # What a value becomes, once the results before it are there.
    def _value(self, name: str, value: Any) -> Any:
        ready = filled(value, self._look_up)
        if _begins_with_a_result(value):  # which is data: it refers to no secret, whatever it says
            ready = secrets.escaped(ready)
        source = self.planning.sources.get(self.instance.step.name)
        declared = {each.name: each for each in (source.parameters or ())} if source else {}
        return contract.coerce(declared[name], ready) if name in declared else ready

    def _as_known(self, name: str, value: Any) -> Any:
        try:
            return self._value(name, value)
        except (_NotYetError, UsageError):
            return value

    def _as_known_text(self, reference: Reference) -> Any:
        try:
            return self._look_up(reference)
        except (_NotYetError, UsageError):
            return str(reference)

    def _words(self, look_up: Callable[[Reference], Any]) -> Iterator[str]:
        for word in self.instance.step.words:
            value = filled(word, look_up)
            each = value if whole(word) and isinstance(value, list) else [value]
            for text in map(as_text, each):
                if text.startswith("-") and not word.startswith("-") and not _is_number(text):
                    raise UsageError(f"{word} is {text!r} here, and a value may not turn into an option.")
                yield text

    def _ingredients(self) -> Ingredients:
        step, planning = self.instance.step, self.planning
        parameters = {name: self._value(name, value) for name, value in step.parameters.items()} | dict(self._own())
        spoken = step.kind not in ("notebook", "function")
        target = list(self._words(self._look_up)) if spoken else [step.target]
        source = planning.sources.get(step.name, Source())
        inputs = {
            row.name: row.published.fingerprint for rows in self.upstream.values() for row in rows if row.published
        }
        for text in _texts([*parameters.values(), *(target if spoken else ())]):
            if known := planning.file_digest(text):
                inputs[f"file {text}"] = known
        return Ingredients(
            step=f"{planning.pipeline.name}/{self.instance.name}",
            kind=step.kind,
            target=[scrub_text(word) for word in target],
            source=source.parts,
            parameters=contract.shown(parameters),
            inputs=inputs,
            environment=planning.environment,
        )


def _results(step: Step, rows: Sequence[PlannedStep]) -> Any:
    """Give what a reference to a step finds: its results, a list of them, or the one that is picked."""
    results = [row.published.results for row in rows if row.published]
    if not step.matrix:
        return results[0] if results else {}
    return results[picked(step.pick, results)] if step.pick else results


def _begins_with_a_result(value: Any) -> bool:
    parts = parsed(value) if isinstance(value, str) else ()
    return bool(parts) and isinstance(parts[0], Reference)


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            yield from _texts(value)
        elif isinstance(value, Mapping):
            yield from _texts(value.values())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
