"""The drift verb: its report, its record, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbmlops.errors import DataError, DriftError, NotFoundError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.monitoring.verbs import drift
from nbmlops.project import Project
from nbmlops.strict_json import dumps
from nbmlops.surfaces.show import text


def flights(seed: int, late_by: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"delay": rng.normal(late_by, size=N), "carrier": rng.choice(["UA", "B6", "AA"], N)})


N = 1000
JANUARY, MARCH = flights(1), flights(2, late_by=0.5)


def test_drift_reports_the_worst_column_first_and_keeps_the_report(project: Project) -> None:
    MARCH.to_csv(project.path("march.csv"), index=False)
    report = drift(project, "march.csv", against=JANUARY)
    assert (report.drifted, report.n_drifted, report.n_current) == (True, 1, N)
    assert report.columns[0].name == "delay"
    assert "delay" in report.headline
    [event] = project.open(Ledger).events(verbs=("drift",))
    assert event.subject == "drift/march"
    assert event.result["columns"][0]["drifted"] is True


def test_no_drift_between_samples_of_one_month(project: Project) -> None:
    report = drift(project, flights(3), against=JANUARY)
    assert not report.drifted
    assert drift(project, flights(3), against=JANUARY, exit_code=True) == report


def test_asked_to_fail_it_fails_with_the_report_and_records_it(project: Project) -> None:
    with pytest.raises(DriftError) as failure:
        drift(project, MARCH, against=JANUARY, exit_code=True)
    assert failure.value.exit_code == 6
    assert failure.value.report.n_drifted == 1
    [event] = project.open(Ledger).events(verbs=("drift",))
    assert event.outcome == "DriftError"
    assert event.result["n_drifted"] == 1


def test_columns_of_different_types_are_not_counted_as_too_few(project: Project) -> None:
    report = drift(project, MARCH.assign(delay=MARCH.delay.astype(str)), against=JANUARY)
    assert "types differ" in {row.name: row.note for row in report.columns}["delay"]
    assert "too few" not in report.headline


def test_a_dry_run_measures_and_leaves_no_record(project: Project) -> None:
    assert drift(project, MARCH, against=JANUARY, dry_run=True).drifted
    assert project.open(Ledger).events() == []


def test_drift_works_without_a_project(tmp_path: Path) -> None:
    assert drift(Project(tmp_path), MARCH, against=JANUARY).drifted
    assert list(tmp_path.iterdir()) == []


def test_columns_are_chosen_and_columns_of_one_side_are_named(tmp_path: Path) -> None:
    here = Project(tmp_path)
    report = drift(here, MARCH.assign(gate=1), against=JANUARY.assign(tail="N1"), columns=["carrier"])
    assert [row.name for row in report.columns] == ["carrier"]
    assert (report.only_in_current, report.only_in_reference) == (("gate",), ("tail",))
    with pytest.raises(NotFoundError, match="Did you mean carrier"):
        drift(here, MARCH, against=JANUARY, columns=["carier"])


def test_tables_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    here = Project(tmp_path)
    with pytest.raises(DataError, match="share no column"):
        drift(here, MARCH[["delay"]], against=JANUARY[["carrier"]])
    with pytest.raises(DataError, match="'delay' twice"):
        drift(here, pd.concat([MARCH, MARCH[["delay"]]], axis=1), against=JANUARY)


def test_too_few_rows_give_no_verdict_and_say_so(tmp_path: Path) -> None:
    report = drift(Project(tmp_path), MARCH.head(10), against=JANUARY)
    assert not report.drifted
    assert "2 had too few values to tell" in report.headline
    assert '"p_value": null' in dumps(report)


def test_bare_the_latest_report_about_each_table_is_listed_and_leaves_no_event(project: Project) -> None:
    assert drift(project) == ()
    for late_by in (0.5, 1.0):
        flights(2, late_by).to_csv(project.path("march.csv"), index=False)
        report = drift(project, "march.csv", against=JANUARY)
    JANUARY.to_csv(project.path("april.csv"), index=False)
    drift(project, "april.csv", against=JANUARY)
    with pytest.raises(DriftError):
        drift(project, MARCH, against=JANUARY, exit_code=True)
    with pytest.raises(NotFoundError):
        drift(project, "gone.csv", against=JANUARY)
    n_events = len(project.open(Ledger).events())
    table, april, march = drift(project)
    assert (april.current, april.drifted) == ("april", False)
    assert (march.current, march.drifted, march.columns) == ("march", True, report.columns)
    assert (march.n_drifted, march.n_current, march.reference) == (1, N, report.reference)
    assert march.event == 2
    assert march.at < april.at < table.at
    assert len(project.open(Ledger).events()) == n_events
    shown = text(drift(project))
    assert "3 drift reports" in shown
    assert "1 of 2" in shown


def test_a_table_that_was_judged_again_and_again_has_a_curve_for_each_column(project: Project) -> None:
    for late_by in (0.0, 0.5, 1.0):
        flights(2, late_by).to_csv(project.path("march.csv"), index=False)
        drift(project, "march.csv", against=JANUARY)
    (march,) = drift(project)
    assert list(march.curves) == ["delay", "carrier"]
    assert list(march.curves["delay"]) == sorted(march.curves["delay"])
    assert march.curves["delay"][-1] == march.columns[0].statistic


@pytest.mark.parametrize("how", [{"against": JANUARY}, {"since": "1d"}, {"columns": ["delay"]}, {"exit_code": True}])
def test_what_is_asked_of_no_table_is_refused(project: Project, how: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Which table"):
        drift(project, **how)
