"""Run the benches: ours beside a peer, turn by turn in one run, as a Markdown table for each file of them.

``--write`` puts the tables into docs/benchmarks.md, each with its day and machine; other words name the files to run.
A file of benches has a tuple ``BENCHES``; name its module below, and a place for its table on the page.
"""

import itertools
import os
import platform
import sys
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import arriving
import autologging
import digests
import first_run
import headless
import lab
import ledger
import loading
import log_calls
import pipelines
import reading
import serving
import sidebar
from contest import Bench, measure, rows

MODULES = (
    loading,
    first_run,
    log_calls,
    arriving,
    autologging,
    reading,
    digests,
    ledger,
    headless,
    pipelines,
    serving,
    lab,
    sidebar,
)
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
HEAD = [
    "| what | unit | ours: median (least to most) | peer | peer: median (least to most) | ours ÷ peer | promise |",
    "|---|---|---|---|---|---|---|",
]


def main(words: list[str]) -> None:
    """Measure what was chosen, print the tables, and write them where asked, each as soon as it is there."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a source that changed is compiled once, not at each start
    files = {module.__name__: module for module in MODULES}
    wanted = [word for word in words if not word.startswith("-")] or [*files]
    if unknown := set(wanted) - files.keys():
        sys.exit(f"There are no benches {', '.join(unknown)}. There are: {', '.join(files)}")
    failed = 0
    for name in wanted:
        found = {bench.name: measured(bench) for bench in files[name].BENCHES}
        failed += sum(not rows for rows in found.values())
        section = told(str(files[name].__doc__), itertools.chain.from_iterable(found.values()))
        print(section, flush=True)
        if "--write" in words:
            write(name, section)
    if failed:
        sys.exit(f"{failed} of the benches failed, and have no rows.")


def told(title: str, rows: Iterable[str]) -> str:
    """Word a table under what it is about, and when and where it was measured."""
    return "\n".join([f"### {title.splitlines()[0]}", "", setting(), "", *HEAD, *rows, ""])


def write(name: str, section: str) -> None:
    """Put a table in the place of the one before."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"<!-- bench {name} -->\n")
    _, end, after = rest.partition("<!-- ")
    if not begin:
        sys.exit(f"{PAGE} has no place for it: a line <!-- bench {name} -->")
    PAGE.write_text(f"{before}{begin}{section}\n{end}{after}", encoding="utf-8")


def measured(bench: Bench) -> list[str]:
    """Give a bench's rows, telling on stderr that it is under way; none where it failed: the others go on."""
    print(f"{bench.name}: {bench.turns} turns ...", file=sys.stderr, flush=True)
    try:
        return [*rows(bench, measure(bench))]
    except Exception:  # noqa: BLE001  # half an hour of the others' figures would be lost with it
        traceback.print_exc()
        return []


def setting() -> str:
    """Say when, where and on which versions was measured."""
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("nbmlops", "ipython", "mlflow", "pandas", "sqlalchemy")
    )
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}; {libraries}. The contenders take turns."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
