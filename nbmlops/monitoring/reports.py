"""What monitoring reports: nouns alone."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from nbmlops.data.columns import ColumnDrift
from nbmlops.editing import Line
from nbmlops.verb import MACHINE_ONLY, Result, Rows


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
