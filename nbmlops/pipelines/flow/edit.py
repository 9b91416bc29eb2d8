"""Schedules written into the text of nbmlops.toml: comments, order and everything else stay as they are; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from nbmlops import editing
from nbmlops.editing import Edit
from nbmlops.errors import ConflictError, NotFoundError, UsageError, nearest
from nbmlops.pipelines.flow.references import NAME
from nbmlops.project import FILE

if TYPE_CHECKING:
    from tomlkit.items import Table

STARTING = ("schedule", "on", "cooldown", "budget", "catchup", "overlap", "against")
TIMING = (*STARTING, "timezone")  # which also says what ${due.date} is, in a run started by hand


@dataclass(frozen=True)
class Wish:
    """What a schedule is to be, as it is written; what is None stays as it is, and what is empty goes."""

    schedule: str | None = None
    timezone: str | None = None
    on: tuple[str, ...] | None = None
    cooldown: str | None = None
    budget: str | None = None
    catchup: str | None = None
    overlap: str | None = None
    against: str | None = None
    parameters: Mapping[str, Any] | None = field(default=None)


def scheduled(text: str, target: str, wish: Wish, name: str = "") -> Edit:
    r"""Give a pipeline or a notebook a schedule, or change the one that it has.

    A pipeline's lies in its own table; a notebook's in ``[schedules.NAME]``, where NAME is the notebook's own unless
    another is given.

    Parameters
    ----------
    text
        Of nbmlops.toml.
    target
        A pipeline, a schedule that exists, or a notebook's path relative to the project's folder.
    wish
        What is to be written.
    name
        Of a notebook's schedule; two schedules of one notebook need two names.

    Raises
    ------
    NotFoundError
        `target` is neither a pipeline nor a schedule nor the path of a notebook; the hint names the nearest.
    ConflictError
        The name belongs to the schedule of another notebook, or is a pipeline's.
    UsageError
        The text is no TOML, the name is none, or values were given for a pipeline's parameters.

    Examples
    --------
    >>> edit = scheduled("[project]\nname = 'x'  # ours\n", "a.ipynb", Wish("0 2 * * *", on=("webhook",)))
    >>> print(edit.difference)
    --- nbmlops.toml
    +++ nbmlops.toml
    @@ -1,2 +1,7 @@
     [project]
     name = 'x'  # ours
    +
    +[schedules.a]
    +notebook = "a.ipynb"
    +schedule = "0 2 * * *"
    +on = ["webhook"]
    """
    document = editing.document(text)
    kind, key = _place(document, target, name)
    if kind == "pipelines" and wish.parameters is not None:
        raise UsageError(
            f"{key} is a pipeline: its schedule takes no parameters.", f"Set their defaults in [pipelines.{key}]."
        )
    table = editing.table(document, kind, key)
    if kind == "schedules" and "notebook" not in table:
        table["notebook"] = target
    _write(table, wish)
    return editing.edited(text, document, f"{kind}.{key}", TIMING if kind == "pipelines" else None)


def unscheduled(text: str, target: str) -> Edit:
    """Take the schedule of a pipeline or a notebook away, with its triggers; the pipeline itself stays.

    Raises
    ------
    NotFoundError
        Nothing of that name has a schedule; the hint names the nearest.
    UsageError
        The text is no TOML, or a notebook has several schedules: then one is named.
    """
    document = editing.document(text)
    kind, key = _scheduled_place(document, target)
    if kind == "schedules":
        editing.drop(document, kind, key)
    else:
        for each in STARTING:
            document["pipelines"][key].pop(each, None)
    return editing.edited(text, document, f"{kind}.{key}", TIMING if kind == "pipelines" else None)


# ------------------------------------------------------------------- finding
def _place(document: Mapping[str, Any], target: str, name: str) -> tuple[str, str]:
    """Find the table that holds the schedule of a target, or is to hold it."""
    pipelines, schedules = document.get("pipelines", {}), document.get("schedules", {})
    if target in pipelines and not name:
        return "pipelines", target
    if target in schedules and not name:
        return "schedules", target
    if not target.endswith(".ipynb"):
        known = [*pipelines, *schedules]
        raise NotFoundError(f"{FILE} has no pipeline or schedule {target!r}.", nearest(target, known))
    key = name or _only_of(schedules, target) or PurePath(target).stem
    if not NAME.fullmatch(key):
        raise UsageError(f"{key!r} cannot be a schedule's name.", "Give one of letters, digits, _ and -: --name NAME")
    if key in pipelines:
        raise ConflictError(
            f"{key} is a pipeline, so the schedule of {target} cannot be called so.", "Give --name NAME"
        )
    if key in schedules and schedules[key].get("notebook") != target:
        raise ConflictError(f"{key} is the schedule of {schedules[key].get('notebook')}.", "Give --name NAME")
    return "schedules", key


def _only_of(schedules: Mapping[str, Any], notebook: str) -> str:
    """Name the schedule of a notebook, where it has just one."""
    names = [name for name, table in schedules.items() if table.get("notebook") == notebook]
    return str(names[0]) if len(names) == 1 else ""


def _scheduled_place(document: Mapping[str, Any], target: str) -> tuple[str, str]:
    pipelines, schedules = document.get("pipelines", {}), document.get("schedules", {})
    with_timing = [name for name, table in pipelines.items() if set(STARTING) & set(table)]
    if target in with_timing:
        return "pipelines", target
    if target in schedules:
        return "schedules", target
    names = [name for name, table in schedules.items() if table.get("notebook") == target]
    if len(names) > 1:
        raise UsageError(f"{target} has {len(names)} schedules.", f"Name one: {', '.join(names)}")
    if names:
        return "schedules", str(names[0])
    raise NotFoundError(f"Nothing called {target!r} has a schedule.", nearest(target, [*with_timing, *schedules]))


# ------------------------------------------------------------------- writing
def _write(table: "Table", wish: Wish) -> None:
    """Write what is wished for: changed in its place, added before the table's own tables, or taken away."""
    import tomlkit

    for key in TIMING:
        value = getattr(wish, key)
        if value is not None:
            editing.put(table, key, list(value) if isinstance(value, tuple) else value)
    if wish.parameters is not None:
        inline = tomlkit.inline_table()
        inline.update(wish.parameters)
        editing.put(table, "parameters", inline if wish.parameters else "")
