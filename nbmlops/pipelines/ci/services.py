"""Which CI system this process runs under, and what it is told of the runs; the one file here that writes."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from nbmlops.pipelines.ci import annotations
from nbmlops.pipelines.ci.summary import LIMIT_BYTES, markdown
from nbmlops.pipelines.ci.wording import failure_of, one_line
from nbmlops.pipelines.notebook import NotebookRun

Service = Literal["github", "gitlab", "jenkins"]
SUMMARY = "nbmlops-summary.md"
CODE_QUALITY = "nbmlops-codequality.json"
_WORKSPACE = {"github": "GITHUB_WORKSPACE", "gitlab": "CI_PROJECT_DIR", "jenkins": "WORKSPACE"}


def detected(environ: Mapping[str, str]) -> Service | None:
    """Tell by its variables which CI system this process runs under.

    Examples
    --------
    >>> detected({"CI": "true", "GITLAB_CI": "true"}), detected({"CI": "true"})
    ('gitlab', None)
    """
    if environ.get("GITHUB_ACTIONS") == "true" or environ.get("GITHUB_STEP_SUMMARY"):
        return "github"
    if environ.get("GITLAB_CI"):
        return "gitlab"
    return "jenkins" if environ.get("JENKINS_URL") else None


def publish(
    runs: Sequence[NotebookRun],
    environ: Mapping[str, str],
    say: Callable[[str], object],
    *,
    folder: Path | None = None,
) -> None:
    """Tell the CI system how runs went; outside of one, nothing happens.

    GitHub gets the summary appended to ``$GITHUB_STEP_SUMMARY`` and an annotation for each failed notebook. GitLab and
    Jenkins get ``nbmlops-summary.md`` in the folder of the checkout (``$CI_PROJECT_DIR``, ``$WORKSPACE``; else the
    working folder), of the last command alone, and lines in the log; GitLab ``nbmlops-codequality.json`` as well.

    Parameters
    ----------
    runs
        What was run.
    environ
        The process's environment.
    say
        Takes lines for the job's log. GitHub reads its commands from there: they must begin their line.
    folder
        Against which a run's relative `notebook` is meant; the working folder without it.

    Notes
    -----
    Never raises for a file that cannot be written: it says so in one line, and the run's own end stays what it is.
    """
    service = detected(environ)
    if service is None:
        return
    workspace = Path(environ.get(_WORKSPACE[service]) or Path.cwd())
    placed = [_placed(run, workspace, folder or Path.cwd()) for run in runs]
    lines = [_line(run, workspace) for run in placed]
    if service == "github":
        said = annotations.github(placed, lines)
    elif service == "gitlab":
        said = annotations.gitlab(placed, int(time.time()))
    else:
        said = annotations.plain_lines(placed)
    for line in said:
        say(line)
    _write_reports(service, placed, lines, environ, workspace, say)


def _write_reports(
    service: Service,
    runs: Sequence[NotebookRun],
    lines: Sequence[int],
    environ: Mapping[str, str],
    workspace: Path,
    say: Callable[[str], object],
) -> None:
    if service == "github":
        if given := environ.get("GITHUB_STEP_SUMMARY"):
            _said(lambda: _append(Path(given), runs), given, say)
        return
    _said(lambda: _replace(workspace / SUMMARY, markdown(runs)), SUMMARY, say)
    if service == "gitlab":
        _said(lambda: _replace(workspace / CODE_QUALITY, annotations.code_quality(runs, lines)), CODE_QUALITY, say)


def _said(write: Callable[[], object], name: str, say: Callable[[str], object]) -> None:
    try:
        write()
    except OSError as exc:
        say(one_line(f"The job summary {name} was not written: {exc.strerror}.", 500))


def _append(path: Path, runs: Sequence[NotebookRun]) -> None:
    """Append the summary, in what room earlier commands of the same step left."""
    have = path.stat().st_size if path.exists() else 0
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write("\n" * bool(have) + markdown(runs, LIMIT_BYTES - have))


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _placed(run: NotebookRun, workspace: Path, folder: Path) -> NotebookRun:
    """Name a run's notebook as the repository does."""
    path = Path(os.path.normpath(folder / run.notebook))
    if not path.is_relative_to(workspace):
        path, workspace = path.resolve(), workspace.resolve()
    return replace(run, notebook=path.relative_to(workspace).as_posix()) if path.is_relative_to(workspace) else run


def _line(run: NotebookRun, workspace: Path) -> int:
    failure = failure_of(run)
    try:
        text = (workspace / run.notebook).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return 1
    return annotations.line_of_cell(text, failure.cell if failure else None)
