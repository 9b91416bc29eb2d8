"""`nbmlops.log`: where it logs to, what it takes, and what it says when it cannot; its speed is in the benches."""

import math
import threading
from pathlib import Path

import numpy as np
import pytest

import nbmlops
from nbmlops.errors import ConflictError, DataError, NbmlopsError, NotFoundError, UsageError
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.mlflow import Tracking


def test_numbers_of_every_kind_are_logged(ops: Operations) -> None:
    run = ops.track("baseline")
    nbmlops.log({"numpy": np.float32(0.5), "whole": 3, "truth": True}, step=np.int64(2), word=0.25)
    nbmlops.log(nan=float("nan"), infinite=-math.inf)
    metrics = dict(ops.end().metrics)
    assert math.isnan(metrics.pop("nan"))
    assert metrics == {"numpy": 0.5, "whole": 3.0, "truth": 1.0, "word": 0.25, "infinite": -math.inf}
    assert ops.metric_history(run.run_id, "word").steps.tolist() == [2]


@pytest.mark.parametrize(
    ("metrics", "step", "words"),
    [
        ({"auc": "high"}, 0, "auc is 'high', which is no number"),
        ({"auc": [0.5]}, 0, "no number"),
        ({"auc": None}, 0, "no number"),
        ({"a#b": 0.5}, 0, "a#b"),
        ({"a" * 251: 0.5}, 0, "250"),
        ({"auc": 0.5}, 1.5, "whole number, not 1.5"),
        ({"auc": 0.5}, "last", "whole number, not 'last'"),
    ],
)
def test_what_is_refused_is_named_and_nothing_of_the_call_is_logged(
    metrics: dict[str, float], step: int, words: str, ops: Operations
) -> None:
    ops.track("baseline")
    with pytest.raises(UsageError, match=words):
        nbmlops.log({"before": 1, **metrics}, step=step)
    assert ops.end().metrics == {}


def test_without_a_run_the_command_that_begins_one_is_told(ops: Operations) -> None:
    with pytest.raises(ConflictError, match="track NAME"):
        nbmlops.log(auc=0.5)
    ops.track("over")
    nbmlops.log(auc=0.5)
    ops.end()
    with pytest.raises(ConflictError, match="No run is active"):
        nbmlops.log(auc=0.5)


def test_each_run_has_its_own_metrics(ops: Operations) -> None:
    outer = ops.track("outer")
    nbmlops.log(auc=1)
    ops.track("inner", nested=True)
    nbmlops.log(auc=2)
    inner = ops.end()
    nbmlops.log(auc=3, step=1)
    assert (inner.metrics, inner.parent_id) == ({"auc": 2.0}, outer.run_id)
    assert ops.end().curves["auc"] == (1.0, 3.0)


def test_a_worker_threads_metrics_are_the_process_runs(ops: Operations) -> None:
    ops.track("baseline")
    worker = threading.Thread(target=nbmlops.log, kwargs={"auc": 0.5})
    worker.start()
    worker.join()
    assert ops.end().metrics == {"auc": 0.5}


def test_a_headless_notebooks_run_is_meant_where_none_is_open(ops: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = ops.project.open(Tracking)
    run_id = tracking.client.create_run(tracking.experiment_id, run_name="train").info.run_id
    monkeypatch.setenv("NBMLOPS_RUN", run_id)
    assert tracking.mlflow.active_run() is None
    nbmlops.log(rows=3)
    assert ops.show(run_id).metrics == {"rows": 3.0}


def test_without_a_journal_mlflow_takes_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBMLOPS_JOURNAL", "off")
    ops = nbmlops.open(folder)
    ops.track("baseline")
    nbmlops.log(auc=0.5)
    assert ops.end().metrics == {"auc": 0.5}
    assert not (folder / ".nbmlops" / "journal").exists()


# --------------------------------------------------------------------- the verb
def test_figures_tables_and_texts_are_files_of_the_run(ops: Operations, folder: Path) -> None:
    import pandas as pd
    from matplotlib.figure import Figure

    from nbmlops.data.fingerprint import digest

    figure, table = Figure(), pd.DataFrame({"late": [1, 2], "carrier": ["UA", None]})
    table.to_csv(folder / "march.csv", index=False)
    run = ops.track("baseline")
    ops.log(
        figures={"roc": figure, "axes": figure.subplots()},
        tables={"january": table, "march": "march.csv", "rows": [{"a": 1}]},
        text={"note": "see https://ann:hunter2@host/"},
    )
    client = ops.project.open(Tracking).client
    kept = {each.path for place in ("figures", "tables", "texts") for each in client.list_artifacts(run.run_id, place)}
    names = ("january", "march", "rows")
    assert kept == {"figures/roc.png", "figures/axes.png", "texts/note.txt", *(f"tables/{n}.parquet" for n in names)}
    path = client.download_artifacts(run.run_id, "tables/january.parquet", str(folder))
    assert digest(pd.read_parquet(path)) == digest(table) == ops.end().data["january"]
    assert "hunter2" not in Path(client.download_artifacts(run.run_id, "texts/note.txt", str(folder))).read_text()


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"figures": {"roc": 3}}, UsageError, "not int"),
        ({"figures": {"roc": "no.png"}}, NotFoundError, "no.png"),
        ({"figures": {"../roc": "no.png"}}, UsageError, "cannot name a file"),
        ({"tables": {"t": 3}}, UsageError, "A table is a DataFrame"),
        ({"tables": {"t": [{"a": 1}, {"a": "x"}]}}, DataError, "Parquet"),
        ({"tables": {"t": "no.parquet"}}, NotFoundError, "no.parquet"),
    ],
)
def test_what_is_no_figure_or_table_is_refused(
    given: dict[str, dict[str, object]], kind: type[NbmlopsError], words: str, ops: Operations
) -> None:
    ops.track("baseline")
    with pytest.raises(kind, match=words):
        ops.log(**given)
    assert ops.end().data == {}
