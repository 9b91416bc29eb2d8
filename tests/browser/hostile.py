"""A project whose every text that somebody else could have written is hostile, in the stores' own tables.

An attacker who shares the stores need not go through any client's checks, so rows are written as they are kept.
A text begins with the name of its field and a tilde; what stands behind that is one of `PAYLOADS`. Every element that a
payload would make has the attribute ``evil``, every script sets ``pwned``, every address is of the host evil.test.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import GENESIS, Event
from nbmlops.project import Project
from nbmlops.tracking.mlflow import Tracking

HUGE = "M" * 1_000_000
PAYLOADS = (
    "<img evil class=evil src=//evil.test/a onerror=pwned=1>",
    "<svg evil class=evil onload=pwned=1><script evil>pwned=1</script>",
    "javascript:pwned=1",
    "<a evil class=evil href=javascript:pwned=1>go</a>",
    "<b evil class=evil data-commandlinker-command=nbmlops:refresh data-commandlinker-args={}>go</b>",
    "\"'><iframe evil class=evil src=//evil.test/b></iframe>",
    "\u202egnp.exe\u2066\u200f\x1b[31m\x07",
    "[go](javascript:pwned=1) ![x](//evil.test/c) $\\href{javascript:pwned=1}{x}$",
    "{{datum.evil}} ${signal} {evil!r} <style evil>*{display:none}</style>",
    HUGE,
)
# Were all fields as long, the tests would take minutes for bytes alone.
OF_A_MILLION = (
    *("runname", "paramvalue", "tagvalue", "metric", "error", "model", "alias", "reason", "endpoint", "trouble"),
    *("table", "column", "jobname", "jobmessage", "asked", "printed", "given"),
)
OWN = ("constructor", "__proto__", "toString")  # what every object of JavaScript has, or seems to have
FOLDER = "folder~<img evil src=x onerror=pwned=1>"
NOTEBOOK = "notebook~<svg evil onload=pwned=1>.ipynb"
MODEL = "delays"
AT, DIGEST = "2026-11-22T23:00:00+00:00", "d" * 64
WAITING, FAILED, RUNS_LOG = "a" * 12, "b" * 12, "c" * 12
PARAMETERS = (
    "from typing import Literal\n"
    "month: int = 3  # help~<img evil src=x onerror=pwned=1>\n"
    'kind: Literal["choice~<svg evil onload=pwned=1>", "javascript:pwned=1"] = "javascript:pwned=1"\n'
    'place = "default~<b evil data-commandlinker-command=nbmlops:refresh>go</b>"'
)
POLICY = f"""\
[project]
name = {json.dumps("project~" + PAYLOADS[0])}

[gates.default]
target = "late"
data = "holdout.parquet"
metrics.roc_auc = {{ min = 0.6 }}

[pipelines.retrain]
schedule = "30 2 * * *"
[[pipelines.retrain.steps]]
name = "look"
verb = {json.dumps("models '--name=verb~" + PAYLOADS[0] + "'")}
[[pipelines.retrain.steps]]
name = "ask"
approval = {json.dumps("question~" + PAYLOADS[1])}
needs = ["look"]

[pipelines.{json.dumps("pipeline~" + PAYLOADS[4])}]
[[pipelines.{json.dumps("pipeline~" + PAYLOADS[4])}.steps]]
name = {json.dumps("badstep~" + PAYLOADS[1])}
verb = "models"

[schedules.{json.dumps("schedule~" + PAYLOADS[3])}]
notebook = {json.dumps("target~" + PAYLOADS[0] + ".ipynb")}
schedule = {json.dumps("cron~" + PAYLOADS[1])}

[alerts.oncall]
on = ["slo", "drift", "job"]
to = "webhook:env:ONCALL_HOOK"

[alerts.{json.dumps("alert~" + PAYLOADS[0])}]
on = [{json.dumps("kind~" + PAYLOADS[1])}]
to = "webhook:env:ONCALL_HOOK"
"""


def text(field: str, n: int) -> str:
    """Give a field's hostile text of one kind."""
    payload = PAYLOADS[n % len(PAYLOADS)]
    return f"{field}~{payload if field in OF_A_MILLION else payload[:100_000]}"


def make(root: Path, empty_mlflow: Path) -> None:
    """Write the project; nothing of it was made by a verb."""
    (root / ".nbmlops").mkdir(parents=True)
    shutil.copy(empty_mlflow, root / ".nbmlops" / "mlflow.db")
    (root / "nbmlops.toml").write_text(POLICY)
    (root / NOTEBOOK).write_text(json.dumps(_notebook()))
    project = Project(root)
    experiment = project.open(Tracking).experiment_id
    with closing(sqlite3.connect(root / ".nbmlops" / "mlflow.db")) as store, store:
        _runs(store, experiment)
        _models(store)
    project.open(Ledger).close()
    with closing(sqlite3.connect(root / ".nbmlops" / "ledger.db")) as ledger, ledger:
        for write in (_events, _jobs, _endpoints, _alerts):
            write(ledger)
    _log(root / ".nbmlops" / "jobs" / FAILED / "log.jsonl")


def run_id(n: int) -> str:
    """Give the id of the run whose texts are of one kind."""
    return f"{n:032x}"


# ----------------------------------------------------------------------- MLflow
def _put(store: sqlite3.Connection, table: str, rows: Iterator[Mapping[str, Any]]) -> None:
    for row in rows:
        kept = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
        names = ", ".join(f'"{name}"' for name in kept)
        store.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(kept))})", list(kept.values()))


def _runs(store: sqlite3.Connection, experiment: str) -> None:
    begun = 1_795_390_000_000
    for n, id_ in enumerate([*map(run_id, range(len(PAYLOADS))), text("runid", 0)]):
        own = {"run_uuid": id_}
        status = ("FAILED", "FINISHED")[n % 2]
        fixed = {"source_type": "NOTEBOOK", "lifecycle_stage": "active", "experiment_id": experiment, "status": status}
        told = {"name": text("runname", n), "source_name": text("source", n), "user_id": text("user", n)}
        when = {"start_time": begun + n, "end_time": begun + n + 5000, "artifact_uri": text("artifacts", n)}
        _put(store, "runs", iter([{**own, **fixed, **told, **when}]))
        tags = {
            "mlflow.runName": text("runname", n),
            "mlflow.source.name": text("source", n),
            "mlflow.user": text("user", n),
            "mlflow.source.git.commit": text("commit", n),
            "mlflow.source.git.branch": text("branch", n),
            "mlflow.note.content": text("note", n),
            "nbmlops.error": text("error", n),
            "nbmlops.cell": text("cell", n),
            "nbmlops.notebook": text("sourcebook", n),
            "nbmlops.order": text("order", n),
            "nbmlops.host": text("host", n),
            text("tagname", n): text("tagvalue", n),
            OWN[n % 3]: text("owntag", n),
        }
        _put(store, "tags", ({**own, "key": key, "value": value} for key, value in tags.items()))
        params = {text("paramname", n): text("paramvalue", n), OWN[n % 3]: text("ownparam", n)}
        _put(store, "params", ({**own, "key": key, "value": value} for key, value in params.items()))
        metrics = [text("metric", n), "auc", OWN[n % 3]]
        for key in metrics:
            newest = {**own, "key": key, "value": 0.5 + n / 100, "timestamp": begun + 2, "step": 2, "is_nan": 0}
            _put(store, "latest_metrics", iter([newest]))
            steps = ({**newest, "step": step, "timestamp": begun + step, "value": step / 10} for step in range(3))
            _put(store, "metrics", steps)


def _models(store: sqlite3.Connection) -> None:
    names = [MODEL, *(text("model", n) for n in range(len(PAYLOADS)))]
    for name in names:
        own = {"name": name, "creation_time": 1_795_390_000_000, "last_updated_time": 1_795_390_000_000}
        _put(store, "registered_models", iter([{**own, "description": text("description", 0)}]))
        versions = {
            "source": text("modelsource", 1),
            "run_id": run_id(1),
            "status": "READY",
            "current_stage": "None",
            "description": text("versiondescription", 3),
            "user_id": text("owner", 2),
            "status_message": text("statusmessage", 2),
        }
        _put(store, "model_versions", ({**own, **versions, "version": version} for version in (1, 2)))
        tags = {text("modeltag", 0): text("modeltagvalue", 1)}
        _put(store, "registered_model_tags", ({"name": name, "key": k, "value": v} for k, v in tags.items()))
        tags = {"nbmlops.digest": DIGEST, text("versiontag", 0): text("versiontagvalue", 3)}
        of_version = {"name": name, "version": 2}
        _put(store, "model_version_tags", ({**of_version, "key": k, "value": v} for k, v in tags.items()))
    aliases = [(MODEL, text("alias", n)) for n in range(len(PAYLOADS))] + [(MODEL, own) for own in OWN]
    aliases += [(name, "champion") for name in names]
    _put(
        store,
        "registered_model_aliases",
        ({"name": name, "alias": alias, "version": 2 - n % 2} for n, (name, alias) in enumerate(aliases)),
    )


# ----------------------------------------------------------------------- ledger
def _report(n: int) -> dict[str, Any]:
    check = {"name": text("checkname", n), "condition": text("condition", n), "value": 0.5}
    figures = {"limit": 0.6, "champion": 0.7, "lower": None, "upper": None, "n": 5}
    checks = [
        {**check, **figures, "status": status, "note": text("checknote", n)}
        for status in ("fail", text("checkstatus", n), OWN[0])
    ]
    said = {"gate": text("gate", n), "data": text("gatedata", n), "champion": text("against", n), "n": 5}
    return {"passed": n % 2 == 0, "model": MODEL, "version": "2", "digest": DIGEST, **said, "checks": checks}


def _drift(n: int) -> dict[str, Any]:
    figures = {"drifted": True, "method": "ks", "statistic": 0.9, "p_value": 0.0, "psi": 1.0}
    missing = {"missing_reference": 0.0, "missing_current": 0.5}
    said = {"summary": text("summary", n), "reference": text("before", n), "current": text("now", n)}
    names = [text("column", n), text("column", n + 1), *OWN]
    columns = [{"name": name, **figures, **missing, **said, "note": text("columnnote", n)} for name in names]
    columns[1] |= {"method": text("method", n)}
    counts = {"n_current": 5, "n_reference": 5, "n_drifted": len(columns)}
    tables = {"current": text("table", n), "reference": text("reference", n)}
    return {"drifted": True, **tables, **counts, "columns": columns, "only_in_current": [], "only_in_reference": []}


def _events(ledger: sqlite3.Connection) -> None:
    about = f"model/{MODEL}/2"
    told: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = []
    for n in range(len(PAYLOADS)):
        why = {"reason": text("reason", n)}
        move = {"name": MODEL, "version": "2", "alias": text("movedalias", n), "previous": text("previous", n), **why}
        refusal = {"type": "GateError", "message": text("refusal", n)}
        told.append(("validate", about, "ok", {"model": MODEL}, _report(n)))
        told.append(("promote", about, "ok", why, {**move, "moved": True, "switched": [text("switched", n)]}))
        told.append(("promote", about, text("outcome", n), why, refusal))
        told += [("drift", f"drift/{n}", "ok", {}, _drift(n))] * 2
    why = {"reason": text("lastreason", 0)}
    move = {"name": MODEL, "version": "1", "alias": "champion", "previous": "2", "switched": [], **why}
    told.append(("promote", f"model/{MODEL}/1", "ok", why, move))
    previous = GENESIS
    for n, (verb, subject, outcome, arguments, result) in enumerate(told):
        who = {"actor": text("actor", n), "surface": text("surface", n), "by_human": False, "seconds": 1.0}
        what = {"verb": verb, "subject": subject, "outcome": outcome, "arguments": arguments, "result": result}
        at = datetime.fromisoformat(AT)
        event = Event(seq=n + 1, at=at, previous_hash=previous, hash="", **who, **what)  # type: ignore[arg-type]
        previous = event.expected_hash()
        _put(ledger, "nbmlops_events", iter([{**vars(event), "at": AT, "hash": previous}]))


def _jobs(ledger: sqlite3.Connection) -> None:
    def job(name: str, id_: str, status: str, n: int, **more: Any) -> dict[str, Any]:
        told = {"cell": text("jobcell", n), "message": text("jobmessage", n), "output": text("output", n)}
        record = {
            "duration_s": 2.0,
            "run_id": run_id(n % 9),
            "notebook": text("jobnotebook", n),
            "exit_code": 1,
            "parameters": {text("jobparam", n): text("jobvalue", n), OWN[0]: [{text("deep", n): 1}]},
            "given": {},
            "owner": {"nbmlops.host": text("jobhost", n)},
            "resumed": "",
            "steps": [],
        }
        return {"id": id_, "name": name, "status": status, "began_at": AT, "record": {**record, **told, **more}}

    rows = [job(text("jobname", n), f"{n:012x}", "FAILED", n) for n in range(len(PAYLOADS))]
    rows += [
        job("train", FAILED, "FAILED", 0),
        job("retrain", WAITING, "WAITING", 1, notebook="", steps=["look", "ask"]),
    ]
    _put(ledger, "nbmlops_jobs", iter(rows))
    empty = {"key": "k", "owner": "", "began_at": AT, "ended_at": "", "run_id": "", "error": {}}
    of_job = {**empty, "pipeline": "retrain", "job": WAITING, "fence": 1}
    steps = [
        {**of_job, "step": "ask", "status": "WAITING", "record": {"question": text("asked", 0)}},
        {**of_job, "step": "look", "status": "FAILED", "record": {}, "error": {"message": text("stepmessage", 1)}},
        *(
            {
                **of_job,
                "step": f"ask[{text('instance', n)}]",
                "status": "WAITING",
                "record": {"question": text("asked", n)},
            }
            for n in range(len(PAYLOADS))
        ),
    ]
    _put(ledger, "nbmlops_steps", iter(steps))
    firings = (
        {
            "schedule": text("fired", n),
            "occasion": text("occasion", n),
            "due_at": AT,
            "state": "FAILED",
            "fence": 1,
            "owner": {},
            "job": "",
            "claimed_at": "",
            "started_at": "",
            "ended_at": AT,
            "exit_code": 1,
            "reason": text("firedreason", n),
            "parameters": {},
        }
        for n in range(4)
    )
    _put(ledger, "nbmlops_firings", firings)


def _endpoints(ledger: sqlite3.Connection) -> None:
    def rollout(n: int) -> dict[str, Any]:
        return {
            "endpoint": "e",
            "challenger": text("challenger", n),
            "champion": text("champion", n),
            "strategy": "canary",
            "steps": [10, 100],
            "bake_s": 60.0,
            "slo": "",
            "promote": True,
            "min_requests": 1,
            "step": 0,
            "step_began_at": AT,
            "marked_at": AT,
            "state": ("running", "aborted")[n % 2],
            "reason": text("rolloutreason", n),
            "n_marks": 0,
            "baseline": {},
            "mark": {},
        }

    def variant(role: str, n: int) -> dict[str, Any]:
        told = {"model": text("servedmodel", n), "version": text("servedversion", n), "digest": DIGEST}
        return {**told, "weight": 50.0, "role": role}

    rows = (
        {
            "name": text("endpoint", n),
            "revision": 1,
            "record": {
                "name": text("endpoint", n),
                "host": text("machine", n),
                "since": AT,
                "address": "127.0.0.1",
                "variants": [variant("champion", n), variant("challenger", n + 1)],
                "follows": "" if n % 2 else f"{text('follows', n)}@champion",
                "rollout": rollout(n),
            },
            "found": {"port": 0, "pids": [], "revision": 1, "trouble": text("trouble", n), "url": text("url", n)},
        }
        for n in range(len(PAYLOADS))
    )
    _put(ledger, "nbmlops_endpoints", rows)


def _alerts(ledger: sqlite3.Connection) -> None:
    times = {"queued_at": AT, "next_at": AT, "attempts": 3, "state": "GIVEN_UP"}
    rows = ({**times, "alert": "oncall", "event": n + 1, "said": text("said", n)} for n in range(len(PAYLOADS)))
    _put(ledger, "nbmlops_alerts", rows)


# -------------------------------------------------------------------- notebooks
def _log(path: Path) -> None:
    path.parent.mkdir(parents=True)
    cells = [{"cell_type": "code", "source": text("cellsource", n), "metadata": {}, "outputs": []} for n in range(9)]
    cells.append({"cell_type": "code", "source": HUGE, "metadata": {}, "outputs": []})
    events: list[dict[str, Any]] = [{"event": "begun", "notebook": {"cells": cells, "metadata": {}}, "output": "x"}]
    for n in range(len(PAYLOADS)):
        ended = {"status": text("cellstatus", n), "seconds": 1.0, "count": n, "at": 1.0}
        printed = {"name": "stdout", "text": f"{text('printed', n)}\n\x1b[31mred\x1b[0m\n"}
        events.append({"event": "cell", "cell": n, "status": "running", "at": 0.0})
        events.append({"event": "output", "cell": n, "kind": "stream", "content": printed})
        events.append({"event": "cell", "cell": n, **ended})
    path.write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))


def _notebook() -> dict[str, Any]:
    sources = [PARAMETERS, *(source for source, _ in CELLS)]
    empty = {"cell_type": "code", "execution_count": None, "outputs": []}
    tags = [["parameters"], *([["raises-exception"]] * len(CELLS))]
    cells = [
        {**empty, "id": f"cell-{n}", "source": source, "metadata": {"tags": tags[n]}}
        for n, source in enumerate(sources)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}


# Cells, and the fields that stand in their outputs.
CELLS = (
    ("import os\nos.environ.update(NBMLOPS_AGENT='off', NBMLOPS_WARM='off', NBMLOPS_SENDER='off')", ""),
    ("%mlops runs", "runname sourcebook user"),
    (
        f"%mlops show {run_id(0)}",
        "runname error cell order commit branch sourcebook user metric paramname paramvalue tagname tagvalue",
    ),
    (
        f"%mlops compare {' '.join(run_id(n) for n in range(10))}",
        "runname metric ownparam paramname paramvalue commit branch sourcebook owntag tagname tagvalue order user",
    ),
    (f"%mlops history {MODEL}", "actor surface lastreason outcome refusal reason movedalias gate previous"),
    (f"%mlops models {MODEL}", "alias gate"),
    ("%mlops models", "alias model"),
    (f"%mlops show {MODEL}/2", "alias gate checkname checknote checkstatus actor surface outcome refusal movedalias"),
    ("%mlops endpoints", "endpoint url servedmodel servedversion challenger rolloutreason trouble"),
    ("%mlops drift", "table reference column actor"),
    (
        "%mlops jobs",
        "jobcell jobmessage jobname asked instance stepmessage schedule pipeline occasion firedreason fired",
    ),
    (f"%mlops show {FAILED}", "jobcell jobmessage cellsource cellstatus"),
    (f"%mlops logs {FAILED}", "cellsource printed"),
    ("%mlops alert", "alert kind folder"),
    ("%mlops alert oncall", "table said"),
    ("%mlops show retrain", "verb question"),
    ("%mlops status", "project folder table schedule alert kind said model endpoint servedmodel servedversion url"),
    ("%mlops params 'notebook~<svg evil onload=pwned=1>.ipynb'", "help choice default"),
    (f"%mlops show {json.dumps(text('nothing', 0))}", "nothing endpoint runname"),
    (f"%mlops promote {json.dumps(text('nothing', 4))}", "nothing"),
    ("%mlops runs --widget", "runname paramname metric"),
    (f"%mlops compare {run_id(0)} {run_id(6)} {run_id(9)} --widget", "runname paramname metric"),
    ("%mlops jobs --widget", "asked instance"),
    ("%mlops endpoints --widget", "endpoint servedversion trouble"),
)
