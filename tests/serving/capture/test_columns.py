"""Excluded and hashed columns: their values are nowhere on the disk, whatever the protocol, at any moment."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nbmlops.serving.capture.columns import KEY_FILE, Filter, hashed, key_of
from nbmlops.serving.capture.compaction import compact
from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.reading import captured
from nbmlops.serving.capture.segments import segment
from nbmlops.serving.capture.settings import CaptureSettings
from nbmlops.serving.capture.writing import Capture

CANARIES = ["ann.canary@example.org", "canary-passport-71", "4711471147114711"]
SETTINGS = CaptureSettings(exclude=("passport",), hash=("email", "account"), keeps_refused=True)


def holding(root: Path) -> list[tuple[str, str]]:
    """Find canaries in all files below a folder; segments are read decoded too."""
    found = []
    for path in root.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        found += [(path.name, canary) for canary in CANARIES if canary.encode() in content]
    return found


def test_personal_values_are_never_at_rest(place: Place, tmp_path: Path) -> None:
    capture = Capture(place.folder, SETTINGS, key=key_of(tmp_path))
    body = f'{{"inputs": {{"email": ["{CANARIES[0]}"], "passport": ["{CANARIES[1]}"]}}}}'.encode()
    columns = {"email": [CANARIES[0]], "passport": [CANARIES[1]], "account": np.array([int(CANARIES[2])]), "age": [40]}
    capture.add("a", 1, "1", "champion", 0.1, columns, [1])
    capture.add("b", 2, "1", "champion", 0.1, body, b'{"predictions": [1]}')  # cannot be filtered: left out
    capture.add("c", 3, "1", "champion", 0.1, body, body, status=422)  # refused: may name a value in its answer
    capture.flush()
    assert holding(tmp_path) == []
    capture.close()
    rows = captured(place)
    segment(place)
    assert holding(tmp_path) == []
    again = captured(place)
    assert again.to_csv() == rows.to_csv()
    assert not any(canary in again.to_csv() for canary in CANARIES)
    compact(place)
    assert holding(tmp_path) == []
    assert capture.counts.unfiltered == 1
    assert again.age.fillna(0).tolist() == [40, 0, 0]
    assert "passport" not in again


def test_a_hash_joins_and_needs_the_key(tmp_path: Path) -> None:
    key = key_of(tmp_path)
    kept = Filter((), ("id",), key)({"id": [7, 7.0, "7", None, float("nan"), True]})
    assert kept["id"][0] == kept["id"][1] == kept["id"][2] == hashed(7, key)
    assert kept["id"][3:5] == [None, None]
    assert kept["id"][0] != hashed(7, b"another project")
    with pytest.raises(ValueError, match="key"):
        Filter((), ("id",), b"")


def test_processes_that_ask_at_once_have_one_key_that_is_the_owners_alone(tmp_path: Path) -> None:
    code = "import sys, pathlib\nfrom nbmlops.serving.capture.columns import key_of as key\n"
    code += "print(key(pathlib.Path(sys.argv[1])).hex())"
    asked = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(4)]
    keys = {process.communicate()[0] for process in asked}
    assert len(keys) == 1
    assert len(keys.pop().strip()) == 64
    assert os.listdir(tmp_path) == [KEY_FILE]
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
