"""The verb `replay`: a candidate on captured requests, before any live traffic."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nbmlops.duration import moment_of
from nbmlops.errors import GateError, UsageError
from nbmlops.project import Project
from nbmlops.registry.versions import CHALLENGER, CHAMPION
from nbmlops.serving.replays import Replay
from nbmlops.verb import DataRef, EndpointName, ModelRef, Pairs, verb


@verb
def replay(
    project: Project,
    model: ModelRef,
    *,
    against: ModelRef = CHAMPION,
    since: str = "7d",
    endpoint: EndpointName | None = None,
    labels: DataRef = None,
    key: str = "request_id",
    target: str | None = None,
    costs: Pairs = {},
    slices: list[str] | None = None,
    threshold: float | None = None,
    output: str | None = None,
    exit_code: bool = False,
) -> Replay:
    """Score a model version on captured requests, and show which answers change.

    The endpoint must have captured them (``deploy --capture``); requests of a second ago
    count. No live traffic is touched.

    Parameters
    ----------
    model
        The candidate: ``name/version``, ``name@alias``, or ``name`` for ``name@challenger``.
    against
        What it is compared with: an alias or a version of the same model, or any reference. Where another version
        had answered a request, this one is asked again.
    since
        How far back: ``12h``, ``7d``, or a date or time, in UTC unless it names a zone.
    endpoint
        Whose requests; the one that serves the model unless given.
    labels
        A table with the truth of some or all requests: a path, or a DataFrame in a notebook.
    key
        The column by which labels and requests are joined: a feature, or ``request_id`` (and ``row``, from 0, where a
        request had several). A feature that is captured as a hash joins too.
    target
        The column of the labels that holds the truth; the only one beside the key unless given.
    costs
        What a wrong decision costs, as ``truth:prediction=cost``; what is not named costs nothing.
    slices
        Columns by which changes are looked at; all unless given.
    threshold
        Makes decisions of numbers: 1 from it on, 0 below.
    output
        Also write the rows here, with both answers; the ending tells the format.
    exit_code
        Fail with exit code 4 when the candidate is worse where the truth is known.

    Returns
    -------
    Replay
        How many decisions flip, which ways, in which slices more often than elsewhere; gains, losses and costs where
        the truth is known. Of numbers: how they differ.

    Raises
    ------
    DataError
        Nothing was captured since then, or not what the candidate needs.
    GateError
        The candidate is worse, and `exit_code` was asked for; the report comes along.
    NotFoundError
        There is no such version, endpoint, file or column.
    UsageError
        Several endpoints serve the model, or a cost cannot be read.

    Examples
    --------
    ``nbmlops replay delays/3 --against champion --since 7d --labels landed.parquet --key flight --costs 1:0=5``

    Plain code
    ----------
    import mlflow
    import pandas as pd

    mlflow.set_tracking_uri($tracking)
    requests = pd.read_parquet("requests.parquet")
    answers = requests.pop("prediction")
    candidate = mlflow.pyfunc.load_model("models:/" + $model)
    print((candidate.predict(requests) != answers).mean())
    """
    from pathlib import Path

    from nbmlops.data.tables import check_ending, read_table, write_table
    from nbmlops.registry.reading import remembered
    from nbmlops.serving import replay as replays

    prices = costs_of(costs)
    if prices and labels is None:
        raise UsageError("Costs are of decisions whose truth is known.", "Give --labels TABLE too.")
    if output is not None:
        check_ending(Path(output))
    candidate = remembered(project, model, CHALLENGER)
    question = replays.Question(
        replays.endpoint_of(project, endpoint, candidate.name),
        moment_of(since, datetime.now(UTC), "since"),
        candidate,
        remembered(project, reference_of(candidate.name, against)),
    )
    truth = None if labels is None else replays.truth_of(read_table(project, labels), key, target)
    report, rows = replays.replay(project, question, truth=truth, costs=prices, slices=slices, threshold=threshold)
    if output is not None:
        write_table(rows, project.output(output))
    if exit_code and report.is_worse:
        raise GateError(f"{report.headline}.", f"What live traffic gets stays: {report.against}", report=report)
    return report


def reference_of(model: str, against: str) -> str:
    """Read what a model is compared with: an alias or a number of its own versions, or a whole reference.

    Examples
    --------
    >>> reference_of("delays", "champion"), reference_of("delays", "2"), reference_of("delays", "arrivals/2")
    ('delays@champion', 'delays/2', 'arrivals/2')
    """
    if "/" in against or "@" in against:
        return against
    return f"{model}/{against}" if against.isdecimal() else f"{model}@{against}"


def costs_of(given: Mapping[Any, Any]) -> dict[tuple[str, str], float]:
    """Read costs: ``truth:prediction=cost``, or a mapping of pairs.

    Raises
    ------
    UsageError
        One is none.

    Examples
    --------
    >>> costs_of({"late:on time": "5"}), costs_of({(1, 0): 2.5})
    ({('late', 'on time'): 5.0}, {('1', '0'): 2.5})
    """
    return {_pair(pair): _cost(pair, cost) for pair, cost in given.items()}


def _pair(given: Any) -> tuple[str, str]:
    parts = given.split(":") if isinstance(given, str) else given
    if len(parts) != 2:
        raise UsageError(f"The cost of {given!r} names no truth and prediction.", "Write it as --costs 1:0=5")
    return str(parts[0]), str(parts[1])


def _cost(pair: Any, given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        raise UsageError(f"The cost of {pair} is {given!r}, no number.", "Write it as --costs 1:0=5") from None
