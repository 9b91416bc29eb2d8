"""A job that runs is told to end."""

import contextlib
import socket
import time

import psutil

from nbmlops.errors import ConflictError, KernelError
from nbmlops.pipelines import jobs
from nbmlops.pipelines.jobs import Job
from nbmlops.project import Project

LOOK_S = 0.1


def cancelled(project: Project, job: Job, *, dry_run: bool) -> Job:
    """Tell a job's process to end, and wait until it has; give the job as it is then.

    Raises
    ------
    ConflictError
        It does not run, or runs on another machine.
    KernelError
        It goes on.
    """
    if job.status != jobs.RUNNING:
        raise ConflictError(f"Job {job.job} does not run: it is {job.status}.")
    if job.owner.get("nbmlops.host") != socket.gethostname():
        raise ConflictError(f"Job {job.job} runs on {job.owner.get('nbmlops.host')}.", "Cancel it there.")
    if dry_run:
        return job
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(job.owner["nbmlops.pid"])).terminate()
    deadline = time.monotonic() + jobs.CANCEL_S
    while time.monotonic() < deadline:
        job = jobs.find(project, job.job)
        if job.status != jobs.RUNNING:
            return job
        time.sleep(LOOK_S)
    raise KernelError(f"Job {job.job} was told to end, and goes on.", f"Look at it: `logs {job.job}`")
