"""The lock names what is installed, so that it can be installed, and lets no token out."""

import importlib.metadata
import json
import re

import pytest
from packaging.requirements import Requirement

from nbmlops.tracking.capture import environment


def test_the_lock_pins_every_distribution() -> None:
    lines = environment.lock().splitlines()
    wanted = {re.sub(r"[-_.]+", "-", each.name).lower() for each in importlib.metadata.distributions()}
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    local = environment.local_folders(environment.lock())
    assert {re.sub(r"[-_.]+", "-", each.name).lower() for each in pinned} | set(local) == wanted
    assert all(each.url or str(each.specifier) == f"=={importlib.metadata.version(each.name)}" for each in pinned)
    assert local["nbmlops"].is_dir()


@pytest.mark.parametrize(
    ("direct", "line"),
    [
        (None, "x==1.0"),
        ({"url": "file:///home/ann/x", "dir_info": {"editable": True}}, "# x==1.0 comes from file:///home/ann/x"),
        (
            {"url": "https://ann:token@example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "x @ git+https://example.org/x.git@abc",
        ),
        (
            {"url": "https://example.org/x.zip?token=t", "archive_info": {"hash": "sha256=ab"}, "subdirectory": "y"},
            "x @ https://example.org/x.zip#sha256=ab&subdirectory=y",
        ),
    ],
)
def test_one_from_elsewhere_is_named_by_where(direct: object, line: str) -> None:
    assert environment._requirement("x", "1.0", json.dumps(direct) if direct else None) == line


def test_the_machine_is_told() -> None:
    told = environment.machine()
    assert told["cpus"] >= 1
    assert told["memory_bytes"] > 10**8
    assert isinstance(told["gpus"], list)
    assert len(environment.digest()) == 16
