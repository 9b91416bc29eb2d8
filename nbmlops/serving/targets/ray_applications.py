"""The applications of one endpoint on Ray Serve: started, proven and ended; ``python -m … FOLDER``.

A process of its own, so that no caller's session is joined to a cluster. It reads what is asked of it in the endpoint's
folder, and tells there what came of it. One at a time acts on an endpoint of a cluster, whatever machine it runs on.
"""

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from nbmlops.errors import DeployError, NbmlopsError, StoreError, UsageError
from nbmlops.ledger.endpoints import Endpoints, Variant
from nbmlops.project import Project
from nbmlops.serving import preflight, variants
from nbmlops.serving.check import Check
from nbmlops.serving.instructions import LOOPBACK, Bounds, replace_file
from nbmlops.serving.policy import limits_of
from nbmlops.serving.targets.ray import ASKED, TOLD, Cluster, app_of, missing, path_of, prefix_of

LOOK_S = 0.2
PROOF_S = 300.0
START_S = 500.0
NAMESPACE = "nbmlops"
ROUTER_CPUS = 0.1
MORE_WAITING = 64  # requests that get as far as the router, so that it can refuse them in our own words
RUNNING = "RUNNING"
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


class Endpoint:
    """An endpoint's applications on the cluster that this process has joined."""

    def __init__(self, project: Project, asked: Mapping[str, Any]) -> None:
        from nbmlops.serving.targets.ray_replicas import Origin

        self._project = project
        self._name, self._token = asked["name"], asked["token"]
        self._is_other_token = asked["is_other_token"]
        self._versions = tuple(Variant(**each) for each in asked["versions"])
        self.cluster = Cluster.of(asked["parameters"])
        self.prefix = prefix_of(project, self._name)
        self._origin = Origin.of(project)

    # ------------------------------------------------------------------- start
    def started(self) -> list[Check]:
        """Start what is missing: versions that pass their preflight, and the router; end what is wanted no longer.

        Raises
        ------
        DeployError
            A version failed, or something does not start; what was started for it is gone.
        """
        running = statuses()
        apps = {app_of(self.prefix, self.cluster, each): each for each in self._versions}
        found = {app: self._proven(each) for app, each in apps.items() if running.get(app) != RUNNING}
        end(self._left_over(running, apps))
        starting = [
            _Start(app, self._version(apps[app], is_batchable=each.is_batchable)) for app, each in found.items()
        ]
        if self._is_other_token or running.get(self.prefix) != RUNNING:
            starting.append(_Start(self.prefix, self._router(), f"/{path_of(self._name)}"))
        try:
            run(starting)
        except BaseException:
            end([each.app for each in starting if each.app != self.prefix or each.app not in running])
            raise
        checks = [check for each in found.values() for check in each.checks]
        return checks or [Check("load", preflight.OK, "it runs there already")]

    def _proven(self, variant: Variant) -> preflight.Preflight:
        """Have a version pass its preflight in a worker of the cluster that does nothing else."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError, RayTaskError

        from nbmlops.serving.targets.ray_replicas import proven

        task = ray.remote(max_calls=1, max_retries=0, num_cpus=self.cluster.cpus)(proven)
        try:
            told = ray.get(task.remote(self._origin, variant), timeout=PROOF_S)
        except GetTimeoutError as exc:
            raise DeployError(f"{variant.label} failed its preflight: not done within {PROOF_S:.0f} s.") from exc
        except RayTaskError as exc:
            raise _cause(exc, variant) from exc
        except RayError as exc:
            raise DeployError(f"{variant.label} failed its preflight: its process died.", str(exc)[:300]) from exc
        checks = tuple(Check(**each) for each in told["checks"])
        found = preflight.Preflight(checks, told["is_batchable"], tuple(told["said"]))
        if not found.passed:
            raise DeployError(f"{variant.label} failed its preflight, so what is live stays: {found.failures}.")
        variants.recorded(self._project, variant, found)
        return found

    def _version(self, variant: Variant, *, is_batchable: bool) -> Any:
        from ray import serve

        from nbmlops.serving.targets.ray_replicas import Version

        deployment = serve.deployment(
            Version,
            name="version",
            num_replicas=self.cluster.replicas,
            max_ongoing_requests=Bounds.max_waiting,
            ray_actor_options={"num_cpus": self.cluster.cpus},
        )
        return deployment.bind(self._origin, variant, Bounds.latency_s, is_batchable=is_batchable)

    def _router(self) -> Any:
        from ray import serve

        from nbmlops.serving.targets.ray_replicas import Router

        origin, name, token = self._origin, self._name, self._token

        def router() -> Any:
            return Router(origin, name, token)

        return serve.deployment(
            serve.ingress(router)(),
            name="router",
            num_replicas=1,
            max_ongoing_requests=self._waiting() + MORE_WAITING,
            ray_actor_options={"num_cpus": ROUTER_CPUS},
        ).bind()

    def _waiting(self) -> int:
        wanted = self._project.open(Endpoints).wanted().get(self._name)
        return limits_of(wanted)[1].max_waiting if wanted else Bounds.max_waiting

    # --------------------------------------------------------------------- end
    def _left_over(self, running: Mapping[str, str], asked: Mapping[str, Any]) -> list[str]:
        """List the applications of versions that nobody wants; beside one alone another stays, to go back to."""
        wanted = self._project.open(Endpoints).wanted().get(self._name)
        kept = {app_of(self.prefix, self.cluster, each) for each in (wanted.variants if wanted else ())} | set(asked)
        others = [app for app in running if app.startswith(f"{self.prefix}/") and app not in kept]
        return others if len(kept) > 1 else others[:-1]

    def ended(self) -> None:
        """End all of it: the router first."""
        running = statuses()
        end([app for app in running if app == self.prefix])
        end([app for app in running if app.startswith(f"{self.prefix}/")])


# ----------------------------------------------------------------------- applications
class _Start(NamedTuple):
    """An application that is to run, and where callers find it, if they do."""

    app: str
    target: Any
    route: str | None = None


def statuses() -> dict[str, str]:
    """Give the applications of the cluster, by name."""
    from ray import serve

    return {name: str(each.status.value) for name, each in serve.status().applications.items()}


def run(starting: Sequence[_Start]) -> None:
    """Start applications, and wait until they run.

    Raises
    ------
    DeployError
        One does not start; the message says why.
    """
    from ray import serve

    if not starting:
        return
    targets = [serve.RunTarget(each.target, each.app, each.route) for each in starting]
    serve.run_many(targets, wait_for_applications_running=False)
    deadline = time.monotonic() + START_S
    while waiting := {each.app for each in starting} & _not_running():
        if time.monotonic() > deadline:
            raise DeployError(
                f"Ray Serve has not started {', '.join(sorted(waiting))} within {START_S:.0f} s.",
                "See what its nodes have left (`ray status`); -p cpus=0.1 claims less.",
            )
        time.sleep(LOOK_S)


def _not_running() -> set[str]:
    """List the applications that do not run yet; one that never will is an error."""
    from ray import serve

    waiting = set()
    for name, each in serve.status().applications.items():
        if each.status.value in FAILED and name.startswith(f"{NAMESPACE}."):
            said = " ".join(part.message for part in each.deployments.values() if part.message) or each.message
            raise DeployError(f"Ray Serve does not start {name}: {_last_line(said)}", "Read Ray Serve's logs.")
        if each.status.value != RUNNING:
            waiting.add(name)
    return waiting


def end(apps: Sequence[str]) -> None:
    """End applications, and wait until they are gone."""
    from ray import serve

    for app in apps:
        serve.delete(app)


def _last_line(said: str) -> str:
    return ([line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing."])[-1][:500]


def _first_cause(exc: BaseException) -> str:
    """Word what an error began with, in one line."""
    while cause := exc.__cause__ or exc.__context__:
        exc = cause
    return (str(exc).strip() or type(exc).__name__).splitlines()[0].partition(" Note:")[0][:500]


def _cause(exc: Any, variant: Variant) -> NbmlopsError:
    """Give what a task raised, where it is an error of ours."""
    cause = getattr(exc, "cause", None)
    if isinstance(cause, NbmlopsError):
        return cause
    if isinstance(cause, ImportError):
        return _not_there(cause)
    return DeployError(f"{variant.label} failed its preflight: {_last_line(str(exc))}")


def _not_there(exc: ImportError) -> UsageError:
    return UsageError(
        f"Ray's nodes cannot import {exc.name}.", f"Install nbmlops[ray]=={version('nbmlops')} on every node."
    )


# ------------------------------------------------------------------------ the cluster
@contextlib.contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """Join a cluster for a moment, and see that Serve runs there.

    Raises
    ------
    UsageError
        Ray Serve is not installed.
    StoreError
        The cluster is out of reach.
    """
    try:
        import ray
        from ray import serve
    except ImportError as exc:
        raise missing() from exc
    try:
        ray.init(cluster.address or "auto", log_to_driver=False, logging_level="ERROR", configure_logging=True)
        serve.start(http_options={"host": LOOPBACK[0], "port": cluster.port} if cluster.is_of_here else None)
    except Exception as exc:  # Ray's own are of many kinds
        traceback.print_exc()
        hint = "Start one (`ray start --head`), or name one: -p address=ray://HOST:10001"
        raise StoreError(f"{cluster.words} is out of reach: {_first_cause(exc)}", hint) from exc
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def only_one(name: str) -> Iterator[None]:
    """Let one process at a time act on an endpoint, of all that join the cluster: an actor of that name is theirs.

    It goes with its process, however that ends.
    """
    import ray

    holder = ray.remote(num_cpus=0)(_Holder).options(name=name, namespace=NAMESPACE)
    deadline = time.monotonic() + START_S
    while True:
        try:
            held = holder.remote()
            break
        except ValueError as exc:  # the name is taken
            if time.monotonic() > deadline:
                raise StoreError(f"Another process acts on {name} for {START_S:.0f} s.", "Try again.") from exc
            time.sleep(LOOK_S)
    try:
        yield
    finally:
        ray.kill(held)


class _Holder:
    """Holds a name."""


def url_of(cluster: Cluster, name: str, token: str) -> str:
    """Say where an endpoint is reached.

    Raises
    ------
    UsageError
        Others could reach it, and it asks for no token.
    """
    from ray.serve.context import _get_global_client

    told = _get_global_client().http_config
    if told.host not in LOOPBACK and not token:
        raise UsageError(
            f"Ray Serve listens at {told.host}, so others could reach the endpoint, and it asks for no token.",
            "Give one: --token env:NAME; or have Serve listen at 127.0.0.1.",
        )
    return f"{cluster.url.rstrip('/') or f'http://{cluster.host}:{told.port}'}/{path_of(name)}"


# --------------------------------------------------------------------------- the process
def acted(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Do what is asked; gives what is to be told."""
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    cluster = Cluster.of(asked["parameters"])
    with joined(cluster):
        project = Project(asked["root"])
        endpoint = Endpoint(project, asked)
        with only_one(endpoint.prefix):
            if asked["ends"]:
                endpoint.ended()
                return {"url": "", "checks": []}
            url = url_of(cluster, asked["name"], asked["token"])
            return {"url": url, "checks": [vars(check) for check in endpoint.started()]}


def main(folder: Path) -> int:
    """Do what is asked in an endpoint's folder, and tell there what came of it; gives the exit code."""
    try:
        told, code = acted(json.loads((folder / ASKED).read_bytes())), 0
    except (NbmlopsError, ImportError) as exc:
        traceback.print_exc()
        error = _not_there(exc) if isinstance(exc, ImportError) else exc
        told, code = {"error": error.details()}, error.exit_code
    replace_file(folder / TOLD, told)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
