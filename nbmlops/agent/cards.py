"""What the project's own verbs return, and what of it needs attention: pure."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from nbmlops.agent.waiting import NOTHING, Rejected, Unsent
from nbmlops.errors import StoreError
from nbmlops.registry.versions import HistoryEntry
from nbmlops.tracking.runs import Run
from nbmlops.validation.gates import Check as GateCheck
from nbmlops.validation.gates import GateReport
from nbmlops.verb import Result, counted


@dataclass(frozen=True)
class Initialised(Result):
    """A folder that is a project now: what was made, what was there and kept."""

    name: str
    folder: str
    tracking: str
    ledger: str
    made: tuple[str, ...]
    kept: tuple[str, ...]
    dry_run: bool = False

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"project/{self.name}"

    @property
    def headline(self) -> str:
        """What the folder is now."""
        verb = "would be" if self.dry_run else "is"
        return f"{self.folder} {verb} the project {self.name}; its stores answer."

    @property
    def next_step(self) -> str:
        """Look at it."""
        return "" if self.dry_run else "status"


@dataclass(frozen=True)
class SettingRow:
    """One setting, where it came from, and for a store whether it answers."""

    name: str
    value: str
    source: str
    status: str = ""


@dataclass(frozen=True)
class Champion:
    """A version that an alias points at."""

    model: str
    alias: str
    version: str
    gate: str


@dataclass(frozen=True)
class EndpointRow:
    """An endpoint, and whether it answers."""

    name: str
    model: str
    url: str
    status: str


@dataclass(frozen=True)
class LastDrift:
    """The newest drift report."""

    at: datetime
    drifted: bool
    what: str

    @property
    def headline(self) -> str:
        """What drifted, and when that was measured."""
        return f"{self.what} ({self.at.astimezone():%Y-%m-%d %H:%M})"


@dataclass(frozen=True)
class Attention:
    """One thing that needs a person, and the command that mends it."""

    what: str
    mend: str


@dataclass(frozen=True)
class Ahead:
    """Something that runs by itself: when next, in its own zone; what else starts it; how it went last."""

    name: str
    next: str
    triggers: str = ""
    last: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Status(Result):
    """The project on one card; what needs attention stands first."""

    attention: tuple[Attention, ...]
    name: str
    root: str
    active_runs: tuple[Run, ...]
    champions: tuple[Champion, ...]
    endpoints: tuple[EndpointRow, ...]
    last_drift: LastDrift | None
    settings: tuple[SettingRow, ...]
    unsent: Unsent = NOTHING
    ahead: tuple[Ahead, ...] = ()

    @property
    def headline(self) -> str:
        """The state in one line."""
        n = len(self.attention)
        return f"{self.name}: {f'{n} to look at' if n else 'all is well'}"


@dataclass(frozen=True)
class Synced(Result):
    """What `sync` delivered, what the stores refused, what is left and why, and which runs it gave their end."""

    records: int
    files: int
    rejected: int
    refused: tuple[Rejected, ...]
    ended: tuple[str, ...]
    left: int
    why: str = ""
    dry_run: bool = False

    @property
    def headline(self) -> str:
        """How it went, in one line."""
        would = "would be " if self.dry_run else ""
        parts = [f"{counted(self.records, 'record')} {would}sent"]
        parts += [f"{counted(self.files, 'file')} uploaded"] if self.files else []
        parts += [f"{self.rejected:,} rejected"] if self.rejected else []
        parts += [f"runs {would}ended: {', '.join(self.ended)}"] if self.ended else []
        parts += [f"{self.left:,} left"] if self.left else []
        return "; ".join(parts) + (f": {self.why}" if self.why else "")

    @property
    def next_step(self) -> str:
        """Once what they were refused for is mended."""
        return "sync --retry" if self.rejected else ""


@dataclass(frozen=True)
class Check:
    """One check of the doctor's: what was found, and what mends it."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Diagnosis(Result):
    """All checks, the worst first; `passed` when none failed."""

    passed: bool
    checks: tuple[Check, ...]
    mended: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        counts = {state: sum(check.status == state for check in self.checks) for state in ("fail", "warn", "ok")}
        mended = f"; mended: {', '.join(self.mended)}" if self.mended else ""
        return ", ".join(f"{n} {state}" for state, n in counts.items() if n) + mended


@dataclass(frozen=True)
class CheckLine:
    """One check of a gate's, on a version's card."""

    gate: str
    status: str
    name: str
    value: float
    limit: float
    champion: float | None
    n: int
    note: str


@dataclass(frozen=True)
class VersionCard(Result):
    """One model version: where it came from, what points at it, what the gates said.

    `reports` are the newest of each gate about its very bytes, those that failed first.
    """

    model: str
    version: str
    aliases: tuple[str, ...]
    digest: str
    run_id: str
    registered_at: datetime
    history: tuple[HistoryEntry, ...]
    reports: tuple[GateReport, ...] = ()

    @property
    def headline(self) -> str:
        """The version in one line."""
        aliases = f" ({', '.join(self.aliases)})" if self.aliases else ""
        return f"{self.model}/{self.version}{aliases}"

    @property
    def next_step(self) -> str:
        """Check its bytes."""
        return f"verify {self.model}/{self.version}"

    def shown(self) -> dict[str, Any]:
        """Choose what a card shows: verdicts and checks of the gates, what failed first, before the rest."""
        verdicts = [f"{each.gate} {'passed' if each.passed else 'failed'}" for each in self.reports]
        lines = [
            CheckLine(
                each.gate, check.status, check.name, check.value, check.limit, check.champion, check.n, check.note
            )
            for each in self.reports
            for check in each.checks
        ]
        return {
            "gates": ", ".join(verdicts),
            "digest": self.digest,
            "run_id": self.run_id,
            "registered at": self.registered_at,
            "checks": tuple(sorted(lines, key=lambda line: line.status != "fail")),
            "history": self.history,
        }


def newest_reports(records: Iterable[Mapping[str, Any]]) -> tuple[GateReport, ...]:
    """Read gate reports as the ledger keeps them, newest first: the newest of each gate, those that failed first.

    Raises
    ------
    StoreError
        One has another form than this installation writes.
    """
    newest = {record["gate"]: record for record in reversed([*records])}
    try:
        reports = [_report(record) for record in newest.values()]
    except (KeyError, TypeError, ValueError) as exc:
        raise StoreError(
            f"The ledger holds a gate report of another form than this installation writes: {exc}.",
            "Upgrade this installation (pip install --upgrade nbmlops); see whether the ledger was changed: verify",
        ) from exc
    return tuple(sorted(reports, key=lambda report: (report.passed, report.gate)))


def _report(record: Mapping[str, Any]) -> GateReport:
    figures = ("value", "limit", "champion", "lower", "upper")
    checks = tuple(
        GateCheck(**check | {name: None if check[name] is None else float(check[name]) for name in figures})
        for check in record["checks"]
    )
    return GateReport(**{**record, "checks": checks})


LOW_DISK_BYTES = 1_000_000_000
NO_DISK_BYTES = 100_000_000


def disk_check(free_bytes: int) -> Check:
    """Judge how much space the project's disk has left.

    Examples
    --------
    >>> [disk_check(free).status for free in (99_999_999, 100_000_000, 1_000_000_000)]
    ['fail', 'warn', 'ok']
    """
    found = f"{free_bytes / 1e9:,.1f} GB free"
    if free_bytes < NO_DISK_BYTES:
        return Check("disk", "fail", found, "Free some space, or move the project.")
    if free_bytes < LOW_DISK_BYTES:
        return Check("disk", "warn", found, "Free some space soon.")
    return Check("disk", "ok", found)


def deploy_again(version: str, endpoint: str) -> str:
    """Word the command that puts a new server in the place of one that hangs.

    Examples
    --------
    >>> deploy_again("delays/3", "shop window")
    "deploy delays/3 --as 'shop window'"
    """
    return f"deploy {version} --as {shlex.quote(endpoint)}"


def attention_of(
    settings: tuple[SettingRow, ...],
    orphans: tuple[Run, ...],
    endpoints: tuple[EndpointRow, ...],
    last_drift: LastDrift | None,
    unsent: Unsent = NOTHING,
) -> tuple[Attention, ...]:
    """Collect what needs a person, worst first.

    Examples
    --------
    >>> row = EndpointRow("delays", "delays/3", "http://127.0.0.1:5001", "dead")
    >>> attention_of((), (), (row,), None)
    (Attention(what='endpoint delays is dead', mend='doctor --fix'),)
    """
    found = [Attention(f"{row.name}: {row.status}", "doctor") for row in settings if row.status not in ("", "answers")]
    if unsent.is_held_up or unsent.rejected:
        found.append(Attention(f"journal: {unsent.headline}", "sync" if unsent.is_held_up else "sync --retry"))
    found += [
        Attention(f"endpoint {row.name} is {row.status}", mend)
        for row in endpoints
        for mend in [{"dead": "doctor --fix", "silent": deploy_again(row.model, row.name)}.get(row.status)]
        if mend
    ]
    found += [Attention(f"run {run.name} is RUNNING but its process is gone", "doctor --fix") for run in orphans]
    if last_drift and last_drift.drifted:
        found.append(Attention(f"drift: {last_drift.what}", "run the training notebook with newer data"))
    return tuple(found)
