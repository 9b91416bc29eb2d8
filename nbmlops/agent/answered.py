"""Runs of pipelines that waited for a person and have their answer: they go on, or end, by themselves."""

from collections.abc import Iterator
from datetime import datetime

from nbmlops.ledger.schedules import ANSWER, stamp
from nbmlops.ledger.steps import STALE, Steps
from nbmlops.pipelines import jobs
from nbmlops.pipelines.flow.runs import WAITING
from nbmlops.project import Project

RECENT = 50  # jobs of a pipeline among which those that wait are looked for


def answered(project: Project, pipeline: str) -> Iterator[tuple[str, str]]:
    """Name the jobs of a pipeline that wait, and whose every question was answered since, with when each was due."""
    steps = project.open(Steps)
    for job in jobs.newest(project, RECENT, name=pipeline):
        if job.status == WAITING:
            asked = [row["status"] for row in steps.of_job(job.job) if "question" in row["record"]]
            if asked and not {WAITING, STALE} & set(asked):
                yield job.job, stamp(datetime.fromisoformat(job.given["due"]))


def continued(occasion: str) -> str:
    """Name the job that a firing goes on with; empty where it begins a run.

    Examples
    --------
    >>> continued("answer#5f0c"), continued("drift:arrived.csv#77")
    ('5f0c', '')
    """
    kind, _, job = occasion.partition("#")
    return job if kind == ANSWER else ""
