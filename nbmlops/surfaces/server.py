"""The routes in a Jupyter server: the verbs' schemas, the verbs, and the watch; every answer is strict JSON.

======================== ==================================================================== ===========
route                    what it does                                                         needs
======================== ==================================================================== ===========
``GET verbs``            lists the verbs with the JSON schemas of their arguments             ``read``
``POST verbs/NAME``      performs one                                                         as `_needed`
``POST watch``           gives a project's stamps, and sends events of changes for a minute   ``read``
======================== ==================================================================== ===========

What a route needs is an action that the server's authorizer grants on ``nbmlops``.
"""

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

from jupyter_server.utils import url_path_join
from tornado.web import authenticated

from nbmlops import __version__
from nbmlops.errors import NbmlopsError, NotFoundError, UsageError, nearest
from nbmlops.importing import ALEMBIC, imported
from nbmlops.project import Project
from nbmlops.surfaces.route import Action, Route
from nbmlops.surfaces.watched import SCHEMA, Watches, teller
from nbmlops.surfaces.widgets.saving import keep_cards
from nbmlops.vocabulary import VERBS

P = ParamSpec("P")
R = TypeVar("R")
THREADS = ThreadPoolExecutor(32, thread_name_prefix="nbmlops")  # verbs may take hours, and must delay nobody
WRITING = frozenset({"output", "fix"})  # arguments with which a verb that reads writes a file, or mends something
FIRST_ANSWERS = (  # what the first answers load; MLflow takes seconds and comes last
    "nbmlops.surfaces.schema",
    "nbmlops.surfaces.call",
    "nbmlops.tracking.sql",
    "nbmlops.ledger.database",
    "nbmlops.registry.mlflow",
)


class Verbs(Route):
    """``GET /nbmlops/verbs``: every verb with the JSON schema of its arguments."""

    grants: ClassVar = {"GET": "read"}

    @authenticated
    async def get(self) -> None:
        """List the verbs."""
        self.answer(await _aside(_schemas))


class Verb(Route):
    """``POST /nbmlops/verbs/NAME``: perform one verb."""

    async def action(self) -> Action | None:
        """Say what the verb needs."""
        return await _aside(_needed, self.path_args[0]) if self.request.method == "POST" else None

    @authenticated
    async def post(self, name: str) -> None:
        """Perform a verb: ``{"arguments": {...}, "folder": "below/the/server's/root"}``."""
        body = _body(self.request.body, ("arguments", "folder"))
        project = _asked_for(self.settings, body)
        self.answer(await _aside(_perform, name, body.get("arguments", {}), project))


class Watch(Route):
    """``POST /nbmlops/watch``: say how the project of a folder stands, and tell of its changes for a minute."""

    grants: ClassVar = {"POST": "read"}
    _track_activity = False  # a page that is open is nobody at work

    @authenticated
    async def post(self) -> None:
        """Watch: ``{"folder": "below/the/server's/root"}``."""
        project = _asked_for(self.settings, _body(self.request.body, ("folder",)))
        _warm()
        self.answer(await _aside(_watch, self.settings["nbmlops_watches"], project))


async def _aside(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in a thread."""
    call = functools.partial(function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(THREADS, call)


def _needed(name: str) -> Action:
    """Give the action that a verb needs: to read where it can do nothing else, and where it is no verb at all."""
    from nbmlops.verb import parameters

    if name not in VERBS:
        return "read"
    return "read" if VERBS[name].effect == "read" and not WRITING & parameters(name).keys() else "execute"


def _watch(watches: Watches, project: Project) -> dict[str, Any]:
    if not project.exists:
        return {"version": __version__, "root": None, "name": "", "stamps": {}}
    stamps = watches.renew(project)
    return {"version": __version__, "root": project.root, "name": _name(project), "stamps": stamps}


def _name(project: Project) -> str:
    try:
        return project.settings.name.value
    except UsageError:  # nbmlops.toml has a mistake: every verb says which
        return ""


@functools.cache
def _warm() -> None:
    """Load what the first answers need, once somebody looks: never when the server starts."""
    threading.Thread(target=_load, daemon=True).start()


def _load() -> None:
    imported(*FIRST_ANSWERS)
    imported(*ALEMBIC)
    from nbmlops.tracking.store import load_store

    load_store("sqlite://")


def _schemas() -> list[dict[str, Any]]:
    from nbmlops.surfaces.schema import schema

    return [schema(name) for name in VERBS]


def _perform(name: str, arguments: dict[str, Any], project: Project) -> Any:
    from nbmlops.surfaces.call import unexpected
    from nbmlops.surfaces.schema import checked
    from nbmlops.verb import load

    if name not in VERBS:
        raise NotFoundError(f"There is no verb {name!r}.", nearest(name, VERBS))
    try:
        return load(name)(project, **checked(name, arguments))
    except NbmlopsError:
        raise
    except Exception as exc:
        raise unexpected(exc) from exc


def _asked_for(settings: dict[str, Any], body: dict[str, Any]) -> Project:
    root = Path(settings["server_root_dir"]).expanduser().resolve()
    return _project(_folder(root, body.get("folder", "")), root)


@functools.lru_cache(maxsize=64)
def _project(folder: Path, root: Path) -> Project:
    """Keep a folder's project, so that its stores are opened once and not at every request."""
    return Project(folder, surface="rest", within=(root,))


def _body(raw: bytes, fields: Collection[str]) -> dict[str, Any]:
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as exc:
        raise UsageError("The body is not JSON.", 'Send {"arguments": {…}, "folder": "…"}.') from exc
    if not isinstance(body, dict) or not isinstance(body.get("arguments", {}), dict):
        raise UsageError("The body must be an object with an object of arguments.", 'Send {"arguments": {…}}.')
    if unknown := set(body) - set(fields):
        raise UsageError(f"The body has no field {min(unknown)!r}.", f"There are: {', '.join(fields)}.")
    return body


def _folder(root: Path, name: Any) -> Path:
    """Resolve a folder below the server's root, and none outside it."""
    if not isinstance(name, str) or "\0" in name:
        raise UsageError("folder must be the text of a path.", 'For instance "folder": "projects/flights".')
    folder = (root / name.lstrip("/")).resolve()
    if not folder.is_relative_to(root):
        raise UsageError(f"{name!r} lies outside the server's root folder.")
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {name!r} below the server's root.")
    return folder


def _load_jupyter_server_extension(app: Any) -> None:
    """Add the routes and the event to a Jupyter server."""
    app.event_logger.register_event_schema(SCHEMA)
    tell = teller(app.event_logger, app.io_loop.asyncio_loop)
    app.web_app.settings["nbmlops_watches"] = Watches(tell, app.log)
    base = app.web_app.settings["base_url"]
    routes = [("verbs", Verbs), ("verbs/([^/]+)", Verb), ("watch", Watch)]
    app.web_app.add_handlers(".*$", [(url_path_join(base, "nbmlops", route), handler) for route, handler in routes])
    app.contents_manager.register_pre_save_hook(keep_cards)
