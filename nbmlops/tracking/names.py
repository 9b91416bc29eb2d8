"""Names of runs, models and endpoints for completion: asked of the databases, without MLflow.

A tracking server has no database to ask, so it offers none here. A schema that is
not known gives no names, never an error.
"""

import functools
import time
from collections.abc import Sequence

from nbmlops.project import Project

LIMIT = 50
CACHE_S = 3

_RUNS = "SELECT name, run_uuid FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT :limit"
_VERSIONS = "SELECT name, version FROM model_versions WHERE current_stage <> 'Deleted_Internal' ORDER BY name, version"
_ALIASES = "SELECT name, alias FROM registered_model_aliases ORDER BY name, alias"


def runs(project: Project) -> list[str]:
    """Names of the newest runs, then the beginnings of their ids."""
    found = _ask(project.settings.tracking.value, _RUNS)
    return [name for name, _ in found if name and " " not in name] + [run_id[:8] for _, run_id in found]


def model_names(project: Project) -> list[str]:
    """Names of the registered models."""
    return list(dict.fromkeys(name for name, _ in _ask(project.settings.tracking.value, _VERSIONS)))


def models(project: Project) -> list[str]:
    """Model names, ``name@alias`` and ``name/version``."""
    uri = project.settings.tracking.value
    aliases = [f"{name}@{alias}" for name, alias in _ask(uri, _ALIASES)]
    return [*model_names(project), *aliases, *(f"{name}/{version}" for name, version in _ask(uri, _VERSIONS))]


def endpoints(project: Project) -> list[str]:
    """Names of the endpoints."""
    return [str(name) for (name,) in _ask(project.settings.ledger.value, "SELECT name FROM endpoints ORDER BY name")]


def _ask(uri: str, query: str) -> Sequence[tuple[str, ...]]:
    return _remembered(uri, query, int(time.monotonic() / CACHE_S)) if not uri.startswith("http") else ()


@functools.lru_cache(maxsize=32)
def _remembered(uri: str, query: str, _: int) -> Sequence[tuple[str, ...]]:
    import sqlalchemy as sa

    engine = sa.create_engine(uri, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            parameters = {"limit": LIMIT} if ":limit" in query else {}
            return [tuple(row) for row in connection.execute(sa.text(query), parameters)]
    except sa.exc.SQLAlchemyError:
        return ()
