"""Views in a real JupyterLab: used by mouse and keyboard, hostile text in them, and what a saved notebook keeps."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from nbmlops.serving.processes import leftovers, stop

from .conftest import ARTIFACTS, Lab

FOLDER = "views"
POLICY = """\
[project]
name = "views"

[gates.default]
target = "late"
data = "holdout.parquet"
metrics.roc_auc = { min = 0.5 }

[pipelines.retrain]
[[pipelines.retrain.steps]]
name = "look"
verb = "models"
[[pipelines.retrain.steps]]
name = "check"
verb = "runs"
needs = ["look"]
"""
PROJECT = """\
import os
os.environ.update(NBMLOPS_AGENT="off", NBMLOPS_WARM="off", NBMLOPS_SENDER="off")
%load_ext nbmlops
import nbmlops
ops = nbmlops.open()
for depth in (10, 9, 2):
    ops.track(f"<b>depth</b> {depth}", parameters={"depth": depth})
    ops.log({"auc": 1 / depth, "loss": depth})
    ops.end()
"""
HOSTILE = """\
from IPython.display import display
from nbmlops.surfaces.widgets.views import bundle, view
from nbmlops.tracking.runs import Run, Runs
evil = [
    "<img src=x onerror=alert(1)>", "<svg onload=alert(2)><script>alert(3)</script>", "javascript:alert(4)",
    "\\u202egnp.exe", '"><iframe src=http://evil.test/>', "<a data-commandlinker-command=help:about>x</a>", "A" * 10**6,
]
runs = Runs(
    Run(f"{n:032}", text, text, None, None, metrics={text: 1.0}, params={text: text}, source=text, user=text)
    for n, text in enumerate(evil)
)
data, metadata = bundle(runs, view(runs, ops.project, "runs"))
display(data, metadata=metadata, raw=True)
"""
WAITING = """\
from dataclasses import replace
from nbmlops.ledger.steps import Steps
from nbmlops.pipelines import jobs
asked = jobs.beginning(job="c" * 12, name="<b>deliver</b>", given={}, steps=("ask <i>Ann</i>",))
jobs.put(ops.project, asked)
jobs.put(ops.project, replace(asked, status="WAITING"))
ops.project.open(Steps).claim("<b>deliver</b>", "ask <i>Ann</i>", job="c" * 12, key="k", status="WAITING")
"""
SERVED = """\
import numpy as np, pandas as pd
from sklearn.linear_model import LogisticRegression
rng = np.random.default_rng(1)
table = pd.DataFrame({"delay": rng.normal(0, 1, 300), "hour": rng.uniform(5, 23, 300)})
late = (table["delay"] > 0).astype(int)
table.assign(late=late).to_parquet("holdout.parquet")
for strength in (0.01, 1.0):
    ops.register(LogisticRegression(C=strength).fit(table, late), "delays", input_example=table)
    ops.validate("delays")
ops.promote("delays/1")
ops.deploy("delays@champion")
ops.deploy("delays/2", as_="delays", canary="10,50,100", bake="1h")
"""
CELLS = (
    PROJECT,
    "%mlops runs --widget",
    HOSTILE,
    WAITING,
    "%mlops jobs --widget",
    SERVED,
    "%mlops show delays --widget",
    "%mlops run retrain --widget",
    "ops.endpoints()[0].traffic[1].weight, ops.models()[0].aliases",
    "ops.undeploy('delays'); 'the end'",
)
RUNS, EVIL, JOBS, CANARY, PROGRESS, END = 1, 2, 4, 6, 7, 9


def _notebook() -> dict[str, object]:
    empty = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells = [{**empty, "id": f"cell-{n}", "source": source} for n, source in enumerate(CELLS)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}


@pytest.fixture(scope="module")
def strays() -> list[str]:
    """What the page did that it must not: dialogs, requests elsewhere, and errors about views."""
    return []


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Browser, strays: list[str]) -> Iterator[Page]:
    """A notebook with one view of each kind, all cells but the last executed; no server of an endpoint outlives it."""
    root = lab.root / FOLDER
    root.mkdir()
    (root / "nbmlops.toml").write_text(POLICY)
    (root / "work.ipynb").write_text(json.dumps(_notebook()))
    try:
        with closing(browser.new_context(viewport={"width": 1200, "height": 1600})) as context:
            opened = context.new_page()
            opened.on("dialog", lambda dialog: (strays.append(dialog.message), dialog.dismiss()))
            opened.on("request", lambda asked: _is_foreign(asked.url, lab.url) and strays.append(asked.url))
            open_notebook(opened, lab)
            for number in range(END):
                run_cell(opened, number)
            yield opened
            ARTIFACTS.mkdir(exist_ok=True)
            opened.screenshot(path=ARTIFACTS / "widgets.png")
    finally:
        for left in leftovers(root, ()) if (root / ".nbmlops" / "endpoints").exists() else ():
            stop(left.pid, left.pid_started)
    assert not strays


def _is_foreign(url: str, ours: str) -> bool:
    return not url.startswith((ours, "data:", "blob:"))


def open_notebook(page: Page, lab: Lab) -> None:
    page.goto(f"{lab.url}lab/tree/{FOLDER}/work.ipynb?reset&token={lab.token}")
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
        timeout=60_000,
    )


RUN = """async number => {
    const panel = window.jupyterapp.shell.currentWidget;
    panel.content.activeCellIndex = number;
    await window.jupyterapp.commands.execute('notebook:run-cell');
    const outputs = panel.content.widgets[number].model.outputs.toJSON();
    return outputs.filter(each => each.output_type === 'error').map(each => each.evalue);
}"""


def run_cell(page: Page, number: int) -> None:
    """Run one cell to its end, without an error."""
    assert page.evaluate(RUN, number) == []


def output(page: Page, cell: int) -> Locator:
    return page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".jp-OutputArea")


def cells_of(table: Locator, column: int) -> list[str]:
    return table.locator(f"tbody tr td:nth-child({column})").all_inner_texts()


# ------------------------------------------------------------------- comparison
def test_runs_are_sorted_filtered_and_their_columns_picked(page: Page) -> None:
    view = output(page, RUNS).locator(".nbmlops-view")
    table = view.get_by_role("table")
    view.get_by_role("button", name="depth").click()
    expect(table.get_by_role("columnheader", name="depth")).to_have_attribute("aria-sort", "ascending")
    column = table.get_by_role("columnheader").all_inner_texts().index("depth ▲") + 1
    assert cells_of(table, column) == ["2", "9", "10"]
    page.keyboard.press("Enter")
    expect(table.get_by_role("columnheader", name="depth")).to_have_attribute("aria-sort", "descending")
    assert cells_of(table, column) == ["10", "9", "2"]
    view.get_by_label("Filter runs").fill("depth</b> 9")
    expect(view.get_by_role("status")).to_have_text("1 of 3 runs")
    expect(table.locator("tbody tr")).to_have_count(1)
    view.get_by_text("Columns").click()
    view.get_by_label("loss").uncheck()
    expect(table.get_by_role("columnheader", name="loss")).to_have_count(0)
    expect(table.locator("b")).to_have_count(0)


def test_hostile_text_is_text(page: Page, strays: list[str]) -> None:
    view = output(page, EVIL).locator(".nbmlops-view")
    expect(view.locator("tbody tr")).to_have_count(7)
    view.get_by_text("Columns").click()
    for box in view.get_by_role("checkbox").all():
        box.check()
    expect(view.get_by_text("<img src=x onerror=alert(1)>").first).to_be_visible()
    assert view.locator("img, svg, script, iframe, a, [data-commandlinker-command]").count() == 0
    assert (
        view.evaluate("view => Math.max(...[...view.querySelectorAll('td')].map(td => td.textContent.length))") <= 120
    )
    assert strays == []


# --------------------------------------------------------------------- approval
def test_a_step_that_waits_is_answered_with_a_reason_after_a_second_click(page: Page) -> None:
    view = output(page, JOBS).get_by_role("region", name=f"Job {'c' * 12}")
    view.get_by_label("Reason for").fill("because <i>so</i>")
    view.get_by_role("button", name="Approve").click()
    expect(view.locator("code")).to_have_text(
        f"%mlops approve {'c' * 12} '--step=ask <i>Ann</i>' '--reason=because <i>so</i>'"
    )
    view.get_by_role("button", name="Confirm: Approve").click()
    expect(view.get_by_text("approved by")).to_be_visible()
    expect(view.locator("i, b")).to_have_count(0)
    view.get_by_role("button", name="Reject").click()
    expect(view.locator("pre")).to_contain_text("waits")


# ----------------------------------------------------------------------- canary
def test_a_slider_previews_and_sets_the_shares(page: Page) -> None:
    view = output(page, CANARY).get_by_role("region", name="Endpoint delays")
    expect(view.get_by_role("row", name="2 challenger 10%")).to_be_visible()
    slider = view.get_by_role("slider")
    expect(slider).to_have_value("10")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(view.locator(".nbmlops-preview code")).to_have_text("%mlops traffic delays 1=89 2=11")
    expect(view.locator(".nbmlops-preview")).to_contain_text("delays would answer with 1 89%, 2 11%")
    view.get_by_role("button", name="Set shares").click()
    confirm = view.get_by_role("button", name="Confirm: Set shares")
    expect(confirm).to_be_visible()
    slider.press("ArrowRight")
    expect(view.locator(".nbmlops-preview code")).to_have_text("%mlops traffic delays 1=88 2=12")
    confirm.click()  # of what was shown before
    expect(view.get_by_role("row", name="2 challenger 11%")).to_be_visible()


def test_a_promotion_shows_its_evidence_and_asks_again(page: Page) -> None:
    view = output(page, CANARY).get_by_role("region", name="Endpoint delays")
    view.get_by_role("button", name="Promote 2", exact=True).click()
    expect(view.locator(".nbmlops-told code")).to_have_text("%mlops promote delays/2")
    expect(view.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(view.get_by_role("button", name="Promote 2", exact=True)).to_be_focused()
    expect(view.get_by_role("button", name="Confirm: Promote 2")).to_have_count(0)
    view.get_by_role("button", name="Promote 2", exact=True).click()
    view.get_by_role("button", name="Confirm: Promote 2").click()
    expect(view.get_by_role("row", name="2 champion 100%")).to_be_visible(timeout=30_000)
    expect(view.locator(".nbmlops-told pre")).to_contain_text("champion")


# --------------------------------------------------------------------- progress
def test_a_pipeline_shows_its_steps(page: Page) -> None:
    view = output(page, PROGRESS).locator(".nbmlops-view")
    for step in ("look", "check"):
        expect(view.get_by_role("row", name=f"{step} FINISHED")).to_be_visible()


# ------------------------------------------------------------------- what stays
def test_a_saved_notebook_shows_the_cards_when_it_is_opened_without_its_kernel(page: Page, lab: Lab) -> None:
    run_cell(page, END)
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    saved = json.loads((lab.root / FOLDER / "work.ipynb").read_text())
    outputs = [each for cell in saved["cells"] for each in cell["outputs"] if "data" in each]
    assert not [each for each in outputs if "application/vnd.jupyter.widget-view+json" in each["data"]]
    assert "nbmlops" not in json.dumps([each["metadata"] for each in outputs])
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    open_notebook(page, lab)
    expect(output(page, RUNS).locator(".nbmlops-card")).to_contain_text("3 runs")
    for cell in (EVIL, JOBS, CANARY):
        expect(output(page, cell).locator(".nbmlops-card")).to_be_visible()
    expect(page.get_by_text("model not found")).to_have_count(0)
    expect(page.get_by_text("Loading widget")).to_have_count(0)
