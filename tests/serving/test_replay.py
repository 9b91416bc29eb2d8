"""A candidate on the requests that a real endpoint has captured."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from nbmlops.errors import ConflictError, DataError, GateError, NotFoundError, UsageError
from nbmlops.project import Project
from nbmlops.registry.reading import remembered
from nbmlops.registry.verbs import register
from nbmlops.serving import policy
from nbmlops.serving.answers import answers, form_of
from nbmlops.serving.capture.reading import n_captured
from nbmlops.serving.comparing import replay
from nbmlops.serving.replay import answered, known
from nbmlops.serving.verbs import deploy, predict, undeploy
from nbmlops.surfaces.cli import main
from tests.serving.conftest import fitted

N = 500


@pytest.fixture(scope="module")
def candidate(shop: Project, flights: pd.DataFrame) -> str:
    """A version that cannot be compiled, and is often wrong."""
    model = fitted(flights.assign(late=np.random.default_rng(5).random(N) < 0.5), KNeighborsClassifier(1))
    made = register(shop, model, "delays", input_example=flights.drop(columns="late"))
    return f"{made.name}/{made.version}"


@pytest.fixture(scope="module")
def memory(shop: Project, features: pd.DataFrame, candidate: str) -> Iterator[str]:
    """An endpoint that was asked about every flight, its captures too."""
    deploy(shop, "delays/1", as_="memory", capture=True)
    predict(shop, "memory", data=features.assign(flight=range(N)))
    until_captured(shop, "memory", N)
    yield "memory"
    undeploy(shop, "memory")


def test_a_candidate_is_held_against_what_was_answered_without_mlflow(
    shop: Project, memory: str, features: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    found = replay(shop, "delays/2", endpoint=memory)
    native = [answers(shop, remembered(shop, label), features) for label in ("delays/1", "delays/2")]
    assert (found.model, found.against, found.n, found.n_asked_again) == ("delays/2", "delays/1", N, 0)
    assert found.n_flipped == int((native[0] != native[1]).sum()) > 0
    assert sum(each.n for each in found.directions) == found.n_flipped
    assert found.next_step == "deploy delays/2 --as memory --canary 10,50,100"
    assert "flips" in found.headline

    assert main(["--project", str(shop.root), "replay", "delays/2", "--endpoint", memory, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["n_flipped"] == found.n_flipped


def until_captured(project: Project, endpoint: str, n: int) -> None:
    """Wait until the servers have written so many rows: they do so ten times a second."""
    deadline = time.monotonic() + 20
    while n_captured(policy.place_of(project, endpoint)) < n:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_truth_tells_gains_losses_and_costs(
    shop: Project, memory: str, flights: pd.DataFrame, candidate: str, tmp_path: Path
) -> None:
    assert form_of(shop, remembered(shop, candidate)).kind == "pyfunc"
    late = flights.late.astype(int)
    labels = flights.drop_duplicates("delay")[["delay"]].assign(late=late)[: N - 100]
    output = tmp_path / "rows.parquet"
    costs = {"1:0": "5", "0:1": "1"}
    found = replay(
        shop, candidate, endpoint=memory, labels=labels, key="delay", costs=costs, output=str(output), exit_code=False
    )
    assert found.outcome is not None
    assert (found.outcome.n, found.outcome.status) == (N - 100, "worse")
    assert found.cost is not None
    assert (found.cost.status, found.is_worse, found.next_step) == ("worse", True, "")
    rows = pd.read_parquet(output)
    assert len(rows) == N
    assert {"request_id", "at", "row", "delay", "carrier", "day", "before", "after", "truth"} <= set(rows)
    assert int(rows.truth.isna().sum()) == 100
    with pytest.raises(GateError, match="worse") as refused:
        replay(shop, candidate, endpoint=memory, labels=labels, key="delay", costs=costs, exit_code=True)
    assert refused.value.report.outcome == found.outcome


def test_labels_join_by_request_and_row(shop: Project, memory: str, flights: pd.DataFrame) -> None:
    rows = answered(policy.place_of(shop, memory), None)
    request = rows["nbmlops.request_id"].iloc[0]
    labels = pd.DataFrame({"request_id": request, "row": range(N), "late": flights.late.astype(int)})
    found = replay(shop, "delays/2", endpoint=memory, labels=labels)
    assert found.outcome is not None
    assert found.outcome.n == int((rows["nbmlops.request_id"] == request).sum())


def test_rows_that_another_version_answered_are_asked_again(shop: Project, memory: str) -> None:
    found = replay(shop, "delays/2", against="2", endpoint=memory)
    assert (found.against, found.n_asked_again, found.n_flipped) == ("delays/2", N, 0)


def test_what_cannot_be_replayed_is_told(shop: Project, memory: str, features: pd.DataFrame) -> None:
    labels = pd.DataFrame({"delay": [1.0, 1.0], "late": [0, 1]})
    with pytest.raises(NotFoundError, match="Nothing was captured at memry") as near:
        replay(shop, "delays/2", endpoint="memry")
    assert "memory" in near.value.hint
    assert "memory" in known(shop)
    with pytest.raises(DataError, match="Nothing was captured at memory since 2099"):
        replay(shop, "delays/2", endpoint=memory, since="2099-01-01")
    with pytest.raises(UsageError, match="since cannot be 'soon'"):
        replay(shop, "delays/2", endpoint=memory, since="soon")
    with pytest.raises(ConflictError, match="name a delay twice"):
        replay(shop, "delays/2", endpoint=memory, labels=labels, key="delay")
    with pytest.raises(DataError, match="no column 'tail'"):
        replay(shop, "delays/2", endpoint=memory, labels=labels, key="tail")
    with pytest.raises(UsageError, match="Which column of the labels is the truth"):
        replay(shop, "delays/2", endpoint=memory, labels=features, key="delay")
    with pytest.raises(UsageError, match="truth is known"):
        replay(shop, "delays/2", endpoint=memory, costs={"1:0": 1})
    with pytest.raises(UsageError, match="names no truth and prediction"):
        replay(shop, "delays/2", endpoint=memory, labels=labels, key="delay", costs={"1": 1})


def test_hashed_columns_join_labels_and_are_no_features(shop: Project, flights: pd.DataFrame) -> None:
    text = (shop.root / "nbmlops.toml").read_text()
    declared = '\n[endpoints.veiled]\nmodel = "delays/1"\ncapture = { hash = ["carrier"], exclude = ["day"] }\n'
    (shop.root / "nbmlops.toml").write_text(text + declared)
    try:
        deploy(shop, "veiled")
        predict(shop, "veiled", data=flights.drop(columns="late").head(20))
        until_captured(shop, "veiled", 20)
        with pytest.raises(DataError, match="captures only a hash of 'carrier', which delays/2 needs"):
            replay(shop, "delays/2", endpoint="veiled")
    finally:
        undeploy(shop, "veiled")
        (shop.root / "nbmlops.toml").write_text(text)
