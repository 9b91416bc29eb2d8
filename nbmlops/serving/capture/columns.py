"""Columns that are not written as they came: left out, or as a hash that joins and cannot be looked up.

Only who has the project's key can hash a list of names and compare: an attacker with the segments alone cannot
try a dictionary.
"""

import contextlib
import hashlib
import math
import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

KEY_FILE = "capture.key"
KEY_BYTES = 32
_HASH_BYTES = 16  # 2**64 values until two are likely to share one


def key_of(state: Path) -> bytes:
    """Give a project's key of hashed columns; the first call makes it.

    Parameters
    ----------
    state
        The project's folder ``.nbmlops``; the key is kept there in ``capture.key``, readable by its owner alone.

    Returns
    -------
    bytes
        32 random bytes, the same for all processes.
    """
    path = state / KEY_FILE
    if not path.exists():
        draft = state / f".{KEY_FILE}-{secrets.token_hex(8)}"
        try:
            _write_private(draft, secrets.token_hex(KEY_BYTES).encode())
            with contextlib.suppress(FileExistsError):  # another process was faster: its key counts
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    return bytes.fromhex(path.read_text())


def hashed(value: Any, key: bytes) -> str | None:
    """Hash one value with a key (BLAKE2b, 128 bits), as it stands in a hashed column.

    Parameters
    ----------
    value
        Text, a number or a truth value; a missing one (None, NaN) stays missing. A whole number gives the same
        hash whether it came as 5, 5.0 or "5", so that tables join.
    key
        The project's.

    Returns
    -------
    str or None
        32 hexadecimal digits.

    References
    ----------
    RFC 7693, section 2.9: keyed BLAKE2.

    Examples
    --------
    >>> hashed("ann@example.org", b"one key") == hashed("ann@example.org", b"another")
    False
    >>> hashed(5, b"key") == hashed(5.0, b"key") == hashed("5", b"key")
    True
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    whole = isinstance(value, float) and value.is_integer()
    text = str(int(value) if whole else value)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES, key=key).hexdigest()


class Filter:
    """What is done to a request's columns before they are written.

    Examples
    --------
    >>> kept = Filter(exclude=["name"], hash=["email"], key=b"key")({"name": ["Ann"], "email": ["a@b"], "age": [40]})
    >>> list(kept), kept["age"], len(kept["email"][0])
    (['email', 'age'], [40], 32)
    """

    def __init__(self, exclude: Collection[str], hash: Collection[str], key: bytes) -> None:  # noqa: A002
        if hash and not key:
            raise ValueError("hashed columns need the project's key")
        self._exclude = frozenset(exclude)
        self._hash = frozenset(hash)
        self._key = key

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Give the columns that may be written; what was given stays as it is."""
        return {
            name: self._hashes(values) if name in self._hash else values
            for name, values in columns.items()
            if name not in self._exclude
        }

    def _hashes(self, values: Any) -> list[str | None]:
        listed = values.tolist() if hasattr(values, "tolist") else values
        return [hashed(value, self._key) for value in listed]


def _write_private(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
