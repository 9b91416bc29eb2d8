"""Lists of models and versions, and a version's card: what each gate said last, about the very bytes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from conftest import end_tracking
from nbmlops.errors import GateError, NotFoundError
from nbmlops.ledger.database import Ledger
from nbmlops.surfaces.python import Operations
from nbmlops.surfaces.show import json_text, text, to_html
from nbmlops.tracking.mlflow import Tracking

POLICY = """\
[project]
name = "flights"

[gates.default]
target = "late"
data = "holdout.parquet"
metrics.roc_auc = { min = 0.6 }

[gates.strict]
target = "late"
data = "holdout.parquet"
metrics.roc_auc = { min = 0.5 }
metrics.accuracy = { min = 1.1 }
"""


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[Operations]:
    """Two versions: the first has passed its gate and failed a strict one, nobody has judged the second."""
    root = tmp_path_factory.mktemp("models") / "flights"
    (root / ".nbmlops").mkdir(parents=True)
    shutil.copy(empty_mlflow, root / ".nbmlops" / "mlflow.db")
    (root / "nbmlops.toml").write_text(POLICY)
    table = pd.DataFrame({"delay": [float(n) for n in range(100)]}).assign(late=lambda frame: frame.delay > 50)
    table.to_parquet(root / "holdout.parquet")
    ops = Operations(root)
    for _ in range(2):
        ops.register(LogisticRegression().fit(table[["delay"]], table.late), "delays", input_example=table[["delay"]])
    with pytest.raises(GateError):
        ops.validate("delays/1", gate="default", data=table.assign(delay=-table.delay))  # mended by the next one
    ops.validate("delays/1")
    with pytest.raises(GateError):
        ops.validate("delays/1", gate="strict")
    ops.promote("delays/1", gate="default")
    yield ops
    end_tracking()


def test_versions_are_listed_newest_first_with_the_last_report_of_each(ops: Operations) -> None:
    second, first = ops.models("delays")
    assert (second.version, second.aliases, second.gate, second.judged_at) == ("2", ("challenger",), "", None)
    assert (first.version, first.aliases) == ("1", ("champion",))
    assert (first.gate, first.judged_by, first.n_failed) == ("failed", "strict", 1)
    assert first.judged_at > first.registered_at
    assert first.run_id
    assert "2 versions" in text(ops.models("delays"))


def test_bare_models_are_listed_as_ever(ops: Operations) -> None:
    (row,) = ops.models()
    assert (row.name, row.version, row.gate, row.judged) == ("delays", "2", "failed", "1")
    assert row.aliases == {"challenger": "2", "champion": "1"}


def test_versions_of_no_model_name_the_nearest(ops: Operations) -> None:
    with pytest.raises(NotFoundError, match="delays"):
        ops.models("dealys")


def test_a_versions_card_has_the_newest_report_of_each_gate_the_failed_first(ops: Operations) -> None:
    card = ops.show("delays/1")
    assert [(report.gate, report.passed) for report in card.reports] == [("strict", False), ("default", True)]
    with pytest.raises(GateError) as failed:
        ops.validate("delays/1", gate="strict", dry_run=True)
    report = failed.value.report
    assert json.loads(json_text(card))["reports"][0] == json.loads(json_text(report)) | {
        "dry_run": False,
        "champion": "",  # there was none yet
    }
    assert ops.show("delays/2").reports == ()


def test_a_versions_card_shows_what_failed_before_all_that_passed(ops: Operations) -> None:
    shown = text(ops.show("delays/1"))
    assert "strict failed, default passed" in shown
    assert shown.index("accuracy") < shown.index("roc_auc")
    assert "accuracy" in to_html(ops.show("delays/1"))


def test_a_report_about_other_bytes_is_no_evidence(ops: Operations) -> None:
    """A version that somebody deleted and registered anew under its number has been judged by nobody."""
    versions = ops.models("delays")
    client = ops.project.open(Tracking).client
    client.set_model_version_tag("delays", "1", "nbmlops.digest", "0" * 64)
    try:
        assert [version.gate for version in ops.models("delays")] == ["", ""]
        assert ops.show("delays/1").reports == ()
    finally:
        digest = ops.project.open(Ledger).events(verbs=("register",), subject="model/delays/1")[0].result["digest"]
        client.set_model_version_tag("delays", "1", "nbmlops.digest", digest)
    assert ops.models("delays") == versions
