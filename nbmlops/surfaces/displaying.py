"""How a notebook shows what verbs return: as a card, as JSON, in a variable, with a view; and the panel it opens."""

import contextlib
from typing import Any

from nbmlops.project import Project
from nbmlops.surfaces.parse import Call

PANEL = "nbmlops.ui"  # the comm's target that the front end registers


def shown(result: Any, call: Call, project: Project, shell: Any) -> Any:
    """Show a result as a line asks for it; gives what the cell's own output is to be."""
    options = call.options
    if call.name == "ui" and hasattr(shell, "kernel") and not options["show_code"]:
        _open_panel(result.view)
    if options["into"]:
        shell.push({options["into"]: result})
    if options["show_code"] or options["json"]:
        from nbmlops.surfaces.show import json_text

        return print(result if options["show_code"] else json_text(result))
    if options["quiet"]:
        return None
    if _is_view_wanted(call, shell) and call.name != "run":  # whose view stands above already
        return _display_view(result, call, project)
    return None if options["into"] else result


def check(call: Call) -> None:
    """Refuse, before anything is done, a view where there is none."""
    if call.options["widget"]:
        from nbmlops.surfaces.widgets import views

        views.check(call)


def beside(call: Call, project: Project, shell: Any) -> "contextlib.AbstractContextManager[None]":
    """Show how far a run is while it goes on, where that was asked for."""
    if call.name != "run" or call.arguments.get("dry_run") or not _is_view_wanted(call, shell):
        return contextlib.nullcontext()
    from nbmlops.surfaces.widgets import views

    return views.progress(call, project)


def _is_view_wanted(call: Call, shell: Any) -> bool:
    """Say whether there is a page with somebody before it: what runs a notebook headlessly takes no questions."""
    kernel = getattr(shell, "kernel", None)
    is_plain = call.options["json"] or call.options["quiet"] or call.options["show_code"]
    return bool(call.options["widget"] and not is_plain and getattr(kernel, "_allow_stdin", False))


def _display_view(result: Any, call: Call, project: Project) -> None:
    from IPython.display import display

    from nbmlops.surfaces.widgets import views

    page = views.view(result, project, call.name, only=call.arguments.get("name", ""))
    data, metadata = views.bundle(result, page)
    display(data, metadata=metadata, raw=True)


def _open_panel(view: str) -> None:
    """Ask the front end to open the sidebar's panel; one without it leaves the question unanswered."""
    from ipykernel.comm import Comm

    Comm(target_name=PANEL, data={"view": view}).close()
