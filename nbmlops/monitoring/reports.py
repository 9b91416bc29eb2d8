"""What monitoring reports: nouns alone."""

from dataclasses import dataclass

from nbmlops.data.columns import ColumnDrift
from nbmlops.verb import Result


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
