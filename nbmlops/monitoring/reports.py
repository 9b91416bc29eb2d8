"""What monitoring reports: nouns alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from nbmlops.data.columns import ColumnDrift
from nbmlops.editing import Line
from nbmlops.ledger.events import Event
from nbmlops.tracking.runs import Curve
from nbmlops.verb import MACHINE_ONLY, Result, Rows

MOST_REPORTS = 60  # about one table, that a curve tells of


@dataclass(frozen=True)
class DriftReport(Result):
    """How far each column of a table drifted from a reference, worst first."""

    drifted: bool
    current: str
    reference: str
    n_current: int
    n_reference: int
    n_drifted: int
    columns: tuple[ColumnDrift, ...]
    only_in_current: tuple[str, ...] = ()
    only_in_reference: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"drift/{self.current}"

    @property
    def headline(self) -> str:
        """How many columns drifted, the worst by name, and how many had too few values to tell."""
        untested = sum(not column.method for column in self.columns)
        verdict = f"{self.n_drifted} of {len(self.columns)} columns drifted"
        worst = f", most of all {self.columns[0].name}" if self.drifted else ""
        too_few = f"; {untested} had too few values to tell" if untested else ""
        return f"{self.current} against {self.reference}: {verdict}{worst}{too_few}"


@dataclass(frozen=True)
class DriftEntry:
    """The newest drift report about a table or an endpoint, and its event in the ledger; `by` asked for it.

    `curves` tell how far each of its columns was in the reports about it, as `statistic` does; the oldest stands first.
    """

    noun: ClassVar[str] = "drift report"

    event: int
    at: datetime
    by: str
    current: str
    reference: str
    drifted: bool
    n_current: int
    n_reference: int
    n_drifted: int
    columns: tuple[ColumnDrift, ...]
    curves: Mapping[str, Curve] = field(default_factory=dict)

    @staticmethod
    def listed(rows: "Sequence[DriftEntry]") -> list[tuple[str, list[Any]]]:
        """Choose the columns of a list: what was judged, the verdict, and the worst column."""
        worst = [row.columns[0].name if row.columns else "" for row in rows]
        return [
            ("at", [row.at for row in rows]),
            ("current", [row.current for row in rows]),
            ("reference", [row.reference for row in rows]),
            ("status", ["drifted" if row.drifted else "ok" for row in rows]),
            ("columns", [f"{row.n_drifted} of {len(row.columns)}" for row in rows]),
            ("worst", worst),
            ("lately", [row.curves.get(name) for row, name in zip(rows, worst, strict=True)]),
            ("by", [row.by for row in rows]),
        ]


class DriftList(Rows[DriftEntry]):
    """The newest report about each table and endpoint; to look at them leaves no event."""

    only_seen = True


def latest(events: Sequence[Event]) -> DriftList:
    """Find the newest report about each table and endpoint.

    Parameters
    ----------
    events
        Those of the verb ``drift``, the newest first.

    Returns
    -------
    DriftList
        The newest first.
    """
    kept = [event for event in events if isinstance(event.result, dict) and "drifted" in event.result]
    about: dict[str, list[Event]] = {}
    for event in kept:
        about.setdefault(event.result["current"], []).append(event)
    return DriftList(_entry(reports) for reports in about.values())


def _entry(events: Sequence[Event]) -> DriftEntry:
    newest = events[0]
    own = ("current", "reference", "drifted", "n_current", "n_reference", "n_drifted")
    columns = tuple(ColumnDrift(**row) for row in newest.result["columns"])
    return DriftEntry(
        event=newest.seq,
        at=newest.at,
        by=newest.actor,
        columns=columns,
        curves=_curves([event.result["columns"] for event in events[:MOST_REPORTS][::-1]]),
        **{name: newest.result[name] for name in own},
    )


def _curves(reports: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Curve]:
    """Tell how far each column was, report after report; one that has been judged once has no curve."""
    found: dict[str, list[float]] = {}
    for row in (row for rows in reports for row in rows if row["statistic"] is not None):
        found.setdefault(row["name"], []).append(float(row["statistic"]))
    return {name: Curve(values) for name, values in found.items() if len(values) > 1}


@dataclass(frozen=True)
class AlertRow:
    """An alert, as it is listed: `last` is what it has told last, or was to tell; `problem` why it cannot tell."""

    noun: ClassVar[str] = "alert"

    name: str
    on: tuple[str, ...]
    to: str
    muted_until: datetime | None = None
    waiting: int = 0
    last: str = ""
    problem: str = ""


class AlertList(Rows[AlertRow]):
    """All alerts; to look at them leaves no event."""

    only_seen = True


@dataclass(frozen=True)
class DeliveryRow:
    """A message of an alert: `state` is WAITING, SENDING, SENT, GIVEN_UP or MUTED, `said` what came back last."""

    event: int
    what: str
    state: str
    attempts: int
    queued_at: datetime
    said: str = ""


@dataclass(frozen=True)
class AlertCard(Result):
    """An alert: what it tells of, where to, and what was changed of it; `said` is what came back of a test."""

    name: str
    on: tuple[str, ...]
    to: str
    private: bool = False
    signed: bool = False
    muted_until: datetime | None = None
    problem: str = ""
    said: str = ""
    agent: str = ""
    deliveries: tuple[DeliveryRow, ...] = ()
    changes: tuple[Line, ...] = ()
    difference: str = field(default="", metadata=MACHINE_ONLY)
    dry_run: bool = False
    is_gone: bool = field(default=False, metadata=MACHINE_ONLY)
    as_before: bool = field(default=False, metadata=MACHINE_ONLY)  # somebody has only looked at it

    @property
    def headline(self) -> str:
        """What it tells of, in one line."""
        if self.is_gone:
            return f"{self.name} tells nobody any more"
        silence = f", and is silent until {self.muted_until:%Y-%m-%d %H:%M} UTC" if self.muted_until else ""
        return f"{self.name} tells {self.to} of {', '.join(self.on)}{silence}"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"alert/{self.name}"

    @property
    def only_seen(self) -> bool:
        """Whether somebody has only looked at it."""
        return self.as_before

    @property
    def next_step(self) -> str:
        """Try whether it is heard."""
        return f"alert {self.name} --test" if self.changes and not self.is_gone else ""
