"""What each section shows when there is nothing, nothing yet, or an error; in each theme, by keyboard, and narrow."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from . import flights
from .conftest import ARTIFACTS, Lab
from .driving import (
    VIEWS,
    close,
    command,
    dialog,
    main_page,
    only,
    open_notebook,
    open_page,
    open_sidebar,
    section,
    sidebar,
    unfold,
    widen,
)

LIVED, EMPTY, NONE = "lived", "empty", "notes"
CELLS = (
    "import pandas as pd\n\njanuary = pd.read_parquet('january.parquet')\njanuary.head()",
    """\
%%mlops track boosting -p depth=3
from sklearn.ensemble import HistGradientBoostingClassifier

X, y = january.drop(columns="late"), january["late"]
model = HistGradientBoostingClassifier(max_depth=3).fit(X, y)
%mlops log accuracy=model.score(X, y)""",
    "%mlops register model delays\n%mlops validate delays",
)
NEXT_STEPS = {
    "Runs": "Track a run",
    "Models": "Register a model …",
    "Deployments": "Show the models",
    "Monitor": "Measure drift …",
    "Jobs": "Run this notebook headless",
}
REFUSAL = {
    "type": "LedgerError",
    "message": "The ledger does not answer.",
    "hint": "Start its server, then `doctor`.",
    "exit_code": 5,
}
# What cannot be named by those who do not see it, and what cannot be reached by the keyboard though it can be clicked.
UNNAMED = """root => [...root.querySelectorAll('button, input, select, textarea, [role], jp-button')]
    .filter(each => each.offsetParent !== null && !each.closest('.vega-embed, .lm-TabBar, .jp-Toolbar'))
    .filter(each => !['none', 'presentation', 'status', 'alert', 'note'].includes(each.getAttribute('role')))
    .filter(each => !(each.ariaLabel || each.getAttribute('aria-labelledby') || each.labels?.length ||
        each.innerText?.trim() || each.title))
    .map(each => each.outerHTML.slice(0, 200))"""
FOCUSABLE = "button:visible:enabled, input:visible:enabled, select:visible:enabled, summary:visible"
OVERFLOW = """root => [root, ...root.querySelectorAll('*')]
    .filter(each => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX !== 'visible')
    .filter(each => !['hidden', 'clip'].includes(getComputedStyle(each).overflowX))
    .filter(each => !each.closest('.nbm-Table'))
    .map(each => each.className)"""


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Browser, empty_mlflow: Path) -> Iterator[Page]:
    """A project in the middle of its life, an empty one beside it, and a folder that is none."""
    flights.begin(lab.root / LIVED, empty_mlflow, *CELLS)
    flights.begin(lab.root / EMPTY, empty_mlflow)
    (lab.root / EMPTY / "nbmlops.toml").write_text('[project]\nname = "empty"\n')
    (lab.root / NONE).mkdir()
    (lab.root / NONE / "work.ipynb").write_text((lab.root / EMPTY / "work.ipynb").read_text())
    try:
        flights.live(lab.root / LIVED)
        with closing(browser.new_context(viewport={"width": 1200, "height": 900})) as context:
            opened = context.new_page()
            open_notebook(opened, lab, f"{LIVED}/work.ipynb")
            open_sidebar(opened)
            yield opened
    finally:
        flights.end_endpoints(lab.root / LIVED)


@pytest.fixture
def beside(page: Page, lab: Lab) -> Iterator[Callable[[str], Page]]:
    """Opens another folder in a tab of its own; one that stays open would slow down all that is drawn."""
    opened: list[Page] = []

    def make(folder: str) -> Page:
        opened.append(page.context.new_page())
        open_notebook(opened[-1], lab, f"{folder}/work.ipynb")
        open_sidebar(opened[-1])
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def shoot(found: Page | Locator, name: str) -> None:
    """Keep a picture."""
    ARTIFACTS.mkdir(exist_ok=True)
    found.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


def filled(page: Page, name: str) -> Locator:
    """A section alone, once it shows something."""
    found = only(page, name)
    expect(found.get_by_role("listitem").first).to_be_visible()
    expect(found.get_by_role("status", name="Loading")).to_have_count(0)
    return found


# ------------------------------------------------------------------ the states
def test_a_folder_without_a_project_offers_to_make_it_one(beside: Callable[[str], Page]) -> None:
    tab = beside(NONE)
    expect(sidebar(tab)).to_contain_text(f"{NONE} is no project of nbmlops yet.")
    for name in VIEWS:
        expect(section(tab, name)).to_have_count(0)
    shoot(sidebar(tab), "state-no-project")
    sidebar(tab).get_by_role("button", name="Make it a project").click()
    expect(dialog(tab).get_by_label("The line that this stands for")).to_have_text(f"%mlops init {NONE}")
    close(tab)


def test_each_empty_section_offers_one_step(beside: Callable[[str], Page]) -> None:
    tab = beside(EMPTY)
    for name, step in NEXT_STEPS.items():
        found = only(tab, name)
        expect(found.get_by_role("button", name=step)).to_be_visible()
        shoot(sidebar(tab), f"state-empty-{name.lower()}")


def test_each_section_says_that_it_asks_and_what_went_wrong(page: Page, lab: Lab) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    def refuse(route: Route) -> None:
        route.fulfill(status=503, json={"error": REFUSAL})

    with closing(page.context.new_page()) as tab:
        tab.route("**/nbmlops/verbs/*", hold)
        open_notebook(tab, lab, f"{LIVED}/work.ipynb")
        open_sidebar(tab)
        for name in VIEWS:
            expect(only(tab, name).get_by_role("status", name="Loading").first).to_be_visible()
        shoot(sidebar(tab), "state-loading")
        tab.route("**/nbmlops/verbs/*", refuse)
        for route in held:
            refuse(route)
        for name in VIEWS:
            problem = only(tab, name).get_by_role("alert").first
            for told in ("type", "message", "hint"):
                expect(problem).to_contain_text(str(REFUSAL[told]))
            shoot(sidebar(tab), f"state-error-{name.lower()}")
        tab.unroute_all()
        sidebar(tab).get_by_role("button", name="Refresh").click()
        for name in VIEWS:
            filled(tab, name)
            expect(section(tab, name).get_by_role("alert")).to_have_count(0)


# -------------------------------------------------------------- who uses it how
@pytest.mark.parametrize("name", VIEWS)
def test_all_of_a_section_has_a_name_and_is_reached_by_tab_with_the_focus_in_view(page: Page, name: str) -> None:
    found = filled(page, name)
    assert sidebar(page).evaluate(UNNAMED) == []
    wanted = found.locator(FOCUSABLE).count()
    sidebar(page).get_by_role("heading", name=f"{name} Section").focus()
    reached = 0
    while reached < wanted:
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if not found.evaluate("(section) => section.contains(document.activeElement)"):
            break
        assert focused.evaluate("each => getComputedStyle(each).outlineStyle + getComputedStyle(each).boxShadow") != (
            "nonenone"
        )
        reached += 1
    assert reached >= wanted


def test_a_section_folds_by_the_keyboard(page: Page) -> None:
    unfold(page, "Runs")
    heading = sidebar(page).get_by_role("heading", name="Models Section")
    heading.focus()
    page.keyboard.press("Enter")
    expect(section(page, "Models")).to_be_visible()
    page.keyboard.press("Enter")
    expect(section(page, "Models")).to_have_count(0)


def test_a_section_that_is_unfolded_beside_others_has_room(page: Page) -> None:
    for names in (("Jobs",), ("Jobs", "Runs"), ("Jobs", "Runs", "Models")):
        unfold(page, *names)
        for name in names:
            box = section(page, name).bounding_box()
            assert box is not None
            assert box["height"] > 100, name


def test_nothing_is_wider_than_a_narrow_sidebar(page: Page) -> None:
    widen(page, 250)
    for name in VIEWS:
        filled(page, name)
        assert sidebar(page).evaluate(OVERFLOW) == [], name
        shoot(sidebar(page), f"narrow-{name.lower()}")


# ---------------------------------------------------------------------- themes
PAGES = ("run", "comparison", "model", "endpoint", "pipeline", "job", "monitor")


def open_each(page: Page, kind: str) -> Locator:
    """Open a page as a person does, from its section."""
    if kind == "run":
        filled(page, "Runs").get_by_role("button", name="boosting", exact=True).click()
    elif kind == "comparison":
        runs = filled(page, "Runs")
        for name in ("forest", "boosting", "logistic"):
            runs.get_by_role("checkbox", name=f"Choose {name}").check()
        runs.get_by_role("button", name="Compare 3").click()
        for name in ("forest", "boosting", "logistic"):
            runs.get_by_role("checkbox", name=f"Choose {name}").uncheck()
    elif kind == "monitor":
        filled(page, "Monitor").get_by_role("button", name="june", exact=True).click()
    elif kind == "job":
        failed = filled(page, "Jobs").get_by_role("listitem").filter(has_text="FAILED")
        failed.get_by_role("button", name="Logs").click()
    else:
        open_page(page, kind, "retrain" if kind == "pipeline" else "delays")
    expect(main_page(page).get_by_role("heading", level=1)).to_be_visible()
    expect(main_page(page).get_by_role("status", name="Loading")).to_have_count(0)
    for plot in main_page(page).locator(".nbm-Plot").all():
        expect(plot.locator("svg").first).to_be_visible()
    return main_page(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_section_page_and_dialog_in_each_theme(page: Page, theme: str) -> None:
    page.evaluate(
        "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", f"JupyterLab {theme.title()}"
    )
    expect(page.locator("body")).to_have_attribute("data-jp-theme-name", f"JupyterLab {theme.title()}")
    widen(page, 340)
    for name in VIEWS:
        filled(page, name)
        shoot(sidebar(page), f"{name.lower()}-{theme}")
    unfold(page, "Runs", "Models")
    shoot(page, f"sidebar-{theme}")
    for kind in PAGES:
        found = open_each(page, kind)
        assert found.evaluate(UNNAMED) == []
        shoot(page, f"{kind}-page-{theme}")
    filled(page, "Models").get_by_role("button", name="Promote … (delays/3 to champion)").click()
    expect(dialog(page).get_by_role("region", name="Evidence")).to_contain_text("Version 3 passed gate default")
    assert dialog(page).evaluate(UNNAMED) == []
    shoot(page, f"promote-{theme}")
    close(page)
    command(page, "application:close-all")
