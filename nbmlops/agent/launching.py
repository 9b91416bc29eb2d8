"""A claimed firing handed to a process of its own, which starts the run; see `runner`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nbmlops.agent.answered import continued
from nbmlops.agent.runner import Order, written
from nbmlops.ledger.schedules import Firing
from nbmlops.pipelines import jobs
from nbmlops.pipelines.flow.declared import Pipeline
from nbmlops.pipelines.flow.plan import context
from nbmlops.pipelines.flow.references import filled, found
from nbmlops.pipelines.running import DUE
from nbmlops.pipelines.schedule import zone
from nbmlops.pipelines.scheduled import Scheduled
from nbmlops.project import Project
from nbmlops.strict_json import plain

MODULE, COMMAND = "nbmlops.agent.runner", "nbmlops.surfaces.cli"
PARAMETERS_FILE, LOG = "parameters.json", "runner.log"

Words = Callable[[Scheduled, Path | None], tuple[str, ...]]


def run_words(each: Scheduled, parameters: Path | None) -> tuple[str, ...]:
    """Word the command that a firing starts.

    Examples
    --------
    >>> from nbmlops.pipelines.flow.timing import Timing
    >>> run_words(Scheduled("nightly", "train.ipynb", Timing()), Path("p.json"))[4:]
    ('run', 'train.ipynb', '-f', 'p.json')
    """
    given = ("-f", str(parameters)) if parameters else ()
    return (sys.executable, "-P", "-m", COMMAND, "run", each.target, *given)


def resume_words(job: str) -> tuple[str, ...]:
    """Word the command that goes on with a job.

    Examples
    --------
    >>> resume_words("5f0c")[4:]
    ('resume', '5f0c')
    """
    return (sys.executable, "-P", "-m", COMMAND, "resume", job)


@dataclass(frozen=True)
class Launcher:
    """Starts processes of firings; `words` says which command each is."""

    project: Project
    words: Words = run_words

    def launch(self, firing: Firing, each: Scheduled) -> "subprocess.Popen[bytes]":
        """Start the process of a firing: in a session of its own, so that it outlives the agent.

        Raises
        ------
        OSError
            It cannot be started, or a file for it not written.
        UsageError
            A parameter refers to what does not exist.
        """
        folder = jobs.folder_of(self.project, firing.job)
        folder.mkdir(parents=True, exist_ok=True)
        parameters = _parameters_file(folder, {**parameters_of(each, firing.due), **firing.parameters})
        log = folder / LOG
        order = Order(
            root=str(self.project.root),
            schedule=firing.schedule,
            occasion=firing.occasion,
            fence=firing.fence,
            words=resume_words(job) if (job := continued(firing.occasion)) else self.words(each, parameters),
            log=str(log),
            overlap=_overlap(firing, each),
            environment={
                DUE: firing.due.astimezone(zone(each.timing.timezone)).isoformat(),
                jobs.ID: firing.job,
                "NBMLOPS_PROJECT": str(self.project.root),
            },
        )
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(written(order, folder))],
                cwd=order.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                close_fds=True,
                start_new_session=True,
            )


def _overlap(firing: Firing, each: Scheduled) -> str:
    """Say what becomes of a firing that finds its pipeline running: what a trigger has seen is never dropped."""
    if continued(firing.occasion):
        return ""
    return each.timing.overlap if firing.is_of_clock else "queue"


def parameters_of(each: Scheduled, due: datetime) -> dict[str, Any]:
    """Give a notebook's values with the due time put in, so that a late or repeated run is the same run.

    Examples
    --------
    >>> from datetime import UTC
    >>> from nbmlops.pipelines.flow.timing import Timing
    >>> nightly = Scheduled("n", "n.ipynb", Timing(timezone="Europe/Vienna"), {"until": "${due.date}", "n": 3})
    >>> parameters_of(nightly, datetime(2026, 1, 31, 23, 30, tzinfo=UTC))
    {'until': '2026-02-01', 'n': 3}
    """
    values = context(Pipeline(each.name, (), each.timing), due)
    return {name: filled(value, lambda reference: found(reference, values)) for name, value in each.parameters.items()}


def _parameters_file(folder: Path, values: dict[str, Any]) -> Path | None:
    if not values:
        return None
    path = folder / PARAMETERS_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(plain(values), file)
    return path
