"""Open the project's stores in the background while a notebook's kernel is idle, so that the first run need not wait.

Most of that time is MLflow's import.
"""

import contextlib
import importlib
import sys
import threading
from typing import Any

from nbmlops.errors import NbmlopsError
from nbmlops.project import Project

IDLE_S = 1.5


class Warmup:
    """Starts once, when no cell has run for a moment; a cell that begins before puts it off."""

    def __init__(self, shell: Any, project: Project) -> None:
        self._shell = shell
        self._project = project
        self._timer: threading.Timer | None = None
        shell.events.register("pre_run_cell", self._busy)
        shell.events.register("post_run_cell", self._idle)

    def _busy(self, _: Any) -> None:
        if self._timer:
            self._timer.cancel()

    def _idle(self, _: Any) -> None:
        self._timer = threading.Timer(IDLE_S, self._open)
        self._timer.daemon = True
        self._timer.start()

    def _open(self) -> None:
        self._shell.events.unregister("pre_run_cell", self._busy)
        self._shell.events.unregister("post_run_cell", self._idle)
        if "mlflow" in sys.modules:  # in use already, and perhaps aimed at another store by hand
            return
        for module in _FIRST_RUN:
            importlib.import_module(module)
        with contextlib.suppress(NbmlopsError):  # no project, or a store out of reach: the first verb says so
            _warm(self._project)


_FIRST_RUN = (
    "nbmlops.surfaces.call",
    "nbmlops.surfaces.live",
    "nbmlops.tracking.verbs",
    "nbmlops.tracking.session",
    "nbmlops.tracking.attempts",
)


def _warm(project: Project) -> None:
    """Do what the first `track` does, short of a run: the line is read, MLflow's plug-ins are there, the store is open.

    What a run keeps of the environment is found out too, which takes seconds once.
    """
    from nbmlops.surfaces.parse import parse
    from nbmlops.tracking import attempts
    from nbmlops.tracking.capture import environment
    from nbmlops.tracking.mlflow import Tracking

    parse("track", ["a"])
    tracking = project.open(Tracking)
    _ = tracking.experiment_id, tracking.mlflow.active_run()
    from mlflow.tracking.context.registry import resolve_tags

    resolve_tags()
    attempts.link_tags(tracking, "", "")
    environment.lock()
