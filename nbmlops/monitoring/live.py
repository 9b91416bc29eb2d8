"""Live traffic as a table, and what it is held against: features, and the predictions as one more column."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from nbmlops.data.tables import names_a_table, read_table, table_name
from nbmlops.errors import NbmlopsError, NotFoundError, UsageError, nearest
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints, Wanted
from nbmlops.project import Project
from nbmlops.registry.reading import remembered
from nbmlops.registry.versions import ModelVersion
from nbmlops.serving import policy
from nbmlops.serving.answers import answers, columns_of
from nbmlops.serving.capture.columns import hashed, key_of
from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.reading import features_of
from nbmlops.serving.capture.tables import AT, PREDICTION
from nbmlops.serving.replay import VERSION, answered

N_REFERENCE = 4000  # first captured rows since the deploy: a reference where there is no other
SPAN = timedelta(hours=1)  # of captures that are read for them at first
PREDICTIONS = "prediction"


@dataclass(frozen=True)
class Compared:
    """Two tables and what they are: `reference_is` says where the reference comes from."""

    current: pd.DataFrame
    reference: pd.DataFrame
    reference_is: str


def compared(project: Project, name: str, since: datetime, against: Any = None) -> Compared:
    """Read what the live version of an endpoint was asked and answered, and a reference for it.

    The reference is the table that was named; else the data of the gate that the version has passed; else the first
    4,000 rows that it answered since the endpoint was deployed, which then count for the current ones no more. Only
    rows that the champion answered count: another version's predictions are others for that reason alone.

    Parameters
    ----------
    project
        Whose captures.
    name
        The endpoint.
    since
        Aware: from when on.
    against
        A table or its path.

    Raises
    ------
    NotFoundError
        There is no such endpoint.
    UsageError
        It captures nothing.
    """
    wanted = _capturing(project, name)
    version = remembered(project, wanted.champion.label)
    asked = Asked(policy.place_of(project, name), version.label, columns_of(project, version))
    rows = asked.rows(since)
    if (given := _given(project, version, against)) is None:
        first = asked.first(datetime.fromisoformat(wanted.since))
        begins = f"{first[AT].iloc[0]:%Y-%m-%d %H:%M} UTC" if len(first) else "its deploy"
        later = rows[rows[AT] > first[AT].iloc[-1]] if len(first) else rows
        words = f"the first {len(first):,} rows since {begins}"
        return Compared(_table(later), _table(first), words)
    table, words = given
    current = _table(rows)
    reference = _as_captured(project, wanted, _with_predictions(project, version, table))
    return Compared(current, reference[[column for column in reference if column in current]], words)


def _capturing(project: Project, name: str) -> Wanted:
    known = project.open(Endpoints).wanted()
    if name not in known:
        raise NotFoundError(f"There is no endpoint {name!r}.", nearest(name, known))
    if not known[name].capture:
        raise UsageError(f"{name} captures no requests.", f"deploy {known[name].champion.label} --as {name} --capture")
    return known[name]


@dataclass(frozen=True)
class Asked:
    """What one version was asked and answered; what is no input of the model, such as an id, is left out."""

    place: Place
    version: str
    columns: Sequence[str] | None

    def rows(self, since: datetime, until: datetime | None = None) -> pd.DataFrame:
        """Read the captured rows of a span of time."""
        found = answered(self.place, since, until, self.columns)
        return found[found[VERSION] == self.version]

    def first(self, since: datetime) -> pd.DataFrame:
        """Read the first rows since a time, in spans that grow."""
        found: list[pd.DataFrame] = []
        for begins, ends in _spans(since, datetime.now(UTC)):
            found.append(self.rows(begins, ends))
            if sum(map(len, found)) >= N_REFERENCE:
                break
        return pd.concat(found, ignore_index=True).head(N_REFERENCE)


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """Give captured rows as features and predictions; columns of lists cannot be compared."""
    table = features_of(rows).assign(**{PREDICTIONS: rows[PREDICTION]})
    return table[[name for name in table if not table[name].map(_is_nested).any()]]


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | dict | np.ndarray)


def _spans(since: datetime, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    begins, length = since, SPAN
    while begins <= now:
        yield begins, begins + length
        begins, length = begins + length, length * 2


# ------------------------------------------------------------------------ reference
def _given(project: Project, version: ModelVersion, against: Any) -> tuple[pd.DataFrame, str] | None:
    if against is not None:
        return read_table(project, against), table_name(against)
    return _of_gate(project, version)


def _of_gate(project: Project, version: ModelVersion) -> tuple[pd.DataFrame, str] | None:
    """Read the data that a version passed its gate on, without the target; None where there are none any more."""
    passed = project.open(Ledger).events(verbs=("validate",), subject=f"model/{version.label}", outcome="ok")
    for event in passed:
        path = project.root / str(event.result.get("data", ""))
        if event.result.get("digest") == version.digest and names_a_table(path.name) and path.is_file():
            gate = event.result["gate"]
            target = project.settings.gates.get(gate, {}).get("target", "")
            table = read_table(project, path)
            return table.drop(columns=target, errors="ignore"), f"{table_name(path)}, the data of gate {gate}"
    return None


def _with_predictions(project: Project, version: ModelVersion, table: pd.DataFrame) -> pd.DataFrame:
    """Add what the version says of a reference; where it cannot be asked, predictions are not compared."""
    if PREDICTIONS in table or not set(columns_of(project, version) or ("",)) <= set(map(str, table)):
        return table
    try:
        return table.assign(**{PREDICTIONS: answers(project, version, table)})
    except NbmlopsError as exc:
        project.notify(f"predictions are not compared: {exc.message}")
        return table


def _as_captured(project: Project, wanted: Wanted, table: pd.DataFrame) -> pd.DataFrame:
    """Hash the columns of a reference of which captures hold hashes: their frequencies compare like the values'."""
    names = [name for name in wanted.capture.get("hash", ()) if name in table]
    key = key_of(project.state("x").parent) if names else b""
    hashes: dict[str, Any] = {name: [hashed(value, key) for value in table[name].tolist()] for name in names}
    return table.assign(**hashes)
