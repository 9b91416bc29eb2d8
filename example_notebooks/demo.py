"""The whole life cycle, headlessly: what `make demo` runs.

Every step is a command that a person could type; this script only types them,
and reads the figures of its last table from MLflow and over HTTP.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DEMO = Path(os.environ.get("NBMLOPS_DEMO", HERE.parent / "demo"))
NBMLOPS = [sys.executable, "-m", "nbmlops.surfaces.cli"]
REFUSED = 4  # the exit code of a gate that did not pass
GATE = """
[gates.default]
target = "late"
data = "data/holdout.parquet"
metrics.roc_auc = { min = 0.65 }
champion.roc_auc = { max_regression = 0.01, confidence = 0.95 }
"""


def main() -> None:
    """Make the project, walk a model through its life, and tell what happened."""
    started = time.monotonic()
    make_project()

    heading("January and February: two models are trained, the better one must pass a gate")
    notebook("01_extract")
    notebook("02_train")
    first = promote()

    heading("The champion goes live and scores March over HTTP")
    scoring = notebook("04_deploy")
    url = verb("endpoints")[0]["url"]
    answer = score_one(url)

    heading("Later months drift away from what it learned")
    drift = notebook("05_drift")

    heading("It learns January to May again; the new version must beat June's flights and the champion")
    notebook("01_extract", "-p", "train_months=[1, 2, 3, 4, 5]", "-p", "holdout_month=6")
    notebook("02_train")
    second = promote()
    verb("deploy", "delays")
    redeployed = get(f"{url}/version")

    heading("The endpoint is taken down")
    verb("undeploy", "delays")
    tell(first, scoring, answer, drift, second, redeployed, time.monotonic() - started)


# ------------------------------------------------------------------------ steps
def make_project() -> None:
    """Make the demo's folder a project with a gate and the notebooks; what is there already is kept."""
    heading(f"A project in {DEMO}")
    DEMO.mkdir(parents=True, exist_ok=True)
    verb("init") if (DEMO / "nbmlops.toml").exists() else verb("init", "flights")
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


def notebook(name: str, *options: str) -> dict[str, Any]:
    """Run a notebook headlessly and read from MLflow what it logged."""
    run = verb("run", f"notebooks/{name}.ipynb", *options)
    return dict(verb("show", run["run_id"])["metrics"])


def promote() -> dict[str, Any]:
    """Let the newest version through its gate, or keep the champion when the gate refuses it."""
    run = verb("run", "notebooks/03_promote.ipynb", may_be_refused=True)
    model = verb("models")[0]
    gate = next(event for event in verb("history", "delays") if event["verb"] == "validate")
    say(gate["what"] if run else f"{gate['what']}: the champion stays, as it should")
    return {"champion": str(model["aliases"]["champion"]), "tried": gate["version"], "gate": gate["what"]}


def verb(name: str, *arguments: str, may_be_refused: bool = False) -> Any:
    """Type a command in the demo's folder and read its JSON; its progress goes to the terminal."""
    say(f"$ nbmlops {name} {' '.join(arguments)}")
    done = subprocess.run(
        [*NBMLOPS, name, *arguments, "--json"], cwd=DEMO, stdout=subprocess.PIPE, text=True, check=False
    )
    answer = json.loads(done.stdout or "null")
    if done.returncode == 0:
        return answer
    if may_be_refused and done.returncode == REFUSED:
        return None
    error = answer["error"] if answer else {"message": "no answer", "hint": ""}
    sys.exit(f"\nnbmlops {name} ended with exit code {done.returncode}: {error['message']}\n  {error['hint']}")


def score_one(url: str) -> dict[str, Any]:
    """Ask the endpoint about one flight, as any program would."""
    flight = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "hour": 17.0, "weekday": 4.0, "distance": 1400.0}
    weather = {"temp": 41.0, "wind_speed": 18.0, "precip": 0.1, "visib": 4.0}
    return post(f"{url}/invocations", {"dataframe_records": [{**flight, **weather}]})


def get(url: str) -> dict[str, Any]:
    """Read JSON over HTTP."""
    with urllib.request.urlopen(url, timeout=30) as response:
        return dict(json.load(response))


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send JSON over HTTP and read the answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return dict(json.load(response))


# ---------------------------------------------------------------------- telling
def tell(
    first: dict[str, Any],
    scoring: dict[str, Any],
    answer: dict[str, Any],
    drift: dict[str, Any],
    second: dict[str, Any],
    redeployed: dict[str, Any],
    seconds: float,
) -> None:
    """Print what happened, and where to look further."""
    trained = {
        run["name"]: run["metrics"]["roc_auc"] for run in reversed(verb("runs", "--where", "metrics.roc_auc > 0"))
    }
    drifted = ", ".join(f"{name.split('_')[-1]}: {value:.0f}" for name, value in sorted(drift.items()))
    rows = [
        ("ROC AUC of the last training", ", ".join(f"{name} {value:.3f}" for name, value in trained.items())),
        ("first gate", f"version {first['tried']}: {first['gate']}; champion is version {first['champion']}"),
        ("March over HTTP", f"{scoring['n_scored']:,.0f} flights, accuracy {scoring['accuracy']:.3f}"),
        ("  of them really late", f"{scoring['late_share']:.1%}"),
        ("one stormy evening flight", "late" if answer["predictions"][0] == 1 else "on time"),
        ("columns that drifted, by month", drifted),
        ("second gate", f"version {second['tried']}: {second['gate']}; champion is version {second['champion']}"),
        ("served at the end, same address", f"version {redeployed['version']}"),
        ("in all", f"{seconds:.0f} seconds"),
    ]
    heading("What happened")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
    venv = Path(sys.executable).parent
    heading("Look further")
    print(f"  cd {DEMO} && {venv / 'nbmlops'} status")
    print("  make lab      JupyterLab on the demo project, its notebooks in notebooks/")
    print(f"  {venv / 'mlflow'} ui --backend-store-uri sqlite:///{DEMO / '.nbmlops' / 'mlflow.db'}")


def heading(text: str) -> None:
    """Begin a part."""
    print(f"\n== {text}", flush=True)


def say(text: str) -> None:
    """Tell of one step."""
    print(f"  {text}", flush=True)


if __name__ == "__main__":
    main()
