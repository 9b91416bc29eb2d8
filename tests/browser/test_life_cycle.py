"""A model's whole life in JupyterLab's sidebar, by mouse and keyboard: one project, from its first cell on."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from . import flights
from .conftest import ARTIFACTS, Lab
from .driving import (
    PATIENCE_MS,
    READY,
    close,
    command,
    dialog,
    done,
    line,
    main_page,
    only,
    open_notebook,
    open_sidebar,
    perform,
    proposed,
    section,
    sidebar,
    toolbar,
    unfold,
)

FOLDER = "cycle"
FIT = """\
import nbmlops, pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
ops, table = nbmlops.open(), pd.read_parquet("january.parquet")
X, y = table.drop(columns="late"), table["late"].astype(int)
for step, strength in enumerate((0.001, 0.01, 0.1)):
    model = LogisticRegression(C=strength).fit(X, y)
    p_late = model.predict_proba(X)[:, 1]
    ops.log({"auc": roc_auc_score(y, p_late), "loss": log_loss(y, p_late)}, step=step)"""
CELLS = (FIT, "%mlops ui models")
FIT_CELL, UI_CELL = 0, 1


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Browser, empty_mlflow: Path) -> Iterator[Page]:
    """A project's first notebook, open; what it serves in the end is stopped."""
    root = lab.root / FOLDER
    flights.begin(root, empty_mlflow, *CELLS)
    try:
        with closing(browser.new_context(viewport={"width": 1300, "height": 1000})) as context:
            opened = context.new_page()
            open_notebook(opened, lab, f"{FOLDER}/work.ipynb")
            yield opened
            ARTIFACTS.mkdir(exist_ok=True)
            opened.screenshot(path=ARTIFACTS / "life-cycle-at-the-end.png")
    finally:
        flights.end_endpoints(root)


def cell(page: Page, number: int) -> Locator:
    return page.locator(".jp-NotebookPanel:visible .jp-Cell").nth(number)


def source(page: Page, number: int) -> Locator:
    return cell(page, number).locator(".cm-content")


def run_cell(page: Page, number: int) -> None:
    """Run a cell by the keyboard, and wait until its kernel has."""
    prompt = cell(page, number).locator(".jp-InputPrompt")
    before = prompt.inner_text()
    source(page, number).click()
    page.keyboard.press("Control+Enter")
    expect(prompt).not_to_have_text(before)  # it may have run before anybody sees that it does
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=PATIENCE_MS)


# ------------------------------------------------------------------- the panel
def test_the_sidebar_opens_by_its_tab_the_menu_and_the_palette(page: Page) -> None:
    page.get_by_role("tab", name="MLOps").click()
    expect(sidebar(page)).to_be_visible()
    expect(sidebar(page).get_by_role("heading", name="flights")).to_be_visible()
    page.keyboard.press("Control+B")
    expect(sidebar(page)).to_be_hidden()
    page.get_by_role("menuitem", name="MLOps", exact=True).click()
    page.get_by_role("menuitem", name="Show the MLOps sidebar").click()
    expect(sidebar(page)).to_be_visible()
    page.keyboard.press("Control+B")
    page.keyboard.press("Control+Shift+C")
    palette = page.locator(".lm-CommandPalette:visible")
    expect(palette.locator("input:focus")).to_have_count(1)
    page.keyboard.type("show the mlops sidebar")
    expect(palette.locator(".lm-mod-active")).to_contain_text("Show the MLOps sidebar")
    page.keyboard.press("Enter")
    expect(sidebar(page)).to_be_visible()


# ------------------------------------------------------------------------ runs
def test_the_button_in_the_notebooks_toolbar_tracks_the_cell_and_its_run_appears(page: Page) -> None:
    runs = only(page, "Runs")
    expect(runs.get_by_text("No runs yet")).to_be_visible()
    source(page, FIT_CELL).click()
    toolbar(page, "Track").click()
    expect(source(page, FIT_CELL)).to_contain_text("%%mlops track work")
    expect(toolbar(page, "Track")).to_have_attribute("aria-pressed", "true")
    toolbar(page, "Track").click()
    expect(source(page, FIT_CELL)).not_to_contain_text("%%mlops track")
    toolbar(page, "Track").click()
    run_cell(page, FIT_CELL)
    expect(runs.get_by_role("listitem").filter(has_text="FINISHED")).to_have_count(1)
    run_cell(page, FIT_CELL)
    expect(runs.get_by_role("listitem").filter(has_text="FINISHED")).to_have_count(2)
    expect(runs.get_by_role("img", name="auc: from 0.")).to_have_count(2)


def test_two_runs_are_chosen_by_the_keyboard_and_compared_with_plots(page: Page) -> None:
    runs = section(page, "Runs")
    expect(runs.get_by_role("button", name="Compare")).to_be_disabled()
    runs.get_by_role("checkbox", name="Choose work").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    for box in runs.get_by_role("checkbox", name="Choose work").all():
        expect(box).to_be_checked()
    runs.get_by_role("button", name="Compare 2").focus()
    page.keyboard.press("Enter")
    expect(main_page(page).get_by_role("heading", name="2 runs compared")).to_be_visible()
    plot = main_page(page).get_by_role("img", name="auc of each run")
    expect(plot.locator("svg").first).to_be_visible()


def test_a_metric_that_is_picked_marks_the_best_run(page: Page) -> None:
    section(page, "Runs").get_by_label("Metric").select_option("auc")
    expect(section(page, "Runs").get_by_text("best", exact=True)).to_have_count(1)


# ---------------------------------------------------------------------- models
def test_a_model_is_registered_by_the_line_that_a_dialog_inserts(page: Page) -> None:
    page.get_by_role("tab", name="work.ipynb").click()
    source(page, UI_CELL).click()
    models = only(page, "Models")
    models.get_by_role("button", name="Register a model …").click()
    proposed(page).get_by_label("what").fill("model")
    dialog(page).get_by_label("name", exact=False).last.fill("delays")
    dialog(page).get_by_text("Options", exact=True).click()
    proposed(page).get_by_label("input example").fill("X")
    shown = line(page).inner_text()
    assert shown == "%mlops register model delays --input-example X"
    dialog(page).get_by_role("button", name="Insert into notebook").click()
    expect(dialog(page)).to_have_count(0)
    expect(source(page, UI_CELL + 1)).to_have_text(shown)
    run_cell(page, UI_CELL + 1)
    expect(models.get_by_text("Version 1")).to_be_visible()


def test_a_promotion_without_a_passed_gate_says_so_and_offers_the_validation(page: Page) -> None:
    models = section(page, "Models")
    models.get_by_role("button", name="Promote … (delays/1 to champion)").click()
    evidence = dialog(page).get_by_role("region", name="Evidence")
    expect(evidence.get_by_role("note", name="No gate has passed")).to_be_visible()
    evidence.get_by_role("button", name="Validate …").click()
    expect(line(page)).to_have_text("%mlops validate delays/1")
    assert "passed" in perform(page, "Validate")
    expect(models.get_by_text("gate passed")).to_be_visible()


def test_a_version_is_promoted_by_the_keyboard_after_its_evidence_is_shown(page: Page) -> None:
    models = section(page, "Models")
    models.get_by_role("button", name="Promote … (delays/1 to champion)").focus()
    page.keyboard.press("Enter")
    evidence = dialog(page).get_by_role("region", name="Evidence")
    expect(evidence).to_contain_text("The alias champion points at no version yet.")
    expect(evidence).to_contain_text("Version 1 passed gate default on 600 rows of holdout.parquet")
    proposed(page).get_by_label("reason").focus()
    page.keyboard.type("it is the first")
    expect(line(page)).to_have_text("%mlops promote delays/1 --reason 'it is the first'")
    page.keyboard.press("Enter")
    expect(done(page)).to_contain_text("champion", timeout=PATIENCE_MS)
    close(page)
    expect(models.get_by_role("list", name="Versions of delays").get_by_text("champion", exact=True)).to_be_visible()


# ----------------------------------------------------------------- deployments
def test_the_champion_is_deployed_from_the_empty_section(page: Page) -> None:
    deployments = only(page, "Deployments")
    deployments.get_by_role("button", name="Deploy it …").click()
    expect(dialog(page).get_by_role("region", name="Evidence")).to_contain_text("Version 1 passed gate default")
    expect(line(page)).to_have_text("%mlops deploy delays")
    perform(page, "Deploy")
    expect(deployments.get_by_text("answers", exact=True)).to_be_visible()
    expect(deployments.get_by_role("row", name="share 100 %")).to_be_visible()


def test_a_newer_version_gets_its_share_by_the_slider_and_the_keyboard(page: Page) -> None:
    run_cell(page, UI_CELL + 1)
    unfold(page, "Models", "Deployments")
    section(page, "Models").get_by_role("button", name="Validate … (delays/2)").click()
    perform(page, "Validate")
    section(page, "Models").get_by_role("button", name="Deploy … (delays/2)").click()
    dialog(page).get_by_text("Options", exact=True).click()
    proposed(page).get_by_label("canary").fill("10,50,100")
    proposed(page).get_by_label("bake").fill("1h")
    expect(line(page)).to_have_text("%mlops deploy delays/2 --canary 10,50,100 --bake 1h")
    perform(page, "Deploy")
    deployments = section(page, "Deployments")
    expect(deployments.get_by_role("row", name="share 90 % 10 %")).to_be_visible()
    slider = deployments.get_by_role("slider", name="Share of version 2")
    expect(slider).to_have_value("10")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "1: 85\u00a0%, 2: 15\u00a0%")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(line(page)).to_have_text("%mlops traffic delays 1=85 2=15")
    expect(dialog(page)).to_contain_text("A rollout goes on here. It ends when weights are set by hand.")
    perform(page, "Traffic")
    expect(deployments.get_by_role("row", name="share 85 % 15 %")).to_be_visible()


def test_what_was_promoted_from_its_endpoint_is_rolled_back_with_the_evidence_shown(page: Page) -> None:
    deployments = only(page, "Deployments")
    deployments.get_by_role("button", name="Promote 2 …").click()
    expect(dialog(page).get_by_role("region", name="Evidence")).to_contain_text("It would go from version 1 to 2")
    perform(page, "Promote")
    expect(deployments.get_by_role("columnheader", name="2 champion")).to_be_visible(timeout=PATIENCE_MS)
    expect(deployments.get_by_role("row", name="share 100 %")).to_be_visible()
    deployments.get_by_role("button", name="Roll back …").click()
    evidence = dialog(page).get_by_role("region", name="Evidence")
    expect(evidence).to_contain_text("It would go from version 2 back to version 1")
    expect(evidence).to_contain_text("Version 1 passed gate default")
    expect(line(page)).to_have_text("%mlops rollback delays")
    dialog(page).get_by_role("button", name="Try without changing anything").click()
    expect(done(page)).to_be_visible()
    expect(deployments.get_by_role("columnheader", name="2 champion")).to_be_visible()
    perform(page, "Rollback")
    expect(deployments.get_by_role("columnheader", name="1 champion")).to_be_visible(timeout=PATIENCE_MS)


def test_an_endpoint_is_taken_down(page: Page) -> None:
    deployments = section(page, "Deployments")
    deployments.get_by_role("button", name="Undeploy …").click()
    expect(line(page)).to_have_text("%mlops undeploy delays")
    perform(page, "Undeploy")
    expect(deployments.get_by_text("Nothing is deployed yet.")).to_be_visible()


# ------------------------------------------------------------------------ jobs
def test_a_notebook_runs_headless_with_the_form_of_its_parameters(page: Page, lab: Lab) -> None:
    command(page, "docmanager:open", path=f"{FOLDER}/month.ipynb")
    page.wait_for_function(f"() => window.jupyterapp.shell.currentWidget?.title.label === 'month.ipynb' && ({READY})()")
    jobs = only(page, "Jobs")
    toolbar(page, "Run headless").click()
    proposed(page).get_by_label("month int").fill("4")
    proposed(page).get_by_label("carriers list[str]").fill("[UA")
    dialog(page).get_by_role("button", name="Run", exact=True).click()
    refused = dialog(page).get_by_role("alert")
    expect(refused).to_contain_text("carriers")
    proposed(page).get_by_label("carriers list[str]").fill('["UA"]')
    expect(line(page)).to_contain_text("%mlops run month.ipynb -p month=4 -p 'carriers=[\"UA\"]'")
    perform(page, "Run")
    expect(jobs.get_by_role("listitem").filter(has_text="RUNNING")).to_contain_text("month")
    jobs.get_by_role("button", name="Logs (month)").click()
    job = main_page(page)
    expect(job.get_by_role("log")).to_contain_text("month 4 begins")
    expect(job.get_by_role("row", name="import time")).to_contain_text("running")
    (lab.root / FOLDER / "go").touch()
    expect(job.get_by_role("log")).to_contain_text("is done")
    expect(job.get_by_role("heading", level=1)).to_contain_text("FINISHED")
    expect(jobs.get_by_role("listitem").filter(has_text="FINISHED")).to_contain_text("month")


def test_a_notebook_is_scheduled_and_paused(page: Page) -> None:
    page.get_by_role("tab", name="month.ipynb").click()
    jobs = section(page, "Jobs")
    jobs.get_by_role("button", name="Schedule …").click()
    proposed(page).get_by_label("expression").fill("30 6 * * 1")
    expect(line(page)).to_have_text("%mlops schedule month.ipynb '30 6 * * 1'")
    perform(page, "Schedule")
    itself = jobs.get_by_role("list", name="Runs by itself")
    expect(itself).to_contain_text("30 6 * * 1")
    itself.get_by_role("button", name="Pause … (month)").focus()
    page.keyboard.press("Enter")
    expect(line(page)).to_have_text("%mlops pause month")
    perform(page, "Pause")
    expect(itself.get_by_role("button", name="Unpause … (month)")).to_be_visible()


def test_a_step_that_waits_is_approved_with_its_question_in_view(page: Page) -> None:
    jobs = section(page, "Jobs")
    jobs.get_by_role("button", name="Run … (retrain)").click()
    expect(line(page)).to_contain_text("retrain")
    perform(page, "Run")
    waiting = jobs.get_by_role("group", name="retrain: agree waits for an answer")
    expect(waiting).to_contain_text("Shall the newest version be looked at again?", timeout=PATIENCE_MS)
    waiting.get_by_role("button", name="Approve …").click()
    expect(dialog(page)).to_contain_text("Shall the newest version be looked at again?")
    proposed(page).get_by_label("reason").fill("it shall")
    expect(line(page)).to_contain_text("--reason 'it shall'")
    perform(page, "Approve")
    expect(waiting).to_have_count(0)
    jobs.get_by_role("button", name="Resume … (retrain)").click()
    perform(page, "Resume")
    finished = jobs.get_by_role("listitem").filter(has_text="retrain").filter(has_text="FINISHED")
    expect(finished.first).to_be_visible(timeout=PATIENCE_MS)


# ---------------------------------------------------------------- from a cell
def test_a_line_in_a_cell_opens_a_section(page: Page) -> None:
    page.get_by_role("tab", name="work.ipynb").click()
    page.get_by_role("tab", name="File Browser").click()
    expect(sidebar(page)).to_be_hidden()
    run_cell(page, UI_CELL)
    expect(section(page, "Models")).to_be_visible()
    open_sidebar(page)
    expect(section(page, "Models").get_by_role("button", name="delays", exact=True)).to_be_visible()
