"""A candidate's answers to captured requests, beside those that were given: what is read, asked again and joined.

The mathematics is in `replaying`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pandas as pd

from nbmlops.errors import ConflictError, DataError, NotFoundError, UsageError, nearest
from nbmlops.ledger.endpoints import SHADOW, Endpoints
from nbmlops.project import Project
from nbmlops.registry.versions import ModelVersion
from nbmlops.serving import policy
from nbmlops.serving.answers import answers, columns_of
from nbmlops.serving.capture.columns import hashed, key_of
from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.reading import captured, features_of
from nbmlops.serving.capture.tables import AT, OURS, PREDICTION, REQUEST_ID, ROLE, ROW
from nbmlops.serving.replaying import replayed
from nbmlops.serving.replays import Replay

VERSION = f"{OURS}version"
REQUEST = "request_id"  # a table of labels may name requests so


@dataclass(frozen=True)
class Question:
    """What is asked: of which endpoint's requests, since when, and against which version."""

    endpoint: str
    since: datetime
    candidate: ModelVersion
    against: ModelVersion


@dataclass(frozen=True)
class Truth:
    """A table with the truth of captured rows: `key` names the row, `target` what is true of it."""

    table: pd.DataFrame
    key: str
    target: str


def endpoint_of(project: Project, name: str | None, model: str) -> str:
    """Find the endpoint whose requests a model is asked.

    Raises
    ------
    NotFoundError
        None of that name was ever captured, or none serves the model.
    UsageError
        Several serve it, and none was named.
    """
    if name is not None:
        if not _is_captured(project, name):
            raise NotFoundError(f"Nothing was captured at {name}.", nearest(name, known(project)) or CAPTURE_IT)
        return name
    serving = [each.name for each in project.open(Endpoints).wanted().values() if each.champion.model == model]
    found = [each for each in serving if _is_captured(project, each)]
    if len(found) > 1:
        raise UsageError(f"{' and '.join(found)} serve {model}.", f"Say which: --endpoint {found[0]}")
    if not found:
        raise NotFoundError(f"No endpoint that serves {model} has captured requests.", CAPTURE_IT)
    return found[0]


CAPTURE_IT = "Have them captured: `deploy MODEL --capture`"


def known(project: Project) -> list[str]:
    """List the endpoints of this project that are wanted, or have captures on this machine."""
    folder = project.state("capture", "x").parent
    return sorted({*project.open(Endpoints).wanted(), *(each.name for each in folder.glob("*") if each.is_dir())})


def _is_captured(project: Project, name: str) -> bool:
    place = policy.place_of(project, name)
    return bool(place.logs()) or bool(place.segments.sizes())


def answered(
    place: Place,
    since: datetime | None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read the captured rows that callers got an answer to: no refused requests, and no shadow's."""
    rows = captured(place, since, until, columns)
    return rows[(rows[ROLE] != SHADOW) & (rows[f"{OURS}status"] < 400)].reset_index(drop=True)


def replay(
    project: Project,
    question: Question,
    *,
    truth: Truth | None = None,
    costs: Mapping[Any, float] | None = None,
    slices: Sequence[str] | None = None,
    threshold: float | None = None,
) -> tuple[Replay, pd.DataFrame]:
    """Compare what a candidate says of captured requests with what was answered.

    Rows that another version had answered are asked of the version before again, so that all are compared with one.

    Returns
    -------
    Replay
        The report.
    pandas.DataFrame
        The rows: ``request_id``, ``at``, ``row``, the features, ``before``, ``after``, and ``truth`` where it is
        known.

    Raises
    ------
    DataError
        Nothing was captured, or the captures lack what the candidate needs.
    """
    rows = answered(policy.place_of(project, question.endpoint), question.since)
    if rows.empty:
        message = f"Nothing was captured at {question.endpoint} since {question.since:%Y-%m-%d %H:%M} UTC."
        raise DataError(message, f"Give an earlier --since; or {CAPTURE_IT[0].lower()}{CAPTURE_IT[1:]}")
    features = features_of(rows)
    for version in (question.candidate, question.against):
        _check_features(project, question.endpoint, version, features)
    before, n_again = _before(project, rows, features, question.against)
    project.notify(f"scoring {len(rows):,} captured rows with {question.candidate.label}")
    after = pd.Series(answers(project, question.candidate, features))
    true = _truths(project, question.endpoint, rows, truth) if truth else None
    report = replayed(
        features,
        before,
        after,
        model=question.candidate.label,
        against=question.against.label,
        threshold=threshold,
        labels=true,
        costs=costs,
        slices=slices,
    )
    report = replace(
        report, endpoint=question.endpoint, since=question.since.isoformat(timespec="seconds"), n_asked_again=n_again
    )
    return report, _table(rows, features, before, after, true)


def _before(
    project: Project, rows: pd.DataFrame, features: pd.DataFrame, against: ModelVersion
) -> "tuple[pd.Series[Any], int]":
    """Give what the version before answered, or would have."""
    before = rows[PREDICTION].astype(object)
    others = rows[VERSION] != against.label
    if others.any():
        project.notify(f"asking {against.label} again for {int(others.sum()):,} rows that other versions answered")
        before[others] = answers(project, against, features[others]).tolist()
    return before.infer_objects(), int(others.sum())


def _table(
    rows: pd.DataFrame, features: pd.DataFrame, before: "pd.Series[Any]", after: "pd.Series[Any]", true: Any
) -> pd.DataFrame:
    ours = {"request_id": rows[REQUEST_ID], "at": rows[AT], "row": rows[ROW]}
    found = {"before": before, "after": after} | ({} if true is None else {"truth": true})
    plain = features[[name for name in features if name not in {*ours, *found}]]
    return pd.DataFrame({**ours, **plain, **found})


# ------------------------------------------------------------------------ features
def _check_features(project: Project, endpoint: str, version: ModelVersion, features: pd.DataFrame) -> None:
    """Refuse captures in which a column that a version needs is a hash: it would be scored as if it were the value."""
    wanted = project.open(Endpoints).wanted().get(endpoint)
    capture = wanted.capture if wanted else policy.of(project, endpoint).terms.capture or {}
    needed = columns_of(project, version) or tuple(map(str, features))
    if names := [name for name in capture.get("hash", ()) if name in needed]:
        raise DataError(
            f"{endpoint} captures only a hash of {names[0]!r}, which {version.label} needs.",
            "Models that need what is not kept can be tried on live traffic: `deploy MODEL --shadow`",
        )


# -------------------------------------------------------------------------- labels
def truth_of(table: pd.DataFrame, key: str, target: str | None) -> Truth:
    """Read a table of labels: which column names the row, and which is the truth.

    Raises
    ------
    DataError
        A column is missing.
    UsageError
        Several columns may be the truth.
    """
    if key not in table:
        raise DataError(f"The labels have no column {key!r}.", nearest(key, map(str, table)) or "Give --key COLUMN.")
    others = [str(name) for name in table if name not in (key, "row")]
    if target is None and len(others) != 1:
        raise UsageError(f"Which column of the labels is the truth? There are {', '.join(others) or 'none'}.", TARGET)
    if target is not None and target not in others:
        raise DataError(f"The labels have no column {target!r}.", nearest(target, others))
    return Truth(table, key, target or others[0])


TARGET = "Give --target COLUMN."


def _truths(project: Project, endpoint: str, rows: pd.DataFrame, truth: Truth) -> "pd.Series[Any]":
    """Join the truth to captured rows, missing where it is not known."""
    is_request = truth.key == REQUEST
    column = REQUEST_ID if is_request else truth.key
    if column not in rows:
        names = list(map(str, features_of(rows)))
        raise DataError(f"The requests have no column {truth.key!r} to join by.", nearest(truth.key, names))
    wanted = project.open(Endpoints).wanted().get(endpoint)
    is_hashed = wanted is not None and truth.key in wanted.capture.get("hash", ())
    secret = key_of(project.state("x").parent) if is_hashed else b""
    theirs = [hashed(value, secret) if is_hashed else _text(value) for value in truth.table[truth.key].tolist()]
    ours = [_text(value) for value in rows[column].tolist()]
    if is_request:
        numbers = truth.table["row"].tolist() if "row" in truth.table else [0] * len(theirs)
        theirs = [f"{name} {_text(n)}" for name, n in zip(theirs, numbers, strict=True)]
        ours = [f"{name} {n}" for name, n in zip(ours, rows[ROW].tolist(), strict=True)]
    if len(set(theirs)) < len(theirs):
        raise ConflictError(
            f"The labels name a {truth.key} twice, so nobody knows which one is true.", "Keep one row of each."
        )
    return pd.Series(ours, dtype=object).map(dict(zip(theirs, truth.table[truth.target].tolist(), strict=True)))


def _text(value: Any) -> str | None:
    """Word a key so that 5, 5.0 and "5" are one; a missing one is no key."""
    if pd.isna(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
