"""The verb of validation: put a model through a gate of ``nbmlops.toml``."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nbmlops.errors import DataError, GateError, NotFoundError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.registry.versions import CHALLENGER, CHAMPION, ModelVersion
from nbmlops.validation.gates import (
    Check,
    GateReport,
    has_passed,
    judge_champion,
    judge_threshold,
    skip_champion,
    worst_first,
)
from nbmlops.verb import DataRef, GateName, ModelRef, verb

if TYPE_CHECKING:
    import pandas as pd

    from nbmlops.validation.metrics import Array
    from nbmlops.validation.predictions import Predictions

_FIRST_GATE = """Add these lines to it:
    [gates.default]
    target = "COLUMN"
    metrics.roc_auc = { min = 0.7 }"""


@verb
def validate(
    project: Project, model: ModelRef, *, gate: GateName = "default", data: DataRef = None, dry_run: bool = False
) -> GateReport:
    """Put a model through a gate and keep the report as evidence.

    The version's bytes are checked, scored on the gate's data, held against its
    thresholds, and compared with the champion on the same rows. The report stands in
    the ledger, for ``promote``.

    Parameters
    ----------
    model
        ``name/version``, ``name@alias``, or ``name`` for ``name@challenger``.
    gate
        A gate of nbmlops.toml.
    data
        A table with the target column, in place of the gate's own.
    dry_run
        Judge, but keep no evidence.

    Returns
    -------
    GateReport
        The verdict and every check, the worst first.

    Raises
    ------
    ApprovalError
        The version has no manifest.
    ConflictError
        The version's bytes are not those that were registered.
    DataError
        A column is missing, the target has gaps, or the model cannot be scored on the data.
    GateError
        A check failed; the error holds the report.
    NotFoundError
        There is no such version, gate or file.
    UsageError
        The gate names no target, no data, or a metric that does not exist.

    Examples
    --------
    ``%mlops validate delays --gate default``

    Plain code
    ----------
    import mlflow, pandas, sklearn.metrics
    mlflow.set_tracking_uri($tracking)
    table = pandas.read_parquet($data)
    target = table.pop("late")
    model = mlflow.sklearn.load_model("models:/" + $model)
    print(sklearn.metrics.roc_auc_score(target, model.predict_proba(table)[:, 1]))
    """
    from nbmlops.data.tables import read_table, table_name
    from nbmlops.registry.mlflow import Registry

    rules = _gate(project, gate)
    registry = project.open(Registry)
    candidate = registry.resolve(model, CHALLENGER)
    given = data if data is not None else rules.get("data")
    if given is None:
        raise UsageError(f"Gate {gate} names no data.", 'Add data = "FILE" to it, or give --data FILE.')
    # A gate's own data is policy: the same file, whatever folder the caller is in.
    table = read_table(project, data if data is not None else project.root / Path(given).expanduser())
    features, truth = _split(table, rules.get("target", ""), gate)
    current = registry.aliases(candidate.name).get(CHAMPION, "")
    champion = registry.resolve(f"{candidate.name}/{current}") if current else None
    checks = _checks(project, rules, candidate, champion, features, truth)
    report = GateReport(
        passed=has_passed(checks),
        model=candidate.name,
        version=candidate.version,
        digest=candidate.digest,
        gate=gate,
        data=given if isinstance(given, str) else table_name(given),
        champion=current,
        n=len(truth),
        checks=checks,
        dry_run=dry_run,
    )
    if not report.passed:
        hint = f"No alias moved. What this model went through: `history {candidate.name}`"
        raise GateError(f"{report.headline}.", hint, report=report)
    return report


def _gate(project: Project, name: str) -> Mapping[str, Any]:
    gates = project.settings.gates
    if not gates:
        raise NotFoundError("nbmlops.toml has no gate.", _FIRST_GATE)
    if name not in gates:
        raise NotFoundError(f"nbmlops.toml has no gate {name!r}.", nearest(name, gates))
    if not gates[name].get("metrics") and not gates[name].get("champion"):
        raise UsageError(f"Gate {name} judges nothing.", "Add to it: metrics.roc_auc = { min = 0.7 }")
    _check_rules(name, gates[name])
    return gates[name]


def _check_rules(gate: str, rules: Mapping[str, Any]) -> None:
    """Refuse a rule that could never fail a model."""
    for metric, limits in rules.get("metrics", {}).items():
        if not limits:
            raise UsageError(f"Gate {gate} gives {metric} no limit.", f"Write metrics.{metric} = {{ min = 0.7 }}")
    for metric, rule in rules.get("champion", {}).items():
        if not 0 < (confidence := _confidence(rule)) < 1:
            raise UsageError(
                f"Gate {gate} asks a confidence of {confidence:g} for {metric}; it must lie between 0 and 1.",
                f"Write champion.{metric} = {{ confidence = 0.95 }}",
            )


def _split(table: "pd.DataFrame", target: str, gate: str) -> "tuple[pd.DataFrame, Array]":
    """Part a table into features and truth; the truth as a plain array, whatever type the column has."""
    import numpy as np

    if not target:
        raise UsageError(f"Gate {gate} names no target.", 'Add to it: target = "COLUMN"')
    if target not in table.columns:
        columns = [str(column) for column in table.columns]
        raise DataError(f"The data has no target column {target!r}.", nearest(target, columns))
    if table.empty:
        raise DataError("The data has no rows.")
    if gaps := int(table[target].isna().sum()):
        raise DataError(f"The target {target!r} has no value in {gaps} of {len(table)} rows.", "Leave such rows out.")
    return table.drop(columns=target), np.array(table[target].tolist())


def _checks(
    project: Project,
    rules: Mapping[str, Any],
    candidate: ModelVersion,
    champion: ModelVersion | None,
    features: "pd.DataFrame",
    truth: "Array",
) -> tuple[Check, ...]:
    """Load verified copies of both models, and judge every threshold and comparison; the worst come first."""
    from nbmlops.registry.loader import verified_copy
    from nbmlops.validation.metrics import metric
    from nbmlops.validation.predictions import Predictions

    limits, comparisons = rules.get("metrics", {}), rules.get("champion", {})
    names = {name: metric(name) for name in (*limits, *comparisons)}
    rival = champion if champion and champion.version != candidate.version else None
    with TemporaryDirectory(prefix="nbmlops-model-") as one, TemporaryDirectory(prefix="nbmlops-model-") as two:
        project.notify(f"scoring {candidate.label} on {len(truth)} rows")
        predictions = Predictions(verified_copy(project, candidate, into=Path(one)), features, truth)
        values = {name: predictions.measure(each) for name, each in names.items()}
        checks = [check for name in limits for check in judge_threshold(name, values[name], limits[name], len(truth))]
        if comparisons and rival:
            project.notify(f"comparing with the champion, {rival.label}")
            others = Predictions(verified_copy(project, rival, into=Path(two)), features, truth)
            checks += [_compare(predictions, others, name, comparisons[name]) for name in comparisons]
        else:
            why = "it is the champion itself" if champion else "there is no champion yet"
            checks += [
                skip_champion(name, values[name], _allowed(comparisons[name]), len(truth), why) for name in comparisons
            ]
    return worst_first(checks)


def _compare(candidate: "Predictions", champion: "Predictions", name: str, rule: Mapping[str, float]) -> Check:
    from nbmlops.validation.metrics import metric
    from nbmlops.validation.statistics import improvement

    judged = metric(name)
    ours, theirs = candidate.measure(judged, champion), champion.measure(judged, candidate)
    truth, classes = candidate.truth_for(judged), candidate.classes_for(judged, champion)
    predicted = candidate.for_(judged), champion.for_(judged)
    found = improvement(judged, truth, *predicted, _confidence(rule), classes=classes)
    return judge_champion(name, ours, theirs, found, _allowed(rule), len(truth))


def _confidence(rule: Mapping[str, float]) -> float:
    return float(rule.get("confidence", 0.95))


def _allowed(rule: Mapping[str, float]) -> float:
    return float(rule.get("max_regression", 0.0))
