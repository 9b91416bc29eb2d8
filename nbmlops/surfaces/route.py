"""What the routes in a Jupyter server share: who may ask is decided here before a method runs; the default is no."""

from http import HTTPStatus
from typing import Any, ClassVar, Literal

from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import APIHandler
from tornado.web import HTTPError

from nbmlops.errors import NbmlopsError, UsageError
from nbmlops.scrub import scrub
from nbmlops.strict_json import dumps, plain
from nbmlops.surfaces.show import error_object

RESOURCE = "nbmlops"  # what an authorizer of the server's is asked about
Action = Literal["read", "execute"]


class Route(APIHandler):
    """A route answers the methods that it grants, to those who may take the action that stands beside each.

    Whoever has no token or login, no XSRF token beside a cookie, or comes by another host or from a page of another
    origin, is refused whatever the method, with 403; so is one whom the server's authorizer does not grant the action.
    """

    auth_resource = RESOURCE
    grants: ClassVar[dict[str, Action]] = {}

    async def action(self) -> Action | None:
        """Say which action this request is; None where the method is not granted to anybody."""
        return self.grants.get(self.request.method or "")

    async def prepare(self) -> None:
        """Decide whether the method may run."""
        await super().prepare()  # checks host, login, XSRF token and origin
        if self.current_user is None:
            raise HTTPError(403, "Nobody is logged in: send the server's token, or log in.")
        action = await self.action()
        if action is None:
            raise HTTPError(405)
        if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, action, RESOURCE)):
            raise HTTPError(403, f"This user is not allowed to {action} {RESOURCE}.")

    def skip_check_origin(self) -> bool:
        """Look at the origin of every request: our pages come from this server, whoever holds its token."""
        return False

    def check_origin(self, origin_to_satisfy_tornado: str = "") -> bool:
        """Refuse a page of another origin, unless ``ServerApp.allow_origin`` names it."""
        if super().check_origin(origin_to_satisfy_tornado):
            return True
        raise HTTPError(403, "This page comes from another origin; ServerApp.allow_origin may allow it.")

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


def _foreign(status: int, cause: Any) -> NbmlopsError:
    said = getattr(cause, "log_message", None) or getattr(cause, "reason", None)
    message = said or f"{HTTPStatus(status).phrase} (HTTP {status})."
    return UsageError(str(message)) if status < 500 else NbmlopsError("The server failed; its log tells why.")
