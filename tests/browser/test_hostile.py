"""What somebody else could have written stays text: every field, in every section, page, dialog and output.

The project is that of `hostile`. Wherever its texts are shown, nothing of them is an element, a link, an attribute
that acts or a request; no sign is there that nobody sees, and none of a million letters is there whole. A click on each
piece of text does nothing. The columns of the matrix are the sections, pages, dialogs and cells below; the rows are the
fields that each has to show.
"""

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, WebSocket, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from . import hostile
from .conftest import ARTIFACTS, Lab
from .hostile import CELLS, FAILED, FOLDER, MODEL, NOTEBOOK, PAYLOADS, WAITING, run_id, text

# What is ours on the page, and what a notebook shows of ours.
OURS = ".nbm-Sidebar, .nbm-Page, .nbm-Dialog, .lm-TabBar-tab, .jp-OutputArea-output, .jp-Completer"
PAGE = ".nbm-Page:not(.lm-mod-hidden)"
DIALOG = ".nbm-Dialog"
LOOK = """ours => {
    const roots = [...document.querySelectorAll(ours)];
    const within = roots.flatMap(root => [root, ...root.querySelectorAll('*')]);
    const short = each => each.outerHTML.slice(0, 200);
    const made = '[evil], .evil, [data-commandlinker-command], [data-commandlinker-args], [href^="javascript" i]';
    const never = 'img, iframe, script, object, embed, link, base, style, foreignObject';
    const attributes = within.flatMap(each => [...each.attributes]);
    const unseen = /[\\u0000-\\u0008\\u000e-\\u001f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]/;
    const around = text => text.slice(Math.max(0, text.search(unseen) - 40)).slice(0, 60);
    const texts = [...roots.map(root => root.textContent), ...attributes.map(({ value }) => value)];
    const all = document.body.innerHTML;
    return {
        pwned: 'pwned' in window,
        elements: [...document.querySelectorAll(made)].map(short),
        unwanted: within.filter(each => each.matches(never)).map(short),
        acting: attributes.filter(({ name }) => /^(on|style$|href$|src)/.test(name))
            .map(({ name, value }) => name + value).filter(each => /^on|pwned|evil/.test(each)),
        unseen: texts.filter(each => unseen.test(each)).map(around),
        whole: all.includes('M'.repeat(20_000)) ? all.slice(all.indexOf('M'.repeat(20_000)) - 200).slice(0, 220) : '',
    };
}"""
CLEAN = {"pwned": False, "elements": [], "unwanted": [], "acting": [], "unseen": [], "whole": ""}
SHOWN = """([within, fields]) => {
    const text = [...document.querySelectorAll(within)].map(each => each.textContent).join(' ');
    const inputs = [...document.querySelectorAll('input, textarea')].filter(each => each.closest(within));
    const all = [text, ...inputs.flatMap(each => [each.value, each.placeholder])].join(' ');
    return fields.filter(each => !all.includes(each + '~')).join(' ');
}"""
CLICK = """within => {
    const acts = 'button, a, summary, label, input, select, textarea, [role=button], .lm-TabBar-tab';
    const has = each => [...each.childNodes].some(node => node.nodeType === 3 && node.data.includes('~'));
    const found = [...document.querySelectorAll(within)].flatMap(root => [...root.querySelectorAll('*')]).filter(has);
    window.executed.length = 0;
    const clicked = found.filter(each => !each.closest(acts) && each.checkVisibility());
    for (const each of clicked)
        for (const kind of ['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click'])
            each.dispatchEvent(new MouseEvent(kind, { bubbles: true, cancelable: true, button: 0 }));
    return [clicked.length, window.executed.join()];
}"""
RECORD = """() => {
    window.executed = [];
    window.longest = 0;
    const note = ({ duration }) => (window.longest = Math.max(window.longest, duration));
    new PerformanceObserver(list => list.getEntries().forEach(note)).observe({ type: 'longtask' });
    window.jupyterapp.commands.commandExecuted.connect((_, { id }) => window.executed.push(id));
}"""
QUICK_S, FROZEN_MS = 20.0, 3000.0  # until it is shown, and without an answer to a key; others use the machine too


@pytest.fixture(scope="module")
def strays() -> list[str]:
    """What the page did that it must not: dialogs, and requests elsewhere."""
    return []


@pytest.fixture(scope="module")
def page(lab: Lab, browser: Browser, strays: list[str], empty_mlflow: Path) -> Iterator[Page]:
    """The hostile project's notebook, open beside the sidebar."""
    hostile.make(lab.root / FOLDER, empty_mlflow)

    def note(asked: Request | WebSocket) -> None:
        if not asked.url.startswith((lab.url, lab.url.replace("http", "ws", 1), "data:", "blob:")):
            strays.append(asked.url)

    with closing(browser.new_context(viewport={"width": 1400, "height": 1100})) as context:
        opened = context.new_page()
        opened.on("dialog", lambda dialog: (strays.append(dialog.message), dialog.dismiss()))
        opened.on("request", note)
        opened.on("websocket", note)
        opened.goto(f"{lab.url}lab/tree/{quote(FOLDER)}/{quote(NOTEBOOK)}?reset&token={lab.token}")
        opened.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )
        opened.evaluate(RECORD)
        execute(opened, "nbmlops:open", view="runs")
        opened.get_by_label("Runs, the newest first").get_by_role("listitem").first.wait_for(timeout=60_000)
        yield opened
        ARTIFACTS.mkdir(exist_ok=True)
        opened.screenshot(path=ARTIFACTS / "hostile.png")


@pytest.fixture(autouse=True)
def nothing_astray(page: Page, strays: list[str]) -> Iterator[None]:
    """No test leaves a dialog, a request to elsewhere or a mark of a script behind."""
    yield
    assert strays == []
    assert page.evaluate(LOOK, OURS) == CLEAN
    assert page.evaluate("() => window.longest") < FROZEN_MS


def check(page: Page, within: str, fields: str) -> None:
    """Wait until the fields are shown, look whether they are text alone, and click on each piece of them."""
    expected = fields.split()
    try:
        page.wait_for_function(f"given => ({SHOWN})(given) === ''", arg=[within, expected], timeout=20_000)
    except PlaywrightTimeoutError:
        assert page.evaluate(SHOWN, [within, expected]) == "", page.locator(within).all_inner_texts()
    assert page.evaluate(LOOK, OURS) == CLEAN
    assert page.evaluate(CLICK, within)[1] == ""


def execute(page: Page, command: str, **args: object) -> None:
    """Have JupyterLab execute a command, as a link in an output could."""
    page.evaluate("([command, args]) => void window.jupyterapp.commands.execute(command, args)", [command, args])


@contextmanager
def quick() -> Iterator[None]:
    """What is done here takes no longer than a person would wait."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < QUICK_S


PLANTED = """text => {
    const made = document.createElement('b');
    made.setAttribute('evil', text);
    made.textContent = text;
    document.querySelector('.nbm-Sidebar').append(made);
    return made;
}"""


def test_what_is_looked_for_would_be_found(page: Page) -> None:
    made = page.evaluate_handle(PLANTED, PAYLOADS[6] + PAYLOADS[-1])
    found = page.evaluate(LOOK, OURS)
    made.evaluate("made => made.remove()")
    assert all(found[each] for each in ("elements", "unseen", "whole"))


# ---------------------------------------------------------------------- sidebar
SECTIONS = {
    "runs": "project runname metric",
    "models": "project model alias",
    "deployments": "endpoint follows servedmodel servedversion trouble rolloutreason challenger",
    "monitor": "table reference column alert kind",
    "jobs": "jobname jobmessage asked instance fired firedreason occasion pipeline schedule",
}


@pytest.mark.parametrize("view", SECTIONS)
def test_a_section_of_the_sidebar(page: Page, view: str) -> None:
    with quick():
        execute(page, "nbmlops:open", view=view)
        check(page, ".nbm-Sidebar", SECTIONS[view])


def test_a_metric_is_chosen_among_hostile_ones(page: Page) -> None:
    execute(page, "nbmlops:open", view="runs")
    select = page.get_by_label("Metric", exact=True)
    names = select.locator("option").all_inner_texts()
    select.select_option(index=next(n for n, name in enumerate(names) if name.startswith("metric~<img")))
    expect(page.locator("#nbmlops-runs .nbm-Chip").filter(has_text="best")).to_have_count(1)
    for name in hostile.OWN:
        select.select_option(label=name)
        expect(page.locator("#nbmlops-runs .nbm-Sparkline").first).to_be_visible()


# ------------------------------------------------------------------------ pages
RUN = (
    "runname error metric paramname paramvalue ownparam owntag tagname tagvalue project sourcebook user "
    "branch cell commit order"
)
SERVED = "endpoint servedmodel servedversion trouble challenger url"
DRIFTED = "table reference column before now summary columnnote method actor"
JOB = "jobcell jobmessage jobparam jobvalue deep jobhost output jobnotebook"
JUDGED = "checkname checknote gate gatedata"
PAGES = [
    *(("run", (run_id(n),), RUN) for n in (0, 1, 6, 9)),
    ("run", (text("runid", 0),), "runid"),
    ("comparison", tuple(map(run_id, range(10))), "runname metric paramname paramvalue ownparam tagname tagvalue"),
    ("model", (MODEL,), f"alias against {JUDGED} actor surface outcome refusal reason movedalias previous"),
    *(("model", (text("model", n),), "model") for n in (0, 6, 9)),
    *(("endpoint", (text("endpoint", n),), SERVED) for n in (0, 1, 6, 9)),
    ("pipeline", ("retrain",), "verb question asked jobmessage"),
    ("pipeline", ("pipeline~" + PAYLOADS[4],), "pipeline badstep folder"),
    ("job", (FAILED,), f"{JOB} cellsource cellstatus printed"),
    ("job", (WAITING,), "asked instance stepmessage"),
    *(("job", (f"{n:012x}",), JOB) for n in (5, 6, 9)),
    *(("monitor", (text("table", n),), DRIFTED) for n in (0, 5, 6, 9)),
]


@pytest.mark.parametrize(("kind", "names", "fields"), PAGES, ids=lambda value: str(value)[:24])
def test_a_page(page: Page, kind: str, names: tuple[str, ...], fields: str) -> None:
    with quick():
        execute(page, "nbmlops:page", kind=kind, names=list(names), folder=FOLDER)
        expect(page.locator(PAGE)).to_have_count(1)
        check(page, PAGE, fields)
    for plot in page.locator(f"{PAGE} .nbm-Plot").all()[:3]:
        expect(plot.locator("svg, canvas").first).to_be_attached()
    page.evaluate("() => window.jupyterapp.shell.currentWidget.close()")


# ---------------------------------------------------------------------- dialogs
@contextmanager
def dialog(page: Page) -> Iterator[Locator]:
    """What is proposed now; it is looked at, and closed."""
    shown = page.locator(DIALOG)
    expect(shown).to_be_visible()
    try:
        yield shown
        assert page.evaluate(LOOK, OURS) == CLEAN
        assert page.evaluate(CLICK, DIALOG)[1] == ""
    finally:
        shown.get_by_role("button", name="Close").last.click()
        expect(shown).to_have_count(0)


PROPOSED = [
    ("models", f"Promote … ({MODEL}/2 to champion)", JUDGED, "Try without changing anything"),
    ("models", f"Roll back … (champion of {MODEL})", "checkname gate actor lastreason", "Rollback"),
    ("models", f"Deploy … ({MODEL}/2)", JUDGED, ""),
    ("deployments", re.compile("Undeploy …"), "endpoint", "Undeploy"),
    ("deployments", re.compile("Promote servedversion~"), "servedmodel servedversion", "Promote"),
    ("deployments", re.compile("Set traffic …"), "endpoint servedversion", "Traffic"),
    ("jobs", re.compile(r"Approve … \(retrain: ask\[instance~<img"), "instance asked", "Approve"),
    ("jobs", re.compile(r"Reject … \(retrain: ask\[instance~M"), "instance asked", "Reject"),
    ("jobs", re.compile("Run …$"), "help choice default", "Try without changing anything"),
    ("jobs", re.compile(r"Pause … \(schedule~"), "schedule", "Pause"),
    ("monitor", re.compile("^alert~"), "alert", "Try without changing anything"),
]


@pytest.mark.parametrize(("view", "button", "fields", "acting"), PROPOSED, ids=lambda value: str(value)[:40])
def test_a_proposal_and_what_comes_of_it(page: Page, view: str, button: Any, fields: str, acting: str) -> None:
    execute(page, "nbmlops:open", view=view)
    section = page.locator(f"#nbmlops-{view}")
    if acting == "Traffic":
        section.get_by_role("slider").first.focus()
        page.keyboard.press("ArrowRight")
    section.get_by_role("button", name=button).first.click()
    with dialog(page) as shown:
        check(page, DIALOG, fields)
        if acting:
            shown.get_by_role("button", name=acting, exact=True).click()
            expect(shown.locator(".nbm-Done, .nbm-Problem[role=alert]").first).to_be_visible(timeout=20_000)


GIVEN: list[tuple[str, dict[str, Any], bool]] = [  # with whether it may stand in a notebook as one line
    *(("history", {"model": text("given", n)}, n != 6) for n in (0, 3, 6, 9)),
    ("compare", {"runs": [text("given", n) for n in range(len(PAYLOADS))]}, False),
    ("traffic", {"endpoint": "given~", "weights": {text("given", n): 50 for n in range(len(PAYLOADS))}}, False),
    ("export", {"what": {"given~<img evil>": [1]}}, True),
    ("show", {"what": "given~'\nimport os\n#"}, False),
]


@pytest.mark.parametrize(("verb", "given", "is_line"), GIVEN, ids=lambda value: str(value)[:30])
def test_a_command_with_hostile_arguments_only_proposes(
    page: Page, verb: str, given: dict[str, Any], is_line: bool
) -> None:
    execute(page, f"nbmlops:{verb}", **given)
    with dialog(page) as shown, quick():
        assert len(shown.get_by_label("The line that this stands for").inner_text()) < 3000
        expect(shown.get_by_role("button", name="Insert into notebook")).to_have_count(int(is_line))
        if verb in ("history", "show"):
            shown.get_by_role("button", name="Show", exact=True).click()
            expect(shown.locator(".nbm-Problem")).to_be_visible(timeout=20_000)
            check(page, f"{DIALOG} .nbm-Problem", "given")


# -------------------------------------------------------------------- notebooks
NUMBER = "() => document.querySelectorAll('.jp-Notebook .jp-Cell').forEach((each, n) => (each.id = `cell-${n}`))"


def test_outputs_of_a_notebook(page: Page) -> None:
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.evaluate(NUMBER)
    for n, (_, fields) in enumerate(CELLS, start=1):
        check(page, f"#cell-{n} .jp-OutputArea", fields)
    page.evaluate("() => document.querySelectorAll('.nbmlops-view input:not(:checked)').forEach(each => each.click())")
    check(page, f"#cell-{len(CELLS) - 3}", "paramvalue")
    assert page.locator("mjx-container").count() == 0
    assert page.evaluate(LOOK, OURS) == CLEAN
    assert page.evaluate(CLICK, ".jp-OutputArea-output")[1] == ""


def test_completion_offers_hostile_names_as_text(page: Page) -> None:
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:insert-cell-below')")
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:enter-edit-mode')")
    page.keyboard.type("%mlops history ")
    hostile = page.locator(".jp-Completer-item").filter(has_text="model~<img").first
    deadline = time.monotonic() + 30
    while not hostile.is_visible():  # JupyterLab waits a second for the kernel, and its first answer may be slower
        assert time.monotonic() < deadline
        page.keyboard.press("Tab")
        with suppress(PlaywrightTimeoutError):
            hostile.wait_for(timeout=2000)
    assert page.evaluate(LOOK, OURS) == CLEAN
    page.keyboard.press("Escape")


# ---------------------------------------------------------------- after a reload
SAVE = """async () => {
    const { shell } = window.jupyterapp;
    for (const each of shell.widgets('main')) await each.context?.save();
}"""
KEPT = """async () => {
    const kept = await window.jupyterapp.serviceManager.workspaces.fetch('default');
    return JSON.stringify(kept).includes('nbmlops-pages');
}"""


def test_pages_are_restored_as_text(page: Page) -> None:
    execute(page, "nbmlops:page", kind="endpoint", names=[text("endpoint", 0)], folder=FOLDER)
    check(page, PAGE, SERVED)
    page.wait_for_function(KEPT, timeout=20_000)
    page.evaluate(SAVE)  # of what is not saved the browser would ask
    page.reload()
    page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)", timeout=60_000)
    page.evaluate(RECORD)
    check(page, PAGE, SERVED)
