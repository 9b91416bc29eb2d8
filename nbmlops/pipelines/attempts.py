"""A plan executed until it goes well, as often as was asked; and what CI is told of it."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from nbmlops.duration import duration_s, spoken
from nbmlops.errors import CellError, KernelError, StoreError, UsageError
from nbmlops.pipelines.notebook import NotebookRun
from nbmlops.pipelines.planning import Plan
from nbmlops.project import Project

WORTH_A_RETRY = (CellError, KernelError, StoreError)  # what may go well the next time; an answer of no stays one


@dataclass(frozen=True)
class Patience:
    """How often to try again, and how long to wait before the first retry; that doubles with each."""

    retries: int = 0
    backoff_s: float = 5.0

    @classmethod
    def read(cls, retries: int, backoff: str | float) -> "Patience":
        """Read it as it is typed.

        Raises
        ------
        UsageError
            The number is below 0, or the wait is no duration.
        """
        if retries < 0:
            raise UsageError(f"--retries must be at least 0, not {retries}.")
        return cls(retries, duration_s(backoff, "--backoff"))


def attempted(project: Project, plan: Plan, patience: Patience, junit: str | None) -> NotebookRun:
    """Execute a plan, again where that may help; every attempt is a job and a run of its own.

    Raises
    ------
    NbmlopsError
        What the last attempt ended with.
    """
    _ = junit and project.output(junit)  # refused now, and not when all has run
    from nbmlops.pipelines.engine import execute

    for attempt in range(patience.retries + 1):
        outcome = execute(project, plan)
        if attempt == patience.retries or not isinstance(outcome.error, WORTH_A_RETRY):
            break
        wait_s = patience.backoff_s * 2**attempt
        project.notify(f"{outcome.error.message} Attempt {attempt + 2} of {patience.retries + 1} in {spoken(wait_s)}.")
        time.sleep(wait_s)
        plan = replace(plan, job=uuid4().hex[:12])
    _report(project, [outcome.run], junit)
    if outcome.error:
        raise outcome.error
    return outcome.run


def _report(project: Project, runs: list[NotebookRun], junit: str | None) -> None:
    """Write the JUnit file that was asked for, and tell the CI system that this runs under."""
    from nbmlops.pipelines.ci import services
    from nbmlops.pipelines.ci.junit import xml

    services.publish(runs, os.environ, project.notify, folder=project.root)
    if junit is None:
        return
    path: Path = project.output(junit)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(xml(runs), encoding="utf-8")
    except OSError as exc:
        raise StoreError(f"The JUnit file {path} cannot be written: {exc.strerror}.", "Check the disk.") from exc
