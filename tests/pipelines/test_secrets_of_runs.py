"""A secret that a run was given stands in no file afterwards, whatever its notebook does with it."""

from pathlib import Path

import pytest

from nbmlops.errors import CellError
from nbmlops.pipelines import jobs
from nbmlops.pipelines.verbs import run
from nbmlops.project import Project

from .conftest import WriteNotebook

CANARY = "canary-4711-0815"
USES = (
    "print(token); print(repr({'token': token}))",
    "import sys, time\nsys.stdout.write(token[:7]); sys.stdout.flush(); time.sleep(0.05); print(token[7:])",
    "import base64; print(base64.b64encode(token.encode()), token.encode().hex())",
    "from IPython.display import HTML, JSON, display\ndisplay(HTML(f'<b>{token}</b>'), JSON({token: [token]}))",
    "display(1, metadata={'text/plain': token})",
    "import subprocess, os; subprocess.run(['echo', token]); os.system('echo $TOKEN'); print(token, file=sys.stderr)",
    "import mlflow\nwith mlflow.start_run(): mlflow.log_param('p', token); mlflow.set_tag('t', f'is {token}')",
    "%load_ext nbmlops\n%mlops result where=$token",
    "import nbmlops.pipelines.jobs as j; j.tell({'where': token, token: 1})",
    "import logging; logging.warning('it is %s', token)",
    "import ipywidgets; ipywidgets.Text(value=token)",
    "kept = {'header': f'Bearer {token}'}",
    "del kept",
    "raise RuntimeError(f'{token} was refused')",
)


def test_no_file_holds_a_secret_that_a_run_was_given(
    project: Project, write_notebook: WriteNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", CANARY)
    notebook = write_notebook("it.ipynb", *USES, tagged="token: Secret = ''")
    with pytest.raises(CellError, match=r"RuntimeError: \*\*\* was refused"):
        run(project, str(notebook), output="out.ipynb", parameters={"token": "env:TOKEN"}, junit="junit.xml")
    assert jobs.newest(project)[0].cell.startswith("cell 16")
    forms = (CANARY.encode(), CANARY.encode().hex().encode(), b"Y2FuYXJ5LTQ3MTEtMDgxN")
    files = [path for path in project.root.rglob("*") if path.is_file()]
    assert Path(project.root, "out.ipynb") in files
    assert [str(path) for path in files if any(form in path.read_bytes() for form in forms)] == []
