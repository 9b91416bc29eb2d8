"""Files that `export` writes: at once and whole, and over what is there only when told."""

import os
from collections.abc import Mapping
from pathlib import Path

from nbmlops.errors import ConflictError, StoreError


def content(path: Path) -> str | None:
    """Read a file's text; None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def write(texts: Mapping[Path, str], *, force: bool) -> None:
    """Write files; nothing is written where one is there and differs, unless told.

    Raises
    ------
    ConflictError
        One is there and differs.
    StoreError
        One cannot be written.
    """
    new = {path: text for path, text in texts.items() if content(path) != text}
    for path in new:
        if path.exists() and not force:
            raise ConflictError(f"{path} is there already and differs.", "Give another path with -o, or --force.")
    for path, text in new.items():
        _put(path, text)


def _put(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {exc.strerror}.", "Check the disk, or give -o.") from exc
