"""What a person sees in JupyterLab: cards, completion, one clean message for an error; and REST from the page."""

from playwright.sync_api import Locator, Page, expect

from .driving import close, dialog, toolbar

FETCH = """async xsrf => {
    const cookie = document.cookie.split('; ').find(each => each.startsWith('_xsrf='))?.slice(6);
    const answer = await fetch('/nbmlops/verbs/status', {
        method: 'POST',
        headers: xsrf ? {'X-XSRFToken': cookie} : {},
        body: JSON.stringify({arguments: {}, folder: 'flights'}),
    });
    return [answer.status, await answer.json()];
}"""


def output(page: Page, cell: int) -> Locator:
    """What stands below a cell, counted from 0."""
    return page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".jp-OutputArea-output")


def test_a_tracked_cell_shows_the_card_of_its_run(page: Page) -> None:
    card = output(page, 1).locator(".nbmlops-card").last
    expect(card).to_contain_text("Run baseline")
    expect(card).to_contain_text("FINISHED")
    expect(card.get_by_role("row", name="metrics auc 0.75")).to_be_visible()
    expect(card.get_by_role("row", name="team <b>ops</b>")).to_be_visible()
    expect(card.locator("code")).to_have_text("%mlops runs")


def test_a_listing_is_a_table(page: Page) -> None:
    table = output(page, 2).get_by_role("table")
    expect(table.get_by_role("columnheader", name="status")).to_be_visible()
    expect(table.get_by_role("row").filter(has_text="baseline")).to_have_count(1)


def test_a_wide_card_scrolls_by_itself_and_never_the_notebook(page: Page) -> None:
    panel = page.locator(".jp-NotebookPanel .jp-WindowedPanel-outer")
    assert panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    for card in page.locator(".nbmlops-card").all():
        assert card.evaluate("card => getComputedStyle(card).overflowX") == "auto"


def test_an_error_is_one_clean_message(page: Page) -> None:
    expect(output(page, 3)).to_have_count(1)
    lines = output(page, 3).inner_text().strip().splitlines()
    assert lines[0] == "NotFoundError: There is no registered model 'delays'."
    assert len(lines) == 2
    assert "register" in lines[1]


def test_tab_offers_the_verbs(page: Page) -> None:
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:insert-cell-below')")
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:enter-edit-mode')")
    page.keyboard.type("%mlops pr")
    page.keyboard.press("Tab")
    offered = page.locator(".jp-Completer-item")
    expect(offered.filter(has_text="promote")).to_be_visible()
    expect(offered.filter(has_text="predict")).to_be_visible()
    offered.filter(has_text="promote").click()
    expect(page.locator(".jp-Notebook .jp-Cell.jp-mod-active .cm-content")).to_have_text("%mlops promote")


def test_the_page_may_perform_a_verb_with_the_xsrf_token_only(page: Page) -> None:
    status, answer = page.evaluate(FETCH, True)
    assert (status, answer["name"]) == (200, "flights")
    status, answer = page.evaluate(FETCH, False)
    assert status == 403
    assert "error" in answer


def test_parameters_are_asked_for_where_the_panel_was_never_opened(page: Page) -> None:
    toolbar(page, "Run headless").click()
    expect(dialog(page).get_by_text("It declares none.")).to_be_visible()
    close(page)


def test_a_notebook_that_is_renamed_is_known_by_its_new_name(page: Page) -> None:
    page.evaluate("() => window.jupyterapp.shell.currentWidget.context.rename('another.ipynb')")
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget.title.label === 'another.ipynb'")
    toolbar(page, "Track").click()
    expect(page.locator(".jp-Notebook .jp-Cell.jp-mod-active .cm-content")).to_contain_text("%%mlops track another")
