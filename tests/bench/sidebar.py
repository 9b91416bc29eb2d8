"""The sidebar in a real browser: how soon it stands there, how soon a change is seen, and how 10,000 runs scroll."""

import contextlib
import json
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab
from contest import Bench, Figures
from playwright.sync_api import Page, sync_playwright

N_CHANGES, N_LOADS = 30, 5
ASSETS = Path(__file__).parents[2] / "nbmlops" / "labextension"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
READY = "() => window.jupyterapp?.restored.then(() => true)"
ROWS = ".nbm-List li .nbm-Link"

# When JupyterLab was ready, and when the sidebar had been painted: milliseconds of the page's clock.
WATCH_PAINT = """
window.seen = {};
new MutationObserver(() => requestAnimationFrame(() => {
  if (!window.jupyterapp || window.seen.ready === undefined) {
    window.jupyterapp?.restored.then(() => { window.seen.ready ??= performance.now(); });
  }
  if (document.querySelector('.nbm-Header h2')) { window.seen.painted ??= performance.now(); }
  if (document.querySelector('.nbm-List li .nbm-Link')) { window.seen.listed ??= performance.now(); }
})).observe(document, { childList: true, subtree: true });
"""
# When a text was painted: milliseconds of the epoch.
WAIT_FOR = """text => new Promise(resolve => {
  const look = () => document.querySelector('.nbm-List')?.textContent.includes(text)
    ? requestAnimationFrame(() => resolve(performance.timeOrigin + performance.now()))
    : undefined;
  new MutationObserver(look).observe(document.querySelector('.nbm-List'), {
    childList: true, subtree: true, characterData: true
  });
  look();
})"""
# The time between one frame and the next, while the list is scrolled to its end and back.
SCROLL = """async () => {
  const list = document.querySelector('.nbm-List');
  const frames = [];
  let before = await new Promise(requestAnimationFrame);
  for (let n = 0; n < 240; n++) {
    list.scrollTop += n < 160 ? 300 : -300;
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - before);
    before = now;
  }
  return frames;
}"""


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[tuple[Page, str]]:
    """Open JupyterLab on a project, the sidebar in front; gives the page and its address."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with lab.jupyter(folder, program="jupyterlab") as (url, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.add_init_script(WATCH_PAINT)
        page.goto(f"{url}lab?token={lab.TOKEN}")
        page.wait_for_function(READY)
        page.evaluate("() => window.jupyterapp.commands.execute('nbmlops:open')")
        page.wait_for_selector(ROWS)
        yield page, url
        browser.close()


def paint() -> Figures:
    """Reload a JupyterLab in which the sidebar is open, until it is painted."""
    folder = lab.many()
    painted, listed = [], []
    with opened(folder) as (page, _):
        page.wait_for_timeout(2000)  # the workspace is saved
        for _ in range(N_LOADS):
            page.reload()
            page.wait_for_function("() => window.seen?.listed && window.seen.ready")
            seen = page.evaluate("() => window.seen")
            painted.append(max(0.0, seen["painted"] - seen["ready"]))
            listed.append(max(0.0, seen["listed"] - seen["ready"]))
    return {"ms, sidebar": statistics.median(painted), "ms, runs listed": statistics.median(listed)}


def pixels() -> Figures:
    """Change a run's name in the store from outside, until the browser has painted it."""
    folder = lab.many()
    store = sqlite3.connect((folder / ".nbmlops" / "mlflow.db").resolve(), timeout=10)
    newest = "SELECT run_uuid FROM runs ORDER BY start_time DESC, run_uuid LIMIT 1"
    took = []
    with opened(folder) as (page, _):
        for n in range(N_CHANGES):
            page.wait_for_timeout(400 + 37 * (n % 7))
            name = f"changed {n}"
            page.evaluate(f"() => {{ window.found = ({WAIT_FOR})({json.dumps(name)}); }}")
            with store:
                store.execute(f"UPDATE runs SET name = ? WHERE run_uuid = ({newest})", [name])
            at_ms = time.time() * 1000
            took.append(page.evaluate("() => window.found") - at_ms)
    store.close()
    return {"ms, median": statistics.median(took), "ms, p95": statistics.quantiles(took, n=20)[-1]}


def scrolled() -> Figures:
    """Scroll through 10,000 runs, a third of a window each frame."""
    folder = lab.many()
    with opened(folder) as (page, _):
        page.wait_for_timeout(1000)
        frames: list[float] = page.evaluate(SCROLL)
    return {"ms a frame, median": statistics.median(frames), "ms, slowest": max(frames)}


def assets() -> Figures:
    """Add up what a browser loads of ours."""
    files: list[Any] = [path for path in ASSETS.rglob("*") if path.suffix in (".js", ".css", ".svg")]
    return {"kB": sum(path.stat().st_size for path in files) / 1000}


BENCHES = (
    Bench(
        "the sidebar's first paint", ours=paint, peers={}, promise="at most 300 ms after JupyterLab is ready", turns=3
    ),
    Bench("from a store's change to pixels", ours=pixels, peers={}, promise="median 300 ms, p95 1 s", turns=3),
    Bench("10,000 runs scrolled", ours=scrolled, peers={}, promise="no frame over 50 ms", turns=3),
    Bench("the front end's assets", ours=assets, peers={}, promise="at most 150 kB", turns=1),
)
