"""A failed run taken up at the cell that failed: what is as it was, when that is refused, and when it begins anew."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbmlops.errors import CellError, ConflictError
from nbmlops.pipelines import jobs, resuming
from nbmlops.pipelines.execution.record import events
from nbmlops.pipelines.execution.snapshot import settings_in
from nbmlops.pipelines.verbs import resume, run
from nbmlops.project import Project

from .conftest import WriteNotebook
from .test_endings import eventually, notebook_of

GATE = "import pathlib\nif not pathlib.Path('mended').exists(): raise RuntimeError('not yet')"


def failed(project: Project, notebook: Path, **more: Any) -> None:
    with pytest.raises(CellError, match="not yet"):
        run(project, str(notebook), output="out.ipynb", **more)
    (notebook.parent / "mended").touch()


def seen(notebook: Path) -> Any:
    return json.loads((notebook.parent / "seen.json").read_text())


COUNT = "\nwith open('ran', 'a') as file: file.write('1')\nfile = None"
SET_UP = """\
import os, random, sys, time
import numpy as np, pandas as pd
pd.set_option("display.max_rows", 7)
level = 1
class Box:
    kind = "box"
    def __init__(self, value): self.value = value
def told(): return level
box, table = Box(3), pd.DataFrame({"a": [1, 2]})
level = 2
os.makedirs("below", exist_ok=True); os.chdir("below"); sys.path.insert(0, "/nowhere")
os.environ["MADE"] = "1"; os.environ.pop("GONE", None)
random.seed(5); np.random.seed(5)
with open("../ran", "a") as file: _ = file.write("1")
del file"""
TELL = """\
import json, os, random, sys
level = 3
told_ = {"told": told(), "kind": box.kind, "is": isinstance(box, Box), "value": box.value, "sum": int(table.a.sum())}
told_ |= {"random": [random.random(), float(np.random.rand())], "cwd": os.path.basename(os.getcwd())}
told_ |= {"env": [os.environ.get("MADE"), os.environ.get("GONE")], "path": "/nowhere" in sys.path}
told_ |= {"rows": pd.get_option("display.max_rows")}
json.dump(told_, open("../seen.json", "w"))"""
GATE_BELOW = GATE.replace("'mended'", "'../mended'")


def test_what_follows_sees_all_as_it_was(
    project: Project, write_notebook: WriteNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GONE", "1")
    notebook = write_notebook("it.ipynb", SET_UP, GATE_BELOW, TELL)
    failed(project, notebook)
    told: list[str] = []
    done = resume(Project(project.folder, notify=told.append))
    assert any(line.startswith("It goes on at cell 3") for line in told), told
    assert (notebook.parent / "ran").read_text() == "1"
    import random

    import numpy as np

    first, second = random.Random(5).random(), float(np.random.RandomState(5).rand())
    assert seen(notebook) == {
        "told": 3,
        "kind": "box",
        "is": True,
        "value": 3,
        "sum": 3,
        "random": [first, second],
        "cwd": "below",
        "env": ["1", None],
        "path": True,
        "rows": 7,
    }
    assert (done.status, [cell.status for cell in done.cells]) == ("FINISHED", ["ok"] * 3)
    content = json.loads((project.root / "out.ipynb").read_text())
    assert notebook_of(project.root / "out.ipynb") == ["completed"] * 3
    assert [cell["execution_count"] for cell in content["cells"][1:]] == [1, 2, 3]


def test_a_resumed_run_that_fails_is_resumed_at_the_same_place(project: Project, write_notebook: WriteNotebook) -> None:
    set_up = "kept = 5\nwith open('ran', 'a') as file: _ = file.write('1')\ndel file"
    notebook = write_notebook("it.ipynb", set_up, GATE, "open('seen.json', 'w').write(str(kept))")
    failed(project, notebook)
    (notebook.parent / "mended").unlink()
    with pytest.raises(CellError):
        resume(project)
    (notebook.parent / "mended").touch()
    assert resume(project).status == "FINISHED"
    assert ((notebook.parent / "ran").read_text(), seen(notebook)) == ("1", 5)


def test_a_job_that_was_lost_is_resumed(project: Project, write_notebook: WriteNotebook) -> None:
    slow = "import time\nopen('begun', 'w')\nif not pathlib.Path('mended').exists(): time.sleep(60)"
    set_up = "import pathlib, time\nwith open('ran', 'a') as file: _ = file.write('1')\ndel file"
    notebook = write_notebook("it.ipynb", set_up, slow)
    line = [sys.executable, "-m", "nbmlops.surfaces.cli", "run", str(notebook), "-o", "out.ipynb"]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        assert eventually((notebook.parent / "begun").exists, 60)
        process.kill()
    assert eventually(lambda: jobs.newest(project)[0].status == "LOST", 10)
    (notebook.parent / "mended").touch()
    assert resume(project).status == "FINISHED"
    assert (notebook.parent / "ran").read_text() == "1"


# --------------------------------------------------------------------------- refusals
def test_a_changed_cell_before_the_failed_one_is_named_and_refused(
    project: Project, write_notebook: WriteNotebook
) -> None:
    notebook = write_notebook("it.ipynb", "before = 3", GATE, tagged="month = 1")
    failed(project, notebook, parameters={"month": "2"})
    assert resume(project, dry_run=True).reason.startswith("It goes on at cell 4")
    write_notebook("it.ipynb", "before = 4", GATE, tagged="month = 1")
    with pytest.raises(ConflictError, match=r"Cell 3 has changed since job .* ran it: before = 4"):
        resume(project)
    write_notebook("it.ipynb", "before = 3", GATE, tagged="month = 7")
    with pytest.raises(ConflictError, match=r"Cell 2 has changed since job .* ran it: month = 7"):
        resume(project)
    write_notebook("it.ipynb", tagged="month = 1")
    with pytest.raises(ConflictError, match="has changed since"):
        resume(project)


def test_a_snapshot_that_was_tampered_with_is_not_read(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("it.ipynb", "kept = 1", GATE)
    failed(project, notebook)
    job = jobs.newest(project)[0].job
    file = jobs.known_folder(project, job) / jobs.SNAPSHOT
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    reason = resume(project, dry_run=True).reason
    assert reason == "It runs from its start: the snapshot of its variables is not the one that was written."
    assert resuming.planned(project, jobs.find(project, job))[0].resumed.after == -1


def test_a_snapshot_that_changes_after_it_was_looked_at_is_told(
    project: Project, write_notebook: WriteNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = write_notebook("it.ipynb", "kept = 1", GATE)
    failed(project, notebook)
    job = jobs.newest(project)[0].job
    digest = resuming._digest(jobs.known_folder(project, job) / jobs.SNAPSHOT)
    (jobs.known_folder(project, job) / jobs.SNAPSHOT).write_bytes(b"other")
    monkeypatch.setattr(resuming, "_digest", lambda _: digest)
    with pytest.raises(ConflictError, match=r"did not go on: .* is not the one that was written"):
        resume(project)
    assert [each.status for each in jobs.newest(project)] == ["FAILED", "FAILED"]


# --------------------------------------------------------------- no snapshot, and why
UNFIT = {
    "a file is open": "file = open('it.ipynb')",
    "'generator' object": "file = (n for n in [1])",
    "lock": "import threading; file = threading.Lock()",
    "an MLflow run is open": "import mlflow; file = mlflow.start_run()",
    "a task of asyncio is under way": "import asyncio; file = asyncio.ensure_future(asyncio.sleep(60))",
    "a child process is under way": (
        "import multiprocessing as mp, time\nfile = mp.Process(target=time.sleep, args=[60])\nfile.start()"
    ),
    "a secret is among the variables": "file = {'header': 'Bearer ' + token}",
}
CLEAR = """\
if 'mlflow' in globals(): mlflow.end_run()
if 'asyncio' in globals() and isinstance(file, asyncio.Task): file.cancel(); await asyncio.sleep(0)
if 'mp' in globals() and isinstance(file, mp.Process): file.kill(); file.join()
file = None; time = None"""


def test_what_no_snapshot_can_hold_is_told(
    project: Project, write_notebook: WriteNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2-hunter3")
    sources = [each for source in UNFIT.values() for each in (source, CLEAR)]
    notebook = write_notebook("it.ipynb", *sources, GATE, tagged="token = ''")
    with pytest.raises(CellError, match="not yet"):
        run(project, str(notebook), output="out.ipynb", parameters={"token": "env:TOKEN"})
    folder = jobs.known_folder(project, jobs.newest(project)[0].job)
    told = [each for each in events(folder / jobs.LOG) if each["event"] in ("unkept", "snapshot")][2:]
    assert [each["event"] for each in told] == ["unkept", "snapshot"] * len(UNFIT)
    assert all(reason in each["reason"] for reason, each in zip(UNFIT, told[::2], strict=True)), told[::2]
    assert all(b"hunter2" not in file.read_bytes() for file in folder.iterdir())


def test_it_goes_on_from_an_earlier_boundary_and_says_why(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("it.ipynb", "open('ran', 'a').write('1')", "file = open('it.ipynb')", GATE)
    failed(project, notebook)
    told: list[str] = []
    assert resume(Project(project.folder, notify=told.append)).status == "FINISHED"
    why = "with the variables as they were after cell 2. There is no later snapshot (a file is open)."
    assert f"It goes on at cell 3, {why}" in told
    assert (notebook.parent / "ran").read_text() == "1"


def test_without_any_boundary_it_runs_from_its_start(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("it.ipynb", "file = open('it.ipynb'); open('ran', 'a').write('1')", GATE)
    failed(project, notebook)
    told: list[str] = []
    assert resume(Project(project.folder, notify=told.append)).status == "FINISHED"
    assert "It runs from its start: there is no snapshot of its variables (a file is open)." in told
    assert (notebook.parent / "ran").read_text() == "11"


# ----------------------------------------------------------------- what is set up again
def test_only_what_sets_an_imported_library_runs_again() -> None:
    sources = [
        "import pandas as pd, os\nimport matplotlib.pyplot as plt\nfrom warnings import filterwarnings",
        "pd.set_option('display.width', 80)\npd.options.display.max_rows = 5\nplt.rcParams['figure.dpi'] = 50",
        "df.set_index('a', inplace=True)\nmodel.set_params(alpha=model.alpha * 2)\nfilterwarnings('ignore')",
        "mlflow.set_tag('a', 1)\nos.environ['PATH'] = 'x:' + os.environ['PATH']\ntable['a'] = 1\n%matplotlib inline",
    ]
    assert settings_in(sources).splitlines() == [
        "pd.set_option('display.width', 80)",
        "pd.options.display.max_rows = 5",
        "plt.rcParams['figure.dpi'] = 50",
        "filterwarnings('ignore')",
        "%matplotlib inline",
    ]
