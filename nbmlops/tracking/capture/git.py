"""The one file that talks to git. Without git, or outside a repository, its questions have empty answers."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nbmlops.errors import ConflictError
from nbmlops.scrub import MASK, scrub_text

LARGEST_DIFF = 1_000_000  # bytes; a file whose part does not fit any more is named only
PATIENCE_S = 10
LEFT_OUT = "# left out by nbmlops: "


def head(folder: Path) -> str:
    """Give the commit that a folder is at; empty outside a repository, before its first commit, or without git."""
    return _ask(folder, "rev-parse", "--verify", "--quiet", "HEAD")


def branch(folder: Path) -> str:
    """Give the branch that a folder is on; empty where none is, as on a commit of its own."""
    return _ask(folder, "symbolic-ref", "--quiet", "--short", "HEAD")


def top(folder: Path) -> Path | None:
    """Give the folder that a repository's files begin in; None outside a repository."""
    found = _ask(folder, "rev-parse", "--show-toplevel")
    return Path(found) if found else None


def is_dirty(folder: Path) -> bool:
    """Say whether a folder's repository has changes that no commit holds."""
    return bool(_ask(folder, "status", "--porcelain", "--untracked-files=no"))


def unversioned(folder: Path) -> list[Path]:
    """List the files of a repository that no commit holds, ignored ones too, relative to its top; never its own."""
    found = _bytes(folder, "ls-files", "--others", "--full-name", "-z", "--", ":/")
    return [Path(os.fsdecode(name)) for name in found.split(b"\0") if name]


def files(folder: Path, commit: str) -> Iterator[tuple[str, bytes]]:
    """Give the files of a commit, each with its content; nothing where the repository does not have it."""
    packed = _bytes(folder, "-c", "core.autocrlf=false", "archive", "--format=tar", commit, patience_s=120)
    if commit and packed:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            for member in archive:
                if member.isfile() and (content := archive.extractfile(member)):
                    yield member.name, content.read()


# ------------------------------------------------------------ what no commit holds
def diff(folder: Path) -> str:
    """Give the changes of a folder's repository that no commit holds, as a patch for its commit.

    Untracked files that git does not ignore are additions. Binary files, and files whose
    part would make the patch larger than a megabyte, are named in a line of their own,
    which `git apply` passes over. Secrets are masked. The index stays as it is: the
    additions are noted in a copy of it.
    """
    root = top(folder)
    if root is None or not head(root):
        return ""
    with tempfile.TemporaryDirectory(prefix="nbmlops-") as scratch, contextlib.suppress(OSError):
        index = {"GIT_INDEX_FILE": f"{scratch}/index"}
        shutil.copyfile(root / _ask(root, "rev-parse", "--git-path", "index"), index["GIT_INDEX_FILE"])
        _bytes(root, "add", "--intent-to-add", "--", ".", env=index)
        return _fitted(_bytes(root, *_LIMITED, "diff", *_PLAIN, "HEAD", env=index).decode(errors="replace"))
    return ""


# Without reading it, git calls a file binary that is larger than this.
_LIMITED = ("-c", f"core.bigFileThreshold={LARGEST_DIFF}", "-c", "core.safecrlf=false", "-c", "diff.noprefix=false")
_PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules")


def _fitted(patch: str) -> str:
    """Keep the parts of a patch that are text and fit, name the others, and mask secrets."""
    kept, room = [], LARGEST_DIFF
    for part in re.split(r"^(?=diff --git )", patch, flags=re.MULTILINE)[1:]:
        name = part.partition("\n")[0].removeprefix("diff --git ").partition(" b/")[0].removeprefix("a/")
        if re.search(r"^Binary files ", part, re.MULTILINE):
            kept.append(f"{LEFT_OUT}{name} is binary or large\n")
        elif len(part) > room:
            kept.append(f"{LEFT_OUT}{name} has {len(part):,} bytes of changes, and {LARGEST_DIFF:,} is the limit\n")
        else:
            room -= len(part)
            kept.append(part)
    return scrub_text("".join(kept))


# ------------------------------------------------------------------ a clean copy
@contextlib.contextmanager
def worktree(folder: Path, commit: str, place: Path) -> Iterator[Path]:
    """Check a commit out into a new folder, which is gone again afterwards; the repository's own files stay.

    Raises
    ------
    ConflictError
        The repository does not have the commit any more.
    """
    no_hooks = ("-c", f"core.hooksPath={os.devnull}")
    _do(folder, "The commit cannot be checked out", *no_hooks, "worktree", "add", "--detach", str(place), commit)
    try:
        yield place
    finally:
        _ask(folder, "worktree", "remove", "--force", "--force", str(place))


def apply(folder: Path, patch: str) -> None:
    """Apply a patch that `diff` gave to a clean copy of its commit.

    Raises
    ------
    ConflictError
        It does not fit; git's reason is in the message.
    """
    if "diff --git " not in patch:
        return
    whole = unmasked(patch, lambda name: _lines(folder / name))
    _do(folder, "The changes that no commit holds do not fit", "apply", "--whitespace=nowarn", "-", given=whole)


def unmasked(patch: str, before: Callable[[str], Sequence[str]]) -> str:
    r"""Put into a patch's unchanged and removed lines what the file has there: a masked one fits nowhere.

    Parameters
    ----------
    patch
        A patch whose secrets are masked.
    before
        Gives a file's lines as the commit has them.

    Examples
    --------
    >>> patch = "--- a/db.py\n+++ b/db.py\n@@ -1,2 +1,2 @@\n url = 'http://me:***@db'\n-n = 1\n+n = 2\n"
    >>> print(unmasked(patch, lambda name: ["url = 'http://me:secret@db'", "n = 1"]), end="")
    --- a/db.py
    +++ b/db.py
    @@ -1,2 +1,2 @@
     url = 'http://me:secret@db'
    -n = 1
    +n = 2
    """
    if MASK not in patch:
        return patch
    told, lines, at = [], list[str](), 0
    for line in patch.split("\n"):
        if line.startswith("--- a/"):
            lines = list(before(line.removeprefix("--- a/").rstrip("\t")))
        elif hunk := re.match(r"@@ -(\d+)", line):
            at = int(hunk[1]) - 1
        elif line[:1] in (" ", "-") and not line.startswith("--- "):
            told.append(line[0] + lines[at] if MASK in line and at < len(lines) else line)
            at += 1
            continue
        told.append(line)
    return "\n".join(told)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode(errors="replace").split("\n")
    except OSError:
        return []


# ----------------------------------------------------------------------- calling
def _ask(folder: Path, *arguments: str) -> str:
    return _bytes(folder, *arguments).decode(errors="replace").strip()


def _bytes(folder: Path, *arguments: str, env: dict[str, str] | None = None, patience_s: float = PATIENCE_S) -> bytes:
    """Ask git; an empty answer where it fails, is not there, or takes too long."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=patience_s,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", **(env or {})},
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""


def _do(folder: Path, complaint: str, *arguments: str, given: str = "") -> None:
    """Have git do something; its last line says why it did not."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, input=given.encode(), check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["git said nothing"]
        raise ConflictError(f"{complaint}: {scrub_text(said[-1])}", "`git fetch` may bring what is missing.")
