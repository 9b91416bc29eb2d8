"""What no commit holds becomes a patch that rebuilds it, and the user's repository stays as it was."""

import subprocess
from pathlib import Path

import pytest

from nbmlops.errors import ConflictError
from nbmlops.tracking.capture import git

SECRET = "postgresql://ops:hunter2@db/flights"


def do(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "sub").mkdir(parents=True)
    do(folder, "init", "--quiet", "--initial-branch=main")
    (folder / ".gitignore").write_text("data/\n")
    (folder / "train.py").write_text(f"first\nurl = '{SECRET}'\nn = 1\nend\nlast\n")
    (folder / "old.py").write_text("gone = 1\n")
    (folder / "sub" / "dos.txt").write_bytes(b"a\r\nb\r\nc")
    (folder / "model.bin").write_bytes(b"\0\1")
    do(folder, "add", ".")
    do(folder, "commit", "--quiet", "-m", "first")
    return folder


def change(folder: Path) -> None:
    """Every kind of change there is."""
    (folder / "train.py").write_text(f"first\nurl = '{SECRET}'\nn = 2\nend\nlast\n")
    (folder / "old.py").unlink()
    (folder / "sub" / "dos.txt").write_bytes(b"a\r\nB\r\nc")
    (folder / "model.bin").write_bytes(b"\0\2")
    (folder / "sub" / "a new é file.py").write_text("new = 1")
    (folder / "empty.py").write_text("")
    (folder / "data").mkdir()
    (folder / "data" / "ignored.csv").write_text("1")
    (folder / "staged.py").write_text("staged = 1\n")
    do(folder, "add", "staged.py")


def test_the_diff_rebuilds_the_changes_in_a_clean_worktree(repository: Path, tmp_path: Path) -> None:
    change(repository)
    before = do(repository, "status", "--porcelain"), (repository / ".git" / "index").read_bytes()
    patch = git.diff(repository / "sub")
    assert "hunter2" not in patch
    assert "model.bin is binary or large" in patch
    assert "ignored" not in patch
    assert (do(repository, "status", "--porcelain"), (repository / ".git" / "index").read_bytes()) == before
    with git.worktree(repository, git.head(repository), tmp_path / "copy") as copy:
        assert (copy / "old.py").exists()
        git.apply(copy, patch)
        same = ["train.py", "sub/dos.txt", "sub/a new é file.py", "empty.py", "staged.py", ".gitignore"]
        assert [name for name in same if (copy / name).read_bytes() != (repository / name).read_bytes()] == []
        assert not (copy / "old.py").exists()
        assert git.head(copy) == git.head(repository)
    assert not copy.exists()
    assert len(do(repository, "worktree", "list").splitlines()) == 1


def test_a_large_change_is_named_and_the_rest_is_kept(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "LARGEST_DIFF", 2000)
    (repository / "old.py").write_text("x = 1\n" * 1000)
    (repository / "train.py").write_text("small\n")
    patch = git.diff(repository)
    assert "old.py has" in patch
    assert len(patch) < 2000
    with git.worktree(repository, "HEAD", tmp_path / "copy") as copy:
        git.apply(copy, patch)
        assert (copy / "train.py").read_text() == "small\n"


def test_branch_and_files_outside_the_commit_are_told(repository: Path) -> None:
    change(repository)
    assert git.branch(repository) == "main"
    assert git.top(repository / "sub") == repository
    assert Path("data/ignored.csv") in git.unversioned(repository / "sub")
    do(repository, "checkout", "--quiet", "--detach")
    assert git.branch(repository) == ""


def test_outside_a_repository_and_without_git_the_answers_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for _ in range(2):
        assert (git.head(tmp_path), git.branch(tmp_path), git.diff(tmp_path)) == ("", "", "")
        assert (git.top(tmp_path), git.unversioned(tmp_path)) == (None, [])
        monkeypatch.setenv("PATH", "")
    monkeypatch.undo()
    do(tmp_path, "init", "--quiet")
    assert (git.head(tmp_path), git.diff(tmp_path)) == ("", "")


def test_what_cannot_be_rebuilt_says_why(repository: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ConflictError, match="cannot be checked out"),
        git.worktree(repository, "f" * 40, tmp_path / "x"),
    ):
        pass
    with pytest.raises(ConflictError, match="do not fit"):
        git.apply(repository, "diff --git a/no b/no\n--- a/no\n+++ b/no\n@@ -1 +1 @@\n-a\n+b\n")
