"""What the registry speaks of: versions, aliases, promotions; how a reference is read; an alias's past."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from nbmlops.errors import UsageError
from nbmlops.ledger.events import Event
from nbmlops.registry.manifest import Manifest
from nbmlops.verb import MACHINE_ONLY, Result

CHAMPION = "champion"
CHALLENGER = "challenger"
_NAME = re.compile(r"[\w .-]+")


# ------------------------------------------------------------------ references
@dataclass(frozen=True)
class Reference:
    """A model version as a person names it: by number, or by an alias; the other one is empty."""

    name: str
    version: str = ""
    alias: str = ""


def parse_reference(text: str, default_alias: str = CHAMPION) -> Reference:
    """Read ``name/version``, ``name@alias`` or ``name``, with or without ``models:/`` before it.

    Parameters
    ----------
    text
        What was typed.
    default_alias
        What a bare name means.

    Raises
    ------
    UsageError
        It is none of these.

    Examples
    --------
    >>> parse_reference("delays/3")
    Reference(name='delays', version='3', alias='')
    >>> parse_reference("delays", "challenger")
    Reference(name='delays', version='', alias='challenger')
    """
    bare = text.removeprefix("models:/")
    name, slash, version = bare.partition("/")
    name, at, alias = name.partition("@")
    version_is_fine = version.isdecimal() and not at if slash else True
    if not _NAME.fullmatch(name) or not version_is_fine or (at and not alias):
        raise UsageError(
            f"{text!r} does not name a model version.", "Type NAME/VERSION, NAME@ALIAS or NAME, for instance delays/3."
        )
    return Reference(name, version, alias or ("" if slash else default_alias))


def check_name(name: str) -> str:
    """Give a new model's name back when it can be one.

    Raises
    ------
    UsageError
        It holds other characters than letters, digits, ``_``, ``-``, ``.`` and spaces.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a model.",
            "Use letters, digits, _, -, . and spaces; the version number comes by itself.",
        )
    return name


# ----------------------------------------------------------------------- nouns
@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model, as MLflow knows it; `digest` is a tag, empty when nbmlops did not make it."""

    name: str
    version: str
    source: str
    run_id: str
    digest: str
    registered_at: datetime

    @property
    def label(self) -> str:
        """The reference that means exactly this version."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class RegisteredModel:
    """One row of ``models``: `gate` is the last gate report's outcome, about `judged`; `aliases` name versions."""

    name: str
    version: str
    aliases: Mapping[str, str]
    gate: str
    judged: str
    updated_at: datetime | None


@dataclass(frozen=True)
class ListedVersion:
    """One row of ``models NAME``: `gate` is the outcome of the last gate report about exactly its bytes.

    That report is gate `judged_by`'s, of `judged_at`, and `n_failed` of its checks failed; nothing has judged the
    version where `gate` is empty.
    """

    noun: ClassVar[str] = "version"

    name: str
    version: str
    aliases: tuple[str, ...]
    gate: str = ""
    judged_by: str = ""
    judged_at: datetime | None = None
    n_failed: int = 0
    registered_at: datetime | None = None
    run_id: str = ""

    @classmethod
    def of(cls, version: ModelVersion, aliases: Mapping[str, str], judged: Event | None) -> "ListedVersion":
        """Put together what MLflow knows of a version, and what a gate said of it last."""
        report = judged.result if judged else {}
        return cls(
            name=version.name,
            version=version.version,
            aliases=tuple(sorted(alias for alias, number in aliases.items() if number == version.version)),
            gate=("passed" if report["passed"] else "failed") if report else "",
            judged_by=report.get("gate", ""),
            judged_at=judged.at if judged else None,
            n_failed=sum(check["status"] == "fail" for check in report.get("checks", ())),
            registered_at=version.registered_at,
            run_id=version.run_id,
        )


@dataclass(frozen=True)
class Registration(Result):
    """A model that became a version, with the manifest of its bytes: what the loader checks against for ever.

    `form` is ``compiled`` where it can be served without MLflow, else ``pyfunc``, and `why` the reason; `sha256` is
    that of the compiled form.
    """

    name: str
    version: str
    alias: str
    previous: str
    digest: str
    manifest: Manifest = field(metadata=MACHINE_ONLY)
    source: str
    run_id: str
    signature: str
    trusted_types: tuple[str, ...] = ()
    consented_types: tuple[str, ...] = ()
    form: str = ""
    why: str = ""
    sha256: str = ""
    dry_run: bool = False

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"model/{self.name}/{self.version}"

    @property
    def headline(self) -> str:
        """What became of the model, in one line."""
        size = sum(file.size_bytes for file in self.manifest)
        unsigned = "" if self.signature else "; it has no signature: give --input-example"
        what = f"{len(self.manifest)} files, {size / 1000:,.0f} kB, digest {self.digest[:12]}{unsigned}"
        if self.dry_run:
            return f"Would register {self.name}: {what}"
        return f"Registered {self.name}/{self.version} as {self.alias}: {what}"

    @property
    def next_step(self) -> str:
        """Put it through the gate."""
        return "" if self.dry_run else f"validate {self.name}/{self.version}"


@dataclass(frozen=True)
class Evidence:
    """The gate report that allowed a promotion: its event in the ledger, its gate, the bytes it is about."""

    event: int
    gate: str
    digest: str


@dataclass(frozen=True)
class Promotion(Result):
    """An alias that points at a version, the version before it, and the evidence; `moved` is False for a no-op.

    `switched` names the endpoints that go with the alias.
    """

    name: str
    version: str
    alias: str
    previous: str
    moved: bool
    evidence: Evidence | None = None
    reason: str = ""
    switched: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"model/{self.name}/{self.version}"

    @property
    def headline(self) -> str:
        """The move in one line."""
        if not self.moved:
            return f"{self.name}@{self.alias} is version {self.version} already: nothing to do"
        proof = f" (gate {self.evidence.gate} passed, event {self.evidence.event})" if self.evidence else ""
        return f"{_move(self)}{proof}{_switched(self.switched)}"

    @property
    def next_step(self) -> str:
        """Put the new champion to work."""
        return "" if self.dry_run or not self.moved or self.switched else f"deploy {self.name}@{self.alias}"


@dataclass(frozen=True)
class Rollback(Result):
    """An alias that points at the version before again; `previous` is the version it left.

    `switched` names the endpoints that go with it. Where a version was tried beside the alias's, that ended at the
    endpoints `ended`, and the alias stays: `previous` is empty then.
    """

    name: str
    version: str
    alias: str
    previous: str
    reason: str = ""
    switched: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    mlflow_is_told: bool = True
    dry_run: bool = False

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"model/{self.name}/{self.version}"

    @property
    def headline(self) -> str:
        """The move in one line."""
        if self.ended:
            what = "would end" if self.dry_run else "ended"
            return f"The rollout at {', '.join(self.ended)} {what}; {self.name}@{self.alias} stays at {self.version}"
        later = "" if self.mlflow_is_told else "; MLflow is away, and is told when it answers"
        return f"{_move(self)}{_switched(self.switched)}{later}"

    @property
    def next_step(self) -> str:
        """Look at what led here."""
        return f"history {self.name}"


@dataclass(frozen=True)
class HistoryEntry:
    """One thing that was done, or tried, with a model."""

    event: int
    at: datetime
    actor: str
    surface: str
    verb: str
    version: str
    outcome: str
    what: str
    reason: str


@dataclass(frozen=True)
class Verification(Result):
    """A model whose bytes are those that were registered, or (with no `model`) a ledger whose chain is whole."""

    model: str = ""
    digest: str = ""
    files: int = 0
    events: int = 0

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        if self.model:
            return f"{self.model}: all {self.files} files are as registered, digest {self.digest[:12]}"
        return f"The ledger's chain is whole: {self.events} events"


def _switched(endpoints: tuple[str, ...]) -> str:
    return f"; {', '.join(endpoints)} {'switch' if len(endpoints) > 1 else 'switches'}" if endpoints else ""


def _move(move: Promotion | Rollback) -> str:
    before = f" (was {move.previous})" if move.previous else ""
    return f"{move.name}@{move.alias} {'would be' if move.dry_run else 'is'} version {move.version}{before}"


# -------------------------------------------------------------------- the past
@dataclass
class AliasStack:
    """The versions that an alias pointed at and can go back to, oldest first; the last is where it was left."""

    versions: list[str] = field(default_factory=list)

    def push(self, previous: str, version: str) -> None:
        """Take a move forward; a `previous` that is not the last was set outside nbmlops and counts too."""
        for pointed_at in (previous, version):
            if pointed_at and self.versions[-1:] != [pointed_at]:
                self.versions.append(pointed_at)

    def pop_to(self, version: str) -> None:
        """Take a move back: what lay above `version` is forgotten."""
        while self.versions and self.versions[-1] != version:
            self.versions.pop()


def alias_stack(events: Iterable[Event], name: str, alias: str) -> list[str]:
    """Fold events, oldest first, into the versions that an alias can go back to.

    A registration or promotion pushes, a rollback pops: a rollback that is
    repeated goes further back, never to and fro.

    Parameters
    ----------
    events
        Successful ``register``, ``promote`` and ``rollback`` events, oldest first.
    name, alias
        Whose past.

    Returns
    -------
    list of str
        Versions, oldest first; the last is where the alias was left. Empty when nothing is known.
    """
    stack = AliasStack()
    for event in events:
        result = event.result or {}
        if event.outcome != "ok" or (result.get("name"), result.get("alias")) != (name, alias):
            continue
        if event.verb == "rollback":
            stack.pop_to(result["version"])
        else:
            stack.push(result["previous"], result["version"])
    return stack.versions


def version_before(stack: list[str], current: str, existing: Iterable[str]) -> str:
    """Find where a rollback leads: the last version of the stack that is not the current one and still exists.

    Examples
    --------
    >>> version_before(["1", "2", "3"], "3", {"1", "2", "3"})
    '2'
    >>> version_before(["1", "2"], "9", {"1", "2", "9"})
    '2'
    >>> version_before(["3"], "3", {"3"})
    ''
    """
    alive = set(existing) - {current}
    below = stack[:-1] if stack[-1:] == [current] else stack
    return next((version for version in reversed(below) if version in alive), "")


def history_entry(event: Event) -> HistoryEntry:
    """Word what an event did to a model, or tried."""
    result = event.result if isinstance(event.result, dict) else {}
    return HistoryEntry(
        event=event.seq,
        at=event.at,
        actor=event.actor,
        surface=event.surface,
        verb=event.verb,
        version=event.subject.split("/")[2] if event.subject.count("/") == 2 else "",
        outcome=event.outcome,
        what=_what(event.verb, result),
        reason=str(event.arguments.get("reason", "")),
    )


def model_of(event: Event) -> str:
    """Name the model that an event is about, also when it failed before it found one; empty if unreadable."""
    if event.subject.startswith("model/"):
        return event.subject.split("/")[1]
    if event.verb == "register":
        return str(event.arguments.get("name", ""))
    try:
        return parse_reference(str(event.arguments.get("model", ""))).name
    except UsageError:
        return ""


def _what(verb: str, result: Mapping[str, Any]) -> str:
    if "message" in result:
        return (str(result["message"]).splitlines() or [""])[0]  # an interrupt has no message
    if verb == "validate":
        return f"gate {result['gate']} {'passed' if result['passed'] else 'failed'} on {result['n']} rows"
    if result.get("ended"):
        return f"{result['alias']} stays {result['version']}; the rollout at {', '.join(result['ended'])} ended"
    return f"{result['alias']}: {result['previous'] or 'none'} → {result['version']}"
