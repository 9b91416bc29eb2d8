"""Moves of a person in front of JupyterLab: open the sidebar, unfold a section, perform what a dialog proposes."""

from collections.abc import Sequence

from playwright.sync_api import Locator, Page, expect

from .conftest import Lab

VIEWS = ("Runs", "Models", "Deployments", "Monitor", "Jobs")
PATIENCE_MS = 60_000  # other work on the machine may take its time
expect.set_options(timeout=30_000)

READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def open_notebook(page: Page, lab: Lab, path: str) -> None:
    """Open a notebook in a workspace of its own, and wait for its kernel."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{lab.url}lab/tree/{path}?reset&token={lab.token}")
    page.wait_for_function(READY)


def sidebar(page: Page) -> Locator:
    """The panel."""
    return page.get_by_role("region", name="MLOps", exact=True)


def open_sidebar(page: Page) -> Locator:
    """Show the panel by its tab, wherever it was."""
    if not sidebar(page).is_visible():
        page.get_by_role("tab", name="MLOps").click()
    expect(sidebar(page)).to_be_visible()
    return sidebar(page)


def section(page: Page, name: str) -> Locator:
    """A section that is unfolded."""
    return sidebar(page).get_by_role("region", name=f"{name} Section")


def unfold(page: Page, *names: str) -> None:
    """Have these sections unfolded, and the others folded away."""
    for name in VIEWS:
        heading = sidebar(page).get_by_role("heading", name=f"{name} Section")
        if (heading.get_attribute("aria-expanded") == "true") != (name in names):
            heading.click()
        expect(heading).to_have_attribute("aria-expanded", "true" if name in names else "false")


def only(page: Page, name: str) -> Locator:
    """Have one section unfolded alone."""
    unfold(page, name)
    return section(page, name)


def main_page(page: Page) -> Locator:
    """The page of ours that is in front in the main area."""
    return page.locator(".nbm-Page:visible article")


def dialog(page: Page) -> Locator:
    """The dialog that proposes something."""
    return page.get_by_role("dialog")


def proposed(page: Page) -> Locator:
    """The dialog, once the keyboard is its own: JupyterLab gives it the focus after it is drawn."""
    expect(dialog(page).locator(":focus")).to_have_count(1)
    return dialog(page)


def line(page: Page) -> Locator:
    """The line that the dialog stands for."""
    return dialog(page).get_by_label("The line that this stands for")


def done(page: Page) -> Locator:
    """What the dialog says once the verb was performed."""
    return dialog(page).get_by_role("status").filter(has_text="Done")


def perform(page: Page, word: str) -> str:
    """Press the dialog's button, wait for the end, and close it; gives what it told."""
    dialog(page).get_by_role("button", name=word, exact=True).click()
    expect(done(page)).to_be_visible(timeout=PATIENCE_MS)
    told = done(page).inner_text()
    close(page)
    return told


def toolbar(page: Page, name: str) -> Locator:
    """A button of the toolbar of the notebook that is open."""
    return page.get_by_role("toolbar", name="main area toolbar").get_by_role("button", name=name)


def close(page: Page) -> None:
    """Close the dialog by the keyboard."""
    proposed(page)
    page.keyboard.press("Escape")
    expect(dialog(page)).to_have_count(0)


def command(page: Page, name: str, **arguments: object) -> None:
    """Execute a command of JupyterLab's, and wait for nothing: some end with their dialog."""
    page.evaluate("([name, args]) => void window.jupyterapp.commands.execute(name, args)", [name, arguments])


def open_page(page: Page, kind: str, *names: str) -> Locator:
    """Open a page about something."""
    command(page, "nbmlops:page", kind=kind, names=list(names))
    expect(main_page(page).get_by_role("heading", level=1)).to_be_visible()
    return main_page(page)


def widen(page: Page, width: int) -> None:
    """Drag the sidebar's edge until it is so many pixels wide."""
    box = sidebar(page).bounding_box()
    assert box is not None
    edge, middle = box["x"] + box["width"] + 1, box["y"] + 300
    page.mouse.move(edge, middle)
    page.mouse.down()
    page.mouse.move(edge + width - box["width"], middle, steps=4)
    page.mouse.up()


def texts(found: Locator) -> Sequence[str]:
    """What stands in each of the elements."""
    return [each.strip() for each in found.all_inner_texts()]
