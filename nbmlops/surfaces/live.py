"""What a notebook shows of a run while its cell is executed: a line of progress, or the curve of a metric.

Both are one display that is written anew about once a second, from what this process has journaled, whoever
logged it. What stands there when the run ends stays.
"""

import html
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbmlops.surfaces.show import cell, picture
from nbmlops.tracking import journal
from nbmlops.tracking.runs import Curve

EVERY_S = 1.0
LONG_S = 3.0  # after which a cell without a curve shows that it goes on
MOST_POINTS = 400  # of a curve that is drawn


@dataclass
class Values:
    """What one run has logged so far: each metric's newest value, and every value of one of them."""

    run_id: str
    metric: str = ""
    steps: dict[int, float] = field(default_factory=dict)
    newest: dict[str, tuple[float, int]] = field(default_factory=dict)
    n_values: int = 0
    status: str = "RUNNING"

    def take(self, records: Iterable[journal.Record]) -> None:
        """Take records of a journal."""
        for record in records:
            if record[0] == "update" and record[1] == self.run_id:
                self.status = record[2].get("status", self.status)
            elif record[0] == "metric" and record[1] == self.run_id:
                name, value, step = record[2], float(record[3]), record[5]
                self.n_values += 1
                self.newest[name] = (value, step)
                if name == self.metric:
                    self.steps[step] = value

    @property
    def curve(self) -> Curve:
        """The metric over its steps, thinned evenly, its last value kept."""
        values = [self.steps[step] for step in sorted(self.steps)]
        every = len(values) // MOST_POINTS + 1
        return Curve(values[::-1][::every][::-1])


class Live:
    """Shows a run while its cell is executed, in a thread of its own.

    Parameters
    ----------
    run_id, name
        The run.
    path
        The journal of this process.
    metric
        The metric to draw; without one a line of progress appears once the cell takes long.
    """

    def __init__(self, run_id: str, name: str, path: Path, metric: str = "") -> None:
        self._name = name
        self._path = path
        self._offset = 0
        self._values = Values(run_id, metric)
        self._since = time.monotonic()
        self._handle: Any = None
        self._shown = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="nbmlops-live", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Show the last of it, for the run has ended."""
        self._over.set()
        self._thread.join(5)

    def _follow(self) -> None:
        while self._values.status == "RUNNING" and not self._over.wait(EVERY_S):
            self._read()
            if self._values.metric or self._handle or time.monotonic() - self._since > LONG_S:
                self._show()
        self._read()
        if self._values.metric or self._handle:
            self._show()

    def _show(self) -> None:
        drawn = self._curve() if self._values.metric else self._line()
        if drawn["text/html"] == self._shown:
            return
        self._shown = drawn["text/html"]
        from IPython.display import display

        if self._handle is None:
            self._handle = display(drawn, raw=True, display_id=True)
        else:
            self._handle.update(drawn, raw=True)

    def _read(self) -> None:
        while True:
            try:
                records, self._offset = journal.read(self._path, self._offset)
            except FileNotFoundError:  # delivered whole, and removed
                return
            if not records:
                return
            self._values.take(record for _, record in records)

    def _line(self) -> dict[str, str]:
        told = [f"{self._name} {self._values.status}", f"{time.monotonic() - self._since:.0f} s"]
        if self._values.n_values:
            name, (value, step) = list(self._values.newest.items())[-1]
            told += [f"{self._values.n_values:,} values logged", f"{name} {cell(value)} at step {step:,}"]
        return _bundle(" · ".join(told))

    def _curve(self) -> dict[str, str]:
        values, name = self._values, self._values.metric
        if not values.steps:
            return _bundle(f"{self._name} {values.status}: no {name} yet")
        last = max(values.steps)
        told = f"{name} {cell(values.steps[last])} at step {last:,} · {self._name} {values.status}"
        return picture(told, values.curve)


def _bundle(line: str) -> dict[str, str]:
    return {"text/plain": line, "text/html": f'<div style="font-size:13px;opacity:.8">{html.escape(line)}</div>'}
