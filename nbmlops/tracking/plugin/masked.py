"""Artifacts without the secrets that this process was given: a text file that holds one is logged as a masked copy.

Files that are no UTF-8 text are logged as they are: what masks them would break them.
"""

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbmlops.scrub import remembers, without_remembered

LARGEST = 64_000_000  # bytes of a text file that is looked through


def mask_artifacts() -> None:
    """Have every artifact repository that MLflow makes from now on in this process log text files masked."""
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as known

    for scheme, make in list(known._registry.items()):
        if not hasattr(make, "is_masked"):
            known.register(scheme, _masking(make))


def _masking(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make, updated=())
    def made(*args: Any, **kwargs: Any) -> Any:
        repository = make(*args, **kwargs)
        for name in ("log_artifact", "log_artifacts"):
            setattr(repository, name, _logging_masked(getattr(repository, name)))
        return repository

    made.is_masked = True  # type: ignore[attr-defined]
    return made


def _logging_masked(log: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(log)
    def logged(local: Any, *args: Any, **kwargs: Any) -> Any:
        with masked(Path(local)) as place:
            return log(str(place), *args, **kwargs)

    return logged


@contextlib.contextmanager
def masked(path: Path) -> Iterator[Path]:
    """Give a file or folder, or, where a text in it holds a secret, a copy without.

    Examples
    --------
    >>> from nbmlops.scrub import masking
    >>> file = getfixture("tmp_path") / "told.txt"
    >>> _ = file.write_text("it is hunter2-0815")
    >>> with masking(["hunter2-0815"]), masked(file) as place:
    ...     (place.name, place.read_text())
    ('told.txt', 'it is ***')
    """
    found = dict(_found(path)) if remembers() else {}
    if not found:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="nbmlops-masked-") as folder:
        copy = Path(folder, path.name)
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
        for part, text in found.items():
            (copy / part if path.is_dir() else copy).write_text(text, encoding="utf-8", newline="")
        yield copy


def _found(path: Path) -> Iterator[tuple[Path, str]]:
    """Give the texts that hold a secret, masked, by their place below a folder."""
    for part in [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if part.stat().st_size <= LARGEST:
                text = part.read_bytes().decode()
                if (without := without_remembered(text)) != text:
                    yield part.relative_to(path), without
