"""The one HTTP client: asks a server on this machine, and turns what it answers into values or our errors."""

import http.client
import json
import math
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbmlops.errors import DataError, StoreError

if TYPE_CHECKING:
    import pandas as pd

JSON = "application/json"
PING_TIMEOUT_S = 2.0
PREDICT_TIMEOUT_S = 300.0
CHUNK_ROWS = 10_000
LARGEST_BODY = 15 * 2**20  # bytes; a server takes a little more


@dataclass(frozen=True)
class Server:
    """Where an endpoint answers.

    `token` is what it asks for, `certificate` a file that vouches for it, `again` the command that starts it again.
    """

    endpoint: str
    url: str
    again: str
    token: str = ""
    certificate: str = ""


def answers(server: Server) -> bool:
    """Say whether a server answers a ping."""
    try:
        with _opener(server).open(f"{server.url}/ping", timeout=PING_TIMEOUT_S) as response:
            return bool(response.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def _opener(server: Server) -> urllib.request.OpenerDirector:
    """No proxy stands between us and ourselves; a certificate of our own is enough."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if server.certificate:
        context = ssl.create_default_context(cafile=server.certificate)
        context.check_hostname = False  # it is one of this machine, whatever name is in it
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def told(server: Server, path: str) -> Any:
    """Read a page of JSON from a server.

    Raises
    ------
    StoreError
        It does not answer, or not with that.
    """
    request = urllib.request.Request(f"{server.url}{path}", headers=_authorization(server))  # noqa: S310 - our own URL
    try:
        with _opener(server).open(request, timeout=PING_TIMEOUT_S) as response:
            return json.load(response)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise unreachable(server, str(getattr(exc, "reason", exc))) from exc


def _authorization(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"} if server.token else {}


def predictions(server: Server, frame: "pd.DataFrame") -> Iterator[list[Any]]:
    """Score a table in chunks of at most 10,000 rows, each small enough for the server.

    Raises
    ------
    DataError
        The server refused the rows; the message is its own.
    StoreError
        It does not answer, or failed.
    """
    for begin in range(0, len(frame), CHUNK_ROWS):
        for body, n_rows in bodies(frame.iloc[begin : begin + CHUNK_ROWS]):
            found = _invoke(server, body)
            if len(found) != n_rows:
                raise DataError(f"{server.endpoint} gave {len(found)} predictions for {n_rows} rows.")
            yield found


def bodies(frame: "pd.DataFrame") -> Iterator[tuple[bytes, int]]:
    """Write a table as request bodies with their numbers of rows, halving what would be too large."""
    body = json.dumps({"dataframe_split": split(frame)}, default=_as_json).encode()
    if len(body) <= LARGEST_BODY or len(frame) == 1:
        yield body, len(frame)
        return
    middle = len(frame) // 2
    yield from bodies(frame.iloc[:middle])
    yield from bodies(frame.iloc[middle:])


def split(frame: "pd.DataFrame") -> dict[str, Any]:
    """Give a table as ``{"columns": [...], "data": [[...], ...]}``; numbers keep every digit, and NaN.

    In other columns what is missing is null.
    """
    columns = [_values(frame.iloc[:, place]) for place in range(frame.shape[1])]
    return {"columns": [str(label) for label in frame.columns], "data": list(zip(*columns, strict=True))}


def _values(column: "pd.Series") -> list[Any]:
    if column.dtype.kind in "biuf":
        filled = column.astype(object).where(column.notna(), math.nan) if column.hasnans else column
        return list(filled.tolist())
    return list(column.astype(object).where(column.notna(), None).tolist())


def _as_json(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _invoke(server: Server, body: bytes) -> list[Any]:
    headers = {"Content-Type": JSON, **_authorization(server)}
    request = urllib.request.Request(f"{server.url}/invocations", body, headers)  # noqa: S310 - our own URL
    try:
        with _opener(server).open(request, timeout=PREDICT_TIMEOUT_S) as response:
            return list(json.load(response)["predictions"])
    except urllib.error.HTTPError as exc:
        raise _told(server, exc) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise unreachable(server, str(getattr(exc, "reason", exc))) from exc


def _told(server: Server, exc: urllib.error.HTTPError) -> DataError | StoreError:
    """Repeat the server's own words, in our terms."""
    with exc:
        said = json.load(exc)["error"]
    if exc.code >= 500:
        return unreachable(server, said["message"])
    return DataError(said["message"], said["hint"])


def unreachable(server: Server, reason: str) -> StoreError:
    """Word that an endpoint does not answer, and how it comes back."""
    return StoreError(f"The endpoint {server.endpoint} at {server.url} does not answer: {reason}.", f"`{server.again}`")
