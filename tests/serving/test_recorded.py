"""What a pickled model says about its input example is recorded when it is loaded first, and held against it later."""

from typing import Any

import pytest

from nbmlops.errors import DeployError
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.project import Project
from nbmlops.registry.reading import resolved
from nbmlops.serving.verbs import deploy, undeploy


def predictions_check(shop: Project, model: str) -> tuple[str, str]:
    made = deploy(shop, model, as_="kept")
    undeploy(shop, "kept")
    [found] = [check for check in made.preflight if check.name == "predictions"]
    return found.status, found.what


def recorded(shop: Project, model: str) -> dict[str, Any]:
    record = shop.open(Endpoints).form(resolved(shop, model).digest)
    assert record is not None
    return record


def test_what_the_first_deploy_heard_the_next_ones_must_hear_too(shop: Project, moody: dict[str, str]) -> None:
    model = f"moody/{moody['shifted']}"
    digest, before = resolved(shop, model).digest, recorded(shop, model)
    assert before["predictions"] == []
    assert predictions_check(shop, model) == (
        "warn",
        "it answers; what it said was not recorded when it was registered",
    )
    assert recorded(shop, model) == {**before, "predictions": [6.0, 7.0]}
    assert predictions_check(shop, model) == ("ok", "2 rows as when it was registered")
    shop.open(Endpoints).put_form(digest, {**before, "predictions": [6.0, 8.0]}, None)
    with pytest.raises(DeployError, match=r"row 1 of its input example gives 7.0, and gave 8.0"):
        deploy(shop, model, as_="kept")


def test_nothing_is_recorded_where_other_packages_are_installed(shop: Project, moody: dict[str, str]) -> None:
    model = f"moody/{moody['also good']}"
    digest, before = resolved(shop, model).digest, recorded(shop, model)
    shop.open(Endpoints).put_form(digest, {**before, "requirements": ["numpy==1.0"]}, None)
    assert predictions_check(shop, model)[0] == "warn"
    assert recorded(shop, model)["predictions"] == []
