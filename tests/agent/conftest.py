"""A folder that is no project yet."""

from pathlib import Path

import pytest


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "bare"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def ready(bare: Path, empty_mlflow: Path) -> Path:
    """An empty working folder beside a tracking database whose schema is made: ``sqlite:///../mlflow.db``."""
    (bare.parent / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    return bare
