"""How much a session pays for nbmlops: the magic's load, and the command's help as a whole process."""

import functools
import json
import subprocess
import sys
import time
from pathlib import Path

from contest import Bench, Figures

# Runs one statement in a running IPython, in a process of its own, and tells what it added.
IN_IPYTHON = """
import json, sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("1 + 1")
before, started = len(sys.modules), time.perf_counter()
{statement}
print(json.dumps({{"ms": (time.perf_counter() - started) * 1000, "modules": len(sys.modules) - before}}))
"""
LAZY_TABLE = """
for n in range(20):
    shell.magics_manager.register_lazy(f"verb{n}", "nbmlops.surfaces.magic")
"""


def added(statement: str) -> Figures:
    """Measure what a statement adds to a running IPython: milliseconds and modules."""
    code = IN_IPYTHON.format(statement=statement)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(out.splitlines()[-1])
    return figures


def whole_process(*words: str) -> Figures:
    """Time a process from start to end."""
    started = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return {"s": time.perf_counter() - started}


BENCHES = (
    Bench(
        "`%load_ext nbmlops` in a running IPython",
        ours=functools.partial(added, 'shell.run_line_magic("load_ext", "nbmlops")'),
        peers={
            "a lazy table of 20 magics": functools.partial(added, LAZY_TABLE),
            "eager imports: mlflow, pandas, sklearn": functools.partial(added, "import mlflow, pandas, sklearn"),
        },
        promise="at most 30 ms and 30 modules",
    ),
    Bench(
        "`nbmlops --help`, the whole process",
        ours=functools.partial(whole_process, str(Path(sys.executable).with_name("nbmlops")), "--help"),
        peers={'`python -c "import click"`': functools.partial(whole_process, sys.executable, "-c", "import click")},
        promise="at most 1.5 times click + 0.25 s",
        turns=9,
    ),
)
