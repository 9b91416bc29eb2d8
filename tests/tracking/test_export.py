"""A run leaves its stores as code that runs without nbmlops, and as one archive with everything."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nbmlops.errors import NotFoundError, UsageError
from nbmlops.project import Project
from nbmlops.tracking.capture import facts, git
from nbmlops.tracking.capture.export import as_python, exported
from nbmlops.tracking.capture.source import Executed, Execution
from nbmlops.tracking.mlflow import Tracking

CELLS = (
    Execution(1, "%load_ext nbmlops\nimport json"),
    Execution(2, "1 / 0\n%mlops oops", status="failed"),
    Execution(3, "%%mlops track baseline -p a=1\nn = 3\nif n:\n    !echo hello\nfiles = !ls\nhelp?"),
    Execution(4, "%%bash\nfor f in *; do echo $f; done"),
    Execution(5, 'text = """\n%kept\n"""\nprint(n, text.strip(), 7 %\n n)'),
)


@pytest.fixture
def run(project: Project) -> str:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    for words in (("init", "--quiet", "-b", "main"), ("add", "."), ("commit", "--quiet", "-m", "first")):
        subprocess.run(["git", *who, *words], cwd=project.folder, check=True)
    tracking = project.open(Tracking)
    run_id = str(tracking.client.create_run(tracking.experiment_id, run_name="base line/1").info.run_id)
    for step in range(3):
        tracking.log(run_id, {"loss": 1.0 - step / 10}, {}, {}, step, [])
    moment, executed = facts.begin(project.folder), Executed(executions=CELLS)
    for name, value in facts.tags(moment, executed).items():
        tracking.client.set_tag(run_id, name, value)
    for name, text in facts.files(moment, executed).items():
        tracking.client.log_text(run_id, text, name)
    tracking.client.log_text(run_id, "late", "tables/late.csv")
    return run_id


def test_the_python_runs_without_ipython(project: Project, run: str) -> None:
    done = exported(project, run)
    path = project.folder / f"base-line-1-{run[:8]}.py"
    assert (done.path, done.size_bytes) == (str(path), path.stat().st_size)
    out = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    assert out.stdout == "3 %kept 1\n"
    assert "# %mlops oops" in path.read_text()
    assert run in path.read_text().splitlines()[0]
    with pytest.raises(UsageError, match="is there already"):
        exported(project, run)


def test_the_notebook_has_the_cells_that_ran(project: Project, run: str) -> None:
    done = exported(project, run, "notebook", "out/again.ipynb")
    content = json.loads(Path(done.path).read_text())
    assert [cell["source"] for cell in content["cells"]] == [cell.source for cell in CELLS if cell.status == "ok"]
    import nbformat

    nbformat.validate(content)


def test_the_bundle_holds_everything(project: Project, run: str) -> None:
    done = exported(project, run, "bundle", "run.zip")
    with zipfile.ZipFile(done.path) as bundle:
        names = set(bundle.namelist())
        wanted = {"run.json", "run.py", "README.txt", "artifacts/tables/late.csv", f"artifacts/{facts.LOCK}"}
        assert wanted | {f"artifacts/{facts.SOURCE}", "code/nbmlops.toml"} <= names
        told = json.loads(bundle.read("run.json"))
        assert bundle.read("code/nbmlops.toml") == (project.folder / "nbmlops.toml").read_bytes()
    assert [each["value"] for each in told["histories"]["loss"]] == [1.0, 0.9, 0.8]
    assert told["commit"] == git.head(project.folder)


def test_what_cannot_be_exported_leaves_no_file(project: Project, run: str) -> None:
    with pytest.raises(UsageError, match="Did you mean notebook"):
        exported(project, run, "notebok")
    with pytest.raises(NotFoundError):
        exported(project, "nobody", "py", "nobody.py")
    assert not (project.folder / "nobody.py").exists()


def test_a_magic_alone_in_a_block_leaves_the_block_whole() -> None:
    assert (
        as_python([Execution(1, "for a in b:\n    %time f(a)\n")]) == "# %% [1]\nfor a in b:\n    pass  # %time f(a)\n"
    )
