"""The files that a new project gets; nothing that is there is ever overwritten."""

import json
import os
import shutil
from pathlib import Path

from nbmlops.project import DEFAULTS, FILE, STATE

_TEMPLATE = """\
# Policy of this project, kept in git. What happens is kept in {state}/ and in the stores below.

[project]
name = {name}

[stores]
# Runs, models and artifacts: an SQLite file, Postgres, or the http address of an MLflow server.
{tracking}
# nbmlops' own records (events, endpoints): an SQLite file, or Postgres.
{ledger}
# A value of the form "env:NAME" is read from that variable: keep passwords there, never here.

# A gate says what a model must show before an alias may point at it. For instance:
#
# [gates.default]
# target = "late"                                                     # the column to predict
# data = "data/holdout.parquet"                                       # rows that no model was trained on
# metrics.roc_auc = {{ min = 0.70 }}
# champion.roc_auc = {{ max_regression = 0.01, confidence = 0.95 }}     # not worse than the champion, surely
"""


def policy_text(name: str, tracking: str, ledger: str) -> str:
    """Word a commented ``nbmlops.toml``; a store that is not given stands there as a comment with its default."""

    def line(key: str, value: str) -> str:
        return f"{key} = {_quoted(value)}" if value else f"# {key} = {_quoted(DEFAULTS[key])}"

    return _TEMPLATE.format(
        state=STATE, name=_quoted(name), tracking=line("tracking", tracking), ledger=line("ledger", ledger)
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # TOML knows JSON's escapes, but no surrogates


def create(path: Path, text: str) -> bool:
    """Write a new file in one atomic step; when there is one already, leave it and say False."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def remove(folder: Path, *, with_state: bool) -> None:
    """Take a project's file away again, and its state where asked."""
    (folder / FILE).unlink(missing_ok=True)
    if with_state:
        shutil.rmtree(folder / STATE, ignore_errors=True)


def ignores_state(gitignore: Path) -> bool:
    """Say whether an ignore file keeps the state folder out of git."""
    lines = gitignore.read_text(encoding="utf-8").splitlines() if gitignore.exists() else []
    return any(line.strip().strip("/") == STATE for line in lines)


def add_ignore(gitignore: Path) -> None:
    """Append the state folder to an ignore file, made where there is none."""
    text = gitignore.read_text(encoding="utf-8") if gitignore.exists() else ""
    gap = "" if not text or text.endswith("\n") else "\n"
    gitignore.write_text(f"{text}{gap}{STATE}/\n", encoding="utf-8")


def missing(folder: Path) -> tuple[str, ...]:
    """Name what a folder lacks to be a project."""
    lacks = [] if (folder / FILE).exists() else [FILE]
    return (*lacks, *(() if ignores_state(folder / ".gitignore") else (".gitignore",)))
