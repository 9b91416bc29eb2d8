"""What changes elsewhere shows in the sidebar by itself, at once; where nobody looks nothing is asked."""

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, Route, expect

from nbmlops.project import Project
from nbmlops.tracking.mlflow import Tracking

from . import flights
from .conftest import ARTIFACTS, Lab, serving
from .driving import only, open_notebook, open_sidebar, section, sidebar, unfold

FOLDER = "live"
WITHIN_S = 1.0
N_TRIES = 5  # the quickest is judged: the others may have waited for what else the machine does
SETTINGS = {"refresh": 2}
HIDE = """
let hidden = false;
Object.defineProperty(document, 'hidden', {get: () => hidden});
Object.defineProperty(document, 'visibilityState', {get: () => hidden ? 'hidden' : 'visible'});
window.hide = now => { hidden = now; document.dispatchEvent(new Event('visibilitychange')); };
"""
SEEN = """text => { window.seen = new Promise(resolve => {
    const look = () => {
        if (document.querySelector('.nbm-Sidebar').innerText.includes(text)) {
            watching.disconnect();
            resolve(Date.now() / 1000);
        }
    };
    const watching = new MutationObserver(look);
    watching.observe(document.body, {childList: true, subtree: true, characterData: true});
    look();
}); }"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, programs: Path, empty_mlflow: Path) -> Iterator[Lab]:
    """A JupyterLab that may be restarted, with a project in the middle of its life in it."""
    with serving(tmp_path_factory.mktemp("live"), programs, empty_mlflow) as made:
        settings = made.home / "settings" / "nbmlops" / "plugin.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(SETTINGS))
        root = made.root / FOLDER
        flights.begin(root, empty_mlflow)
        try:
            flights.live(root)
            yield made
        finally:
            flights.end_endpoints(root)


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """What the page has asked of our routes."""
    return []


@pytest.fixture(scope="module")
def page(own: Lab, browser: Browser, asked: list[str]) -> Iterator[Page]:
    """The project in a page that may believe itself hidden."""
    with closing(browser.new_context(viewport={"width": 1300, "height": 1000})) as context:
        context.add_init_script(HIDE)
        opened = context.new_page()

        def note(request: Request) -> None:
            if "/nbmlops/" in request.url:
                asked.append(request.url)

        opened.on("request", note)
        open_notebook(opened, own, f"{FOLDER}/work.ipynb")
        open_sidebar(opened)
        yield opened


@pytest.fixture(scope="module")
def other(own: Lab, page: Page) -> Iterator[Page]:
    """A second tab with the same project."""
    with closing(page.context.new_page()) as opened:
        open_notebook(opened, own, f"{FOLDER}/work.ipynb")
        open_sidebar(opened)
        yield opened


def terminal(own: Lab, *words: str) -> int:
    """Perform a line in a terminal, to its end."""
    environment = {**os.environ, "NBMLOPS_AGENT": "off", "NBMLOPS_WARM": "off", "NBMLOPS_SENDER": "off"}
    return subprocess.run([own.programs / "nbmlops", *words], cwd=own.root / FOLDER, env=environment).returncode


def log_a_run(own: Lab, name: str) -> float:
    """Have this process write a run into the store; gives when it was there."""
    tracking = Project(own.root / FOLDER).open(Tracking)
    tracking.client.create_run(tracking.experiment_id, run_name=name)
    return time.time()


def run(page: Page, name: str) -> Locator:
    return section(page, "Runs").get_by_role("button", name=name, exact=True)


def watch_for(page: Page, text: str) -> None:
    """Have the page note the moment at which a text stands in the sidebar."""
    page.evaluate(SEEN, text)


def took(page: Page, what: str, since: float) -> float:
    """Keep how long it took from the store's change to the page."""
    seconds = float(page.evaluate("() => window.seen")) - since
    ARTIFACTS.mkdir(exist_ok=True)
    with (ARTIFACTS / "live.txt").open("a") as file:
        file.write(f"{what}: {seconds:.3f} s\n")
    return seconds


# ------------------------------------------------------------------ what shows
def test_runs_of_another_process_show_within_a_second(page: Page, own: Lab) -> None:
    unfold(page, "Runs")
    expect(run(page, "boosting")).to_be_visible()
    quickest = WITHIN_S
    for n in range(N_TRIES):
        watch_for(page, f"elsewhere-{n}")
        quickest = min(quickest, took(page, "a run of another process", log_a_run(own, f"elsewhere-{n}")))
    assert quickest < WITHIN_S


def test_an_alias_that_a_terminal_moves_shows_by_itself(page: Page, own: Lab) -> None:
    only(page, "Models")
    third = section(page, "Models").get_by_role("listitem").filter(has_text="Version 3").last
    expect(third).to_be_visible()
    watch_for(page, "shipped")
    assert terminal(own, "promote", "delays/3", "--to", "shipped") == 0
    expect(third.get_by_text("shipped", exact=True)).to_be_visible()
    with closing(sqlite3.connect(own.root / FOLDER / ".nbmlops" / "ledger.db")) as ledger:
        (at,) = ledger.execute("SELECT at FROM nbmlops_events ORDER BY seq DESC LIMIT 1").fetchone()
    took(page, "an alias that a terminal moved", datetime.fromisoformat(at).timestamp())


def test_a_job_that_fails_shows_by_itself(page: Page, own: Lab) -> None:
    jobs = only(page, "Jobs")
    assert terminal(own, "run", "month.ipynb", "-p", "month=14") != 0
    failed = jobs.get_by_role("listitem").filter(has_text="there is no month 14")
    expect(failed.get_by_text("FAILED", exact=True)).to_be_visible()


def test_two_tabs_follow(page: Page, other: Page, own: Lab) -> None:
    for tab in (page, other):
        unfold(tab, "Runs")
    log_a_run(own, "for-two")
    for tab in (page, other):
        expect(run(tab, "for-two")).to_be_visible()


# ------------------------------------------------------------------- who looks
def passes(other: Page) -> None:
    """Let the other tab look twice, which is longer than any tab rests."""
    for _ in range(2):
        with other.expect_request("**/nbmlops/watch*"):
            pass


@pytest.mark.parametrize("how", ["hidden", "closed"])
def test_nothing_is_asked_while_nobody_looks(page: Page, other: Page, own: Lab, asked: list[str], how: str) -> None:
    page.evaluate("() => hide(true)") if how == "hidden" else page.keyboard.press("Control+B")
    passes(other)
    asked.clear()
    log_a_run(own, f"while-{how}")
    expect(run(other, f"while-{how}")).to_be_visible()
    passes(other)
    assert asked == []
    page.evaluate("() => hide(false)") if how == "hidden" else page.keyboard.press("Control+B")
    expect(run(page, f"while-{how}")).to_be_visible()


# ------------------------------------------------------------------ the server
@pytest.mark.parametrize(
    ("version", "mending"),
    [("9.9.9", "Reload the page."), ("0.0.1", "Stop the Jupyter server and start it again: jupyter lab")],
)
def test_a_version_other_than_the_servers_says_what_mends_it(page: Page, version: str, mending: str) -> None:
    def answer(route: Route) -> None:
        told = route.fetch()
        route.fulfill(response=told, json={**told.json(), "version": version})

    page.route("**/nbmlops/watch*", answer)
    expect(sidebar(page).get_by_role("alert")).to_contain_text(f"the server runs {version}. {mending}")
    page.unroute_all(behavior="wait")
    expect(sidebar(page).get_by_role("alert")).to_have_count(0)


def test_a_server_that_is_started_again_is_followed_again(page: Page, own: Lab) -> None:
    own.stop()
    banner = sidebar(page).get_by_role("alert").filter(has_text="The Jupyter server does not answer.")
    expect(banner).to_be_visible()
    expect(run(page, "boosting")).to_be_visible()
    page.screenshot(path=ARTIFACTS / "server-away.png")
    own.start(own.port, retries=0)
    expect(banner).to_have_count(0)
    expect(run(page, "boosting")).to_be_visible()
    expect(sidebar(page).get_by_role("alert")).to_have_count(0)
    watch_for(page, "after-the-restart")
    took(page, "a run after the restart", log_a_run(own, "after-the-restart"))
