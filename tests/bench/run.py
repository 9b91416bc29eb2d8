"""Run the benches: ours beside a peer, turn by turn in one run, as a Markdown table.

``--write`` puts the table into docs/benchmarks.md; other words choose benches whose name has one of them.
A file of benches has a tuple ``BENCHES``; name its module below.
"""

import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import arriving
import autologging
import digests
import first_run
import headless
import ledger
import loading
import log_calls
import pipelines
import reading
import serving
from contest import Bench, measure, rows

MODULES = (loading, first_run, log_calls, arriving, autologging, reading, digests, ledger, headless, pipelines, serving)
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
HEAD = [
    "| what | unit | ours: median (least to most) | peer | peer: median (least to most) | ours ÷ peer | promise |",
    "|---|---|---|---|---|---|---|",
]


def main(words: list[str]) -> None:
    """Measure what was chosen, print the table, and write it where asked."""
    wanted = [word for word in words if not word.startswith("-")]
    every = [bench for module in MODULES for bench in module.BENCHES]
    chosen = [bench for bench in every if not wanted or any(word in bench.name for word in wanted)]
    report = "\n".join([setting(), "", *HEAD, *measured(chosen)])
    print(report)
    if "--write" in words:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{report}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def measured(benches: Iterable[Bench]) -> Iterable[str]:
    """Give every bench's rows, telling on stderr which one is under way."""
    for bench in benches:
        print(f"{bench.name}: {bench.turns} turns ...", file=sys.stderr, flush=True)
        yield from rows(bench, measure(bench))


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
