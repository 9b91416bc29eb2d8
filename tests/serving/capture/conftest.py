"""A folder of captures, and small records."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.writing import Capture

BODY = b'{"dataframe_split": {"columns": ["delay", "carrier"], "data": [[4.5, "UA"]]}}'
ANSWER = b'{"predictions": [1]}'
INPUTS = '[{"type": "double", "name": "delay"}, {"type": "string", "name": "carrier"}]'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The captures of an endpoint whose segments lie beside its logs."""
    return Place.of(tmp_path, "delays")


@pytest.fixture
def add(place: Place) -> Callable[..., None]:
    """Capture some requests in one log, at a time; their ids count on."""
    numbers = itertools.count()

    def captured(n: int = 1, at_s: float | None = None, body: bytes | None = BODY, **more: object) -> None:
        capture = Capture(place.folder)
        capture.describe("1", INPUTS)
        for _ in range(n):
            at_ns = int((time.time() if at_s is None else at_s) * 1e9)
            given = {"features": body, "answer": ANSWER, **more}
            capture.add(f"r{next(numbers)}", at_ns, "1", "champion", 0.002, **given)  # type: ignore[arg-type]
        capture.close()

    return captured
