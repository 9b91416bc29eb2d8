"""An executed notebook as one page of HTML; ``python -m nbmlops.pipelines.page`` makes one in a process of its own.

That process imports nbconvert, which takes a second, while the cells run.
"""

import contextlib
import functools
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

PATIENCE_S = 60.0
HIGHLIGHTED = '<div class=" highlight hl-'  # begins what nbconvert makes of code


class Pages:
    """Makes the page of a notebook; nothing hangs on it, so what goes wrong leaves it out."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if "nbconvert" not in sys.modules:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the run's, which still wants its page
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()

    def made(self, notebook: Path, page: Path) -> Path | None:
        """Make a notebook's page; None when it could not be made."""
        if self._process is None:
            with contextlib.suppress(Exception):  # a cell may hold what no template foresees
                make(notebook, page)
        else:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._process.communicate(f"{notebook}\n{page}\n".encode(), timeout=PATIENCE_S)
        return page if page.exists() else None


def make(notebook: Path, page: Path) -> None:
    """Convert a notebook; the page asks no other host for anything."""
    import nbformat

    page.write_text(_converted(nbformat.read(notebook, as_version=4)), encoding="utf-8")


def prepare() -> None:
    """Import, and convert an empty notebook: the templates are compiled with it."""
    import nbformat

    cells = [
        nbformat.v4.new_markdown_cell("-"),
        nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream")]),
    ]
    _converted(nbformat.v4.new_notebook(cells=cells))


def _converted(notebook: Any) -> str:
    return str(_exporter().from_notebook_node(notebook)[0])


@functools.cache
def _exporter() -> Any:
    from nbconvert import HTMLExporter

    settings = {"mathjax_url": "", "require_js_url": "", "embed_images": False, "optimistic_validation": True}
    return HTMLExporter(filters={"clean_html": _clean}, **settings)  # type: ignore[no-untyped-call]


def _clean(html: str | bytes) -> str:
    """Clean what is no highlighted code: that is made of escaped text, and to parse it is a third of a page's work."""
    from nbconvert.filters import clean_html

    if isinstance(html, str) and html.startswith(HIGHLIGHTED):
        return html
    return str(clean_html(html))  # type: ignore[no-untyped-call]


def main() -> None:
    """Get ready, then wait for the two paths."""
    os.nice(10)  # the cells come first
    gc.disable()  # one page is soon made
    # Most of nbformat's import is this checker of internationalised addresses, which no notebook needs.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    prepare()
    notebook, page = sys.stdin.readline().rstrip("\n"), sys.stdin.readline().rstrip("\n")
    if page:
        make(Path(notebook), Path(page))


if __name__ == "__main__":
    main()
