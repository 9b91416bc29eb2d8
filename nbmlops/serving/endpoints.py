"""What serving speaks of: endpoints, the server behind one, deployments, predictions. Nouns alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.serving.check import Check
from nbmlops.serving.rollout import Rollout
from nbmlops.verb import MACHINE_ONLY, Result

_NAME = re.compile(r"[\w-][\w .-]*")


def check_endpoint_name(name: str) -> str:
    """Give an endpoint's name back when it can be one: it also names a folder.

    Raises
    ------
    UsageError
        It holds other characters than letters, digits, ``_``, ``-``, ``.`` and spaces, or begins with a dot.

    Examples
    --------
    >>> check_endpoint_name("delays")
    'delays'
    """
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise UsageError(f"{name!r} cannot name an endpoint.", "Use letters, digits, _, -, . and spaces: --as NAME")
    return name


@dataclass(frozen=True)
class Share:
    """One version behind an endpoint: its share of the answers in percent, how it is served, and what it has done.

    `latency_p99_ms` is of the requests since its server started, in milliseconds. `shift` says of a version that is
    tried how far its predictions lie from the champion's, as its rollout judges it since its step began: an index from
    0 on, above 0.25 much; None while too few are known.
    """

    model: str
    version: str
    role: str
    weight: float
    form: str
    n_requests: int = 0
    n_errors: int = 0
    latency_p99_ms: float | None = None
    shift: float | None = None

    @property
    def headline(self) -> str:
        """The share in a few words."""
        what = "shadow" if self.role == "shadow" else f"{self.weight:g}%"
        return f"{self.version} {what} ({self.form or 'not seen yet'})"


@dataclass(frozen=True)
class Progress:
    """How far a rollout is: at the step `step` of `steps`, counted from 0, with `weight` percent of the answers.

    `state` is ``running``, ``done``, ``rolled_back`` or ``aborted``, and `reason` why it runs no longer. Each step
    bakes for `bake_s` seconds and is held against the limits `slo`.
    """

    state: str
    challenger: str
    champion: str
    strategy: str
    steps: tuple[float, ...]
    step: int
    weight: float
    bake_s: float
    step_began_at: datetime
    slo: str
    promote: bool
    reason: str = ""

    @classmethod
    def of(cls, rollout: Rollout) -> "Progress":
        """Tell of a rollout without what it has counted."""
        return cls(**{each.name: getattr(rollout, each.name) for each in fields(cls)})


@dataclass(frozen=True)
class Endpoint(Result):
    """One endpoint.

    `status` is ``answers``, ``silent`` (its servers run but do not answer), ``dead``, ``partly`` (a server of several
    is missing), ``behind`` (what is wanted is not served yet), or ``elsewhere`` when another machine serves it.
    `rollout` tells of the one that goes on, or went on last, in words, and `progress` in figures. `refused`
    counts the requests that its servers have answered with an error, by status.
    """

    name: str
    url: str
    model: str
    version: str
    status: str
    traffic: tuple[Share, ...]
    follows: str
    rollout: str
    since: str
    pids: tuple[int, ...] = field(default=(), metadata=MACHINE_ONLY)
    trouble: str = ""
    refused: Mapping[str, int] = field(default_factory=dict)
    progress: Progress | None = field(default=None, metadata=MACHINE_ONLY)

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"endpoint/{self.name}"

    @property
    def headline(self) -> str:
        """The endpoint in one line."""
        shares = ", ".join(share.headline for share in self.traffic)
        return f"{self.name} at {self.url} {self.status}: {self.model} {shares}"


@dataclass(frozen=True)
class OfEndpoint(Result):
    """What a verb did to an endpoint."""

    endpoint: str

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"endpoint/{self.endpoint}"


@dataclass(frozen=True)
class Deployment(OfEndpoint):
    """A model version that is live on an endpoint, or on its way; `replaced` is the version before it, empty if none.

    `rollout` is the plan of one that has begun, and its state: ``running``, ``done``, ``rolled_back``, ``aborted``.
    """

    url: str
    model: str
    version: str
    form: str = ""
    replaced: str = ""
    rollout: str = ""
    state: str = ""
    preflight: tuple[Check, ...] = ()
    seconds: float = 0.0
    dry_run: bool = False

    @property
    def headline(self) -> str:
        """What is live where, in one line."""
        label = f"{self.model}/{self.version}"
        if self.dry_run:
            before = f" in place of {self.replaced}" if self.replaced else ""
            return f"Would deploy {label} as {self.endpoint}{before}{f': {self.rollout}' if self.rollout else ''}"
        if self.state == "running":
            return f"{label} is tried at {self.url} beside {self.replaced}: {self.rollout}"
        before = f" in place of {self.replaced}" if self.replaced else ""
        return f"{label} is live at {self.url}/invocations{before} ({self.form}, {self.seconds:.1f} s)"

    @property
    def next_step(self) -> str:
        """Use it, or watch it."""
        if self.dry_run:
            return ""
        return "endpoints" if self.state == "running" else f"predict {self.endpoint} --data TABLE"


@dataclass(frozen=True)
class Traffic(OfEndpoint):
    """An endpoint's weights, as they were set."""

    weights: Mapping[str, float]
    previous: Mapping[str, float]
    dry_run: bool = False

    @property
    def headline(self) -> str:
        """The weights in one line."""
        said = ", ".join(f"{version} {weight:g}%" for version, weight in self.weights.items())
        return f"{self.endpoint} {'would answer' if self.dry_run else 'answers'} with {said}"


@dataclass(frozen=True)
class Undeployment(OfEndpoint):
    """An endpoint that is no more."""

    url: str
    model: str
    version: str
    dry_run: bool = False

    @property
    def headline(self) -> str:
        """What stopped, in one line."""
        what = f"{self.endpoint} at {self.url}, which served {self.model}/{self.version}"
        return f"Would stop {what}" if self.dry_run else f"Stopped {what}"


@dataclass(frozen=True)
class Predictions(Result):
    """What an endpoint answered for a table, one prediction a row, in the table's order."""

    endpoint: str
    model: str
    version: str
    n_rows: int
    seconds: float
    rows_per_s: float
    predictions: tuple[Any, ...]
    output: str = ""

    @property
    def headline(self) -> str:
        """How many rows were scored, by what, how fast."""
        kept = f", kept in {self.output}" if self.output else ""
        return f"{self.model}/{self.version} scored {self.n_rows:,} rows in {self.seconds:.2f} s{kept}"
