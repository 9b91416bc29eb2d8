"""A model folder's bytes, named: SHA-256 of every file, one digest over all, and what differs between two."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbmlops.errors import DataError


@dataclass(frozen=True)
class ManifestFile:
    """One file of a model folder: its path inside the folder, SHA-256 in hex, and size."""

    path: str
    sha256: str
    size_bytes: int


Manifest = tuple[ManifestFile, ...]


def manifest_of(folder: Path) -> Manifest:
    """List every file of a folder, sorted by path.

    Raises
    ------
    DataError
        A link is in it: what a link points at can change without the folder changing.

    Notes
    -----
    O(bytes): each file is read once. An empty folder gives an empty manifest.
    """
    found = sorted(folder.rglob("*"))
    if links := [path for path in found if path.is_symlink()]:
        raise DataError(f"{links[0].relative_to(folder)} is a link; a model folder holds plain files only.")
    return tuple(_entry(folder, path) for path in found if path.is_file())


def digest_of(manifest: Manifest) -> str:
    """Hash a manifest: SHA-256 over its canonical JSON, in hex.

    Examples
    --------
    >>> digest_of((ManifestFile("MLmodel", "ab" * 32, 3),))[:12]
    '3fa73ecee72f'
    """
    rows = sorted([file.path, file.sha256, file.size_bytes] for file in manifest)
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def differences(kept: Manifest, found: Manifest) -> tuple[str, ...]:
    """Word what differs between the manifest that was kept and the one found now; empty when equal.

    Examples
    --------
    >>> a, b = ManifestFile("a", "11", 1), ManifestFile("b", "22", 1)
    >>> differences((a, b), (ManifestFile("b", "33", 1), ManifestFile("c", "44", 1)))
    ('a is missing', 'b is changed', 'c is added')
    """
    before, now = _hashes(kept), _hashes(found)
    return tuple(
        f"{path} is {'added' if path not in before else 'missing' if path not in now else 'changed'}"
        for path in sorted(before.keys() | now.keys())
        if before.get(path) != now.get(path)
    )


def _entry(folder: Path, path: Path) -> ManifestFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ManifestFile(path.relative_to(folder).as_posix(), digest, path.stat().st_size)


def _hashes(manifest: Iterable[ManifestFile]) -> dict[str, str]:
    return {file.path: file.sha256 for file in manifest}
