"""Which results have a view that can be used, and what is displayed of one: the view, and the card that stays."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from nbmlops.errors import UsageError
from nbmlops.project import Project
from nbmlops.surfaces.parse import Call
from nbmlops.surfaces.show import text, to_html
from nbmlops.surfaces.widgets.saving import MARK, VIEW

if TYPE_CHECKING:
    from nbmlops.surfaces.widgets.page import Page

WITH_A_VIEW = {
    "runs": "runs to sort and filter",
    "compare": "runs to sort and filter",
    "endpoints": "shares to set",
    "traffic": "shares to set",
    "jobs": "steps as they go on, answers",
    "run": "steps as they go on",
    "show": "of an endpoint or a job",
}


def check(call: Call) -> None:
    """Refuse to look for a view where there is none, before anything is done.

    Raises
    ------
    UsageError
        The verb has none, or goes on for ever by itself.

    Examples
    --------
    >>> check(Call("models", {}, {"widget": True}))
    Traceback (most recent call last):
    nbmlops.errors.UsageError: models has no view.
      --widget goes with runs, compare, endpoints, traffic, jobs, run, show.
    """
    if call.name not in WITH_A_VIEW:
        raise _no_view(call.name)
    if call.arguments.get("watch"):
        raise UsageError("A view goes on by itself.", "Leave out --watch, or --widget.")


def view(result: Any, project: Project, name: str = "show", *, only: str = "") -> "Page":
    """Give the view of what a verb has returned.

    Parameters
    ----------
    result
        The verb's result.
    project
        The project in which the view acts.
    name
        The verb.
    only
        Of `jobs`: the notebook or pipeline whose jobs alone were asked for.

    Returns
    -------
    Page
        A widget (anywidget's); displayed alone it leaves nothing in a saved notebook, so display `bundle` of both.

    Raises
    ------
    UsageError
        The result has no view.
    """
    from nbmlops.pipelines.jobs import Job
    from nbmlops.serving.endpoints import Endpoint, Traffic
    from nbmlops.surfaces.widgets.canary import CanaryView
    from nbmlops.surfaces.widgets.comparison import ComparisonView
    from nbmlops.surfaces.widgets.page import Page
    from nbmlops.surfaces.widgets.progress import ProgressView

    if isinstance(result, Endpoint | Traffic):
        named = result.name if isinstance(result, Endpoint) else result.endpoint
        return Page(CanaryView(project, [named]), project)
    if isinstance(result, Job):
        return Page(ProgressView(project, name=result.name, job=result.job), project)
    if name == "endpoints":
        return Page(CanaryView(project), project)
    if name == "jobs":
        return Page(ProgressView(project, name=only), project)
    if name in ("runs", "compare"):
        return Page(ComparisonView(result), project)
    raise _no_view(f"{name} of a {type(result).__name__}")


def bundle(result: Any, page: "Page") -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what is displayed, by media types, and its metadata: the view, and the card for when no kernel runs."""
    shown = {"text/plain": text(result, "%mlops "), "text/html": to_html(result)}
    return shown | {VIEW: {"version_major": 2, "version_minor": 1, "model_id": page.model_id}}, MARK


@contextlib.contextmanager
def progress(call: Call, project: Project) -> Iterator[None]:
    """Show how far the jobs are that a call of `run` starts, while it is carried out."""
    from IPython.display import display

    from nbmlops.surfaces.widgets.page import Page
    from nbmlops.surfaces.widgets.progress import ProgressView
    from nbmlops.verb import Text

    what = str(call.arguments["what"])
    shown = ProgressView(project, name=PurePath(what).stem if what.endswith(".ipynb") else what, is_to_come=True)
    page = Page(shown, project)
    data, metadata = bundle(Text(f"The steps of {what} were shown here while it ran."), page)
    display(data, metadata=metadata, raw=True)
    page.looks.begin(math.inf)  # until the cell ends: while it runs, no kernel hears that somebody sees it
    try:
        yield
    finally:
        page.looks.end()
        shown.begun()
        page.look()


def _no_view(what: str) -> UsageError:
    return UsageError(f"{what} has no view.", f"--widget goes with {', '.join(WITH_A_VIEW)}.")
