"""The one file that talks to git."""

import subprocess
from pathlib import Path


def head(folder: Path) -> str:
    """Give the commit that a folder is at; empty outside a repository, before its first commit, or without git."""
    return _ask(folder, "rev-parse", "--verify", "--quiet", "HEAD")


def is_dirty(folder: Path) -> bool:
    """Say whether a folder's repository has changes that no commit holds."""
    return bool(_ask(folder, "status", "--porcelain", "--untracked-files=no"))


def _ask(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
