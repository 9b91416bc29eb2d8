"""Headless runs with real kernels: parameters, failures, deaths, and what is left of them."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbmlops.errors import CellError, GateError, KernelError, NotFoundError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.pipelines import mlflow as record
from nbmlops.pipelines.verbs import params, run
from nbmlops.project import Project
from nbmlops.tracking.mlflow import Tracking

from .conftest import WriteNotebook

NOTE_KERNEL = "import os, pathlib\npathlib.Path('kernel').write_text(str(os.getpid()))"
SEEN = """\
import json, os, sys
os.write(1, b'{"event": "end", "status": "died"}\\n')
names = ("NBMLOPS_PROJECT", "NBMLOPS_RUN", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME")
seen = {name: os.environ[name] for name in names} | {"python": sys.executable}
seen |= {"values": [month, rate, deep, months, since.year, api_key]}
json.dump(seen, open("seen.json", "w"))"""
TYPED = """\
from datetime import date
month = 1  # of 2013
rate: float = 0.1
deep = False
months = [1, 2]
since: date = date(2013, 1, 1)
api_key = "" """


def statuses(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return [cell["metadata"]["papermill"]["status"] for cell in cells if cell["cell_type"] == "code"]


def only_run(project: Project) -> Any:
    tracking = project.open(Tracking)
    (found,) = tracking.client.search_runs([tracking.experiment_id])
    return found


def assert_kernel_is_gone(folder: Path, within_s: float = 0) -> None:
    pid = int((folder / "kernel").read_text())
    assert eventually(lambda: not psutil.pid_exists(pid), within_s)
    assert not list(folder.glob(".*.ipynb"))


def eventually(is_so: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def running_elsewhere(notebook: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a notebook from a process of its own; begins when its kernel is at work."""
    code = "import sys; from nbmlops.project import Project; from nbmlops.pipelines.verbs import run\n"
    code += "run(Project(), sys.argv[1], output='out.ipynb')"
    with subprocess.Popen([sys.executable, "-c", code, str(notebook)], stderr=subprocess.DEVNULL) as process:
        try:
            assert eventually((notebook.parent / "kernel").exists, 60)
            yield process
        finally:
            process.kill()


# ------------------------------------------------------------------ without a kernel
def test_params_needs_no_project(write_notebook: WriteNotebook, folder: Path) -> None:
    notebook = write_notebook("train.ipynb", tagged=TYPED)
    (folder / "nbmlops.toml").unlink()
    shown = params(Project(folder), "notebooks/train.ipynb")
    assert [(p.name, p.type) for p in shown][:3] == [("month", "int"), ("rate", "float"), ("deep", "bool")]
    assert shown[0].help == "of 2013"
    assert notebook.exists()


def test_a_wrong_parameter_is_refused_before_anything_starts(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", NOTE_KERNEL, tagged="month = 1")
    for wrong in ({"mnth": "3"}, {"month": "March"}):
        with pytest.raises(UsageError):
            run(project, str(notebook), parameters=wrong)
    tracking = project.open(Tracking)
    assert tracking.client.search_runs([tracking.experiment_id]) == []
    assert not (notebook.parent / "kernel").exists()
    assert project.open(Ledger).events(verbs=("run",), outcome="UsageError")


def test_a_dry_run_checks_and_leaves_nothing(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", NOTE_KERNEL, tagged="month = 1")
    planned = run(project, str(notebook), parameters={"month": "3"}, output="out.ipynb", dry_run=True)
    assert (planned.status, planned.parameters, planned.run_id) == ("PLANNED", {"month": 3}, "")
    assert not Path(planned.output).exists()
    assert project.open(Ledger).events() == []


def test_an_output_that_would_destroy_is_refused(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "1")
    for output in ("notebooks/train.ipynb", "notebooks/../notebooks/train.ipynb", "notebooks"):
        with pytest.raises(UsageError):
            run(project, str(notebook), output=output)
    with pytest.raises(UsageError, match="above 0"):
        run(project, str(notebook), timeout=0)
    with pytest.raises(NotFoundError):
        run(project, "nowhere.ipynb")


def test_runs_left_open_below_end_failed_with_their_notebook(project: Project) -> None:
    tracking = project.open(Tracking)
    begun = record.begin(tracking, "train", {"month": 3}, {})
    below = tracking.client.create_run(tracking.experiment_id, tags={"mlflow.parentRunId": begun.run_id}).info.run_id
    apart = tracking.client.create_run(tracking.experiment_id).info.run_id
    record.end(tracking, begun, "FAILED", {"nbmlops.error": "KernelError"}, [])
    assert [tracking.client.get_run(each).info.status for each in (begun.run_id, below, apart)] == [
        "FAILED",
        "FAILED",
        "RUNNING",
    ]


# --------------------------------------------------------------------- with a kernel
def test_a_notebook_runs_with_typed_parameters_as_an_mlflow_run(folder: Path, write_notebook: WriteNotebook) -> None:
    notebook, progress = write_notebook("train{month}.ipynb", SEEN, tagged=TYPED), list[str]()
    project = Project(folder, notify=progress.append)
    given = {"month": "3", "rate": "1e-3", "deep": "yes", "months": "[4]", "since": "2014-02-03", "api_key": "hunter2"}
    done = run(project, str(notebook), parameters=given)

    seen = json.loads((notebook.parent / "seen.json").read_text())
    assert seen.pop("values") == [3, 0.001, True, [4], 2014, "hunter2"]
    tracking = project.open(Tracking)
    assert seen == {
        "NBMLOPS_PROJECT": str(folder),
        "NBMLOPS_RUN": done.run_id,
        "MLFLOW_TRACKING_URI": tracking.uri,
        "MLFLOW_REGISTRY_URI": tracking.uri,
        "MLFLOW_EXPERIMENT_NAME": "flights",
        "python": sys.executable,
    }
    found = only_run(project)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "train{month}")
    assert found.data.params["month"] == "3"
    assert found.data.tags["nbmlops.notebook"] == "notebooks/train{month}.ipynb"
    output = Path(done.output)
    assert output.parent == folder / ".nbmlops" / "runs"
    assert [each.path for each in tracking.client.list_artifacts(done.run_id)] == [
        "nbmlops",
        f"{output.stem}.html",
        output.name,
    ]
    assert (done.subject, done.status) == ("notebook/train{month}", "FINISHED")
    assert [(cell.index, cell.status) for cell in done.cells] == [(2, "ok"), (3, "ok")]
    assert progress[-1].startswith("cell 3/3  import json, os, sys  ")
    (event,) = project.open(Ledger).events(verbs=("run",), outcome="ok")
    for kept in (output.read_text(), str(found.data), str(event), str(done)):
        assert "hunter2" not in kept


def test_a_failing_cell_is_named_and_its_output_kept(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "x = 1", "x / 0", "x = 3", tagged="month = 1")
    with pytest.raises(CellError) as caught:
        run(project, str(notebook), parameters={"month": 2}, output="made/out.ipynb")
    assert caught.value.cell == "cell 4 [In 4]: x / 0"
    assert "ZeroDivisionError: division by zero" in caught.value.message
    output = project.root / "made" / "out.ipynb"
    assert str(output) in caught.value.hint
    assert statuses(output) == ["completed", "completed", "completed", "failed", "pending"]
    found = only_run(project)
    assert found.info.status == "FAILED"
    assert found.data.tags["nbmlops.cell"] == caught.value.cell
    assert "division by zero" in found.data.tags["nbmlops.error"]
    assert [each.path for each in project.open(Tracking).client.list_artifacts(found.info.run_id)] == [
        "nbmlops",
        "out.html",
        "out.ipynb",
    ]


def test_an_error_of_ours_keeps_its_class_and_hint(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook(
        "gate.ipynb", "from nbmlops.errors import GateError", "raise GateError('auc is too low', 'Train longer.')"
    )
    with pytest.raises(GateError, match=r"auc is too low \(gate.ipynb, cell 3 ") as caught:
        run(project, str(notebook))
    assert caught.value.hint == "Train longer."
    assert only_run(project).data.tags["nbmlops.error"].startswith("GateError: auc is too low")


def test_a_foreign_error_that_bears_the_name_of_one_of_ours_is_the_cells(
    project: Project, write_notebook: WriteNotebook
) -> None:
    notebook = write_notebook("mean.ipynb", "from pandas.errors import DataError", "raise DataError('no numbers')")
    with pytest.raises(CellError, match=r"mean.ipynb failed with DataError: no numbers \(cell 3 "):
        run(project, str(notebook))


def test_an_error_of_ours_with_its_traceback_keeps_its_class(project: Project, write_notebook: WriteNotebook) -> None:
    shown = "error = GateError('auc is too low', 'Train longer.')\nerror.shows_traceback = True\nraise error"
    notebook = write_notebook("gate.ipynb", "from nbmlops.errors import GateError", shown)
    with pytest.raises(GateError, match="auc is too low"):
        run(project, str(notebook))


def test_an_output_is_meant_from_the_working_folder(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "1")
    (project.root / "out.ipynb").touch()
    below = Project(notebook.parent)
    assert run(below, "train.ipynb", output="out.ipynb", dry_run=True).output == str(notebook.parent / "out.ipynb")


def test_a_dead_kernel_is_told_truly_and_leaves_nothing_alive(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", NOTE_KERNEL, "import os; os._exit(5)", "after = 1")
    with pytest.raises(KernelError, match=r"exited with code 5 \(cell 3: import os; os._exit\(5\)\)"):
        run(project, str(notebook), output="out.ipynb")
    assert statuses(project.root / "out.ipynb") == ["completed", "failed", "pending"]
    found = only_run(project)
    assert found.info.status == "FAILED"
    assert found.data.tags["nbmlops.cell"].startswith("cell 3")
    assert_kernel_is_gone(notebook.parent)


def test_a_notebook_out_of_time_is_killed_though_it_swallows_interrupts(
    project: Project, write_notebook: WriteNotebook
) -> None:
    stubborn = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except KeyboardInterrupt:\n        pass"
    notebook = write_notebook("train.ipynb", NOTE_KERNEL, stubborn, "after = 1")
    with pytest.raises(KernelError, match=r"longer than 12 s and was ended \(cell 3"):
        run(project, str(notebook), output="out.ipynb", timeout=12)
    assert statuses(project.root / "out.ipynb") == ["completed", "failed", "pending"]
    assert only_run(project).info.status == "FAILED"
    assert_kernel_is_gone(notebook.parent)


def test_sigterm_ends_the_run_killed_with_its_output(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", NOTE_KERNEL + "\nimport time; time.sleep(60)", "after = 1")
    with running_elsewhere(notebook) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert_kernel_is_gone(notebook.parent)
    assert statuses(project.root / "out.ipynb") == ["failed", "pending"]
    assert only_run(project).info.status == "KILLED"


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_the_kernel_dies_with_a_process_that_is_killed(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", NOTE_KERNEL + "\nimport time; time.sleep(60)")
    with running_elsewhere(notebook) as process:
        process.kill()
        process.wait()
    assert_kernel_is_gone(notebook.parent, within_s=5)
    assert eventually((project.root / "out.partial.ipynb").exists, 5)
    assert [each.name for each in project.root.glob("*.ipynb")] == ["out.partial.ipynb"]
    assert statuses(project.root / "out.partial.ipynb") == ["failed"]
