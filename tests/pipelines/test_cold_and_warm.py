"""The same notebook cold, through the warm server and in a real kernel under papermill: its outputs are the same."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbmlops.project import Project

from .conftest import as_notebook
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
    "databases": "print([f.path for f in psutil.Process().open_files() if 'db' in f.path])",
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
NOISE = re.compile(r"0x[0-9a-f]+|ipykernel_\d+/\d+|sk-[\w-]+|\d+\.\d+ ?(?:s|ms|µs)\b")


def notebook_with(folder: Path) -> Path:
    content = as_notebook(SET_UP, *FACTS.values(), *SHOWN.values())
    for cell in content["cells"][1:]:
        cell["metadata"]["tags"] = ["raises-exception"]
    path = folder / "notebooks" / "it.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path


def shown_in(path: Path) -> dict[str, Any]:
    """Give what each cell shows, without what differs from run to run anyhow."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"][1:]
    return {
        name: json.loads(NOISE.sub("*", json.dumps(_joined(cell["outputs"]))))
        for name, cell in zip([*FACTS, *SHOWN], cells, strict=True)
    }


def _data(output: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(output.get("data", {}).items())


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join what papermill keeps in pieces, in the words of both."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        data = {
            kind: "".join(each) if isinstance(each, list) else each for kind, each in output.get("data", {}).items()
        }
        data.pop("application/vnd.jupyter.widget-view+json", None)  # an id of its own in every run
        one = {"type": output["output_type"], "data": data, "error": output.get("evalue"), "name": output.get("name")}
        text = "".join(output.get("text", ""))
        if joined and one["name"] and one["name"] == joined[-1]["name"]:
            joined[-1]["text"] += text
        else:
            joined.append(one | {"text": text})
    return [each | {"text": re.sub(r"[^\n]*\r(?=[^\n])", "", each["text"])} for each in joined]


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
    subprocess.run(line, env=surroundings, capture_output=True, check=False, timeout=120, cwd=project.root)
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
