"""Run the benches: ours beside a peer, turn by turn in one run, as a Markdown table.

``--write`` puts the table into docs/benchmarks.md; other words choose benches whose name has one of them: of a table
that was measured on the same day only their rows are written anew.
A file of benches has a tuple ``BENCHES``; name its module below.
"""

import os
import platform
import sys
import traceback
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
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
HEAD = [
    "| what | unit | ours: median (least to most) | peer | peer: median (least to most) | ours ÷ peer | promise |",
    "|---|---|---|---|---|---|---|",
]


def main(words: list[str]) -> None:
    """Measure what was chosen, print the table, and write it where asked."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a source that changed is compiled once, not at each start
    wanted = [word for word in words if not word.startswith("-")]
    every = [bench for module in MODULES for bench in module.BENCHES]
    chosen = [bench for bench in every if not wanted or any(word in bench.name for word in wanted)]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    old, _, after = rest.partition(END)
    if "--write" in words and wanted and old.strip().splitlines()[0] != setting():
        sys.exit("The page's table is of another day, or of other versions: measure all of it, without words.")
    print("\n".join([setting(), "", *HEAD]))
    found = {bench.name: measured(bench) for bench in chosen}
    if "--write" in words:
        kept = [row for bench in every for row in found.get(bench.name, rows_of(bench, old))]
        report = "\n".join([setting(), "", *HEAD, *kept])
        PAGE.write_text(f"{before}{BEGIN}\n{report}\n{END}{after}", encoding="utf-8")
    if failed := [name for name, rows in found.items() if not rows]:
        sys.exit(f"Not measured, for they failed: {'; '.join(failed)}")


def rows_of(bench: Bench, table: str) -> list[str]:
    """Give the rows of a bench out of the page's table."""
    return [row for row in table.splitlines() if row.startswith(f"| {bench.name} |")]


def measured(bench: Bench) -> list[str]:
    """Print a bench's rows and give them; none of one that failed, after which the others go on."""
    print(f"{bench.name}: {bench.turns} turns ...", file=sys.stderr, flush=True)
    try:
        found = [*rows(bench, measure(bench))]
    except Exception:  # noqa: BLE001  # half an hour of the others' figures would be lost with it
        traceback.print_exc()
        return []
    print("\n".join(found), flush=True)
    return found


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
