"""The sidebar in Jupyter Notebook: it opens from the menu beside the notebook, its pages on the other side."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from . import flights
from .conftest import ARTIFACTS, Lab
from .driving import PATIENCE_MS, READY, main_page, only, section, sidebar

FOLDER = "seven"
CELL = '%%mlops track first\nimport nbmlops\nnbmlops.open().log({"auc": 0.75})'


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Browser, empty_mlflow: Path) -> Iterator[Page]:
    """A project's notebook in Jupyter Notebook, served by the same server."""
    flights.begin(lab.root / FOLDER, empty_mlflow, CELL, "%mlops ui jobs")
    with closing(browser.new_context(viewport={"width": 1300, "height": 900})) as context:
        opened = context.new_page()
        opened.set_default_timeout(PATIENCE_MS)
        opened.goto(f"{lab.url}notebooks/{FOLDER}/work.ipynb?token={lab.token}")
        opened.wait_for_function(READY)
        yield opened


def run_cell(page: Page, number: int) -> None:
    page.locator(".jp-Notebook .jp-Cell .cm-content").nth(number).click()
    page.keyboard.press("Control+Enter")


def test_the_panel_opens_from_the_menu_beside_the_notebook(page: Page) -> None:
    page.get_by_role("menuitem", name="MLOps", exact=True).click()
    page.get_by_role("menuitem", name="Show the MLOps sidebar").click()
    expect(sidebar(page)).to_be_visible()
    panel, notebook = sidebar(page).bounding_box(), page.locator(".jp-NotebookPanel").bounding_box()
    assert panel is not None
    assert notebook is not None
    assert panel["x"] + panel["width"] <= notebook["x"]


def test_a_run_of_the_notebook_shows_and_its_page_opens_on_the_other_side(page: Page) -> None:
    runs = only(page, "Runs")
    run_cell(page, 0)
    runs.get_by_role("button", name="first", exact=True).click(timeout=PATIENCE_MS)
    expect(main_page(page).get_by_role("heading", level=1)).to_contain_text("first")
    article, notebook = main_page(page).bounding_box(), page.locator(".jp-NotebookPanel").bounding_box()
    assert article is not None
    assert notebook is not None
    assert article["x"] >= notebook["x"] + notebook["width"]
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / "notebook-7.png")


def test_a_line_in_a_cell_opens_a_section(page: Page) -> None:
    expect(section(page, "Jobs")).to_have_count(0)
    run_cell(page, 1)
    expect(section(page, "Jobs")).to_be_visible(timeout=PATIENCE_MS)
