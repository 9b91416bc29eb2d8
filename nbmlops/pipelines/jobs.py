"""Jobs: what headless runs leave for one another, and the results that a notebook tells."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbmlops.errors import ConflictError, StoreError
from nbmlops.project import Project

RESULTS = "NBMLOPS_RESULTS"  # the file that a notebook's results go to, a line of JSON each


@contextlib.contextmanager
def only_writer(project: Project, output: Path) -> Iterator[None]:
    """Keep an output path for one run; the lock goes with its holder, however that ends.

    Raises
    ------
    ConflictError
        Another run writes to it now.
    """
    name = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    path = project.state("outputs", name)
    try:
        file = path.open("a+")
    except OSError as exc:
        raise StoreError(f"The lock {path} cannot be held: {exc.strerror}.", "Check the disk.") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"Another run writes to {output} now, and two never share an output.",
                "Wait for it, or give this one another path with -o.",
            ) from None
        yield


def tell_results(values: Mapping[str, Any]) -> bool:
    """Add to the results of the headless run that this process is part of; False where there is none."""
    path = os.environ.get(RESULTS)
    if not path:
        return False
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(dict(values)) + "\n")
    return True


def told_results(folder: Path) -> dict[str, Any]:
    """Read the results that a run's notebook told; the last of a name counts."""
    results: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                results |= json.loads(line)
    return results
