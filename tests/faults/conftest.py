"""What faults are injected with: a proxy that fails, a disk that is small, children that are killed."""

import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.death import Killing
from tests.faults.proxy import Proxy
from tests.tracking.conftest import serving


@pytest.fixture(scope="session")
def steady_server(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[str]:
    """URL of a real MLflow server that stays up; the proxies before it do the failing."""
    place = tmp_path_factory.mktemp("steady")
    shutil.copy(empty_mlflow, place / "mlflow.db")
    with serving(place) as (url, _):
        yield url


@pytest.fixture
def proxy(steady_server: str) -> Iterator[Proxy]:
    """A proxy before a real MLflow server: good, until told otherwise."""
    with Proxy(steady_server) as before:
        yield before


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MiB unless parametrized with other bytes; full when that much is written."""
    size_bytes = getattr(request, "param", 1 << 20)
    place = tmp_path / "small disk"
    place.mkdir()
    if os.geteuid():
        pytest.skip("only root may mount a tmpfs")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The test's own seed; FAULTS_SEED in the environment sets another. A failing test shows it."""
    drawn = int(os.environ.get("FAULTS_SEED", zlib.crc32(request.node.nodeid.encode())))
    print(f"FAULTS_SEED={drawn}")
    return drawn


@pytest.fixture
def killing(seed: int) -> Iterator[Killing]:
    """Kills children at moments drawn from `seed`, and leaves none of what they have started."""
    killer = Killing(seed)
    try:
        yield killer
    finally:
        killer.clear()
