"""The REST surface inside a Jupyter server: the verbs' schemas, and the verbs; every answer is strict JSON."""

import asyncio
import functools
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.web import authenticated

from nbmlops.errors import NbmlopsError, NotFoundError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.scrub import scrub
from nbmlops.strict_json import dumps, plain
from nbmlops.surfaces.show import error_object
from nbmlops.vocabulary import VERBS


class Handler(APIHandler):
    """What the routes share: who may ask, and the one shape of an error."""

    auth_resource = "nbmlops"

    def answer(self, body: Any) -> None:
        """Send a result as strict JSON."""
        self.set_header("Content-Type", "application/json")
        self.finish(dumps(scrub(plain(body))))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send every error, foreign ones included, in the shape that all surfaces use."""
        cause = kwargs.get("exc_info", (None, None, None))[1]
        error = cause if isinstance(cause, NbmlopsError) else _foreign(status_code, cause)
        self.set_status(error.http_status if error is cause else status_code)
        self.set_header("Content-Type", "application/json")
        self.finish(dumps(error_object(error)))


class Verbs(Handler):
    """``GET /nbmlops/verbs``: every verb with the JSON schema of its arguments."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """List the verbs."""
        self.answer(await asyncio.to_thread(_schemas))


class Verb(Handler):
    """``POST /nbmlops/verbs/NAME``: perform one verb."""

    @authenticated
    @authorized
    async def post(self, name: str) -> None:
        """Perform a verb: ``{"arguments": {...}, "folder": "below/the/server's/root"}``."""
        body = _body(self.request.body)
        folder = _folder(Path(self.settings["server_root_dir"]).expanduser(), body.get("folder", ""))
        self.answer(await asyncio.to_thread(_perform, name, body.get("arguments", {}), folder))


def _schemas() -> list[dict[str, Any]]:
    from nbmlops.surfaces.schema import schema

    return [schema(name) for name in VERBS]


def _perform(name: str, arguments: dict[str, Any], folder: Path) -> Any:
    from nbmlops.surfaces.call import unexpected
    from nbmlops.surfaces.schema import checked
    from nbmlops.verb import load

    if name not in VERBS:
        raise NotFoundError(f"There is no verb {name!r}.", nearest(name, VERBS))
    try:
        return load(name)(_project(folder), **checked(name, arguments))
    except NbmlopsError:
        raise
    except Exception as exc:
        raise unexpected(exc) from exc


@functools.lru_cache(maxsize=64)
def _project(folder: Path) -> Project:
    """Keep a folder's project, so that its stores are opened once and not at every request."""
    return Project(folder, surface="rest")


def _body(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as exc:
        raise UsageError("The body is not JSON.", 'Send {"arguments": {…}, "folder": "…"}.') from exc
    if not isinstance(body, dict) or not isinstance(body.get("arguments", {}), dict):
        raise UsageError("The body must be an object with an object of arguments.", 'Send {"arguments": {…}}.')
    if unknown := set(body) - {"arguments", "folder"}:
        raise UsageError(f"The body has no field {min(unknown)!r}.", "There are: arguments, folder.")
    return body


def _folder(root: Path, name: Any) -> Path:
    """Resolve a folder below the server's root, and none outside it."""
    if not isinstance(name, str) or "\0" in name:
        raise UsageError("folder must be the text of a path.", 'For instance "folder": "projects/flights".')
    root = root.resolve()
    folder = (root / name.lstrip("/")).resolve()
    if not folder.is_relative_to(root):
        raise UsageError(f"{name!r} lies outside the server's root folder.")
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {name!r} below the server's root.")
    return folder


def _foreign(status: int, cause: Any) -> NbmlopsError:
    said = getattr(cause, "log_message", None) or getattr(cause, "reason", None)
    message = said or f"{HTTPStatus(status).phrase} (HTTP {status})."
    return UsageError(str(message)) if status < 500 else NbmlopsError("The server failed; its log tells why.")


def _load_jupyter_server_extension(app: Any) -> None:
    """Add the routes to a Jupyter server."""
    base = app.web_app.settings["base_url"]
    routes = [("verbs", Verbs), ("verbs/([^/]+)", Verb)]
    app.web_app.add_handlers(".*$", [(url_path_join(base, "nbmlops", route), handler) for route, handler in routes])
