"""What pipelines cost: a chain of notebooks, run and unchanged, a plan of many steps, and many small steps."""

import atexit
import contextlib
import functools
import importlib.util
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import headless
from contest import Bench, Contender, Figures
from places import project

N_CHAINED, N_WIDE, N_SMALL, AT_ONCE = 5, 200, 100, 2
LINK = """
[[pipelines.chain.steps]]
name = "link{number}"
notebook = "link{number}.ipynb"
"""
AFTER = """needs = ["link{before}"]
parameters = {{ month = "${{link{before}.month}}" }}
"""
MANY = """
[[pipelines.{name}.steps]]
name = "small"
function = "steps:small"
matrix = {{ n = {values} }}
"""
SCRIPT = "import json, steps; print(json.dumps(steps.small(1)))"


@functools.cache
def place() -> Path:
    """Make one project for all turns."""
    always = contextlib.ExitStack()
    atexit.register(always.close)
    folder = always.enter_context(project())
    told = (*headless.CELLS, "following = month + 1\n%load_ext nbmlops\n%mlops result month=following")
    declared = []
    for number in range(N_CHAINED):
        (folder / f"link{number}.ipynb").write_text(json.dumps(headless.notebook(told)))
        declared.append(LINK.format(number=number) + (AFTER.format(before=number - 1) if number else ""))
    declared += [MANY.format(name=name, values=list(range(n))) for name, n in (("wide", N_WIDE), ("many", N_SMALL))]
    (folder / "bench.ipynb").write_text(json.dumps(headless.notebook(headless.CELLS)))
    (folder / "steps.py").write_text("def small(n):\n    return {'n': n}\n")
    with (folder / "nbmlops.toml").open("a") as settings:
        settings.writelines(declared)
    return folder


def run(*words: str) -> Figures:
    """Time `nbmlops run` with a warm server, as a whole."""
    headless.server()
    return headless.command("nbmlops", "run", *words, folder=place())


@functools.cache
def _have_run(name: str) -> None:
    run(name)


def unchanged(*words: str) -> Figures:
    """Time it where every step has been run before."""
    _have_run(words[0])
    return run(*words)


def papermill_in_a_row() -> Figures:
    """Run as many notebooks with papermill, one after the other."""
    words = ("papermill", "bench.ipynb", "out.ipynb", "-p", "month", "3")
    return {"s": sum(headless.command(*words, folder=place())["s"] for _ in range(N_CHAINED))}


# ------------------------------------------------------------------------- many small steps
def through(executor: str) -> Figures:
    """Run all small steps anew through an executor, whose start is not counted."""
    from nbmlops.pipelines.executors import named
    from nbmlops.pipelines.flow.driver import run_pipeline
    from nbmlops.project import Project

    place_, opened = Project(place()), named(executor)
    try:
        run_pipeline(place_, "many", only=("small[n=0]",), force=("*",), executor=opened)
        started = time.perf_counter()
        run_pipeline(place_, "many", force=("*",), executor=opened)
        seconds = time.perf_counter() - started
    finally:
        opened.close()
    return {"s": seconds, "ms a step": seconds / N_SMALL * 1000}


def ideal() -> Figures:
    """Run the same function as often in bare processes, two at once."""

    def one(_: int) -> None:
        subprocess.run([sys.executable, "-c", SCRIPT], cwd=place(), stdout=subprocess.DEVNULL, check=True)

    started = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(one, range(N_SMALL)))
    seconds = time.perf_counter() - started
    return {"s": seconds, "ms a step": seconds / N_SMALL * 1000}


# where one is missing: pip install nbmlops[ray,dask]
CLUSTERS: dict[str, Contender] = {
    name: functools.partial(through, name)
    for name, module in (("ray", "ray"), ("dask", "distributed"))
    if importlib.util.find_spec(module)
}
BARE = functools.partial(headless.command, "python", "-c", "pass")
BENCHES = (
    Bench(
        f"a pipeline of {N_CHAINED} such notebooks in a row, warm",
        ours=functools.partial(run, "chain", "--force"),
        peers={f"the papermill command, {N_CHAINED} times": papermill_in_a_row},
        promise="at most 1/20 of papermill",
        turns=3,
    ),
    Bench(
        "the same, unchanged: the command as a whole",
        ours=functools.partial(unchanged, "chain"),
        peers={"`python -c pass`": BARE},
        promise="at most 50 ms inside the warm server",
    ),
    Bench(
        f"a dry run of {N_WIDE} unchanged steps: the command as a whole",
        ours=functools.partial(unchanged, "wide", "--dry-run"),
        peers={"`python -c pass`": BARE},
        promise="at most 0.3 s inside the warm server",
    ),
    Bench(
        f"{N_SMALL} small steps, {AT_ONCE} at once, executor `local`",
        ours=functools.partial(through, f"local:{AT_ONCE}"),
        peers={"the same function in bare processes": ideal, **CLUSTERS},
        promise="at most 1.3 of the bare processes",
        turns=3,
    ),
)
