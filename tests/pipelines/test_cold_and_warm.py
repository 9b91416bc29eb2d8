"""The same notebook cold, through the warm server and in a real kernel under papermill: its outputs are the same."""

import ast
import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill
import pytest

from nbmlops.errors import NbmlopsError
from nbmlops.pipelines import jobs
from nbmlops.pipelines.verbs import run
from nbmlops.project import Project

from .conftest import as_notebook
from .shown import code_cells, outputs
from .test_warm import Environment, command, surroundings, warm

__all__ = ["surroundings", "warm"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a warm server is for Linux")

# Which filter takes a warning of the notebook's own: libraries add some for theirs as they are imported.
SET_UP = """\
import os, warnings
EXPECTED = set(os.environ)
def FILTER(kind):
    for action, message, category, module, _ in warnings.filters:
        is_meant = not (message and not message.match("it")) and not (module and not module.match("__main__"))
        if issubclass(kind, category) and is_meant:
            return action"""
# What a process that was forked, or has no sockets, is at risk to do otherwise; each prints itself.
FACTS = {
    "width": "import pandas as pd; print([pd.get_option(f'display.{n}') for n in ('width', 'max_columns')])",
    "wide": "print(pd.DataFrame([range(40)]))",
    "options": "print(pd.options.mode.string_storage, pd.options.plotting.backend)",
    "numpy": "import numpy as np; print(np.get_printoptions(), np.geterr())",
    "scikit-learn": "import sklearn; print(sklearn.get_config())",
    "argv": "import sys; print(sys.argv)",
    "main": "print(__name__, sys.modules['__main__'].__dict__ is globals(), '__file__' in globals())",
    "names": "print(sorted(n for n in globals() if not n.startswith('_')))",
    "shell": "print(type(get_ipython()).__name__, get_ipython().kernel.implementation)",
    "a kernel": "print('IPKernelApp' in get_ipython().config, get_ipython().parent is get_ipython().kernel)",
    "tqdm": "from tqdm.auto import tqdm; print([each.__module__ for each in tqdm.__mro__])",
    "backend": "import matplotlib; print(matplotlib.get_backend())",
    "rcParams": "print(sorted((k, str(v)) for k, v in matplotlib.rcParams.items() if k != 'backend_fallback'))",
    "formats": "import matplotlib_inline.config as c; print(c.InlineBackend.instance().figure_formats)",
    "logging": "import logging; print(logging.root.handlers, logging.root.level, logging.lastResort)",
    "loggers": "import mlflow; print([logging.getLogger(n).getEffectiveLevel() for n in ('mlflow', 'alembic')])",
    "handlers": "print({n: [type(h).__name__ for h in logging.getLogger(n).handlers] for n in ('mlflow', 'alembic')})",
    "filters": "import warnings; print({c.__name__: FILTER(c) for c in (Warning, *Warning.__subclasses__())})",
    "warned": "warnings.warn('once', DeprecationWarning); warnings.warn('seen')",
    "loop": "import asyncio; print(asyncio.get_running_loop().is_running(), asyncio.get_event_loop_policy().__class__)",
    "locale": "import locale; print(locale.getlocale(), locale.setlocale(locale.LC_ALL))",
    "path": "print([p.replace(sys.prefix, '') for p in sys.path])",
    "folder": "import os; print(os.getcwd() == os.path.realpath('.'), os.listdir())",
    "threads": "import threading; print(threading.current_thread().name, threading.active_count())",
    "signals": "import signal; print([str(signal.getsignal(s)) for s in (2, 15, 1, 13, 17)])",
    "blocked": "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "streams": "print(sys.stdin.isatty(), sys.stdout.encoding, sys.stdout.errors, sys.flags.utf8_mode)",
    "hooks": "print(sys.displayhook.__class__.__name__, sys.excepthook.__name__, sys.unraisablehook.__name__)",
    "limits": "print(sys.getrecursionlimit(), sys.getswitchinterval(), sys.gettrace())",
    "environment": "print(sorted(n for n in os.environ if n not in EXPECTED))",
    "start method": "import multiprocessing as mp; print(mp.get_start_method(), mp.current_process())",
    "children": "import psutil; print(psutil.Process().children())",
    "databases": "print([f.path for f in psutil.Process().open_files() if '.db' in f.path])",
    "collector": "import gc; print(gc.get_threshold(), gc.isenabled(), gc.get_debug())",
    "floats": "print(np.float32(0.1) + np.float64(0.2), np.arange(3) / 7, f'{1/3}')",
    "runs": "print(mlflow.active_run(), mlflow.get_tracking_uri().partition(':')[0])",
    "decimal": "import decimal; print(decimal.getcontext())",
    "temporary": "import tempfile; print(tempfile.gettempdir(), os.path.expanduser('~') == os.environ['HOME'])",
    "times": "import time; print(time.tzname, time.localtime(0).tm_hour)",
}
# What notebooks do: figures, tables, widgets, magics, errors.
SHOWN = {
    "a value": "pd.DataFrame({'a': [1.5, None], 'b': ['x', 'y']})",
    "several": "from IPython.display import display, HTML, JSON; display(HTML('<b>x</b>'), JSON({'a': 1})); 3",
    "figure": "import matplotlib.pyplot as plt; _ = plt.plot([1, 2])",
    "axes": "pd.Series([1, 2]).plot()",
    "update": "handle = display('first', display_id='one'); handle.update('second')",
    "clear": "from IPython.display import clear_output; print('a'); clear_output(wait=True); print('b')",
    "model": "from sklearn.linear_model import LinearRegression as L; print(L().fit([[0], [1]], [0, 1]).coef_)",
    "html of a model": "L()",
    "both": "print('out'); sys.stdout.flush(); print('err', file=sys.stderr)",
    "below": "import subprocess; print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout)",
    "shell words": "!echo from the shell",
    "captured": "%%capture kept\nprint('hidden')",
    "bash": "%%bash\necho from bash",
    "who": "kept.stdout",
    "await": "await asyncio.sleep(0, 'slept')",
    "task": "async def later(): print('in a task')\n_ = await asyncio.gather(later(), later())",
    "thread": "thread = threading.Thread(target=print, args=['in a thread']); thread.start(); thread.join()",
    "progress": "import tqdm as t\nfor _ in t.tqdm(range(3), file=sys.stdout, bar_format='{n}'): pass",
    "raises": "def inner(): raise KeyError('no')\ninner()",
    "syntax": "for x in",
    "input": "input('name? ')",
    "caught": "try: 1 / 0\nexcept ZeroDivisionError as e: get_ipython().showtraceback()",
    "logged": "logging.getLogger('it').warning('to whom it concerns')",
    "history": "print(In[1][:6], sorted(Out)[:1], _ih[-1][:5])",
    "widget": "import ipywidgets as w; w.IntSlider(value=4)",
    "out widget": "out = w.Output()\nwith out: print('inside')\nout",
    "magic": "%load_ext nbmlops\n%mlops result rows=3",
    "sources": "import inspect; print(inspect.getsource(inner))",
    "pickled": "import pickle; class_ = type('Box', (), {}); print(pickle.loads(pickle.dumps(inner)) is inner)",
    "fork": "import concurrent.futures as f\nwith f.ThreadPoolExecutor(2) as pool: print(list(pool.map(abs, [-1, 2])))",
}
# What a kernel under papermill has otherwise, and why that is as it should be.
OTHER_IN_A_KERNEL = {
    "argv": "a kernel's own words, its connection file among them, are of no use to a notebook",
    "threads": "a kernel has threads for its sockets",
    "environment": "a kernel and a run each have variables of their own",
    "streams": "a kernel's streams go to its sockets",
    "logging": "the stream of the last resort is told by its name",
    "names": "a run knows Secret, so that an annotation needs no import",
    "runs": "a run's notebook logs to the project's store, through the journal",
    "magic": "a result is told to the run that the notebook is part of",
}


def notebook_with(folder: Path) -> Path:
    content = as_notebook(SET_UP, *FACTS.values(), *SHOWN.values())
    for cell in content["cells"][1:]:
        cell["metadata"]["tags"] = ["raises-exception"]
    path = folder / "notebooks" / "it.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path


def shown_in(path: Path) -> dict[str, Any]:
    """Give what each cell shows, by name."""
    return {name: outputs(cell) for name, cell in zip([*FACTS, *SHOWN], code_cells(path)[1:], strict=True)}


def patiently(line: list[str], environment: Environment, folder: Path) -> None:
    """Run papermill, once more where it hangs: kernels that start at the same time may choose the same ports."""
    for timeout in (60, 120):
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(line, env=environment, capture_output=True, check=False, timeout=timeout, cwd=folder)
            return
    raise TimeoutError(line)


def test_a_notebook_shows_the_same_cold_and_warm_and_in_a_kernel(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project
) -> None:
    notebook = notebook_with(project.root)
    found = {}
    for mode, word in (("warm", "--quiet"), ("cold", "--no-warm")):
        done = command(surroundings, "run", str(notebook), "-o", f"{mode}.ipynb", word)
        assert (done.returncode, "cold:" in done.stderr) == (0, False), done.stderr
        found[mode] = shown_in(project.root / f"{mode}.ipynb")
    cold, warmed = found["cold"], found["warm"]
    assert {name: (warmed[name], cold[name]) for name in cold if warmed[name] != cold[name]} == {}

    line = [
        sys.executable,
        "-m",
        "papermill",
        "notebooks/it.ipynb",
        "kernel.ipynb",
        "-k",
        "python3",
        "--cwd",
        "notebooks",
    ]
    # It takes the errors that the notebook allows for failures, and exits with 1.
    patiently(line, surroundings, project.root)
    kernel = shown_in(project.root / "kernel.ipynb")
    other = {name: (kernel[name], cold[name]) for name in kernel if kernel[name] != cold[name]}
    assert set(other) <= set(OTHER_IN_A_KERNEL), {name: other[name] for name in set(other) - set(OTHER_IN_A_KERNEL)}


def test_what_a_cell_sets_for_its_imports_is_heeded_by_them(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project
) -> None:
    sets = "import os, sys\nos.environ['OMP_NUM_THREADS'] = '1'\nassert 'numpy' not in sys.modules\nimport numpy"
    notebook = project.root / "it.ipynb"
    notebook.write_text(json.dumps(as_notebook(sets)))
    done = command(surroundings, "run", str(notebook), "-o", "out.ipynb")
    assert (done.returncode, "cold" in done.stderr) == (0, False), done.stderr


# ------------------------------------------------------------ papermill's own test notebooks
OF_PAPERMILL = Path(papermill.__file__).parent / "tests" / "notebooks"
# The parameters are those of papermill's tests, but for two texts where the notebook declares a number.
PARAMETERS: dict[str, dict[str, Any]] = {
    "blank-vscode": {},
    "broken": {},
    "broken1": {},
    "broken2": {},
    "gcs/gcs_in/gcs-simple_notebook": {},
    "line_magic_error": {},
    "nb_version_4.4": {"var": 2},
    "no_parameters": {},
    "read_check": {},
    "report_mode_test": {"a": 0},
    "result_no_exec": {"foo": 2, "bar": r"do\ not\ crash"},
    "s3/s3_in/s3-simple_notebook": {},
    "simple_execute": {"msg": "Hello"},
    "sysexit": {},
    "sysexit0": {},
    "sysexit1": {},
    "systemexit": {},
    "test_autosave": {},
    "test_logging": {},
    "test_notebooknode_io": {},
}
REFUSED = {"complex_parameters": "The cell tagged 'parameters' is not Python (line 14"}  # it fails there in papermill
LEFT_OUT = {
    "binder": "runs papermill's command on a file in papermill's own folder, and is about neither of us",
    "keyboard_interrupt": "sleeps for a minute, until somebody interrupts it",
    "notimplemented_translator": "is written in R",
}
SLOW = ("gcs/gcs_in/gcs-simple_notebook", "test_autosave")  # they sleep
# Where we differ from papermill's stock engine as we should: a notebook that leaves well shows no error,
LEAVES_WELL = ("sysexit", "sysexit0", "systemexit")
# and an error that a magic has only printed has its name all the same.
NAMED = {"line_magic_error": "UsageError"}
STOCK = """\
import json, sys, papermill
source, output, names = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
for name, parameters in names.items():
    failed = ""
    options = {"kernel_name": "python3", "progress_bar": False, "cwd": source}
    try:
        papermill.execute_notebook(f"{source}/{name}.ipynb", f"{output}/{name}.ipynb", parameters, **options)
    except papermill.PapermillExecutionError as error:
        failed = error.ename
    print(json.dumps([name, failed]), flush=True)"""


def test_every_notebook_of_papermill_is_compared_or_left_out_for_a_reason() -> None:
    found = {str(path.relative_to(OF_PAPERMILL).with_suffix("")) for path in OF_PAPERMILL.rglob("*.ipynb")}
    assert found == {*PARAMETERS, *REFUSED, *LEFT_OUT}


@dataclass(frozen=True)
class Stock:
    """Papermill's stock engine, at work on notebooks one after the other while ours run."""

    notebooks: Path
    outputs: Path
    process: "subprocess.Popen[str]"
    failed: dict[str, str]

    def error(self, name: str) -> str:
        """Wait for a notebook's end; give the error by which it failed, if any."""
        while name not in self.failed:
            line = (self.process.stdout or io.StringIO()).readline()
            assert line, "papermill has ended"
            self.failed.update([json.loads(line)])
        return self.failed[name]


@contextlib.contextmanager
def by_papermill(names: Iterable[str], folder: Path) -> Iterator[Stock]:
    source, outputs = folder / "notebooks", folder / "outputs"
    shutil.copytree(OF_PAPERMILL, source)
    (source / "check.txt").touch()  # which one of them looks for
    for each in names:
        (outputs / each).parent.mkdir(parents=True, exist_ok=True)
    given = json.dumps({name: PARAMETERS[name] for name in names})
    line = [sys.executable, "-c", STOCK, str(source), str(outputs), given]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield Stock(source, outputs, process, {})


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    with by_papermill([each for each in PARAMETERS if each not in SLOW], tmp_path_factory.mktemp("stock")) as stock:
        yield stock


def told_in(path: Path, *, left_well: bool = False) -> list[Any]:
    """Give all that a run makes of code cells, however it spells the values that it was given."""
    told = []
    for cell in code_cells(path):
        source, shown = "".join(cell["source"]), outputs(cell)
        if "injected-parameters" in cell["metadata"].get("tags", ()):
            source = ast.unparse(ast.parse(source))
        if left_well:
            shown = [each for each in shown if each["error"][0] != "SystemExit"]
        told.append((source, cell["execution_count"], shown))
    return told


def assert_same(name: str, stock: Stock, surroundings: Environment, project: Project) -> None:
    notebook = stock.notebooks / f"{name}.ipynb"
    with contextlib.suppress(NbmlopsError):
        run(project, str(notebook), parameters=PARAMETERS[name], output="cold.ipynb")
    given = [word for key, value in PARAMETERS[name].items() for word in ("-p", f"{key}={value}")]
    done = command(surroundings, "run", str(notebook), *given, "-o", "warm.ipynb", "--quiet")
    assert "cold:" not in done.stderr
    warmed, cold = jobs.newest(project)
    ends = [(job.status, job.cell, job.exit_code, job.message) for job in (cold, warmed)]
    assert ends[0] == ends[1]
    assert told_in(project.root / "warm.ipynb") == told_in(project.root / "cold.ipynb")

    error = NAMED.get(name, stock.error(name))
    assert (cold.status == "FAILED", error in cold.message) == (bool(error), True)
    of_papermill = told_in(stock.outputs / f"{name}.ipynb", left_well=name in LEAVES_WELL)
    assert of_papermill == told_in(project.root / "cold.ipynb")


@pytest.mark.parametrize("name", [each for each in PARAMETERS if each not in SLOW])
def test_a_notebook_of_papermill_ends_and_shows_the_same_by_its_own_engine_and_cold_and_warm(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, stock: Stock, name: str
) -> None:
    assert_same(name, stock, surroundings, project)


@pytest.mark.parametrize("name", REFUSED)
def test_a_notebook_of_papermill_whose_parameters_cannot_be_read_is_refused_cold_and_warm(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, name: str
) -> None:
    for word in ("--quiet", "--no-warm"):
        done = command(surroundings, "run", str(OF_PAPERMILL / f"{name}.ipynb"), "-o", "out.ipynb", word)
        assert (done.returncode, REFUSED[name] in done.stderr, jobs.newest(project)) == (2, True, [])


@pytest.mark.soak
@pytest.mark.parametrize("name", SLOW)
def test_a_slow_notebook_of_papermill_does_so_too(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, tmp_path: Path, name: str
) -> None:
    with by_papermill([name], tmp_path) as stock:
        assert_same(name, stock, surroundings, project)
