"""The verbs of runs on every store, read back by MLflow's own client as anybody would."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nbmlops.errors import ConflictError, NotFoundError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted
from nbmlops.ledger.events import Draft
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.mlflow import Tracking


def tracking(ops: Operations) -> Tracking:
    return ops.project.open(Tracking)


def test_a_run_is_an_ordinary_run_of_mlflows(team: Operations, store: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("good")
    begun = team.track("baseline", parameters={"depth": 3}, tags={"owner": "ann"})
    team.log({"auc": 0.5}, step=0)
    team.log({"auc": 0.75}, parameters={"rows": 10}, tags={"note": 'it\'s "fine"'}, step=1)
    team.log(artifacts=[str(tmp_path / "notes.txt")])
    ended = team.end()

    client = tracking(team).client
    found = client.get_run(begun.run_id)
    assert (found.info.run_name, found.info.status) == ("baseline", "FINISHED")
    assert client.get_experiment(found.info.experiment_id).name == team.project.settings.name.value
    assert found.data.params == {"depth": "3", "rows": "10"}
    assert [(point.step, point.value) for point in client.get_metric_history(begun.run_id, "auc")] == [
        (0, 0.5),
        (1, 0.75),
    ]
    assert {key: found.data.tags[key] for key in ("owner", "note")} == {"owner": "ann", "note": 'it\'s "fine"'}
    assert "notes.txt" in [each.path for each in client.list_artifacts(begun.run_id)]
    assert Path(client.download_artifacts(begun.run_id, "notes.txt", str(tmp_path))).read_text() == "good"
    assert (ended.status, ended.metrics, ended.params) == ("FINISHED", {"auc": 0.75}, {"depth": "3", "rows": "10"})
    assert ended.tags == {"note": 'it\'s "fine"', "owner": "ann"}


def test_a_run_is_found_by_id_by_unique_prefix_and_by_name(team: Operations) -> None:
    client, experiment = tracking(team).client, tracking(team).experiment_id
    first, second = (client.create_run(experiment, run_name="night shift").info.run_id for _ in range(2))
    find = tracking(team).find
    assert find(first).run_id == first
    assert find("night shift").run_id == second
    length = next(n for n in range(4, 33) if first[:n] != second[:n])
    assert find(first[:length]).run_id == first
    with pytest.raises(NotFoundError, match="no run 'nigth shift'") as missing:
        find("nigth shift")
    assert missing.value.hint == "Did you mean night shift?"
    with pytest.raises(NotFoundError):
        find("0" * 32)
    with pytest.raises(NotFoundError):
        find(first[:3])


@pytest.mark.parametrize(
    "name",
    ["Ann's", 'the "best"', 'Ann\'s "best" run', "back\\slash's", "100%_sure", "'", "ends with \\", "naïve ☃ 🎉"],
)
def test_a_run_of_any_name_is_listed_by_that_name_and_no_other(team: Operations, name: str) -> None:
    for each in {name, name.replace("'", "x"), f"{name}!"}:
        team.track(each)
        team.end()
    assert [run.name for run in team.runs(name=name)] == [name]
    assert tracking(team).find(name).name == name


def test_runs_are_sorted_filtered_and_limited(team: Operations) -> None:
    for name, auc, status in (("a", 0.7, "FINISHED"), ("b", 0.9, "FAILED"), ("c", 0.8, "KILLED")):
        team.track(name)
        team.log({"auc on test": auc})
        team.end(status=status)

    def listed(**options: object) -> str:
        return "".join(run.name for run in team.runs(**options))

    assert listed() == "cba"
    assert listed(limit=1) == "c"
    assert listed(sort="auc on test") == "bca"
    assert listed(sort="-auc on test") == "acb"
    assert listed(status="KILLED") == "c"
    assert listed(where="metrics.`auc on test` > 0.75", status="FAILED") == "b"
    with pytest.raises(UsageError, match="Invalid clause"):
        listed(where="nonsense here")
    with pytest.raises(UsageError, match="No run has the status 'finished'") as wrong:
        listed(status="finished")
    assert "FINISHED" in wrong.value.hint
    with pytest.raises(UsageError, match="from 1 to 1000"):
        listed(limit=0)


def test_what_mlflow_refuses_is_a_usage_error_and_the_run_goes_on(team: Operations) -> None:
    team.track(parameters={"depth": 3})
    with pytest.raises(UsageError, match=r"refused: Changing param values is not allowed.*depth"):
        team.log(parameters={"depth": 4})
    with pytest.raises(UsageError, match="Names may only contain"):
        team.log({"auc!": 0.5})
    with pytest.raises(UsageError, match="metric auc is 'high', which is no number"):
        team.log({"auc": "high"})
    with pytest.raises(UsageError, match="nothing to log"):
        team.log()
    team.log({"auc": 0.5}, parameters={"depth": 3})
    assert team.end().metrics == {"auc": 0.5}


def test_a_run_that_is_refused_its_parameters_ends_failed(team: Operations) -> None:
    with pytest.raises(UsageError, match="Names may only contain"):
        team.track("hopeless", parameters={"depth!": 3})
    [run] = team.runs()
    assert (run.name, run.status) == ("hopeless", "FAILED")
    with pytest.raises(ConflictError, match="No run is active"):
        team.log({"auc": 0.5})


def test_figures_that_are_no_numbers_are_kept_as_mlflow_keeps_them(team: Operations) -> None:
    team.track()
    team.log({"nan": float("nan"), "high": float("inf")})
    metrics = team.end().metrics
    assert metrics["nan"] != metrics["nan"]
    assert metrics["high"] > 1e300


def test_completion_reads_names_from_the_database_and_asks_no_server(team: Operations, store: str) -> None:
    team.track("baseline")
    run = team.end()
    client = tracking(team).client
    model = f"model-of-{run.run_id[:8]}"
    client.create_registered_model(model)
    client.create_model_version(model, f"{client.get_run(run.run_id).info.artifact_uri}/model", run.run_id)
    client.set_registered_model_alias(model, "champion", "1")
    stranger = client.create_run(client.create_experiment(f"other {run.run_id}"), run_name="of another project")

    code = (
        "import json, sys; from nbmlops.project import Project; from nbmlops.tracking import names; p = Project();"
        "print(json.dumps([names.runs(p), names.models(p), 'mlflow' in sys.modules, 'pandas' in sys.modules]))"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    runs, models, has_mlflow, has_pandas = json.loads(asked.stdout)
    assert (has_mlflow, has_pandas) == (False, False)
    if store == "http":
        assert (runs, models) == ([], [])
        return
    assert runs == ["baseline", run.run_id[:8]]
    assert stranger.info.run_id[:8] not in runs
    assert {model, f"{model}@champion", f"{model}/1"} <= set(models)


@pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
def test_the_ledger_may_live_in_mlflows_own_database(team: Operations) -> None:
    team.track("baseline")
    team.end()
    with contextlib.closing(Ledger(team.project.settings.tracking.value, team.project.root)) as ledger:
        endpoints = Endpoints(ledger)
        wanted = endpoints.want(Wanted("delays", "here", (Variant("delays", "1", ""),)))
        ledger.append(Draft("deploy", "endpoint/delays", "cli", True, "ok"))
        assert (ledger.check_chain(), endpoints.wanted()) == (1, {"delays": wanted})
    assert Operations(team.project.root).runs(name="baseline")[0].status == "FINISHED"


def test_ending_the_active_run_by_its_id_is_its_end(team: Operations) -> None:
    run = team.track("baseline")
    assert team.end(status="FAILED", run=run.run_id).status == "FAILED"
    team.track("next")
    team.end()
    assert team.show(run.run_id).status == "FAILED"


def test_secrets_among_params_and_tags_reach_no_store(team: Operations) -> None:
    run = team.track("baseline", parameters={"api_key": "s3cr3t"}, tags={"note": "http://ann:s3cr3t@host"})
    team.end()
    assert "s3cr3t" not in str(tracking(team).client.get_run(run.run_id).to_dictionary())


def test_sorting_by_a_metric_that_no_run_has_names_the_nearest(team: Operations) -> None:
    team.track("baseline")
    team.log({"roc_auc": 0.5})
    team.end()
    with pytest.raises(NotFoundError, match="'roc_acu'") as caught:
        team.runs(sort="roc_acu")
    assert caught.value.hint == "Did you mean roc_auc?"


def test_threads_that_use_mlflow_first_all_find_its_kinds_of_registries() -> None:
    """MLflow makes its table of them on first use, and threads that come meanwhile see it half filled."""
    program = """
import threading
from nbmlops.tracking.store import quiet_mlflow

def ask():
    barrier.wait()
    quiet_mlflow()
    from mlflow.tracking._model_registry.utils import _get_store_registry
    try:
        _get_store_registry().get_store_builder("nbmlops+sqlite:///x")
    except Exception as exc:
        print(exc)

barrier = threading.Barrier(8)
threads = [threading.Thread(target=ask) for _ in range(8)]
[each.start() for each in threads]
[each.join() for each in threads]
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("", "")
