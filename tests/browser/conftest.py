"""A real JupyterLab with the built wheel, a real Chromium in front of it, and a project's notebook open in it."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.wheel import build, install

ARTIFACTS = Path(__file__).parents[2] / "test-artifacts"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
TOKEN = "a-token-of-these-tests"
NO_NEWS = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
CELLS = (
    "# no %load_ext: the magic is there",
    "%%mlops track baseline -p depth=3 --tags team=<b>ops</b>\nscore = 0.75\n%mlops log auc=score",
    "%mlops runs",
    "%mlops promote delays",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs the browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what the page of a failed test looks like, and what it says to those who do not see it."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and isinstance(page, Page) and not page.is_closed():
        ARTIFACTS.mkdir(exist_ok=True)
        with contextlib.suppress(PlaywrightError):
            page.screenshot(path=ARTIFACTS / f"failed-{item.name}.png")
            (ARTIFACTS / f"failed-{item.name}.txt").write_text(page.locator("body").aria_snapshot())
    return report


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


@dataclass
class Lab:
    """A JupyterLab with the project ``flights`` in its folder; when it was restarted it is at the same address."""

    home: Path
    programs: Path
    token: str = TOKEN
    url: str = ""
    process: "subprocess.Popen[bytes]" = field(init=False)

    @property
    def root(self) -> Path:
        """The folder above all that it shows."""
        return self.home / "work"

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return self.root / "flights"

    @property
    def address(self) -> str:
        """Where the page is, with the token."""
        return f"{self.url}lab?token={self.token}"

    @property
    def port(self) -> int:
        """Where it listens, or did."""
        return int(self.url.rstrip("/").rpartition(":")[2])

    def start(self, port: int = 18900, retries: int = 500) -> None:
        """Start it, on the first free port from `port` on."""
        command = [str(self.programs / "python"), "-m", "jupyterlab", "--no-browser", "--allow-root"]
        command += [f"--ServerApp.root_dir={self.root}", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
        command += [f"--ServerApp.port_retries={retries}", f"--IdentityProvider.token={self.token}"]
        command += [f"--{app}.expose_app_in_browser=True" for app in ("LabApp", "JupyterNotebookApp")]
        log = self.home / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, env=self._environment(), stdout=output, stderr=output)
        self.url = _url(self.process, self.home / "runtime" / f"jpserver-{self.process.pid}.json", log)

    def stop(self) -> None:
        """End it, and its kernels, which end when it does."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:  # told while it reads a file, Jupyter's server waits for that thread for ever
            self.process.kill()
            self.process.wait(10)

    def restart(self) -> None:
        """End it and start it anew, at the same address."""
        self.stop()
        self.start(self.port, retries=0)

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's settings, folders of its own, and the programs of the environment with the wheel."""
        foreign = ("NBMLOPS_", "MLFLOW_", "JUPYTER", "VIRTUAL_", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign) and name != "CI"}
        places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
        places |= {
            "IPYTHONDIR": "ipython",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "spaces",
        }
        kept |= {name: str(self.home / folder) for name, folder in places.items()}
        return kept | {
            "NBMLOPS_AGENT": "off",
            "NBMLOPS_WARM": "off",
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
        }


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment with the wheel of this tree."""
    dist = tmp_path_factory.mktemp("dist")
    build(dist, "--wheel")
    (wheel,) = dist.glob("*.whl")
    return install(wheel, tmp_path_factory.mktemp("fresh") / "venv")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, programs: Path, empty_mlflow: Path) -> Iterator[Lab]:
    """The JupyterLab of all tests but those that restart or break one: they make their own, with `serving`."""
    with serving(tmp_path_factory.mktemp("lab"), programs, empty_mlflow) as made:
        yield made


@contextlib.contextmanager
def serving(home: Path, programs: Path, empty_mlflow: Path) -> Iterator[Lab]:
    """Run a JupyterLab whose folder holds the project ``flights`` with one notebook."""
    made = Lab(home, programs)
    _make_project(made.folder, empty_mlflow)
    settings = home / "config" / "labconfig"
    settings.mkdir(parents=True)
    (settings / "page_config.json").write_text(json.dumps(NO_NEWS))
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def page(lab: Lab, browser: Browser) -> Iterator[Page]:
    """The project's notebook, open, each of its cells run once; what the page logs as an error fails the tests."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "nbmlops" in message.text:
            complaints.append(message.text)

    opened = browser.new_page(viewport={"width": 1200, "height": 1000})
    opened.on("console", note)
    opened.goto(f"{lab.url}lab/tree/flights/work.ipynb?reset&token={TOKEN}")
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


def _url(process: "subprocess.Popen[bytes]", told: Path, log: Path) -> str:
    """Wait until the server listens and has told where."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return str(json.loads(told.read_text())["url"])
        time.sleep(0.05)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()}")
