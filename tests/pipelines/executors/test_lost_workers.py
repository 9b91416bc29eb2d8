"""Clusters of which a part is killed in the middle of a step: it is run again elsewhere, and published once."""

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.steps import Steps
from nbmlops.pipelines.executors import Executor
from nbmlops.pipelines.flow.driver import run_pipeline
from nbmlops.project import Project

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore")]

TOML = """\
[project]
name = "flights"
[pipelines.p]
[[pipelines.p.steps]]
name = "train"
function = "steps:train"
matrix = { n = [1, 2] }
"""
# The first attempt at n = 1 tells the process above its launcher, which is the worker, and waits to be killed.
STEPS_PY = """
import os, time
def train(n: int):
    here = os.environ["NBMLOPS_FENCE"].rpartition("/")[2]
    with open(f"began-{n}-{here}", "w") as file:
        file.write(f"{os.getpid()} {os.getppid()}\\n")
    if n == 1 and here == "1":
        time.sleep(300)
    return {"fence": int(here)}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "nbmlops.toml").write_text(TOML)
    (tmp_path / "steps.py").write_text(STEPS_PY)
    return Project(tmp_path)


def wait_for(fact: Callable[[], Any], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_in_the_middle(project: Project, killed: list[int], *, node: bool) -> None:
    began = project.root / "began-1-1"
    wait_for(lambda: began.exists() and began.read_text().endswith("\n"))
    step, launcher = map(int, began.read_text().split())
    worker = psutil.Process(launcher).parent()
    assert worker is not None
    killed += [step, worker.ppid() if node else worker.pid]
    os.kill(killed[1], signal.SIGKILL)
    if node:  # it is this process' own child: a worker whose node is a zombie takes it to be alive
        os.waitpid(killed[1], 0)


def run_with_a_kill(project: Project, executor: Executor, *, node: bool = False) -> None:
    """Run with the worker of a step killed, or the process that stands for its whole node."""
    killed: list[int] = []
    killer = threading.Thread(target=kill_in_the_middle, args=(project, killed), kwargs={"node": node})
    killer.start()
    try:
        run = run_pipeline(project, "p", executor=executor)
    finally:
        killer.join()
    assert [step.results for step in run.steps] == [{"fence": 2}, {"fence": 1}]
    published = project.open(Steps).published("p")
    assert sorted((row["step"], row["results"]["fence"]) for row in published) == [("train[n=1]", 2), ("train[n=2]", 1)]
    wait_for(lambda: not psutil.pid_exists(killed[0]), 10)
    project.open(Ledger).close()


def test_a_dask_worker_is_killed(project: Project) -> None:
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("dask is not installed")
    from distributed import LocalCluster

    from nbmlops.pipelines.executors.dask import Dask

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        executor = Dask(cluster.scheduler_address)
        run_with_a_kill(project, executor)
        executor.close()


def test_a_ray_node_is_killed(project: Project) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    from ray.cluster_utils import Cluster

    from nbmlops.pipelines.executors.ray import Ray

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    executor = Ray(cluster.address)
    try:
        run_with_a_kill(project, executor, node=True)
    finally:
        executor.close()
        cluster.shutdown()
