"""A run that papermill's engine hands on as JSON: executed in the warm server; where there is none, in its process."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbmlops.errors import NbmlopsError

MAIN = f"{__name__}:main"  # what the warm server calls for one


def main(words: Sequence[str]) -> int:
    """Execute the run that a file tells of; the file tells how it ended afterwards."""
    path = Path(words[0])
    path.write_text(json.dumps(executed(json.loads(path.read_text()), _say)))
    return 0


def executed(asked: Mapping[str, Any], notify: Callable[[str], None]) -> dict[str, Any]:
    """Execute a run.

    Parameters
    ----------
    asked
        ``source``, the notebook's path; ``content``, with its parameters set; ``given``, what they were set to;
        ``cell_s``, how long a cell may take, in seconds, or None.
    notify
        Takes lines of progress.

    Returns
    -------
    dict
        ``output``, the executed notebook's path, empty where it could not begin; ``error``, the name of its class, or
        empty; ``message`` and ``hint``.
    """
    from nbmlops.pipelines.engine import execute
    from nbmlops.pipelines.planning import Limits, Plan
    from nbmlops.project import Project

    project = Project(surface="python", notify=notify)
    limits = Limits(None, asked["cell_s"])
    plan = Plan(Path(asked["source"]), asked["content"], {}, asked["given"], None, limits, keeps_injected=True)
    try:
        outcome = execute(project, plan)
    except NbmlopsError as exc:
        return _told("", exc)
    return _told(outcome.run.output, outcome.error)


def _told(output: str, error: BaseException | None) -> dict[str, Any]:
    told = {"error": type(error).__name__, "message": getattr(error, "message", str(error))} if error else {"error": ""}
    return {"output": output, **told, "hint": getattr(error, "hint", "")}


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
