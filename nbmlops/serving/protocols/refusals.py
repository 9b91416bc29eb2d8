"""Answers, and the one shape of those that say no: ``{"error": {"type", "message", "hint", "exit_code"}}``."""

import re
from typing import NamedTuple

import orjson

from nbmlops.errors import NbmlopsError, UsageError

MAX_MESSAGE = 400  # characters of a message
JSON = "application/json"
_PATH = re.compile(r"(?<![\w.])(?:/[\w.@+-]+){2,}/?")


class Answer(NamedTuple):
    """An HTTP answer; `headers` are those beside Content-Type and Content-Length."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class TooLargeError(UsageError):
    """A body or a table over the limits."""

    http_status = 413


class NotTakenError(UsageError):
    """A content type that is not taken."""

    http_status = 415


def refused(status: int, error: NbmlopsError) -> Answer:
    """Answer with an error, in the one shape that all errors have.

    Examples
    --------
    >>> refused(400, UsageError("The body is empty.")).body
    b'{"error":{"type":"UsageError","message":"The body is empty.","hint":"","exit_code":2}}'
    """
    kind = "UsageError" if isinstance(error, UsageError) else type(error).__name__  # a status makes no new kind
    told = {"type": kind, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    return Answer(status, orjson.dumps({"error": told}))


def refusal(error: NbmlopsError) -> Answer:
    """Answer with an error and the status that belongs to it."""
    return refused(error.http_status, error)


def brief(text: str) -> str:
    """Keep the first line of a foreign message, without paths of this machine, and without MLflow's old news.

    Examples
    --------
    >>> brief("No such file: /home/ann/secret/model.pkl")
    'No such file: …'
    """
    first = (text.strip().splitlines() or [""])[0].partition(" IMPORTANT:")[0]
    return _PATH.sub("…", first)[:MAX_MESSAGE]
