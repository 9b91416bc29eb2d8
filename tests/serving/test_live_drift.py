"""Drift of an endpoint's own traffic: by the verb, and as a trigger that starts a pipeline."""

import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from nbmlops.errors import DriftError, NotFoundError, UsageError
from nbmlops.ledger.schedules import FINISHED
from nbmlops.monitoring.live import N_REFERENCE
from nbmlops.monitoring.verbs import drift
from nbmlops.project import Project
from nbmlops.serving import policy
from nbmlops.serving.capture.reading import n_captured
from nbmlops.serving.verbs import deploy, predict, undeploy
from nbmlops.validation.verbs import validate
from tests.agent.stage import Stage

DECLARED = """\
[project]
name = "flights"

[endpoints.asked]
model = "delays/1"
capture = { hash = ["carrier"] }

[schedules.retrain]
notebook = "train.ipynb"
on = ["drift:asked"]
"""


def flights(n: int, seed: int, later: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"delay": rng.normal(later, size=n), "carrier": rng.choice(["UA", "B6", "AA"], n)})
    return frame.assign(day=rng.integers(1, 8, n), flight=range(n))


@pytest.fixture(scope="module")
def asked(shop: Project) -> Iterator[str]:
    """An endpoint that captures, asked for as many rows as a reference has, and as many again."""
    before = (shop.root / "nbmlops.toml").read_text()
    (shop.root / "nbmlops.toml").write_text(DECLARED)
    deploy(shop, "asked")
    for seed in (1, 2):
        ask(shop, flights(N_REFERENCE, seed))
    yield "asked"
    undeploy(shop, "asked")
    (shop.root / "nbmlops.toml").write_text(before)


def ask(project: Project, table: pd.DataFrame) -> None:
    """Have rows answered, and wait until they are captured."""
    place = policy.place_of(project, "asked")
    wanted = n_captured(place) + len(table)
    predict(project, "asked", data=table)
    deadline = time.monotonic() + 20
    while n_captured(place) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_traffic_of_an_endpoint_starts_a_run_once_it_has_drifted(shop: Project, asked: str) -> None:
    # ---- by hand: the first rows are the reference, a table may be another
    report = drift(shop, asked)
    assert (report.drifted, report.current, report.n_reference) == (False, asked, N_REFERENCE)
    assert report.reference.startswith("the first 4,000 rows since 2")
    assert {row.name for row in report.columns} == {"delay", "carrier", "day", "prediction"}  # and no flight numbers
    against = drift(shop, asked, against=flights(3000, 7))
    assert (against.drifted, against.n_current) == (False, 2 * N_REFERENCE)
    assert {row.name for row in against.columns} == {"delay", "carrier", "day", "prediction"}
    assert not drift(shop, asked, since="2099-01-01").drifted

    # ---- by itself
    with closing(Stage(shop.root)) as stage:
        judged(stage, 1)
        assert stage.firings() == []
        stage.look(seconds=1)
        assert not stage.agent.measuring.going_on  # nothing new was asked since

        ask(shop, flights(N_REFERENCE, 3, later=0.5))
        judged(stage, 1)
        stage.wait_for(FINISHED)
        assert [each.occasion.partition("#")[0] for each in stage.firings()] == ["drift:asked"]
        assert not [line for line in stage.told if "cannot be measured" in line]

    with pytest.raises(DriftError) as found:
        drift(shop, asked, exit_code=True)
    assert {row.name for row in found.value.report.columns if row.drifted} == {"delay", "prediction"}


def judged(stage: Stage, n: int) -> None:
    """Look until so many measurements have begun and ended, and then once more."""
    deadline = time.monotonic() + 60
    while not stage.agent.measuring.going_on:
        assert time.monotonic() < deadline
        stage.look(seconds=1)
    assert len(stage.agent.measuring.going_on) == n
    for measurement in stage.agent.measuring.going_on.values():
        measurement.process.wait(60)
    stage.look(seconds=1)
    assert not stage.agent.measuring.going_on


def test_the_data_of_the_gate_that_the_version_passed_are_the_reference(shop: Project, asked: str) -> None:
    text = (shop.root / "nbmlops.toml").read_text()
    gate = '[gates.default]\ntarget = "late"\ndata = "holdout.csv"\nmetrics.accuracy = { min = 0.5 }\n'
    (shop.root / "nbmlops.toml").write_text(f"{text}\n{gate}")
    holdout = flights(1000, 11)
    holdout.assign(late=(holdout.delay > 0).astype(int)).to_csv(shop.root / "holdout.csv", index=False)
    validate(shop, "delays/1")
    report = drift(shop, asked)
    assert (report.reference, report.n_reference) == ("holdout, the data of gate default", 1000)
    assert {row.name for row in report.columns} == {"delay", "carrier", "day", "prediction"}
    (shop.root / "nbmlops.toml").write_text(text)
    (shop.root / "holdout.csv").unlink()
    assert drift(shop, asked).reference.startswith("the first 4,000 rows")


def test_what_cannot_be_judged_is_told(shop: Project, asked: str) -> None:
    with pytest.raises(UsageError, match="drift needs --against"):
        drift(shop, flights(100, 1))
    with pytest.raises(UsageError, match="a table has no times"):
        drift(shop, flights(100, 1), against=flights(100, 2), since="1d")
    with pytest.raises(NotFoundError, match="no file"):
        drift(shop, "askd.parquet", against=flights(100, 2))
    deploy(shop, "delays/1", as_="deaf")
    try:
        with pytest.raises(UsageError, match="deaf captures no requests"):
            drift(shop, "deaf")
    finally:
        undeploy(shop, "deaf")
