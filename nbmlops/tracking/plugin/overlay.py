"""A run as this process knows it while its store is away: how it began, and its own journal folded over that."""

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nbmlops.tracking.journal import Record

OFFLINE = "offline-"  # begins the id of an experiment that only its name is known of
PLACE = "nbmlops-journal:/"  # begins the artifact place of a run begun offline


def offline_experiment(name: str) -> Any:
    """Give an experiment that stands for one of that name, which the delivery finds or makes."""
    from mlflow.entities import Experiment, LifecycleStage

    return Experiment(f"{OFFLINE}{name}", name, "", LifecycleStage.ACTIVE, [], int(time.time() * 1000), 0)


def offline_run(run_id: str, experiment_id: str, user: str, at_ms: int, tags: Any, name: str | None) -> Any:
    """Give a run that MLflow's store has not seen yet."""
    from mlflow.entities import LifecycleStage, Run, RunData, RunInfo, RunStatus, RunTag
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

    tags = list(tags)
    named = next((tag.value for tag in tags if tag.key == MLFLOW_RUN_NAME), name)
    if not named:
        named = f"offline-{random.randrange(16**6):06x}"  # noqa: S311  # a name, and no secret
    if all(tag.key != MLFLOW_RUN_NAME for tag in tags):
        tags.append(RunTag(MLFLOW_RUN_NAME, named))
    info = RunInfo(
        run_id,
        experiment_id,
        user,
        RunStatus.to_string(RunStatus.RUNNING),
        at_ms,
        None,
        LifecycleStage.ACTIVE,
        f"{PLACE}{run_id}",
        named,
    )
    return Run(info, RunData([], [], tags))


def changed(run: Any, change: Mapping[str, Any]) -> Any:
    """Give a run with another status, end time or name."""
    from mlflow.entities import Run, RunInfo

    info = {**dict(run.info), **change}
    fields = ("run_id", "experiment_id", "user_id", "status", "start_time", "end_time", "lifecycle_stage")
    return Run(RunInfo(*(info[name] for name in fields), info["artifact_uri"], info["run_name"]), run.data)


def folded(begun: Any, records: Iterable[Record]) -> Any:
    """Fold a run's journal over how it began.

    A metric's value is that of its largest step, then time, then value, as MLflow has it.
    """
    from mlflow.entities import Param, Run, RunData, RunTag

    records = list(records)
    newest: dict[str, Any] = {}
    for point in sorted(_points(records), key=lambda point: (point.step, point.timestamp, point.value)):
        newest[point.key] = point
    params = begun.data.params | {record[2]: record[3] for record in records if record[0] == "param"}
    tags = begun.data.tags | {record[2]: record[3] for record in records if record[0] == "tag"}
    data = RunData(
        list(newest.values()),
        [Param(key, value) for key, value in params.items()],
        [RunTag(key, value) for key, value in tags.items()],
    )
    return Run(begun.info, data)


def points_of(records: Iterable[Record], key: str) -> list[Any]:
    """Give one metric's points, as they were logged."""
    return [point for point in _points(records) if point.key == key]


def _points(records: Iterable[Record]) -> Iterator[Any]:
    from mlflow.entities import Metric

    for record in records:
        if record[0] == "metric":
            yield Metric(record[2], float(record[3]), record[4], record[5])
