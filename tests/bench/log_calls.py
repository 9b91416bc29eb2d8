"""What a log call costs the thread that calls, with no sender running and beside one, and what durability costs."""

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

from contest import Bench, Contender, Figures
from places import PEERS, project, told_by

# Times `call(i)` n times, each by itself, after some that warm up, and tells median, p99 and worst.
TIMED = """
import json, os, statistics, time
def tell(call, n, warm_up=200, seconds=0.0):
    for i in range(warm_up):
        call(i)
    times, clock, until = [], time.perf_counter_ns, time.monotonic() + seconds
    i = warm_up
    while len(times) < n or time.monotonic() < until:
        started = clock()
        call(i)
        times.append(clock() - started)
        i += 1
    times.sort()
    median, p99 = statistics.median(times) / 1000, times[int(len(times) * 0.99)] / 1000
    mean = sum(times) / len(times) / 1000
    print(json.dumps({{"µs, median": median, "µs, mean": mean, "µs, p99": p99{more}}}), flush=True)
    os._exit(0)  # nobody waits for what is still to be delivered
"""
OURS = """
import nbmlops
ops = nbmlops.open()
ops.track("calls")
"""
MLFLOW = """
import mlflow
mlflow.set_tracking_uri("{prefix}sqlite:///.nbmlops/mlflow.db")
mlflow.set_experiment("bench")
mlflow.start_run()
"""
OUR_CALL = "tell(lambda i: nbmlops.log(loss=0.5, step=i), 20_000)"
BESIDE = """
nbmlops.log(loss=1.0)
time.sleep(4)  # the sender has started, and has MLflow, by now
tell(lambda i: nbmlops.log(loss=0.5, step=i), 20_000, seconds=3.0)
"""
DVCLIVE = """
from dvclive import Live
live = Live("live", save_dvc_exp=False, report=None, monitor_system=False)
def call(i):
    live.log_metric("loss", 0.5)
tell(call, 2000)
"""
WRITER = """
from pathlib import Path
from nbmlops.tracking.journal import Writer, metric
writer = Writer(Path("journal"), "sqlite:///mlflow.db", {durability!r})
tell(lambda i: writer.append(metric("r", "loss", 0.5, 1700000000000, i)), {n})
"""


def calls(*parts: str, more: str = "") -> Figures:
    """Time calls in a fresh process and an empty project."""
    with project() as folder:
        return told_by("".join([TIMED.format(more=more), *parts]), folder)


def dvclive() -> Figures:
    """Time dvclive in an environment of its own: it needs older releases than ours does."""
    with TemporaryDirectory() as folder:
        return told_by(TIMED.format(more="") + DVCLIVE, Path(folder), str(PEERS))


def _mlflow(call: str, n: int, prefix: str = "") -> Contender:
    return functools.partial(calls, MLFLOW.format(prefix=prefix), f"tell(lambda i: {call}, {n}, warm_up=20)")


SYNC = _mlflow('mlflow.log_metric("loss", 0.5, step=i)', 150)
ASYNC = _mlflow('mlflow.log_metric("loss", 0.5, step=i, synchronous=False)', 2000)
WORST = ', "µs, worst": times[-1] / 1000'
DVC: dict[str, Contender] = {"dvclive": dvclive} if PEERS.exists() else {}

BENCHES = (
    Bench(
        "a call of `nbmlops.log`",
        ours=functools.partial(calls, OURS, OUR_CALL),
        peers={"`mlflow.log_metric` into SQLite": SYNC, "the same, asynchronous": ASYNC, **DVC},
        promise="≤ 5 µs, p99 ≤ 20 µs; 1/600 of MLflow, 1/20 of its async, 1/8 of dvclive",
        turns=3,
    ),
    Bench(
        "unchanged `mlflow.log_metric` through the journal",
        ours=_mlflow('mlflow.log_metric("loss", 0.5, step=i)', 3000, "nbmlops+"),
        peers={"`mlflow.log_metric` into SQLite": SYNC},
        promise="1/20 of MLflow",
        turns=3,
    ),
    Bench(
        "a call of `nbmlops.log` while the sender delivers",
        ours=functools.partial(calls, OURS, BESIDE, more=WORST),
        peers={"with none": functools.partial(calls, OURS, OUR_CALL, more=WORST)},
        turns=3,
    ),
    Bench(
        "a line of the journal, durability `fsync`",
        ours=functools.partial(calls, WRITER.format(durability="fsync", n=500)),
        peers={"durability `page-cache`": functools.partial(calls, WRITER.format(durability="page-cache", n=20_000))},
        turns=3,
    ),
)
