"""A folder that is no project yet, and a project with an agent whose clock is set by hand."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nbmlops.project import STATE
from tests.agent.stage import Stage


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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project without MLflow: an agent itself needs none."""
    root = tmp_path / "flights"
    (root / STATE).mkdir(parents=True)
    (root / "nbmlops.toml").write_text('[project]\nname = "flights"\n')
    return root


@pytest.fixture
def stage(root: Path) -> Iterator[Stage]:
    with closing(Stage(root)) as made:
        yield made
