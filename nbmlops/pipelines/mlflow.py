"""The one file of this folder that talks to MLflow: the run that a notebook's execution is."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbmlops.tracking.mlflow import Tracking, translated


def begin(tracking: Tracking, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Begin a run, under the headless notebook that this process may be in; give its id."""
    if above := os.environ.get("NBMLOPS_RUN"):
        tags = {**tags, "mlflow.parentRunId": above}
    with translated("The notebook's run"):
        begun = tracking.client.create_run(tracking.experiment_id, tags=dict(tags), run_name=name)
    run_id = str(begun.info.run_id)
    try:
        tracking.log(run_id, {}, parameters, {}, 0, [])
    except BaseException:
        tracking.client.set_terminated(run_id, "FAILED")
        raise
    return run_id


def end(tracking: Tracking, run_id: str, status: str, tags: Mapping[str, str], output: Path | None) -> None:
    """End a run with its output notebook; what it had open under it died with the kernel, and failed."""
    with translated("The end of the notebook's run"), contextlib.ExitStack() as always:
        always.callback(tracking.client.set_terminated, run_id, status)
        for child in _open_below(tracking, run_id):
            tracking.client.set_terminated(child, "FAILED")
        tracking.log(run_id, {}, {}, tags, 0, [output] if output else [])


def _open_below(tracking: Tracking, run_id: str) -> list[str]:
    below = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'"
    return [run.run_id for run in tracking.newest(1000, below)]
