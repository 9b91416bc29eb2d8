"""The benches are no tests; only the frame's own examples are run by pytest."""

from pathlib import Path

collect_ignore = [path.name for path in Path(__file__).parent.glob("*.py") if path.name != "contest.py"]
