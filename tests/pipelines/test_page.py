"""The page of an executed notebook: what nbconvert makes of it, in less time."""

from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import Highlight2HTML

from nbmlops.pipelines import page


def test_a_page_is_the_one_that_nbconvert_makes_by_itself(tmp_path: Path) -> None:
    v4 = nbformat.v4
    shown = [
        v4.new_output("stream", text="<script>shout()</script>"),
        v4.new_output("display_data", {"text/html": "<table><tr><td>1 & 2</td></tr></table>"}),
        v4.new_output("display_data", {"image/svg+xml": "<svg><script>shout()</script></svg>"}),
        v4.new_output("error", ename="ValueError", evalue="<b>", traceback=["\x1b[31mValueError\x1b[0m: <b>"]),
    ]
    cells = [
        v4.new_markdown_cell("# Trains & <b>delays</b>\n\n$a < b$"),
        v4.new_code_cell("a = '</pre><script>shout()</script>' if 1 < 2 & 3 else f'{b!r}'", outputs=shown),
        v4.new_code_cell("%%html\n<script>shout()</script>"),
        v4.new_raw_cell("<script>shout()</script>"),
    ]
    path, made = tmp_path / "it.ipynb", tmp_path / "it.html"
    nbformat.write(v4.new_notebook(cells=cells), path)
    page.make(path, made)
    exporter = HTMLExporter(mathjax_url="", require_js_url="", embed_images=False)
    assert made.read_text() == exporter.from_notebook_node(nbformat.read(path, as_version=4))[0]


def test_highlighted_code_is_known_by_how_it_begins() -> None:
    assert Highlight2HTML()("print('</pre><script>')").startswith(page.HIGHLIGHTED)
