"""Runs read by SQL are what MLflow's client gives, on every store; lists and cards hold what a person looks for."""

import contextlib
import math
import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag

from nbmlops.errors import UsageError
from nbmlops.surfaces.python import Operations
from nbmlops.surfaces.show import text
from nbmlops.tracking import sql
from nbmlops.tracking.mlflow import Tracking
from nbmlops.tracking.reading import frame, history, in_full, moment
from nbmlops.tracking.runs import Run, Selection, run_from

DATABASES = pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
HARD = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-320, 0.1 + 0.2, 1e308, -5.0]


@pytest.fixture
def tracking(team: Operations) -> Tracking:
    """MLflow's own client of the project's store, with nothing in front."""
    settings = team.project.settings
    return Tracking(settings.tracking.value, settings.name.value, team.project.root / ".nbmlops" / "artifacts")


def logged(
    tracking: Tracking,
    name: str,
    metrics: list[Metric] = [],  # noqa: B006
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    status: str = "FINISHED",
) -> str:
    """Leave a run with exactly these values, written by MLflow's client."""
    client = tracking.client
    run_id = str(client.create_run(tracking.experiment_id, run_name=name).info.run_id)
    held = [Param(*pair) for pair in (params or {}).items()], [RunTag(*pair) for pair in (tags or {}).items()]
    client.log_batch(run_id, metrics, *held)
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


def various(tracking: Tracking) -> list[str]:
    """Runs with every kind of value, of which some lack what others have; one is deleted."""
    metrics = [Metric(f"m{i}", value, 1000, 0) for i, value in enumerate(HARD)]
    ids = [
        logged(tracking, "all", metrics, {"depth": "3", "ünï": "日本 😀"}, {"team": 'o\'ps "x"', "empty": ""}),
        logged(tracking, "none", status="RUNNING"),
        logged(tracking, "ünï", metrics[:2], {"depth": "4", "only": "here"}, {"mlflow.user": "Ann's"}, "FAILED"),
    ]
    tracking.client.delete_run(logged(tracking, "gone", metrics, {"deleted": "1"}))
    return ids


# ---------------------------------------------------------- as MLflow's client
@DATABASES
def test_a_history_is_the_clients(tracking: Tracking) -> None:
    draw = random.Random(3)
    points = [Metric("loss", draw.choice(HARD), draw.randrange(5), draw.randrange(-2, 40)) for _ in range(300)]
    other = [Metric("other", 1.0, 1, 1)]
    run_id = logged(tracking, "a", list(dict.fromkeys(points)) + other)
    logged(tracking, "b", [Metric("loss", 5.0, 1, 1)])
    wanted = tracking.client.get_metric_history(run_id, "loss")
    found = sql.history(tracking.uri, run_id, "loss")
    assert found is not None
    assert [found.values.dtype, found.steps.dtype, found.timestamps_ms.dtype] == ["float64", "int64", "int64"]

    # MLflow leaves it to the database which of two comes first that differ in being NaN alone
    def ordered(rows: Any) -> list[tuple[float, ...]]:
        return sorted((int(t), int(s), 0.0 if v != v else float(v), v != v) for t, s, v in rows)

    assert ordered(zip(found.timestamps_ms, found.steps, found.values, strict=True)) == ordered(
        (m.timestamp, m.step, m.value) for m in wanted
    )
    assert [(m.timestamp, m.step) for m in wanted] == list(zip(found.timestamps_ms, found.steps, strict=True))
    plain = np.nan_to_num(found.values, nan=0.0)
    assert plain.tolist() == np.nan_to_num([m.value for m in wanted], nan=0.0).tolist()


def test_a_history_is_the_same_on_every_store(tracking: Tracking) -> None:
    values = [0.5, math.nan, math.inf, 0.25]
    run_id = logged(tracking, "a", [Metric("loss", value, 1000 + step, step) for step, value in enumerate(values)])
    found = history(tracking.uri, run_id, "loss")
    np.testing.assert_array_equal(found.values, [0.5, math.nan, 1.7976931348623157e308, 0.25])
    assert found.to_frame()["timestamp"].iloc[1] == datetime.fromtimestamp(1.001, UTC)
    assert len(history(tracking.uri, run_id, "gain").values) == 0


def client_frame(tracking: Tracking, where: str = "") -> pd.DataFrame:
    return tracking.mlflow.search_runs([tracking.experiment_id], filter_string=where)


@DATABASES
def test_a_frame_is_the_clients(tracking: Tracking) -> None:
    logged(tracking, "before", [])  # a column that begins later
    various(tracking)
    found = sql.frame(tracking.uri, tracking.experiment)
    assert found is not None
    pd.testing.assert_frame_equal(found, client_frame(tracking)[found.columns])
    assert len(found.columns) == len(client_frame(tracking).columns)
    assert [name for name in found if name.startswith("params.")] == ["params.depth", "params.only", "params.ünï"]


@DATABASES
def test_a_frame_of_runs_that_never_ended_or_of_none_is_the_clients(tracking: Tracking) -> None:
    tracking.experiment_id  # noqa: B018  # an experiment without runs
    for _ in range(2):
        found = sql.frame(tracking.uri, tracking.experiment)
        assert found is not None
        pd.testing.assert_frame_equal(found, client_frame(tracking)[found.columns])
        logged(tracking, "running", status="RUNNING")


def test_a_frame_takes_mlflows_filter_on_every_store(tracking: Tracking) -> None:
    various(tracking)
    found = frame(tracking.uri, tracking.experiment, "params.depth = '4'")
    assert found["tags.mlflow.runName"].tolist() == ["ünï"]
    assert len(frame(tracking.uri, tracking.experiment)) == 3


@DATABASES
@pytest.mark.parametrize("metric", ["", "m0", "m1", "m3", "m8"])
@pytest.mark.parametrize("lowest_first", [False, True])
def test_runs_are_read_and_sorted_as_by_the_client(tracking: Tracking, metric: str, lowest_first: bool) -> None:
    various(tracking)
    for value in (1.0, 3.0, math.nan, 2.0):
        logged(tracking, f"v{value}", [Metric("m3", value, 1, 0)])
    rows = sql.newest(tracking.uri, tracking.experiment, Selection(metric=metric, lowest_first=lowest_first, limit=6))
    order = f"metrics.`{metric}` {'ASC' if lowest_first else 'DESC'}" if metric else "attributes.start_time DESC"
    wanted = tracking.newest(6, "", order)
    assert rows is not None
    found = [
        run_from(*row[:3], (row.start_time, row.end_time), row[6:], experiment=tracking.experiment) for row in rows
    ]
    assert list(map(repr, found)) == list(map(repr, wanted))  # as text: NaN is equal to itself


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_schema_that_is_not_known_is_left_to_the_client(tracking: Tracking, folder: Path) -> None:
    run_id = logged(tracking, "a", [Metric("auc", 0.5, 1, 0)])
    with contextlib.closing(sqlite3.connect(folder / ".nbmlops" / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    uri = tracking.uri
    assert sql.frame(uri, tracking.experiment) is None
    assert sql.newest(uri, tracking.experiment, Selection()) is None
    assert sql.history(uri, run_id, "auc") is None
    assert sql.curves(uri, [run_id], 9) is None
    assert sql.tagged(tracking.store.engine, "nbmlops.id", "it") is None
    assert sql.state(tracking.store.engine, run_id, "nbmlops.error") is None
    assert history(uri, run_id, "auc").values.tolist() == [0.5]  # MLflow is connected, and looks at it no more


def test_what_this_process_has_just_logged_is_read_too(team: Operations) -> None:
    run = team.track("fit")
    for step in range(3):
        team.log({"loss": 1.0 - step / 4}, step=step)
    (listed,) = team.runs(name="fit")
    settings = team.project.settings
    assert listed.metrics == {"loss": 0.5}
    assert frame(settings.tracking.value, settings.name.value)["metrics.loss"].tolist() == [0.5]
    assert history(settings.tracking.value, run.run_id, "loss").values.tolist() == [1.0, 0.75, 0.5]
    assert in_full(team.project, listed).curves == {"loss": (1.0, 0.75, 0.5)}


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert sql.frame(f"sqlite:///{tmp_path}/none.db", "flights") is None
    assert not list(tmp_path.iterdir())


def test_the_installed_mlflows_schema_is_known(empty_mlflow: Path) -> None:
    with contextlib.closing(sqlite3.connect(empty_mlflow)) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert revision in sql.REVISIONS, (
        f"Look at what MLflow {mlflow.__version__} changed in its tables of runs, then add to REVISIONS of "
        f'nbmlops/tracking/sql.py: "{revision}": "MLflow {mlflow.__version__}"'
    )


# -------------------------------------------------------------------- the list
def names(runs: Any) -> list[str]:
    return [run.name for run in runs]


def test_runs_are_chosen_alike_on_every_store(team: Operations, tracking: Tracking) -> None:
    various(tracking)
    logged(tracking, 'Ann\'s "best"')
    assert names(team.runs()) == ['Ann\'s "best"', "ünï", "none", "all"]
    assert names(team.runs(name='Ann\'s "best"')) == ['Ann\'s "best"']
    assert names(team.runs(status="FAILED")) == ["ünï"]
    assert names(team.runs(limit=1)) == ['Ann\'s "best"']
    assert names(team.runs(sort="-m8", limit=2)) == ["all", 'Ann\'s "best"']
    assert names(team.runs(where="params.only = 'here'", status="FAILED")) == ["ünï"]
    (run,) = team.runs(name="all")
    np.testing.assert_array_equal(list(run.metrics.values()), HARD)  # infinities are infinite
    assert repr(team.runs(where="metrics.m1 > 0", name="all")[0]) == repr(run)


def test_pages_follow_each_other_on_every_store(team: Operations, tracking: Tracking) -> None:
    for at in range(7):
        logged(tracking, f"r{at}", [Metric("auc", at / 10, 1, 0)] if at else [])
    for choice in ({}, {"sort": "auc"}, {"where": "attributes.status = 'FINISHED'"}, {"sort": "-auc", "name": ""}):
        whole = names(team.runs(**choice))
        pages = [names(team.runs(limit=3, offset=offset, **choice)) for offset in (0, 3, 6, 9)]
        assert [len(page) for page in pages] == [3, 3, 1, 0]
        assert [name for page in pages for name in page] == whole
    assert names(team.runs(sort="auc", offset=6)) == ["r0"]  # behind those that have the metric
    with pytest.raises(UsageError, match="--offset must be from 0"):
        team.runs(offset=-1)


def test_a_servers_pages_are_asked_for_one_after_the_other(
    team: Operations, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbmlops.tracking.reading.PAGE", 2)
    for at in range(5):
        logged(tracking, f"r{at}", tags={"nbmlops.notebook": "train.ipynb" if at else "other.ipynb"})
    everywhere = {"where": "attributes.status = 'FINISHED'"}
    assert names(team.runs(limit=2, offset=1, **everywhere)) == ["r3", "r2"]
    assert names(team.runs(limit=2, offset=2, notebook="train.ipynb", **everywhere)) == ["r2", "r1"]


def test_a_list_has_the_curves_of_its_runs_on_every_store(team: Operations, tracking: Tracking) -> None:
    losses = [Metric("loss", 1 / (step + 1), step, step) for step in range(100)]
    logged(tracking, "short", [*losses[:3], Metric("auc", 0.5, 1, 0)])
    logged(tracking, "long", [*losses, Metric("auc", math.inf, 1, 0), Metric("auc", 0.5, 1, 1)])
    logged(tracking, "bare")
    bare, long, short = team.runs(curves=True)
    assert (bare.curves, short.curves) == ({}, {"loss": (1.0, 0.5, 1 / 3)})
    assert (bare.steps, short.steps) == ({}, {"loss": (0, 1, 2)})
    assert long.curves["auc"] == (math.inf, 0.5)
    assert 50 <= len(long.curves["loss"]) <= 60
    assert [1 / (step + 1) for step in long.steps["loss"]] == [*long.curves["loss"]]
    assert [run.curves for run in team.runs()] == [{}, {}, {}]
    assert "loss curve" in text(team.runs(curves=True, sort="-loss"))


def test_mine_are_those_of_whoever_asks(team: Operations, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    logged(tracking, "hers", tags={"mlflow.user": "Ann's"})
    logged(tracking, "his", tags={"mlflow.user": "bob"})
    monkeypatch.setenv("NBMLOPS_USER", "Ann's")
    assert names(team.runs(mine=True)) == ["hers"]
    assert names(team.runs(mine=True, where="attributes.status = 'FINISHED'")) == ["hers"]


def test_here_are_those_of_the_notebook_however_they_spell_it(
    team: Operations, tracking: Tracking, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder / "notebooks" / "train.ipynb"
    logged(tracking, "relative", [Metric("auc", 0.9, 1, 0)], tags={"nbmlops.notebook": "notebooks/train.ipynb"})
    logged(tracking, "absolute", [Metric("auc", 0.5, 1, 0)], tags={"mlflow.source.name": str(here)})
    logged(tracking, "another", tags={"nbmlops.notebook": "notebooks/test.ipynb"})
    monkeypatch.setattr("nbmlops.tracking.capture.ipython.source_path", lambda: str(here))
    assert names(team.runs(here=True)) == ["absolute", "relative"]
    assert names(team.runs(here=True, sort="auc")) == ["relative", "absolute"]
    assert names(team.runs(here=True, where="metrics.auc > 0.6")) == ["relative"]
    monkeypatch.setattr("nbmlops.tracking.capture.ipython.source_path", lambda: "")
    with pytest.raises(UsageError, match="no notebook"):
        team.runs(here=True)


def test_runs_of_a_notebook_are_found_from_wherever_its_path_is_seen(
    team: Operations, tracking: Tracking, folder: Path
) -> None:
    below = folder / "notebooks"
    below.mkdir()
    (below / "train.ipynb").touch()
    logged(tracking, "relative", tags={"nbmlops.notebook": "notebooks/train.ipynb"})
    logged(tracking, "absolute", tags={"mlflow.source.name": str(below / "train.ipynb")})
    logged(tracking, "gone", tags={"nbmlops.notebook": "notebooks/gone.ipynb"})
    logged(tracking, "upper", tags={"nbmlops.notebook": "train.ipynb"})
    from_below = Operations(below)
    both = ["absolute", "relative"]
    assert names(team.runs(notebook="notebooks/train.ipynb")) == both
    assert names(team.runs(notebook=str(below / "train.ipynb"))) == both
    assert names(team.runs(notebook="notebooks/../notebooks/train.ipynb")) == both
    assert names(from_below.runs(notebook="notebooks/train.ipynb")) == both
    assert (
        names(from_below.runs(notebook="gone.ipynb")) == names(team.runs(notebook="notebooks/gone.ipynb")) == ["gone"]
    )
    assert names(from_below.runs(notebook="train.ipynb")) == both
    assert names(team.runs(notebook="train.ipynb")) == ["upper"]
    logged(tracking, "plain", tags={"mlflow.source.name": "train.py"})
    assert names(from_below.runs(notebook="train.py")) == ["plain"]  # as it was called in that folder
    with pytest.raises(UsageError, match="exclude each other"):
        team.runs(notebook="train.ipynb", here=True)


def test_since_leaves_out_what_began_before(team: Operations, tracking: Tracking) -> None:
    tracking.client.create_run(tracking.experiment_id, start_time=1000, run_name="old")
    logged(tracking, "new")
    assert names(team.runs(since="2h")) == ["new"]
    assert names(team.runs(since="2h", where="attributes.status = 'FINISHED'")) == ["new"]
    assert names(team.runs(since="1970-01-01T00:00:00+00:00")) == ["new", "old"]
    with pytest.raises(UsageError, match="'yesterday' is no time"):
        team.runs(since="yesterday")


@pytest.mark.parametrize(
    ("words", "hours"), [("90m", 1.5), ("24h", 24), ("7d", 168), ("2w", 336), ("2013-06-30T12:00:00+02:00", 14)]
)
def test_a_moment_is_so_long_ago_or_a_date(words: str, hours: float) -> None:
    now = datetime(2013, 7, 1, tzinfo=UTC)
    assert (now - moment(words, now)).total_seconds() == hours * 3600


@pytest.mark.parametrize("words", ["", "d", "7", "-7d", "7y", "999999999999d", "20 h"])
def test_what_is_no_time_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        moment(words, datetime.now(UTC))


def test_listing_runs_of_a_database_needs_no_mlflow(ops: Operations, folder: Path) -> None:
    ops.track("a")
    ops.end()
    code = "import sys, nbmlops; print(nbmlops.open().runs()[0].name, 'mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout == "a False\n", done.stderr


def test_a_list_shows_what_tells_its_runs_apart_and_little_else() -> None:
    began = datetime(2013, 7, 1, tzinfo=UTC)
    same = {"seed": "1", "kind": "tree"}
    runs = [
        Run(f"{i}" * 32, "fit", "FINISHED", began, 1.0, {"auc": i / 10, f"rare{i}": 1.0}, {**same, "depth": f"{i}"})
        for i in range(6)
    ]
    assert [name for name, _ in Run.listed(runs)] == ["id", "name", "status", "auc", "depth", "started", "took (s)"]


def test_a_list_becomes_a_dataframe(ops: Operations) -> None:
    for depth in (3, 4):
        ops.track("fit", parameters={"depth": depth})
        ops.log({"auc": depth / 10})
        ops.end()
    found = ops.runs(sort="auc").to_frame()
    assert found[["params.depth", "metrics.auc"]].to_numpy().tolist() == [["4", 0.4], ["3", 0.3]]


# -------------------------------------------------------------------- the card
def test_a_card_knows_the_curves_and_what_changed_since_the_attempt_before(
    team: Operations, tracking: Tracking
) -> None:
    losses = [Metric("loss", 1 / (step + 1), step, step) for step in range(1000)]
    first = logged(tracking, "fit", [*losses[:9], Metric("auc", 0.5, 1, 0)], {"depth": "3"})
    tags = {"nbmlops.attempt": "2", "nbmlops.previous": first}
    second = logged(tracking, "fit", [*losses, Metric("auc", 0.75, 1, 0)], {"depth": "4"}, tags)
    run = in_full(team.project, tracking.find(second))
    assert set(run.curves) == {"loss"}
    assert 55 <= len(run.curves["loss"]) <= 62
    assert run.curves["loss"][0] == 1.0
    assert [(each.name, each.values) for each in run.changes if each.name != "loss"] == [
        ("auc", (0.5, 0.75)),
        ("depth", ("3", "4")),
    ]
    tracking.client.delete_run(first)
    in_full(team.project, tracking.find(second))


def test_a_curve_has_infinities_as_such_and_ends_where_the_metric_does(tracking: Tracking) -> None:
    values = [math.inf, math.nan, 1.0, *[2.0] * 500, 3.0]
    run_id = logged(tracking, "fit", [Metric("loss", value, step, step) for step, value in enumerate(values)])
    if tracking.uri.startswith("http"):
        return
    for most in (60, 2):
        found = sql.curves(tracking.uri, [run_id], most)
        assert found is not None
        assert found[run_id]["loss"][0] == (0, 1.7976931348623157e308)
        assert found[run_id]["loss"][-1] == (503, 3.0)
        assert len(found[run_id]["loss"]) == most


@DATABASES
@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([0], None),
        ([7, 7], [0, 1]),
        ([0, 1, 2, 50], [0, 1, 2, 3]),  # few: all, however far apart
        (range(5), [0, 1, 2, 3, 4]),
        (range(0, 90, 10), [0, 2, 4, 6, 8]),
        ([0, 1, 2, 3, 4, 100], [0, 4, 4, 4, 5]),  # many: by their steps
        ([3] * 9, [0, 3, 6, 8]),
        ([-4, -3, -2, -1, 0, 0], [0, 1, 2, 3, 5]),  # of one step the newest
        ([0, 1, 2, 3, 4, 2**62], [0, 4, 4, 4, 5]),
        ([-(2**62), 0, 1, 2, 3, 2**62], [0, 0, 1, 4, 5]),
    ],
)
def test_a_curve_goes_from_the_first_value_to_the_last(
    tracking: Tracking, steps: Sequence[int], wanted: list[int] | None
) -> None:
    run_id = logged(tracking, "fit", [Metric("m", float(at), 1000 + at, step) for at, step in enumerate(steps)])
    found = sql.curves(tracking.uri, [run_id], 5)
    assert found is not None
    points = found[run_id]["m"] if wanted else ()
    assert [point.value for point in points] == (wanted or [])
    assert [point.step for point in points] == sorted(point.step for point in points)
    assert (points[0].step, points[-1].step) == (min(steps), max(steps)) if wanted else found == {}


@DATABASES
def test_curves_of_a_list_are_those_that_most_runs_have_the_wanted_one_first(tracking: Tracking) -> None:
    def points(*names: str) -> list[Metric]:
        return [Metric(name, math.nan if step else 0.5, 1, step) for name in names for step in range(2)]

    single = Metric("auc", 0.9, 1, 0)
    one = logged(tracking, "one", [single, *points("a", "b", "common", "late by: 9")])
    other = logged(tracking, "other", [single, *points("common", "late by: 9")])
    none = logged(tracking, "none", [single])
    found = sql.curves(tracking.uri, [one, other, none], 9, each=2)
    assert found is not None
    assert {run: set(curves) for run, curves in found.items()} == {
        one: {"common", "late by: 9"},
        other: {"common", "late by: 9"},
    }
    assert repr([*map(tuple, found[one]["common"])]) == "[(0, 0.5), (1, nan)]"
    wanted = sql.curves(tracking.uri, [one, other], 9, each=1, first="b")
    assert wanted is not None
    assert {run: set(curves) for run, curves in wanted.items()} == {one: {"b"}, other: {"common"}}
    assert sql.curves(tracking.uri, [], 9) == {}


def test_a_run_that_a_server_shows_has_a_link(team: Operations, tracking: Tracking, store: str) -> None:
    run_id = logged(tracking, "fit")
    (listed,) = team.runs()
    expected = f"{tracking.uri}/#/experiments/{tracking.experiment_id}/runs/{run_id}" if store == "http" else ""
    assert (listed.url, tracking.find(run_id).url) == (expected, expected)
