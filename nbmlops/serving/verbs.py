"""The verbs of serving: deploy, endpoints, traffic, predict, undeploy."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.data.tables import check_ending, read_table, write_table
from nbmlops.errors import ConflictError, DataError, NotFoundError, StoreError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.serving.endpoints import Deployment, Endpoint, Predictions, Progress, Share, Traffic, Undeployment
from nbmlops.serving.rollout import Rollout, compared
from nbmlops.serving.target import LOCAL, RAY, Place, target_of
from nbmlops.serving.targets.deployments import TargetDeployment, deployed_to, refuse_local
from nbmlops.verb import DataRef, EndpointName, ModelRef, Pairs, Rows, verb

if TYPE_CHECKING:
    import pandas as pd

    from nbmlops.ledger.endpoints import Wanted
    from nbmlops.serving.client import Server
    from nbmlops.serving.policy import Terms
    from nbmlops.serving.window import Window


@verb
def deploy(
    project: Project,
    model: ModelRef,
    *,
    as_: EndpointName | None = None,
    port: int | None = None,
    workers: int | None = None,
    canary: str = "",
    linear: float | None = None,
    blue_green: bool = False,
    shadow: bool = False,
    bake: str | None = None,
    slo: str = "",
    promote: bool = False,
    at_once: bool = False,
    wait: bool = False,
    capture: bool | None = None,
    token: str | None = None,
    address: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
    to: str | None = None,
    parameters: Pairs = {},
    dry_run: bool = False,
) -> Deployment | TargetDeployment:
    """Serve a model version over HTTP on this machine, at once or step by step.

    The version first passes a preflight in a clean process: it is loaded, and must
    say about its own input example what it said when it was registered. Only then
    it answers, and no request is lost when it takes the place of another. If it
    fails, what was live stays live. A version that is rolled out is watched, and
    taken back by itself when it breaks a limit.

    Parameters
    ----------
    model
        ``name/version`` or ``name@alias``; a name alone means ``name@champion``, and that of an endpoint of
        nbmlops.toml the model declared there. An endpoint that was deployed by an alias goes with it.
    as_
        The endpoint's name; the model's name unless given.
    port
        The port to listen on; unless given the endpoint keeps its port, or gets a free one.
    workers
        How many processes answer; one unless given.
    canary
        Give the version these shares of the requests one after the other, in percent: ``10,50,100``.
    linear
        Give it this much more at each step, in percent.
    blue_green
        Give it all requests at once, and go back if it breaks a limit.
    shadow
        Have it answer nobody, and compare what it says with what is answered.
    bake
        How long each step lasts at least: ``90s``; ``5m`` unless given.
    slo
        The limits: ``err<1%,p99<50ms,shift<0.2``.
    promote
        Point the alias that the endpoint follows at the version after the last step; its gate must have passed.
    at_once
        Leave out the rollout that nbmlops.toml declares for the endpoint.
    wait
        Return when the rollout has ended.
    capture
        Keep requests and answers, as Parquet under ``.nbmlops/capture``.
    token
        What callers must send as ``Authorization: Bearer``, as a reference: ``env:NAME`` or ``file:PATH``.
    address
        Where to listen; 127.0.0.1 unless given. Any other address needs a token.
    certificate
        A PEM file; with `key` the endpoint speaks TLS.
    key
        The certificate's private key, a PEM file.
    to
        Where to: this machine unless given or declared; ``ray`` for Ray Serve; any target of ``mlflow.deployments``
        as MLflow names it, for instance ``sagemaker:/eu-central-1``: there its own rules hold, and of the options above
        ``--as``.
    parameters
        What the target is told, ``name=value``; a secret as ``name=env:VARIABLE``. Of Ray Serve: the cluster's
        ``address`` as ``ray.init`` takes it, a version's ``replicas`` and ``cpus``, the proxy's ``port`` and ``url``.
    dry_run
        Only tell what would be deployed.

    Returns
    -------
    Deployment or TargetDeployment
        The version, its URL, and what the preflight found; or what the target was told.

    Raises
    ------
    DeployError
        The version failed its preflight, a server does not start, or it was rolled back (with ``--wait``).
    ConflictError
        The bytes are not those that were registered, another machine serves that endpoint, or a rollout goes on there.
    GateError
        It is to be promoted, and no passed gate report is about its bytes.
    NotFoundError
        There is no such version.
    UsageError
        Options contradict each other, or the endpoint would be open to others without a token.

    Examples
    --------
    ``nbmlops deploy delays/3 --canary 10,50,100 --bake 5m --slo "err<1%,p99<50ms,shift<0.2" --promote``

    Plain code
    ----------
    import os
    import subprocess
    import sys

    model, port = $model, $port or 5001
    uri = f"models:/{model}" if "/" in model or "@" in model else f"models:/{model}@champion"
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", uri, "-p", str(port)]
    subprocess.run(serve, env={**os.environ, "MLFLOW_TRACKING_URI": $tracking})
    """
    from nbmlops.serving import deploying, policy

    model, name = policy.target_of(project, model, as_)
    declared = policy.of(project, name)
    to, parameters = declared.target(to, parameters)
    if to not in (LOCAL, RAY) or (parameters and to == LOCAL):
        given = (port, workers, canary, linear, blue_green, shadow, bake, slo, promote, at_once, wait, capture)
        refuse_local((*given, token, address, certificate, key), to)
        return deployed_to(project, model, name, to, parameters, dry_run=dry_run)
    _ = [project.path(each) for each in (certificate, key) if each]  # refused here: what is wanted may lie anywhere
    captured = policy.captured(declared, capture)
    terms = policy.Terms(port, workers, address, token, certificate, key, captured).over(declared.terms)
    place = _on_ray(parameters, terms) if to == RAY else Place()
    trial = policy.trial(
        declared.rollout,
        at_once=at_once,
        canary=canary,
        linear=linear,
        blue_green=blue_green,
        shadow=shadow,
        bake=bake,
        slo=slo,
        promote=promote,
    )
    made = deploying.deployed(project, model, name, terms, trial, place, dry_run=dry_run)
    if made.state and wait:
        ended = deploying.awaited(project, name)
        return replace(made, state=str(ended.rollout["state"]))
    if made.state == "running":
        deploying.tell_if_left_alone(project)
    return made


def _on_ray(parameters: Mapping[str, Any], terms: "Terms") -> Place:
    from nbmlops.serving.targets.ray import place

    return place(parameters, terms)


@verb
def endpoints(project: Project) -> Rows[Endpoint]:
    """List the endpoints, what answers there, and how it does.

    Returns
    -------
    Rows of Endpoint
        By name; ``status`` is ``answers``, ``partly`` (a server of several is missing), ``behind`` (what is
        wanted is not served yet), ``silent`` (the processes run but do not answer), ``dead``, or ``elsewhere``
        (another machine serves it).

    Examples
    --------
    ``nbmlops endpoints``

    Plain code
    ----------
    import urllib.request

    print(urllib.request.urlopen("http://127.0.0.1:5001/ping", timeout=2).status)
    """
    from nbmlops.ledger.endpoints import Endpoints

    ledger = project.open(Endpoints)
    found = ledger.found()
    return Rows(_endpoint(project, wanted, found.get(name, {})) for name, wanted in ledger.wanted().items())


@verb
def traffic(project: Project, endpoint: EndpointName, weights: Pairs, *, dry_run: bool = False) -> Traffic:
    """Set how an endpoint's requests are shared between the versions that it serves.

    It takes effect within a second, without a restart. A rollout that goes on there
    ends: whoever sets weights by hand has taken over.

    Parameters
    ----------
    endpoint
        Its name.
    weights
        ``version=percent`` for one of its versions or for both; what is missing to 100 goes to the other one.
    dry_run
        Only tell what would be set.

    Returns
    -------
    Traffic
        The weights, and those before.

    Raises
    ------
    NotFoundError
        There is no such endpoint, or it does not serve that version.
    UsageError
        The weights are no percentages that add up to 100.

    Examples
    --------
    ``nbmlops traffic delays 2=90 3=10``

    Plain code
    ----------
    from mlflow.deployments import get_deploy_client

    weights = dict($weights)
    get_deploy_client("sagemaker").update_endpoint($endpoint, config={"traffic": weights})
    """
    from nbmlops.ledger.endpoints import Endpoints
    from nbmlops.serving import deploying, keeping, processes

    deploying.ours(find_endpoint(project, endpoint))
    with processes.only_one(keeping.lock(project, endpoint)):
        wanted = find_endpoint(project, endpoint)
        previous = {each.version: each.weight for each in wanted.variants}
        shares = shared(weights, tuple(previous))
        if not dry_run:
            ledger = project.open(Endpoints)
            kept = ledger.want(_with_weights(wanted, shares))
            ledger.tell(endpoint, target_of(kept).made_so(project, kept).record())
    return Traffic(endpoint, shares, previous, dry_run)


@verb
def predict(
    project: Project, endpoint: EndpointName, *, data: DataRef, repeat: int = 1, output: str | None = None
) -> Predictions:
    """Score a table on an endpoint over HTTP.

    Parameters
    ----------
    endpoint
        Its name.
    data
        The table: a path, or a DataFrame in a notebook.
    repeat
        Score it so many times over, for instance to see how quick the endpoint is, or to give a rollout requests.
    output
        Also write the table here, with the new column ``prediction``; the ending tells the format.

    Returns
    -------
    Predictions
        One a row, in the table's order, and how long it took.

    Raises
    ------
    NotFoundError
        There is no such endpoint or file; the hint names the nearest.
    DataError
        The table does not fit the model; the message is the server's own.
    StoreError
        The endpoint does not answer.

    Examples
    --------
    ``nbmlops predict delays --data march.parquet -o scored.parquet``

    Plain code
    ----------
    import json
    import urllib.request

    import pandas as pd

    rows = pd.read_parquet($data)
    body = json.dumps({"dataframe_split": json.loads(rows.to_json(orient="split", index=False))}).encode()
    request = urllib.request.Request("http://127.0.0.1:5001/invocations", body, {"Content-Type": "application/json"})
    print(json.load(urllib.request.urlopen(request))["predictions"])
    """
    from nbmlops.serving import client

    if repeat < 1:
        raise UsageError(f"A table cannot be scored {repeat} times.", "Give --repeat 1 or more.")
    wanted = find_endpoint(project, endpoint)
    frame = read_table(project, data)
    _check_scorable(frame, output)
    server = _reachable(project, wanted)
    started = time.monotonic()
    for _ in range(repeat):
        found = tuple(value for chunk in client.predictions(server, frame) for value in chunk)
    seconds = time.monotonic() - started
    if output is not None:
        import pandas as pd

        write_table(frame.assign(prediction=pd.Series(found, index=frame.index)), project.output(output))
    n_rows = len(found) * repeat
    live = wanted.champion
    return Predictions(
        endpoint, live.model, live.version, n_rows, round(seconds, 4), round(n_rows / seconds, 1), found, output or ""
    )


@verb
def undeploy(project: Project, endpoint: EndpointName, *, dry_run: bool = False) -> Undeployment:
    """Stop an endpoint.

    Its server finishes the requests it has, then ends; the model's copy and the log go.

    Parameters
    ----------
    endpoint
        Its name.
    dry_run
        Only tell what would be stopped.

    Returns
    -------
    Undeployment
        What was served where.

    Raises
    ------
    NotFoundError
        There is no such endpoint; the hint names the nearest.
    ConflictError
        Another machine serves it.

    Examples
    --------
    ``nbmlops undeploy delays``

    Plain code
    ----------
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if "mlflow.pyfunc.scoring_server.app:app" in (process.info["cmdline"] or []):
            process.terminate()
    """
    from nbmlops.ledger.endpoints import Endpoints
    from nbmlops.serving import deploying, keeping, processes

    deploying.ours(find_endpoint(project, endpoint))
    with processes.only_one(keeping.lock(project, endpoint)):
        wanted, ledger = find_endpoint(project, endpoint), project.open(Endpoints)
        url = deploying.url_of(wanted, ledger.found()[endpoint])
        if not dry_run:
            ledger.forget(endpoint)
            target_of(wanted).ended(project, wanted)
    return Undeployment(endpoint, url, wanted.champion.model, wanted.champion.version, dry_run)


def find_endpoint(project: Project, endpoint: str) -> "Wanted":
    """Find an endpoint that is wanted.

    Raises
    ------
    NotFoundError
        There is none of that name; the hint names the nearest.
    """
    from nbmlops.ledger.endpoints import Endpoints

    known = project.open(Endpoints).wanted()
    if endpoint not in known:
        raise NotFoundError(
            f"There is no endpoint {endpoint!r}.", nearest(endpoint, known) or "Make one: `deploy MODEL`"
        )
    return known[endpoint]


def shared(weights: Mapping[str, Any], versions: tuple[str, ...]) -> dict[str, float]:
    """Complete the weights of an endpoint's versions, in percent.

    Raises
    ------
    NotFoundError
        One is of a version that is not served.
    UsageError
        One is no percentage, or they do not add up to 100.

    Examples
    --------
    >>> shared({"3": "10"}, ("2", "3"))
    {'2': 90.0, '3': 10.0}
    """
    given = {version.rpartition("/")[2]: _percent(version, value) for version, value in weights.items()}
    if unknown := [version for version in given if version not in versions]:
        served = f"It serves {' and '.join(versions)}."
        raise NotFoundError(f"The endpoint does not serve version {unknown[0]}.", served)
    missing = [version for version in versions if version not in given]
    if len(missing) == 1:
        given[missing[0]] = 100.0 - sum(given.values())
    if abs(sum(given.values()) - 100.0) > 1e-6 or min(given.values()) < 0:
        raise UsageError(f"The weights add up to {sum(given.values()):g}, not to 100.", "Write them as 2=90 3=10.")
    return {version: given.get(version, 0.0) for version in versions}


def _percent(version: str, value: Any) -> float:
    try:
        return float(str(value).removesuffix("%"))
    except ValueError:
        raise UsageError(f"The weight of {version} is {value!r}, no percentage.", "Write it as 2=90 3=10.") from None


def _with_weights(wanted: "Wanted", shares: Mapping[str, float]) -> "Wanted":
    from nbmlops.ledger.endpoints import weighted

    rollout = wanted.rollout
    if rollout.get("state") == "running":
        rollout = {**rollout, "state": "aborted", "reason": "weights were set by hand"}
    variants = tuple(weighted(each, shares[each.version]) for each in wanted.variants)
    return replace(wanted, variants=variants, rollout=rollout)


def _check_scorable(frame: "pd.DataFrame", output: str | None) -> None:
    """Refuse, before anything is sent, what could not be scored or kept."""
    if frame.empty:
        raise DataError("The table has no rows to score.")
    if output is not None:
        check_ending(Path(output))
        if "prediction" in frame.columns:
            raise ConflictError("The table has a column 'prediction' already.", "Rename it, or leave --output out.")


def server_of(project: Project, wanted: "Wanted", found: Mapping[str, Any]) -> "Server":
    """Say where an endpoint answers, and what it asks for."""
    from nbmlops.secrets import resolved
    from nbmlops.serving import client, deploying

    token = resolved(wanted.token, project.root) if wanted.token else ""
    certificate = str(project.declared_path(wanted.certificate)) if wanted.certificate else ""
    url = deploying.url_of(wanted, found)
    return client.Server(wanted.name, url, _again(wanted), token, certificate)


def _again(wanted: "Wanted") -> str:
    """Word the command that starts an endpoint again."""
    import shlex

    live = wanted.champion
    named = "" if wanted.name == live.model else f" --as {shlex.quote(wanted.name)}"
    there = f" --to {wanted.target}" if wanted.target else ""
    return f"deploy {shlex.quote(live.label)}{named}{there}"


def _reachable(project: Project, wanted: "Wanted") -> "Server":
    from nbmlops.ledger.endpoints import Endpoints
    from nbmlops.serving import client, keeping

    server = server_of(project, wanted, project.open(Endpoints).found().get(wanted.name, {}))
    if not keeping.is_ours(wanted):
        where = f"{wanted.name} is served by {wanted.host}, on that machine alone."
        raise StoreError(where, f"Run this on {wanted.host}.")
    if not server.url or not (wanted.target or _running(project, wanted)):
        raise client.unreachable(server, "its process is gone")
    return server


def _running(project: Project, wanted: "Wanted") -> list[int]:
    """List the servers of an endpoint that run on this machine, by their process ids."""
    from nbmlops.serving import keeping, processes
    from nbmlops.serving.instructions import WORKERS

    folders = sorted((keeping.folder_of(project, wanted.name) / WORKERS).glob("*"))
    return [found.pid for folder in folders if (found := processes.living(folder))]


def _endpoint(project: Project, wanted: "Wanted", found: Mapping[str, Any]) -> Endpoint:
    from nbmlops.serving import deploying, keeping

    status, pids = _status(project, wanted, found)
    return Endpoint(
        name=wanted.name,
        url=deploying.url_of(wanted, found),
        model=wanted.champion.model,
        version=wanted.champion.version,
        status=status,
        traffic=_traffic(project, wanted, found),
        follows=wanted.follows,
        rollout=_rollout_words(wanted.rollout),
        since=wanted.since,
        pids=tuple(pids),
        trouble=found.get("trouble", ""),
        refused=target_of(wanted).refused(project, wanted) if keeping.is_ours(wanted) else {},
        progress=Progress.of(Rollout.of(wanted.rollout)) if wanted.rollout else None,
    )


def _status(project: Project, wanted: "Wanted", found: Mapping[str, Any]) -> tuple[str, list[int]]:
    from nbmlops.serving import client, deploying, keeping

    if not keeping.is_ours(wanted):
        return "elsewhere", []
    pids = _running(project, wanted)
    if not pids and not wanted.target:
        return "dead", []
    if not deploying.url_of(wanted, found):
        return "behind", pids
    if not client.answers(server_of(project, wanted, found)):
        return "silent", pids
    if found.get("revision") != wanted.revision:
        return "behind", pids
    return "answers" if wanted.target or len(pids) >= wanted.workers else "partly", pids


def _traffic(project: Project, wanted: "Wanted", found: Mapping[str, Any]) -> tuple[Share, ...]:
    from nbmlops.serving import keeping

    forms = dict(each.split(" ", 1) for each in found.get("forms", ()))
    counts = target_of(wanted).counted(project, wanted) if keeping.is_ours(wanted) else {}
    shares = []
    for each in wanted.variants:
        window = counts.get(each.label)
        p99 = window.quantile_s(0.99) if window and window.n_requests else None
        shares.append(
            Share(
                model=each.model,
                version=each.version,
                role=each.role,
                weight=each.weight,
                form=forms.get(each.label, ""),
                n_requests=window.n_requests if window else 0,
                n_errors=window.n_errors if window else 0,
                latency_p99_ms=round(p99 * 1000, 3) if p99 is not None else None,
                shift=None if each == wanted.champion else _shift(wanted, each.label, counts),
            )
        )
    return tuple(shares)


def _shift(wanted: "Wanted", label: str, counts: "Mapping[str, Window]") -> float | None:
    """Measure how far a version's predictions lie from the champion's: in its rollout's step, else of all counted."""
    from nbmlops.serving.judgement import shifted

    if wanted.rollout.get("state") == "running":
        found = shifted(*compared(Rollout.of(wanted.rollout), counts))
    else:
        found = shifted(counts[label], counts.get(wanted.champion.label)) if label in counts else None
    return None if found is None else round(found, 4)


def _rollout_words(rollout: Mapping[str, Any]) -> str:
    if not rollout:
        return ""
    state = str(rollout["state"]).replace("_", " ")
    reason = f": {rollout['reason']}" if rollout.get("reason") else ""
    return f"{rollout['challenger']} {state}{reason}"
