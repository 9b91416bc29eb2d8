"""How far jobs are: their steps and states as they change, and the answer that a step waits for."""

from collections.abc import Mapping
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.pipelines.jobs import RUNNING, Job
from nbmlops.project import Project
from nbmlops.surfaces.show import cell
from nbmlops.surfaces.widgets.comparison import clipped
from nbmlops.verb import load

WAITING = "WAITING"
ANSWERS = ("approve", "reject")
N_JOBS = 20


class ProgressView:
    """Jobs with their steps.

    Parameters
    ----------
    project
        Whose jobs.
    name
        Of this notebook or pipeline alone.
    job
        This job alone, by its id.
    is_to_come
        Only jobs that begin from now on, of which there may be none yet.
    """

    source = "progress.js"
    every_s = 1.0

    def __init__(self, project: Project, *, name: str = "", job: str = "", is_to_come: bool = False) -> None:
        self._project = project
        self._name, self._job = name, job
        self._is_to_come = is_to_come
        self._before = {row.job for row in self._rows() if row.kind == "job"} if is_to_come else set[str]()

    def state(self) -> dict[str, Any]:
        """Look how far they are now."""
        rows = [row for row in self._rows() if row.kind in ("job", "step") and self._is_meant(row.job)]
        jobs = [row for row in rows if row.kind == "job"]
        steps = [row for row in rows if row.kind == "step"]
        shown = [_shown(job, [step for step in steps if step.job == job.job]) for job in jobs]
        is_over = not self._is_to_come and not any(job.status in (RUNNING, WAITING) for job in jobs)
        return {"jobs": shown, "name": clipped(self._name), "is_over": is_over}

    def begun(self) -> None:
        """Take it that all jobs that were to come are there."""
        self._is_to_come = False

    def words(self, asked: Mapping[str, Any]) -> list[str]:
        """Answer a step that waits."""
        if asked.get("do") not in ANSWERS:
            raise UsageError(f"There is nothing to do called {asked.get('do')!r}.")
        reason = str(asked.get("reason", "")).strip()
        words = [str(asked["do"]), str(asked.get("job")), f"--step={asked.get('step')}"]
        return [*words, f"--reason={reason}"] if reason else words

    def _rows(self) -> Any:
        return load("jobs")(self._project, name=self._name, limit=N_JOBS)

    def _is_meant(self, job: str) -> bool:
        return job == self._job if self._job else job not in self._before


def _shown(job: Job, steps: list[Any]) -> dict[str, Any]:
    return {
        "job": job.job,
        "title": clipped(job.name),
        "status": job.status,
        "detail": job.headline.removeprefix(f"{job.name} {job.status}").lstrip(", "),
        "message": clipped(cell(job.message), 300),
        "steps": [_step(step) for step in steps],
    }


def _step(step: Any) -> dict[str, Any]:
    return {
        "step": step.step,
        "status": step.status,
        "took": cell(step.duration_s) if step.began_at else "",
        "attempt": cell(step.attempt) if step.attempt > 1 else "",
        "message": clipped(cell(step.message), 300),
        "isWaiting": step.status == WAITING,
    }
