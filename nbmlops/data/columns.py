"""What a measurement of drift says about one column: the noun alone, no mathematics."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ColumnDrift:
    """How far one column of a table moved away from the reference.

    `method` is ``ks`` (numbers and times: Kolmogorov-Smirnov distance), ``chi2``
    (categories: Cramér's V) or empty when there was too little to test;
    `statistic` is that method's effect size in [0, 1] and `p_value` the p-value
    after Benjamini-Hochberg over all columns. `missing` are shares of rows.
    `summary` names what `reference` and `current` hold: a mean, a median time, or
    the share of the category that moved most. `note` says what kept a test away, or that the types differ.
    """

    name: str
    drifted: bool
    method: str
    statistic: float | None
    p_value: float | None
    psi: float | None
    missing_reference: float
    missing_current: float
    summary: str = ""
    reference: float | str | None = None
    current: float | str | None = None
    note: str = ""
