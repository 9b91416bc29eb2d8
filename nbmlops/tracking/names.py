"""Names of runs, models and endpoints for completion: asked of the databases, without MLflow.

A tracking server has no database to ask, so it offers none here. A schema that is
not known gives no names, never an error.
"""

import functools
import time
from collections.abc import Sequence

from nbmlops.project import Project

CACHE_S = 3
PATIENCE_S = 2  # a person waits for the completion

_RUNS = """
SELECT runs.name, run_uuid FROM runs JOIN experiments ON runs.experiment_id = experiments.experiment_id
WHERE experiments.name = :experiment AND runs.lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT 50"""
_VERSIONS = "SELECT name, version FROM model_versions WHERE current_stage <> 'Deleted_Internal' ORDER BY name, version"
_ALIASES = "SELECT name, alias FROM registered_model_aliases ORDER BY name, alias"


def runs(project: Project) -> list[str]:
    """Names of the project's newest 50 runs, then the beginnings of their ids."""
    found = _ask(project.settings.tracking.value, _RUNS, project.settings.name.value)
    return [name for name, _ in found if name and " " not in name] + [run_id[:8] for _, run_id in found]


def model_names(project: Project) -> list[str]:
    """Names of the registered models."""
    return list(dict.fromkeys(name for name, _ in _ask(project.settings.tracking.value, _VERSIONS)))


def models(project: Project) -> list[str]:
    """Model names, ``name@alias`` and ``name/version``."""
    uri = project.settings.tracking.value
    aliases = [f"{name}@{alias}" for name, alias in _ask(uri, _ALIASES)]
    return [*model_names(project), *aliases, *(f"{name}/{version}" for name, version in _ask(uri, _VERSIONS))]


def aliases(project: Project) -> list[str]:
    """Aliases that point at some version."""
    return [alias for _, alias in _ask(project.settings.tracking.value, _ALIASES)]


def endpoints(project: Project) -> list[str]:
    """Names of the endpoints."""
    return [
        str(name) for (name,) in _ask(project.settings.ledger.value, "SELECT name FROM nbmlops_endpoints ORDER BY name")
    ]


def _ask(uri: str, query: str, experiment: str = "") -> Sequence[tuple[str, ...]]:
    return () if uri.startswith("http") else _remembered(uri, query, experiment, int(time.monotonic() / CACHE_S))


@functools.lru_cache(maxsize=32)
def _remembered(uri: str, query: str, experiment: str, _: int) -> Sequence[tuple[str, ...]]:
    import sqlalchemy as sa

    patience = {"connect_timeout" if uri.startswith("postgresql") else "timeout": PATIENCE_S}
    parameters = {"experiment": experiment} if experiment else {}
    try:
        engine = sa.create_engine(uri, poolclass=sa.NullPool, connect_args=patience)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query), parameters)]
    except (sa.exc.SQLAlchemyError, ImportError, TypeError):  # the last two: a driver that is not there, or not known
        return ()
