"""MLflow's metrics, params, tags and inputs, worded as the journal's lines.

Only what any MLflow store takes, beyond doubt, is worded. What MLflow's own validation refuses is refused
here in its words; whatever else is unusual gives None: its store must judge it, for nobody else knows how.
"""

import json
from collections.abc import Collection
from typing import Any

from nbmlops.scrub import MASK, remembers, without_remembered
from nbmlops.tracking import journal

INT64 = 2**63
LONGEST_DATASET = (500, 36)  # characters of its name and digest beside a metric


def metric_line(run_id: str, metric: Any, models: Collection[str]) -> bytes | None:
    """Word a metric; `models` are the logged models that are known to be there."""
    from mlflow.utils.validation import _validate_metric

    plain = _is_text(metric.key) and _is_number(metric.value) and _is_int(metric.timestamp) and _is_int(metric.step)
    if not plain or (metric.model_id is not None and metric.model_id not in models):
        return None
    _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
    if (extras := _extras(metric)) is None:
        return None
    return journal.metric(
        run_id, without_secrets(metric.key), float(metric.value), metric.timestamp, metric.step, extras
    )


def param(given: Any) -> Any | None:
    """Give a param as MLflow keeps it, which may cut a long value."""
    from mlflow.utils.validation import _validate_param

    is_plain = _is_text(given.key) and _is_text(given.value)
    return _validate_param(without_secrets(given.key), without_remembered(given.value)) if is_plain else None


def tag(given: Any) -> Any | None:
    """Give a tag as MLflow keeps it."""
    from mlflow.utils.validation import _validate_tag

    is_plain = _is_text(given.key) and _is_text(given.value)
    return _validate_tag(without_secrets(given.key), without_remembered(given.value)) if is_plain else None


def masked_tag(given: Any) -> Any:
    """Give a tag, which may be none that MLflow takes, without secrets."""
    from mlflow.entities import RunTag

    if not remembers() or not (_is_text(given.key) and _is_text(given.value)):
        return given
    return RunTag(without_secrets(given.key), without_remembered(given.value))


def batch(run_id: str, metrics: Any, params: Any, tags: Any, models: Collection[str]) -> tuple[Any, Any, Any] | None:
    """Word a batch: its metrics' lines, its params, and its tags, as MLflow keeps them."""
    from mlflow.utils.validation import _validate_batch_log_limits, _validate_param_keys_unique, _validate_run_id

    if not isinstance(run_id, str) or not all(isinstance(each, list | tuple) for each in (metrics, params, tags)):
        return None
    _validate_run_id(run_id)
    lines = [metric_line(run_id, each, models) for each in metrics]
    kept_params, kept_tags = [param(each) for each in params], [tag(each) for each in tags]
    if None in lines or None in kept_params or None in kept_tags:
        return None
    _validate_batch_log_limits(metrics, params, tags)
    _validate_param_keys_unique(params)
    return lines, kept_params, kept_tags


def inputs_line(run_id: str, datasets: Any, inputs: Any, models: Collection[str]) -> bytes | None:
    """Word inputs of a run: `datasets`, and `inputs` that are logged models."""
    from mlflow.protos.service_pb2 import LogInputs
    from mlflow.utils.proto_json_utils import message_to_json
    from mlflow.utils.validation import _validate_dataset_inputs, _validate_run_id

    datasets, inputs = datasets or [], inputs or []
    if (
        not isinstance(run_id, str)
        or not isinstance(datasets, list)
        or any(each.model_id not in models for each in inputs)
    ):
        return None
    _validate_run_id(run_id)
    _validate_dataset_inputs(datasets)
    if not all(map(_is_plain_dataset, datasets)):
        return None
    message = LogInputs(
        run_id=run_id, datasets=[each.to_proto() for each in datasets], models=[each.to_proto() for each in inputs]
    )
    return journal.line("inputs", run_id, json.loads(without_remembered(message_to_json(message))))


def change(status: Any, end_time: Any, name: Any) -> dict[str, Any] | None:
    """Word a run's new status, end and name; what is None stays as it is."""
    from mlflow.entities import RunStatus

    if (status is not None and status not in RunStatus.all_status()) or not (end_time is None or _is_int(end_time)):
        return None
    if name and not _is_text(name):
        return None
    run_name = without_remembered(name) if name else None
    wanted = {"status": status and RunStatus.to_string(status), "end_time": end_time, "run_name": run_name}
    return {key: value for key, value in wanted.items() if value is not None}


def param_line(run_id: str, kept: Any) -> bytes:
    """Word a param."""
    return journal.line("param", run_id, kept.key, kept.value)


def tag_line(run_id: str, kept: Any) -> bytes:
    """Word a tag."""
    return journal.line("tag", run_id, kept.key, kept.value)


def without_secrets(key: str) -> str:
    """Give a name without the secrets that this process was given, in letters that MLflow takes.

    Examples
    --------
    >>> from nbmlops.scrub import masking
    >>> with masking(["hunter2"]):
    ...     without_secrets("loss of hunter2")
    'loss of masked'
    """
    masked = without_remembered(key)
    return key if masked == key else masked.replace(MASK, "masked")


def _is_plain_dataset(given: Any) -> bool:
    found, keys = given.dataset, [each.key for each in given.tags]
    texts = [found.name, found.digest, found.source_type, found.source, *keys, *(each.value for each in given.tags)]
    texts += [each for each in (found.schema, found.profile) if each is not None]
    return all(map(_is_text, texts)) and len(keys) == len(set(keys))


def _extras(metric: Any) -> dict[str, str] | None:
    """Give what stands beside a metric: the model and the dataset that it was measured on."""
    dataset = (metric.dataset_name, metric.dataset_digest)
    for value, longest in zip(dataset, LONGEST_DATASET, strict=True):
        if value is not None and not (_is_text(value) and len(value) <= longest):
            return None
    found = {"model_id": metric.model_id, "dataset_name": dataset[0], "dataset_digest": dataset[1]}
    return {name: value for name, value in found.items() if value is not None}


def _is_text(value: Any) -> bool:
    """Say whether any store can keep a text: one that is UTF-8, without a NUL, which Postgres refuses."""
    if not isinstance(value, str) or "\0" in value:
        return False
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_int(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -INT64 <= value < INT64
