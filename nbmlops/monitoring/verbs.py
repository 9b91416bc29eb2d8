"""The verbs of monitoring: fetch, compute, record, return."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nbmlops.data.tables import names_a_table, read_table, table_name
from nbmlops.duration import moment_of
from nbmlops.errors import DataError, DriftError, NotFoundError, UsageError, nearest
from nbmlops.monitoring.reports import AlertCard, AlertList, DriftList, DriftReport, latest
from nbmlops.project import Project
from nbmlops.verb import AlertName, DataRef, verb

if TYPE_CHECKING:
    import pandas as pd

RECENT = 200  # reports that are looked through for the latest


@verb
def drift(
    project: Project,
    current: DataRef = None,
    *,
    against: DataRef = None,
    since: str | None = None,
    columns: list[str] | None = None,
    exit_code: bool = False,
    dry_run: bool = False,  # noqa: ARG001  (the verb mechanism reads it: no event is left)
) -> DriftReport | DriftList:
    """Measure how far a table's columns drifted; bare: list the latest reports.

    Numbers and times are compared by their Kolmogorov-Smirnov distance,
    categories by the chi-square test with Cramér's V, missing values by their
    share. A column drifted when its p-value after Benjamini-Hochberg is at most
    0.01 and its effect is above 0.05. Works without a project; in one the report
    is kept in the ledger. Of an endpoint that captures its requests the live traffic
    is judged: the features, and what was predicted.

    Parameters
    ----------
    current
        The table to judge: a path, or a DataFrame in a notebook; or an endpoint's name. Without it the newest report
        about each table and endpoint is listed, out of the ledger's last 200.
    against
        The reference, for instance the data that the model was trained on. For an endpoint, unless given, the data of
        the gate that its version has passed, else the first 4,000 rows that it answered.
    since
        From when on an endpoint's traffic counts: ``12h``, or a date or time; the last day unless given.
    columns
        Which columns to compare; all that both tables have unless given.
    exit_code
        Fail with exit code 6 when a column drifted.
    dry_run
        Measure, and leave no record.

    Returns
    -------
    DriftReport or DriftList
        One row a column, worst first; or a report about each table and endpoint, the newest first.

    Raises
    ------
    DriftError
        A column drifted and `exit_code` was asked for; the report comes along.
    DataError
        The tables share no column, or one has a column twice.
    NotFoundError
        A file or a column that was named does not exist.
    UsageError
        There is no reference, or the endpoint captures nothing; or something is asked of no table.

    Examples
    --------
    ``nbmlops drift march.parquet --against january.parquet --exit-code``

    Plain code
    ----------
    import pandas as pd
    from scipy import stats

    current, reference = pd.read_parquet($current), pd.read_parquet($against)
    numbers = [c for c in reference.select_dtypes("number") if c in current.columns]
    p_values = [stats.ks_2samp(reference[c].dropna(), current[c].dropna(), method="asymp").pvalue for c in numbers]
    print(dict(zip(numbers, stats.false_discovery_control(p_values), strict=True)))
    """
    if current is None:
        if against is not None or since is not None or columns or exit_code:
            raise UsageError("Which table is to be judged?", "Name it: `drift TABLE --against REFERENCE`")
        return _latest(project)
    from nbmlops.data.drift import measure

    judged, reference, names = _tables(project, current, against, since)
    shared = [name for name in reference.columns if name in judged.columns]
    if not shared:
        raise DataError(
            f"{names[0]} and {names[1]} share no column.",
            f"They have {', '.join(judged.columns[:6])} and {', '.join(reference.columns[:6])}.",
        )
    rows = measure(reference, judged, _chosen(columns, shared))
    n_drifted = sum(row.drifted for row in rows)
    report = DriftReport(
        drifted=n_drifted > 0,
        current=names[0],
        reference=names[1],
        n_current=len(judged),
        n_reference=len(reference),
        n_drifted=n_drifted,
        columns=tuple(rows),
        only_in_current=tuple(name for name in judged.columns if name not in reference.columns),
        only_in_reference=tuple(name for name in reference.columns if name not in judged.columns),
    )
    if exit_code and report.drifted:
        raise DriftError(report.headline, report=report)
    return report


@verb
def alert(
    project: Project,
    name: AlertName | None = None,
    *,
    on: str | None = None,
    to: str | None = None,
    private: bool | None = None,
    secret: str | None = None,
    test: bool = False,
    mute: str | None = None,
    remove: bool = False,
    dry_run: bool = False,
) -> AlertCard | AlertList:
    """Tell somebody of broken limits, drift and failed jobs; bare: list the alerts.

    Declares an alert in ``nbmlops.toml``, whose comments stay, and starts the project's agent where none
    runs: it tells within seconds, again for a day where nobody takes it. What is not given stays as it is;
    given alone, a name shows what was told. Every message has an id that stays the same when it is sent again.

    Parameters
    ----------
    name
        The alert's name; all of them without it.
    on
        What it tells of, with commas: slo (a rollout taken back, a deployment that failed, an endpoint in trouble),
        drift (a report that says so), job (a run that failed).
    to
        Where to, as a reference, since the address is a secret: webhook:env:NAME or webhook:file:PATH.
    private
        Whether the address may be of this machine or its own network, and without TLS.
    secret
        Reference to what messages are signed with: env:NAME or file:PATH; an empty text takes it away.
    test
        Send one message now, and say what came back.
    mute
        Keep silent for a while, ``2h``, or ``off``; what comes meanwhile is not made up.
    remove
        Take the alert out of ``nbmlops.toml``.
    dry_run
        Show the difference; write and send nothing.

    Returns
    -------
    AlertCard or AlertList
        What it tells of and where to, the difference in nbmlops.toml, and what was told last.

    Raises
    ------
    UsageError
        A kind does not exist, an address stands where its reference belongs, or two things are asked for at once.
    NotFoundError
        There is no alert of that name.
    StoreError
        The test was not taken, or the file cannot be written.

    Examples
    --------
    >>> card = alert(getfixture("project"), "oncall", on="slo,drift", to="webhook:env:HOOK", dry_run=True)
    >>> card.headline
    'oncall tells webhook:env:HOOK of slo, drift'

    Plain code
    ----------
    import json
    import os
    import urllib.request

    message = json.dumps({"text": "delays/3 was taken back"}).encode()
    hook = os.environ[($to or "env:HOOK").rpartition(":")[2]]
    urllib.request.urlopen(urllib.request.Request(hook, message, {"Content-Type": "application/json"}))
    """
    from nbmlops.monitoring import declaring

    declaring.check(to, secret)
    wish = {"on": on, "to": to, "private": private, "secret": secret}
    is_changed = any(value is not None for value in wish.values())
    asked = [is_changed, test, mute is not None, remove]
    if sum(asked) > 1:
        raise UsageError("Declaring, --test, --mute and --remove exclude each other.", "Give one of them.")
    if name is None:
        if any(asked):
            raise UsageError("Which alert is meant?", "Give its name: `alert NAME ...`")
        return declaring.listed(project)
    if is_changed:
        return declaring.declared(project, name, wish, dry_run=dry_run)
    if remove:
        return declaring.removed(project, name, dry_run=dry_run)
    if test:
        return declaring.tested(project, name, dry_run=dry_run)
    if mute is not None:
        return declaring.muted(project, name, mute, dry_run=dry_run)
    return declaring.shown(project, name)


def _latest(project: Project) -> DriftList:
    from nbmlops.ledger.database import Ledger

    return latest(project.open(Ledger).events(verbs=("drift",), limit=RECENT))


def _tables(
    project: Project, current: Any, against: Any, since: str | None
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, str]]:
    """Read what is judged, what it is held against, and what both are called."""
    if isinstance(current, str) and _is_endpoint(project, current):
        from nbmlops.monitoring.live import compared

        found = compared(project, current, moment_of(since or "1d", datetime.now(UTC), "since"), against)
        return _labelled(found.current), _labelled(found.reference), (current, found.reference_is)
    if against is None:
        raise UsageError("drift needs --against.", "Name the table that this one is held against.")
    if since is not None:
        raise UsageError("--since is of an endpoint's traffic, and a table has no times.", "Leave it out.")
    judged, reference = (_labelled(read_table(project, data)) for data in (current, against))
    return judged, reference, (table_name(current), table_name(against))


def _is_endpoint(project: Project, text: str) -> bool:
    """Say whether a word names an endpoint of the project, and no table's file."""
    if names_a_table(text) or not project.exists:
        return False
    from nbmlops.ledger.endpoints import Endpoints

    return text in project.open(Endpoints).wanted()


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Label columns by text, each once."""
    labels = [str(label) for label in frame.columns]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise DataError(f"A table has the column {twice[0]!r} twice.", "Rename or drop one of them.")
    return frame.set_axis(labels, axis=1)


def _chosen(columns: list[str] | None, shared: list[str]) -> list[str]:
    for name in columns or []:
        if name not in shared:
            raise NotFoundError(f"The tables share no column {name!r}.", nearest(name, shared))
    return list(dict.fromkeys(columns)) if columns else shared
