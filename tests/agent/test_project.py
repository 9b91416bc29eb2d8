"""`status`, `doctor` and `show` on a project with real runs, models, servers, and real trouble."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import sqlalchemy as sa
from sklearn.linear_model import LogisticRegression

from nbmlops.agent.cards import Diagnosis, disk_check, newest_reports
from nbmlops.agent.verbs import doctor
from nbmlops.errors import NbmlopsError, NotFoundError, StoreError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted
from nbmlops.project import Project
from nbmlops.serving import processes
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.mlflow import Tracking
from nbmlops.validation.gates import Check, GateReport

NOBODY = "postgresql://127.0.0.1:1/runs"
GATE = '[project]\nname = "flights"\n[gates.default]\ntarget = "late"\nmetrics.roc_auc = { min = 0.6 }\n'


def check(diagnosis: Diagnosis, name: str) -> tuple[str, str, str]:
    """What a diagnosis says of one thing: status, what was found, the mend."""
    [found] = [each for each in diagnosis.checks if each.name == name]
    return found.status, found.found, found.mend


# ------------------------------------------------------------------------ status
def test_status_tells_where_each_setting_came_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sources(**overrides: str) -> dict[str, str]:
        return {row.name: row.source for row in Operations(folder, **overrides).status().settings}

    default = {"name": "nbmlops.toml", **dict.fromkeys(("tracking", "ledger", "journal", "capture"), "default")}
    assert sources() == default
    (folder / "nbmlops.toml").write_text('[stores]\nledger = "sqlite:///records.db"\n')
    assert sources() == {**default, "name": "default", "ledger": "nbmlops.toml"}
    monkeypatch.setenv("NBMLOPS_LEDGER", f"sqlite:///{folder}/of-the-environment.db")
    assert sources()["ledger"] == "NBMLOPS_LEDGER"
    assert sources(ledger="sqlite:///argument.db")["ledger"] == "argument"


def test_status_shows_a_store_that_is_down_and_what_it_knows_without_it(ops: Operations, folder: Path) -> None:
    down = Operations(folder, tracking=NOBODY).status()
    assert {row.name: row.status for row in down.settings if row.name != "tracking"} == {
        "name": "",
        "ledger": "answers",
        "journal": "",
        "capture": "",
    }
    [attention] = down.attention
    assert attention.what.startswith(f"tracking: The tracking store at {NOBODY} is out of reach")
    assert attention.mend == "doctor"
    assert down.headline == "flights: 1 to look at"
    neither = Operations(
        folder, tracking="ftp://127.0.0.1/runs", ledger="postgresql://ops:hunter2@127.0.0.1:1/x"
    ).status()
    assert [each.what.split(":")[0] for each in neither.attention] == ["tracking", "ledger"]
    assert "hunter2" not in str(neither)


def test_status_lists_the_active_run_of_a_process_that_lives(ops: Operations) -> None:
    ops.track("now")
    status = ops.status()
    assert [run.name for run in status.active_runs] == ["now"]
    assert status.attention == ()
    ops.end()
    assert ops.status().active_runs == ()


def test_status_shows_the_last_drift_and_asks_for_attention_until_it_is_gone(ops: Operations, folder: Path) -> None:
    pd.DataFrame({"delay": range(400)}).to_parquet(folder / "before.parquet")
    pd.DataFrame({"delay": range(300, 700)}).to_parquet(folder / "after.parquet")
    ops.drift("after.parquet", against="before.parquet")
    status = ops.status()
    assert status.last_drift.drifted
    assert [each.what for each in status.attention] == ["drift: after against before: delay drifted"]
    ops.drift("before.parquet", against="before.parquet")
    assert not ops.status().last_drift.drifted
    assert ops.status().attention == ()


def test_status_outside_a_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no project here") as missing:
        Operations(tmp_path).status()
    assert "init" in missing.value.hint


# ------------------------------------------------------------------------ doctor
def commit(repository: Path) -> None:
    """Make a repository whose one commit holds the project's policy."""
    git = ["git", "-C", str(repository), "-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    for words in (["init", "-q"], ["add", "*nbmlops.toml"], ["commit", "-qm", "policy"]):
        subprocess.run([*git, *words], check=True)


def test_an_endpoint_that_is_declared_badly_is_named_with_its_line(ops: Operations, folder: Path) -> None:
    with (folder / "nbmlops.toml").open("a") as file:
        file.write('[endpoints.delays]\nrollout = { slo = "err<1%" }\n')
    status, found, _ = check(ops.doctor(), "policy")
    assert status == "fail"
    assert re.search(r"nbmlops.toml, line \d+: An slo and promote belong to a rollout", found)


def test_a_column_to_be_hashed_that_no_model_has_is_named_with_its_line(ops: Operations, folder: Path) -> None:
    toml = folder / "nbmlops.toml"
    before = toml.read_text()
    declared = '[endpoints.late]\nmodel = "delays/1"\ncapture = { hash = ["carier"] }\n'
    toml.write_text(before + declared)
    assert check(ops.doctor(), "policy")[0] == "ok", "there is no such model yet"
    table = pd.DataFrame({"carrier": [1.0, 2.0], "delay": [0.5, 0.25]})
    ops.register(LogisticRegression().fit(table, [0, 1]), "delays", input_example=table)
    status, found, mend = check(ops.doctor(), "policy")
    assert status == "fail"
    assert re.search(
        r"nbmlops.toml, line \d+: Capture is to leave out or hash 'carier', and delays/1 has no such", found
    )
    assert "carrier" in mend
    toml.write_text(before + declared.replace("carier", "carrier"))
    assert check(ops.doctor(), "policy")[0] == "ok"


def test_a_sound_project_passes(ops: Operations, folder: Path) -> None:
    commit(folder)
    diagnosis = ops.doctor()
    names = "tracking ledger journal runs policy endpoints leftovers kernel versions git disk"
    assert {each.name: each.status for each in diagnosis.checks} == dict.fromkeys(names.split(), "ok")
    assert diagnosis.headline == "11 ok"
    (folder / "nbmlops.toml").write_text(GATE)
    assert "with changes that no commit holds" in check(ops.doctor(), "git")[1]


def test_stores_that_are_down_fail_their_checks_and_mending_goes_on(folder: Path) -> None:
    (folder / ".gitignore").unlink()
    ops = Operations(folder, tracking=NOBODY, ledger="postgresql://127.0.0.1:1/ledger")
    diagnosis = ops.doctor(fix=True)
    assert not diagnosis.passed
    assert diagnosis.mended == (".nbmlops/ added to .gitignore",)
    assert [each.status for each in diagnosis.checks] == sorted(
        (each.status for each in diagnosis.checks), key=["fail", "warn", "ok"].index
    )
    for name in ("tracking", "ledger"):
        status, found, mend = check(diagnosis, name)
        assert (status, "out of reach" in found, f"[stores] {name}" in mend) == ("fail", True, True)


def test_a_broken_chain_fails_the_ledgers_check(ops: Operations, folder: Path) -> None:
    ops.init()
    ops.init()
    assert check(ops.doctor(), "ledger")[1].endswith("its 2 events are whole")
    engine = sa.create_engine(f"sqlite:///{folder}/.nbmlops/ledger.db")
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER nbmlops_events_no_update"))
        connection.execute(sa.text("UPDATE nbmlops_events SET outcome = 'forged' WHERE seq = 2"))
    engine.dispose()
    status, found, mend = check(ops.doctor(), "ledger")
    assert (status, "broken at event 2" in found, "backup" in mend) == ("fail", True, True)


KILLED = "import os, signal, nbmlops; nbmlops.open().track('killed'); os.kill(os.getpid(), signal.SIGKILL)"


def test_a_run_whose_process_was_killed_is_found_and_ended(ops: Operations, folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and a zombie still
    assert [each.what for each in ops.status().attention] == ["run killed is RUNNING but its process is gone"]
    assert process.wait() == -signal.SIGKILL
    ops.track("alive")
    assert [run.name for run in ops.status().active_runs] == ["alive"]
    assert [each.what for each in ops.status().attention] == ["run killed is RUNNING but its process is gone"]
    assert check(ops.doctor(), "runs") == ("warn", "1 RUNNING, but their processes are gone: killed", "doctor --fix")

    assert ops.doctor(fix=True).mended == ("run killed ended FAILED",)
    assert check(ops.doctor(), "runs")[0] == "ok"
    tracking = ops.project.open(Tracking)
    found = tracking.client.get_run(tracking.find("killed").run_id)
    assert (found.info.status, found.data.tags["nbmlops.error"]) == ("FAILED", "its process is gone")
    assert ops.show("alive").status == "RUNNING"


def test_the_ignore_entry_is_missed_only_where_git_would_take_the_state(ops: Operations, folder: Path) -> None:
    (folder / ".gitignore").unlink()
    assert check(ops.doctor(), "git")[:2] == ("warn", "no commit here, so runs know none")
    commit(folder.parent)
    assert check(ops.doctor(), "git") == ("warn", ".nbmlops/ is not ignored", "doctor --fix")
    (folder.parent / ".gitignore").write_text(".nbmlops\n")  # above the project is as good
    assert check(ops.doctor(fix=True), "git")[0] == "ok"
    assert not (folder / ".gitignore").exists()
    (folder.parent / ".gitignore").unlink()
    assert ops.doctor(fix=True).mended == (".nbmlops/ added to .gitignore",)
    assert check(ops.doctor(), "git")[0] == "ok"


def test_a_kernel_that_cannot_start_fails(ops: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no python on it, as where only .venv/bin/nbmlops is called
    assert check(ops.doctor(), "kernel") == ("ok", f"python3 starts {sys.executable}", "")
    assert check(ops.doctor(), "git")[1] == "git is not installed, so runs know no commit"
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/gone/bin/python"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    status, found, mend = check(ops.doctor(), "kernel")
    assert (status, found) == ("fail", "the python3 kernel starts /gone/bin/python, which is not there")
    assert mend == "Install ipykernel again."


def test_a_kernel_that_is_not_installed_fails(ops: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    for places in ("ENV_JUPYTER_PATH", "SYSTEM_JUPYTER_PATH"):
        monkeypatch.setattr(f"jupyter_core.paths.{places}", [])
    monkeypatch.setitem(sys.modules, "ipykernel.kernelspec", None)
    status, found, mend = check(ops.doctor(), "kernel")
    assert (status, found) == ("fail", "no python3 kernel is installed")
    assert mend == f"{sys.executable} -m ipykernel install --user"


@pytest.mark.parametrize(("free", "status"), [(5e7, "fail"), (5e8, "warn"), (5e9, "ok")])
def test_little_space_warns_and_none_fails(free: float, status: str) -> None:
    assert disk_check(int(free)).status == status
    assert disk_check(int(free)).found == f"{free / 1e9:,.1f} GB free"


# --------------------------------------------------------- with a model and servers
@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[Operations]:
    """A project whose champion has passed its gate; no server outlives it."""
    root = tmp_path_factory.mktemp("shop")
    (root / ".nbmlops").mkdir()
    shutil.copy(empty_mlflow, root / ".nbmlops" / "mlflow.db")
    (root / "nbmlops.toml").write_text(GATE)
    (root / ".gitignore").write_text(".nbmlops/\n")
    ops = Operations(root)
    table = pd.DataFrame({"delay": [float(n) for n in range(100)]}).assign(late=lambda frame: frame.delay > 50)
    ops.register(LogisticRegression().fit(table[["delay"]], table.late), "delays", input_example=table[["delay"]])
    ops.validate("delays", data=table)
    ops.promote("delays")
    yield ops
    for endpoint in ops.endpoints():
        ops.undeploy(endpoint.name)
    assert processes.leftovers(root, ()) == []


def wait_until(holds: Callable[[], Any]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be")


@pytest.fixture
def endpoint(shop: Operations) -> Any:
    """An endpoint that answers."""
    if "shop window" not in [each.name for each in shop.endpoints()]:
        shop.deploy("delays", as_="shop window")
    found = shop.show("shop window")
    assert found.status == "answers"
    return found


def test_an_endpoint_that_died_is_told_of_and_started_again_at_its_address(shop: Operations, endpoint: Any) -> None:
    assert shop.status().attention == ()
    assert check(shop.doctor(), "endpoints")[0] == "ok"
    [pid] = endpoint.pids
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: shop.endpoints()[0].status == "dead")
    assert [each.what for each in shop.status().attention] == ["endpoint shop window is dead"]
    assert check(shop.doctor(), "endpoints")[:2] == ("fail", "wanted, but dead: shop window")
    diagnosis = shop.doctor(fix=True)
    assert diagnosis.mended == ("endpoint shop window started again",)
    assert check(diagnosis, "endpoints")[0] == "ok"
    again = shop.show("shop window")
    assert (again.status, again.url, again.version) == ("answers", endpoint.url, "1")
    assert again.pids != endpoint.pids
    assert shop.status().endpoints[0].url == endpoint.url


def test_a_server_that_does_not_answer_is_told_of(shop: Operations, endpoint: Any) -> None:
    [pid] = endpoint.pids
    os.kill(pid, signal.SIGSTOP)
    try:
        [attention] = shop.status().attention
        assert (attention.what, attention.mend) == (
            "endpoint shop window is silent",
            "deploy delays/1 --as 'shop window'",
        )
        status, found, mend = check(shop.doctor(), "endpoints")
        assert (status, found) == ("fail", "running, but they do not answer: shop window")
        assert mend == "deploy delays/1 --as 'shop window'"
    finally:
        os.kill(pid, signal.SIGCONT)


# -------------------------------------------------------------------------- show
def test_show_finds_versions_endpoints_models_and_runs(shop: Operations, endpoint: Any) -> None:
    card = shop.show("delays/1")
    assert (card.model, card.version, card.aliases) == ("delays", "1", ("challenger", "champion"))
    assert [row.verb for row in card.history] == ["promote", "validate", "register"]
    assert card.next_step == "verify delays/1"
    assert shop.show("delays@challenger") == shop.show("delays") == card
    assert shop.show("shop window").url == endpoint.url
    assert [(each.alias, each.version, each.gate) for each in shop.status().champions] == [
        ("champion", "1", "passed"),
    ]
    for run in ("a/b@c", "plain"):
        shop.track(run)
        shop.end()
        assert shop.show(run).name == run
    assert shop.show().name == "plain"
    assert shop.show(shop.show("plain").run_id[:10]).name == "plain"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("dealys", "delays"), ("shop-window", "shop window"), ("delays/7", "1"), ("delays@champoin", "champion")],
)
def test_show_names_the_nearest_of_all_names(shop: Operations, endpoint: Any, name: str, hint: str) -> None:
    with pytest.raises(NotFoundError) as missing:
        shop.show(name)
    assert hint in missing.value.hint


CHECK = Check("roc_auc", "min", 0.9, 0.7, champion=None, lower=None, upper=None, n=600, status="pass")
REPORT = asdict(GateReport(True, "delays", "1", "digest", "default", "holdout", champion="", n=600, checks=(CHECK,)))


@pytest.mark.parametrize(
    "changed",
    [{"checks": [asdict(CHECK) | {"value": "much"}]}, {"checks": [{}]}, {"checks": 7}, {"unheard": 1}],
)
def test_a_gate_report_of_another_form_is_told_as_such(changed: dict[str, Any]) -> None:
    assert newest_reports([REPORT])[0].checks[0].value == 0.9
    with pytest.raises(StoreError, match="a gate report of another form") as told:
        newest_reports([REPORT | changed])
    assert "verify" in told.value.hint


def test_a_server_that_no_endpoint_owns_is_stopped(shop: Operations, endpoint: Any) -> None:
    [pid] = endpoint.pids
    shop.project.open(Endpoints).forget("shop window")
    assert check(shop.doctor(), "leftovers") == (
        "warn",
        f"servers that no endpoint owns: {pid}",
        "doctor --fix",
    )
    assert shop.doctor(fix=True).mended == (f"leftover server {pid} stopped",)
    assert not psutil.pid_exists(pid)
    assert check(shop.doctor(), "leftovers")[0] == "ok"


def test_what_cannot_be_mended_is_told_of_and_the_rest_is_mended(shop: Operations) -> None:
    """The ledger wants an endpoint of a version that is gone; beside it a run is orphaned."""
    told: list[str] = []
    project = Project(shop.project.root, notify=told.append)
    wanted = Wanted("window", os.uname().nodename, (Variant("delays", "7", "0" * 64),))
    project.open(Endpoints).want(wanted)
    tracking = project.open(Tracking)
    owner = {"nbmlops.host": os.uname().nodename, "nbmlops.pid": str(2**22), "nbmlops.pid_started": "0"}
    tracking.client.create_run(tracking.experiment_id, tags=owner, run_name="orphan")
    diagnosis = doctor(project, fix=True)
    assert diagnosis.mended == ("run orphan ended FAILED",)
    assert [line for line in told if "delays has no version 7" in line]
    assert check(diagnosis, "endpoints")[0] == "fail"
    project.open(Endpoints).forget("window")


def test_show_without_any_run_says_how_to_track_one(ops: Operations) -> None:
    with pytest.raises(NbmlopsError, match="no run yet"), contextlib.closing(ops.project.open(Ledger)):
        ops.show()
