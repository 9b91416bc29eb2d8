"""What keeps a version from going live: each time what was live stays, and the message says why."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sklearn.neighbors import KNeighborsRegressor

from nbmlops.errors import ConflictError, DeployError, NbmlopsError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints, Variant
from nbmlops.ledger.tables import FORMS
from nbmlops.project import Project
from nbmlops.registry.mlflow import Registry
from nbmlops.registry.reading import resolved
from nbmlops.registry.verbs import register
from nbmlops.serving import keeping, variants
from nbmlops.serving.instructions import COMPILED, MODEL
from nbmlops.serving.verbs import deploy, predict, undeploy
from nbmlops.tracking.mlflow import Tracking
from tests.serving.conftest import served, servers


@pytest.fixture(scope="module")
def near(shop: Project) -> Iterator[str]:
    """A model that no worker can score itself, as an endpoint and in two versions."""
    table = pd.DataFrame({"x": np.arange(20.0), "y": np.arange(20.0) % 3})
    for scale in (1.0, 2.0):
        register(shop, KNeighborsRegressor(1).fit(table, table.x * scale), "near", input_example=table)
    deploy(shop, "near/1", as_="live")
    yield "live"
    undeploy(shop, "live")


@pytest.fixture
def form_of(shop: Project) -> Iterator[Callable[..., None]]:
    """Changes what the ledger keeps of how a version is served; all is as it was after the test."""
    endpoints, kept = shop.open(Endpoints), []

    def change(model: str, **facts: Any) -> None:
        digest = resolved(shop, model).digest
        record = endpoints.form(digest)
        assert record is not None
        kept.append((digest, record))
        write(digest, {**record, **facts})

    def write(digest: str, record: dict[str, Any]) -> None:
        with shop.open(Ledger).writing() as connection:
            connection.execute(FORMS.update().where(FORMS.c.digest == digest).values(record=record))

    yield change
    for digest, record in kept:
        write(digest, record)


def stays(shop: Project, refused: pytest.ExceptionInfo[NbmlopsError], exit_code: int, *words: str) -> None:
    """What was live is live, nothing is left of what was tried, and the message says all of it in a line or two."""
    assert refused.value.exit_code == exit_code
    assert all(word in refused.value.message for word in words), refused.value.message
    assert len(refused.value.message) < 400
    assert (served(shop)["live"].version, served(shop)["live"].status) == ("1", "answers")
    assert not variants.place_of(keeping.folder_of(shop, "live"), Variant("near", "2", "")).exists()
    assert predict(shop, "live", data=pd.DataFrame({"x": [4.0], "y": [1.0]})).predictions == (4.0,)


def test_predictions_that_are_not_those_of_the_registration(shop: Project, near: str, form_of: Any) -> None:
    kept = shop.open(Endpoints).form(resolved(shop, "near/2").digest)
    assert kept is not None
    form_of("near/2", predictions=[99.0, *kept["predictions"][1:]])
    with pytest.raises(DeployError) as refused:
        deploy(shop, "near/2", as_=near)
    what = "row 0 of its input example gives 0.0, and gave 99.0 when it was registered"
    stays(shop, refused, 7, "near/2 failed its preflight, so what is live stays", what)


def test_a_package_that_is_missing(shop: Project, near: str, form_of: Any) -> None:
    form_of("near/2", requirements=["numpy==1.0", "there-is-no-such-package==3.1"])
    with pytest.raises(DeployError) as refused:
        deploy(shop, "near/2", as_=near)
    stays(shop, refused, 7, "environment: there-is-no-such-package is not installed")


@pytest.mark.soak
def test_another_signature(shop: Project, near: str, form_of: Any) -> None:
    form_of("near/2", inputs=json.dumps([{"type": "double", "name": "z", "required": True}]))
    with pytest.raises(DeployError) as refused:
        deploy(shop, "near/2", as_=near)
    stays(shop, refused, 7, "signature: it is not the one that was registered")


def test_a_model_that_dies_on_its_own_example(shop: Project, near: str, moody: dict[str, str], form_of: Any) -> None:
    form_of(f"moody/{moody['good']}", example=json.dumps({"dataframe_split": {"columns": ["x"], "data": [[-1.0]]}}))
    with pytest.raises(DeployError) as refused:
        deploy(shop, f"moody/{moody['good']}", as_=near)
    stays(shop, refused, 7, "its process died, or hung for 120 s, on its own input example")


def test_bytes_that_were_changed_in_the_store(shop: Project, near: str) -> None:
    folder = Path(shop.open(Registry).resolve("near/2").source.removeprefix("file://"))
    [file] = (
        (shop.root / ".nbmlops").rglob(f"{folder.name}/artifacts/model.*")
        if not folder.exists()
        else folder.glob("model.*")
    )
    before = file.read_bytes()
    file.write_bytes(before + b" ")
    try:
        with pytest.raises(ConflictError) as refused:
            deploy(shop, "near/2", as_=near)
    finally:
        file.write_bytes(before)
    stays(shop, refused, 12, "near/2 is not what was registered")


def test_a_compiled_form_that_was_changed_in_the_ledger(shop: Project) -> None:
    digest = resolved(shop, "delays/2").digest
    with shop.open(Ledger).writing() as connection:
        before = connection.scalar(sa.select(FORMS.c.compiled).where(FORMS.c.digest == digest))
        connection.execute(FORMS.update().where(FORMS.c.digest == digest).values(compiled=before + b"0"))
    try:
        with pytest.raises(ConflictError, match="is not what was kept"):
            deploy(shop, "delays/2", as_="forged")
    finally:
        with shop.open(Ledger).writing() as connection:
            connection.execute(FORMS.update().where(FORMS.c.digest == digest).values(compiled=before))
    assert "forged" not in served(shop)
    assert not keeping.folder_of(shop, "forged").exists() or servers(shop, "forged") == set()


def test_a_digest_in_mlflow_that_leads_to_another_models_form(shop: Project) -> None:
    client = shop.open(Tracking).client
    kept = {version: resolved(shop, f"delays/{version}").digest for version in ("1", "3")}
    client.set_model_version_tag("delays", "3", "nbmlops.digest", kept["1"])
    try:
        with pytest.raises(ConflictError, match="delays/3 is not what was registered"):
            deploy(shop, "delays/3", as_="swapped")
        assert "swapped" not in served(shop)
    finally:
        client.set_model_version_tag("delays", "3", "nbmlops.digest", kept["3"])


@pytest.mark.parametrize(
    ("model", "file"), [("delays/2", COMPILED), pytest.param("near/2", f"{MODEL}/MLmodel", marks=pytest.mark.soak)]
)
def test_bytes_that_were_changed_where_they_are_served_are_fetched_anew(
    shop: Project, near: str, model: str, file: str
) -> None:
    deploy(shop, model, as_="twice")
    try:
        variant = shop.open(Endpoints).wanted()["twice"].champion
        place = variants.place_of(keeping.folder_of(shop, "twice"), variant)
        keeping.rested(shop, "twice")
        before = (place / file).read_bytes()
        (place / file).write_bytes(before[:-1])
        deploy(shop, model, as_="twice")
        assert (place / file).read_bytes() == before
        assert served(shop)["twice"].status == "answers"
    finally:
        undeploy(shop, "twice")


def test_without_an_example_there_is_a_warning(shop: Project, flights: pd.DataFrame) -> None:
    register(shop, KNeighborsRegressor(1).fit(flights[["delay"]], flights.late), "bare")
    made = deploy(shop, "bare/1")
    found = {check.name: (check.status, check.what) for check in made.preflight}
    assert found["predictions"] == (
        "warn",
        "it was registered without an input example, so nothing can be compared",
    )
    undeploy(shop, "bare")


def test_what_was_found_is_told_with_the_deployment(shop: Project, near: str) -> None:
    made = deploy(shop, "near/1", as_=near)
    assert {check.name: check.status for check in made.preflight} == {
        "environment": "ok",
        "load": "ok",
        "signature": "ok",
        "predictions": "ok",
        "latency": "ok",
        "memory": "ok",
    }
