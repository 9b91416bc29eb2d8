"""The front end's own unit tests, which Vitest runs: what they tell is told here when they fail."""

import os
import subprocess
import sys

from tests.wheel import ROOT


def test_the_units_of_the_front_end_pass() -> None:
    command = [sys.executable, str(ROOT / "hatch_build.py"), "test"]
    plain = os.environ | {"NO_COLOR": "1"}
    done = subprocess.run(command, env=plain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
