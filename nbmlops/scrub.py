"""Keep secrets out of everything that is written or shown: the one scrubber on every sink."""

import re
from typing import Any

MASK = "***"
_SECRET_NAME = re.compile(r"(?i)passw|pwd|secret|token$|api_?key|credential|private_?key|authorization")
_REFERENCE = re.compile(r"^(env|file):")
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):(\S+)(?=@)")  # up to the last @: a password may hold / and @
_QUERY_PASSWORD = re.compile(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s]+")
_KNOWN_SHAPES = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def scrub_text(text: str) -> str:
    """Mask passwords in URLs and tokens of well-known shapes.

    Examples
    --------
    >>> scrub_text("postgresql://ops:hunter2@db/ledger")
    'postgresql://ops:***@db/ledger'
    """
    without = _QUERY_PASSWORD.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}", text))
    return _KNOWN_SHAPES.sub(MASK, without)


def scrub(value: Any, name: str = "") -> Any:
    """Mask secrets in a JSON-like value, by the name it goes by and by its shape.

    A reference (``env:NAME``, ``file:PATH``) is no secret and stays readable.

    Examples
    --------
    >>> scrub({"api_key": "s3cr3t", "token": "env:TOKEN", "month": 3})
    {'api_key': '***', 'token': 'env:TOKEN', 'month': 3}
    """
    if isinstance(value, dict):
        return {key: scrub(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [scrub(item, name) for item in value]
    if isinstance(value, str):
        is_secret = bool(value) and _SECRET_NAME.search(name) and not _REFERENCE.match(value)
        return MASK if is_secret else scrub_text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return MASK if is_number and _SECRET_NAME.search(name) else value
