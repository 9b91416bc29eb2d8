"""The control of a canary: how requests are shared, what each version does, and the verbs that change it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.project import Project
from nbmlops.serving.endpoints import Endpoint, Share
from nbmlops.surfaces.show import cell
from nbmlops.surfaces.widgets.comparison import clipped
from nbmlops.verb import load


class CanaryView:
    """Endpoints, each with its versions; `names` are those that are shown, all of them where it is empty."""

    source = "canary.js"
    every_s = 2.0

    def __init__(self, project: Project, names: Sequence[str] = ()) -> None:
        self._project = project
        self._names = tuple(names)

    def state(self) -> dict[str, Any]:
        """Look how the endpoints are now."""
        rows = load("endpoints")(self._project)
        return {"endpoints": [_shown(row) for row in rows if not self._names or row.name in self._names]}

    def words(self, asked: Mapping[str, Any]) -> list[str]:
        """Set weights, promote the version that is tried, or roll back."""
        spelled = _WORDS.get(str(asked.get("do")))
        if spelled is None:
            raise UsageError(f"There is nothing to do called {asked.get('do')!r}.")
        return spelled(asked)


def _shown(row: Endpoint) -> dict[str, Any]:
    alias = row.follows.rpartition("@")[2] if "@" in row.follows else ""
    return {
        "name": row.name,
        "model": row.model,
        "alias": alias,
        "title": row.name,
        "status": row.status,
        "detail": f"at {row.url}" if row.url else "",
        "rollout": clipped(row.rollout, 300),
        "trouble": clipped(cell(row.trouble), 300),
        "versions": [_version(share) for share in row.traffic],
    }


def _version(share: Share) -> dict[str, Any]:
    return {
        "version": share.version,
        "role": share.role,
        "weight": share.weight,
        "requests": cell(share.n_requests),
        "errors": cell(share.n_errors),
        "p99": "" if share.latency_p99_ms is None else f"{cell(share.latency_p99_ms)} ms",
    }


def _traffic(asked: Mapping[str, Any]) -> list[str]:
    weights = asked.get("weights")
    pairs = [f"{version}={weight}" for version, weight in weights.items()] if isinstance(weights, Mapping) else []
    return ["traffic", str(asked.get("endpoint", "")), *pairs]


def _promote(asked: Mapping[str, Any]) -> list[str]:
    alias = str(asked.get("alias") or "champion")
    to = [] if alias == "champion" else [f"--to={alias}"]
    return ["promote", f"{asked.get('model')}/{asked.get('version')}", *to]


def _rollback(asked: Mapping[str, Any]) -> list[str]:
    alias = str(asked.get("alias") or "champion")
    return ["rollback", str(asked.get("model")) + ("" if alias == "champion" else f"@{alias}")]


_WORDS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "traffic": _traffic,
    "promote": _promote,
    "rollback": _rollback,
}
