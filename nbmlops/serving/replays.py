"""What a replay reports: nouns alone."""

import shlex
from dataclasses import dataclass
from typing import Literal

from nbmlops.verb import Result, counted

Change = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Direction:
    """Decisions that change in one way; `share` is of all rows."""

    name: str
    before: str
    after: str
    n: int
    share: float


@dataclass(frozen=True)
class SliceFlips:
    """One slice in which decisions flip more, or less, often than elsewhere.

    `lower` and `upper` bound its `rate`; `p_value` (slice against all other rows) is after Benjamini-Hochberg.
    """

    name: str
    column: str
    n: int
    n_flipped: int
    rate: float
    lower: float
    upper: float
    p_value: float
    status: Literal["higher", "lower"]


@dataclass(frozen=True)
class Outcome:
    """How right the decisions are where the truth is known.

    `gained` rows were wrong and are right now, `lost` ones the other way round; `p_value` is McNemar's, exact.
    `change` is of the accuracy, between `lower` and `upper`.
    """

    n: int
    accuracy_before: float
    accuracy_after: float
    gained: int
    lost: int
    change: float
    lower: float
    upper: float
    p_value: float
    status: Change

    @property
    def headline(self) -> str:
        """Gains and losses in one line."""
        was, now = f"{self.accuracy_before:.1%}", f"{self.accuracy_after:.1%}"
        moved = f"{self.gained:,} gained, {self.lost:,} lost (p {self.p_value:.2g})"
        return f"{self.status}: right in {was} before, {now} after, of {self.n:,}; {moved}"


@dataclass(frozen=True)
class MeanChange:
    """A mean over `n` rows before and after, and its change between `lower` and `upper`."""

    n: int
    before: float
    after: float
    change: float
    lower: float
    upper: float
    status: Change

    @property
    def words(self) -> str:
        """The change as a part of a line."""
        moved = f"{self.change:+.4g} [{self.lower:+.4g}, {self.upper:+.4g}]"
        return f"{self.status}: {self.before:.4g} before, {self.after:.4g} after, {moved}"


@dataclass(frozen=True)
class CostChange(MeanChange):
    """What the candidate's decisions cost more (less: negative) than those before, a row, with its interval."""

    @property
    def headline(self) -> str:
        """The change in one line."""
        return f"{self.words} a row"


@dataclass(frozen=True)
class Differences:
    """How candidate - before is distributed, in the prediction's unit."""

    n: int
    mean: float
    mean_absolute: float
    deviation: float
    p01: float
    p05: float
    p50: float
    p95: float
    p99: float
    largest: float

    @property
    def headline(self) -> str:
        """The distribution in one line."""
        middle = f"mean {self.mean:+.4g}, median {self.p50:+.4g}, 90% from {self.p05:+.4g} to {self.p95:+.4g}"
        return f"{middle}; largest {self.largest:+.4g}"


@dataclass(frozen=True)
class ErrorChange(MeanChange):
    """The mean absolute error where the truth is known; `change` below 0 is better."""

    @property
    def headline(self) -> str:
        """The change in one line."""
        return f"{self.words}, of {self.n:,}"


@dataclass(frozen=True)
class Replay(Result):
    """What a candidate would have answered to captured requests, against what was answered.

    `n_unscored` rows lack one of the two predictions and count nowhere. Of decisions there are flips, their share
    `flip_rate` between `lower` and `upper`; of numbers there are `differences`. `slices` are those that stand out,
    of `n_slices` that were looked at. The requests are those that `endpoint` answered since `since`; `n_asked_again`
    of them had been answered by another version than `against`, which was therefore asked again.
    """

    model: str
    against: str
    n: int
    n_unscored: int
    n_flipped: int | None
    flip_rate: float | None
    lower: float | None
    upper: float | None
    n_slices: int
    slices: tuple[SliceFlips, ...] = ()
    directions: tuple[Direction, ...] = ()
    differences: Differences | None = None
    outcome: Outcome | None = None
    error: ErrorChange | None = None
    cost: CostChange | None = None
    endpoint: str = ""
    since: str = ""
    n_asked_again: int = 0

    @property
    def is_worse(self) -> bool:
        """Whether the candidate is worse where the truth is known: by cost if there are costs."""
        judged = self.cost or self.outcome or self.error
        return judged is not None and judged.status == "worse"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"model/{self.model}"

    @property
    def headline(self) -> str:
        """What changes, in one line, and whether that is for the better."""
        if self.differences is not None:
            what = f"differs by {self.differences.mean_absolute:.4g} on average"
        elif self.flip_rate is None:
            what = "cannot be compared"
        else:
            what = f"flips {self.flip_rate:.2%} [{self.lower:.2%}, {self.upper:.2%}]"
        return f"{self.model} against {self.against} on {counted(self.n, 'captured row')}: {what}{self._verdict}"

    @property
    def _verdict(self) -> str:
        if self.cost is not None:
            return f"; cost {self.cost.change:+.4g} a row, {self.cost.status}"
        if self.outcome is not None:
            return f"; {self.outcome.gained} gained, {self.outcome.lost} lost, {self.outcome.status}"
        return f"; error {self.error.change:+.4g}, {self.error.status}" if self.error is not None else ""

    @property
    def next_step(self) -> str:
        """Try it on some of the live traffic, unless it is worse."""
        if not self.endpoint or self.is_worse:
            return ""
        return f"deploy {self.model} --as {shlex.quote(self.endpoint)} --canary 10,50,100"
