"""Import MLflow in the background while a notebook's kernel is idle, so that the first run need not wait for it."""

import importlib
import threading
from typing import Any

IDLE_S = 1.5


class Warmup:
    """Starts the import when no cell has run for a moment, once; a cell that starts puts it off."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._timer: threading.Timer | None = None
        shell.events.register("pre_run_cell", self._busy)
        shell.events.register("post_run_cell", self._idle)

    def _busy(self, _: Any) -> None:
        if self._timer:
            self._timer.cancel()

    def _idle(self, _: Any) -> None:
        self._timer = threading.Timer(IDLE_S, self._load)
        self._timer.daemon = True
        self._timer.start()

    def _load(self) -> None:
        self._shell.events.unregister("pre_run_cell", self._busy)
        self._shell.events.unregister("post_run_cell", self._idle)
        importlib.import_module("mlflow")
