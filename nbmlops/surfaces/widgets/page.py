"""The widget behind every view: a state that the page shows, and what a person does there, answered."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import traitlets
from anywidget import AnyWidget

from nbmlops.errors import NbmlopsError, UsageError
from nbmlops.project import Project
from nbmlops.scrub import scrub
from nbmlops.strict_json import plain
from nbmlops.surfaces.call import unexpected
from nbmlops.surfaces.widgets.looking import Looks
from nbmlops.surfaces.widgets.performing import Answer, performed, refused

HERE = Path(__file__).parent
GONE_S = 660.0  # an output that is seen says so every five minutes


class View(Protocol):
    """What a page shows: `source` names its JavaScript, `every_s` is how often it is looked at anew, 0 for never."""

    source: str
    every_s: float

    def state(self) -> dict[str, Any]:
        """Look once: what is shown, as plain JSON; `is_over` in it when another look can show nothing else."""
        ...

    def words(self, asked: Mapping[str, Any]) -> list[str]:
        """Give the call that a person asks for, as words that are typed; a UsageError for anything else."""
        ...


class Page(AnyWidget):
    """One view in an output. What comes from the page is checked by the verbs, as every caller's words are."""

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, view: View, project: Project) -> None:
        code = "\n".join((HERE / name).read_text("utf-8") for name in ("parts.js", view.source))
        super().__init__(_esm=code, _css=(HERE / "views.css").read_text("utf-8"), state=scrub(plain(view.state())))
        self._view, self._project = view, project
        self._seen: dict[str, float] = {}  # the outputs that somebody sees, each with when it said so last
        self.looks = Looks(self._look, view.every_s)
        self.on_msg(self._heard)

    def close(self) -> None:
        """Look no longer, and be gone."""
        self.looks.end()
        super().close()

    def look(self) -> None:
        """Show what is so now; a store out of reach is told of, and asked again."""
        try:
            self.state = scrub(plain(self._view.state()))
        except Exception as exc:  # noqa: BLE001  # no cell is there to raise it in
            error = exc if isinstance(exc, NbmlopsError) else unexpected(exc)
            self.state = {**self.state, "trouble": str(error).partition("\n")[0]}

    def _look(self) -> bool:
        """Look, and say whether another look could show anything else."""
        if self.comm is None:
            return False
        self.look()
        return not self.state.get("is_over")

    def _heard(self, _: Any, asked: Mapping[str, Any], __: Any) -> None:
        """Take a message of the page: that somebody sees it or does no longer, or what is to be done."""
        if "seen" in asked:
            self._watch(str(asked.get("view")), is_seen=bool(asked["seen"]))
            return
        self.send({"id": asked.get("id"), **scrub(asdict(self._answer(asked)))})
        if not asked.get("dry_run"):
            self.look()

    def _watch(self, output: str, *, is_seen: bool) -> None:
        """Look for as long as one of the outputs is seen; one of a page that was reloaded says nothing any more."""
        now = time.monotonic()
        self._seen = {each: at for each, at in self._seen.items() if each != output and now - at < GONE_S}
        if is_seen:
            self._seen[output] = now
        if not self._seen:
            self.looks.end()
        elif is_seen and self._view.every_s:
            self.looks.begin()

    def _answer(self, asked: Mapping[str, Any]) -> Answer:
        try:
            words = self._view.words(asked)
        except UsageError as exc:
            return refused(exc)
        return performed(self._project, words, dry_run=bool(asked.get("dry_run")))
