"""A real JupyterLab on a free port, a real Chromium in front of it, and a project's notebook open in it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

ARTIFACTS = Path(__file__).parents[2] / "test-artifacts"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
TOKEN = "a-token-of-these-tests"
NO_NEWS = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
CELLS = (
    "%load_ext nbmlops",
    "%%mlops track baseline -p depth=3 --tags team=<b>ops</b>\nscore = 0.75\n%mlops log auc=score",
    "%mlops runs",
    "%mlops promote delays",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs the browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or the one that $CHROMIUM names; without one the tests fail."""
    found = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM") or "chromium", *NAMES))), None)
    if found is None:
        pytest.fail("No browser was found. Install chromium, or name one: CHROMIUM=/path/to/chromium make test")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=FLAGS.split())
        yield started
        started.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[str]:
    """The address of a JupyterLab whose folder holds the project ``flights`` with one notebook."""
    home = tmp_path_factory.mktemp("lab")
    _make_project(home / "work" / "flights", empty_mlflow)
    settings = home / "config" / "labconfig"
    settings.mkdir(parents=True)
    (settings / "page_config.json").write_text(json.dumps(NO_NEWS))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={home / 'work'}", "--ServerApp.port=18900", "--ServerApp.port_retries=500"]
    command += [f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True"]
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=_environment(home), stdout=output, stderr=output)
    try:
        yield _url(process, home / "runtime" / f"jpserver-{process.pid}.json", log)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def page(lab: str, browser: Browser) -> Iterator[Page]:
    """The project's notebook, open, each of its cells run once; what the page logs as an error fails the tests."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "nbmlops" in message.text:
            complaints.append(message.text)

    opened = browser.new_page(viewport={"width": 1200, "height": 1000})
    opened.on("console", note)
    opened.goto(f"{lab}lab/tree/flights/work.ipynb?reset&token={TOKEN}")
    opened.wait_for_function(
        """() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'""",
        timeout=60_000,
    )
    opened.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    opened.get_by_text("NotFoundError").first.wait_for(timeout=60_000)
    ARTIFACTS.mkdir(exist_ok=True)
    opened.screenshot(path=ARTIFACTS / "notebook.png")
    yield opened
    opened.screenshot(path=ARTIFACTS / "notebook-at-the-end.png")
    assert not complaints


def _make_project(root: Path, empty_mlflow: Path) -> None:
    (root / ".nbmlops").mkdir(parents=True)
    shutil.copy(empty_mlflow, root / ".nbmlops" / "mlflow.db")
    (root / "nbmlops.toml").write_text('[project]\nname = "flights"\n')
    (root / "work.ipynb").write_text(json.dumps(_notebook()))


def _notebook() -> dict[str, Any]:
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{n}",
            "metadata": {},
            "outputs": [],
            "source": source,
        }
        for n, source in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}


def _environment(home: Path) -> dict[str, str]:
    """Nothing of the caller's settings, and folders of its own."""
    foreign = ("NBMLOPS_", "MLFLOW_", "JUPYTER")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign) and name != "CI"}
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    places |= {"IPYTHONDIR": "ipython", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "spaces"}
    return kept | {name: str(home / folder) for name, folder in places.items()}


def _url(process: "subprocess.Popen[bytes]", told: Path, log: Path) -> str:
    """Wait until the server listens and has told where."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return str(json.loads(told.read_text())["url"])
        time.sleep(0.05)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()}")
