"""The whole life cycle, headlessly: what `make demo` runs.

Every step is a command that a person could type; this script only types them, and
reads the figures that it tells from MLflow (through the verbs in Python) and over HTTP.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import nbmlops

HERE = Path(__file__).parent
DEMO = Path(os.environ.get("NBMLOPS_DEMO", HERE.parent / "demo")).resolve()
NBMLOPS = [sys.executable, "-m", "nbmlops.surfaces.cli"]
WIDTH = 78  # of a line without its seconds
PATIENCE_S = 60  # with an endpoint that is to follow its alias
REFUSED = 4  # the exit code of a gate that did not pass
MONTHS = ("", "January", "February", "March", "April", "May", "June", "July", "August", "September")
OPS = nbmlops.open(DEMO)
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy stands before this machine itself
GATE = """
[gates.default]
target = "late"
data = "data/holdout.parquet"
metrics.roc_auc = { min = 0.65 }
champion.roc_auc = { max_regression = 0.01, confidence = 0.95 }
"""
# Runs of training alone: what a gate found stands in other metrics.
TRAINED = "metrics.roc_auc > 0"

Row = tuple[str, str]


def main() -> None:
    """Make the project, walk a model through its life, and tell what happened."""
    started = time.monotonic()
    heading(f"A project in {near(DEMO)}")
    make_project()

    heading("January and February: two models are trained, the better one must pass a gate")
    first = [extract("first data"), train("first training"), promote("first gate")]

    heading("The champion goes live and scores March over HTTP")
    url, scored = deploy()
    before = served(url)

    heading("Later months drift away from what it has learned")
    drifted = drift()

    heading("It learns January to May; the new version must do well in June, and beat the champion")
    newer = ("-p", "train_months=[1,2,3,4,5]", "-p", "holdout_month=6")
    second = [extract("newer data", *newer), train("second training"), promote("second gate")]
    live = followed(url, before)

    heading("The endpoint is taken down")
    undeploy()
    tell([*first, *scored, drifted, *second, live, ("in all", f"{time.monotonic() - started:.0f} seconds")])


# ------------------------------------------------------------------------ steps
def make_project() -> None:
    """Make the demo's folder a project with a gate and the notebooks; what is there already is kept."""
    DEMO.mkdir(parents=True, exist_ok=True)
    made, seconds = act("init") if (DEMO / "nbmlops.toml").exists() else act("init", "flights")
    say(f"→ project {made['name']}, its stores answer", seconds)
    policy = DEMO / "nbmlops.toml"
    if "\n[gates.default]" not in policy.read_text():
        policy.write_text(policy.read_text() + GATE)
    notebooks = DEMO / "notebooks"
    notebooks.mkdir(exist_ok=True)
    for source in [*HERE.glob("*.ipynb"), HERE / "flights.py"]:
        copy = notebooks / source.name
        if copy.exists() and copy.read_bytes() != source.read_bytes() and copy.stat().st_mtime > source.stat().st_mtime:
            say(f"keeping your own {copy.name}")
        else:
            shutil.copy2(source, copy)


def extract(name: str, *options: str) -> Row:
    """Write the tables that a model learns from and is judged by."""
    found, seconds = notebook("01_extract", *options)
    row = name, f"{found['train_rows']:,.0f} flights to learn from, {found['train_late_share']:.1%} late"
    say(f"→ {row[1]}", seconds)
    return row


def train(name: str) -> Row:
    """Train two models; the better one becomes a version."""
    _, seconds = notebook("02_train")
    figures = ", ".join(f"{run.name} {run.metrics['roc_auc']:.3f}" for run in OPS.runs(where=TRAINED, limit=2)[::-1])
    row = name, f"ROC AUC {figures}; the better one is version {OPS.models()[0].version}"
    say(f"→ {row[1]}", seconds)
    return row


def promote(name: str) -> Row:
    """Let the newest version through its gate, or keep the champion when the gate refuses it."""
    found, seconds = notebook("03_promote", may_be_refused=True)
    model = OPS.models()[0]
    verdict = (
        f"passed with ROC AUC {found['gate_roc_auc']:.3f}; champion is" if found else "did not pass; champion stays"
    )
    row = name, f"version {model.version} {verdict} version {model.aliases['champion']}"
    say(f"→ {row[1]}", seconds)
    return row


def deploy() -> tuple[str, list[Row]]:
    """Put the champion behind HTTP, score a month, and ask about one flight as any program would."""
    found, seconds = notebook("04_deploy")
    url = OPS.endpoints()[0].url
    always = 1 - found["late_share"]
    rows = [
        ("March over HTTP", f"{found['n_scored']:,.0f} flights by {served(url)}, {found['late_share']:.1%} late"),
        ("  right in", f"{found['accuracy']:.1%}; who always says “on time” is right in {always:.1%}"),
        ("  one stormy evening flight", "late" if score_one(url) == 1 else "on time"),
    ]
    say(f"→ {rows[0][1]}", seconds)
    return url, rows


def drift() -> Row:
    """Measure later months against the training data."""
    found, seconds = notebook("05_drift")
    by_month = sorted((int(name.rpartition("_")[2]), value) for name, value in found.items())
    row = "columns that drifted", ", ".join(f"{MONTHS[month]} {value:.0f}" for month, value in by_month)
    say(f"→ {row[0]}: {row[1]}", seconds)
    return row


def followed(url: str, before: str) -> Row:
    """See the champion of now behind the address of before: the endpoint goes with the alias."""
    started = time.monotonic()
    while served(url) == before and time.monotonic() - started < PATIENCE_S:
        time.sleep(0.1)
    row = "same address, now", served(url)
    say(f"→ the endpoint has followed: {row[1]} answers at the same address", time.monotonic() - started)
    return row


def undeploy() -> None:
    """Stop the endpoint, and the agent that looked after it."""
    _, seconds = act("undeploy", "delays")
    seconds += act("agent", "--stop")[1]
    say("→ nothing is left running", seconds)


# ------------------------------------------------------------- commands and HTTP
def notebook(name: str, *options: str, may_be_refused: bool = False) -> tuple[dict[str, Any], float]:
    """Run a notebook headlessly; give what it logged to MLflow, nothing where its gate refused."""
    run, seconds = act("run", f"notebooks/{name}.ipynb", *options, may_be_refused=may_be_refused)
    return (dict(OPS.show(run["run_id"]).metrics) if run else {}), seconds


def act(name: str, *arguments: str, may_be_refused: bool = False) -> tuple[Any, float]:
    """Type a command in the demo's folder: show it and its progress, give its answer and its seconds."""
    say(f"$ nbmlops {shlex.join([name, *arguments])}")
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as answer:
        command = [*NBMLOPS, name, *arguments, "--json"]
        process = subprocess.Popen(command, cwd=DEMO, stdout=answer, stderr=subprocess.PIPE, text=True)
        for line in process.stderr or ():
            say_progress(line.rstrip())
        code = process.wait()
        answer.seek(0)
        found = json.loads(answer.read() or "null")
    seconds = time.monotonic() - started
    if code == 0:
        return found, seconds
    if may_be_refused and code == REFUSED:
        return None, seconds
    error = found["error"] if found else {"message": "no answer", "hint": ""}
    sys.exit(f"\nnbmlops {name} ended with exit code {code}: {error['message']}\n  {error['hint']}")


def score_one(url: str) -> int:
    """Ask the endpoint about one flight."""
    flight = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "hour": 17.0, "weekday": 4.0, "distance": 1400.0}
    weather = {"temp": 41.0, "wind_speed": 18.0, "precip": 0.1, "visib": 4.0}
    body = json.dumps({"dataframe_records": [{**flight, **weather}]}).encode()
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    with HTTP.open(request, timeout=30) as response:
        return int(json.load(response)["predictions"][0])


def served(url: str) -> str:
    """Ask the endpoint which model version it serves."""
    with HTTP.open(f"{url}/ping", timeout=30) as response:
        return str(response.headers["nbmlops-model"])


# ---------------------------------------------------------------------- telling
def tell(rows: list[Row]) -> None:
    """Print what happened, and where to look further."""
    heading("What happened")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
    commands, demo = near(Path(sys.executable).parent), near(DEMO)
    heading("Look further")
    print(f"  {commands}/nbmlops --project {demo} status")
    print(f"  {commands}/mlflow ui --backend-store-uri sqlite:///{demo}/.nbmlops/mlflow.db")
    print("  make lab", flush=True)


def near(path: Path) -> str:
    """Word a path as seen from here, if it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def heading(text: str) -> None:
    """Begin a part."""
    print(f"\n== {text}", flush=True)


def say(text: str, seconds: float | None = None) -> None:
    """Tell of one step, with the time it took at the right."""
    took = "" if seconds is None else f"{seconds:6.1f} s"
    print(f"  {text:<{WIDTH}}{took}".rstrip(), flush=True)


def say_progress(line: str) -> None:
    """Pass a command's progress on; what took no time is not worth a line."""
    timed = re.fullmatch(r"(.+)  (\d+\.\d) s", line)
    text, seconds = (timed[1], float(timed[2])) if timed else (line, None)
    if seconds != 0.0:
        room = WIDTH - 6
        say(f"    {text if len(text) <= room else text[: room - 1] + '…'}", seconds)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; what is still there: nbmlops status")
