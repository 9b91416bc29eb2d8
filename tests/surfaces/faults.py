"""Two verbs that only the tests' Jupyter server has: one that fails as a bug does, one that waits to be told."""

from pathlib import Path

from nbmlops.project import Project


def faulty(project: Project) -> None:
    """Fail as a bug does."""
    raise ZeroDivisionError(f"division by zero for postgresql://ops:hunter2@db/{project.folder.name}")


def slow(project: Project, pipe: str) -> str:
    """Read a file, however long that takes."""
    return Path(pipe).read_text()
