"""What an agent does for endpoints: it makes them what is wanted again and again, in a thread of its own."""

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime

from nbmlops.agent.watch import Watch
from nbmlops.errors import NbmlopsError
from nbmlops.ledger.endpoints import Endpoints, Wanted
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.serving import deploying, keeping, processes

EVERY_S = 0.5
CAPTURE_EVERY_S = 30.0


class Serving(Watch):
    """Sees to the endpoints of this machine: starts what is missing, takes rollouts on, ends what nobody wants.

    An endpoint that cannot be made so is told once, and tried again when something else is wanted, or after a while
    that grows.
    """

    def __init__(self, project: Project, tell: Callable[[str], object] = str, every_s: float = EVERY_S) -> None:
        super().__init__(every_s, ends_within_s=deploying.LOOK_S + processes.STOP_TIMEOUT_S)
        self._project = project
        self._tell = tell
        self._captured_at = time.monotonic()
        self._capture_trouble: dict[str, str] = {}
        self._trouble: dict[str, Trouble] = {}

    def look(self) -> None:
        """See to every endpoint once."""
        mine = list(keeping.of_this_machine(self._project))
        self.is_needed = bool(mine)
        for wanted in mine:
            self._keep(wanted)
        self._end_others({wanted.name for wanted in mine})
        if time.monotonic() - self._captured_at > CAPTURE_EVERY_S:
            self._captured_at = time.monotonic()
            self._keep_up()

    def _keep(self, wanted: Wanted) -> None:
        known = self._trouble.get(wanted.name)
        if known and known.revision == wanted.revision and time.monotonic() < known.until:
            return
        try:
            deploying.keep(self._project, wanted)
            self.say(wanted.name, "")
            self._trouble.pop(wanted.name, None)
        except NbmlopsError as exc:
            self.say(wanted.name, exc.message)
            self._trouble[wanted.name] = Trouble.after(known, wanted.revision, exc.message)
            deploying.tell_trouble(self._project, wanted.name, exc)

    def _end_others(self, mine: set[str]) -> None:
        """End what is left of endpoints that nobody wants, for instance of a deploy that was killed midway."""
        places = keeping.folder_of(self._project, "x").parent
        for folder in places.glob("*"):
            if folder.name in mine or not folder.is_dir():
                continue
            with processes.only_one(keeping.lock(self._project, folder.name), waits=False) as is_free:
                if is_free and folder.name not in self._project.open(Endpoints).wanted():
                    keeping.cleared(self._project, folder.name)
                    shutil.rmtree(folder, ignore_errors=True)

    def _keep_up(self) -> None:
        """Make segments of what was captured, and remove what is too old; what stands against that is told once."""
        from nbmlops.serving.capture.upkeep import keep_up
        from nbmlops.serving.policy import captures, place_of

        for name, settings in captures(self._project).items():
            trouble = ""
            try:
                keep_up(place_of(self._project, name), settings, datetime.now(UTC))
            except NbmlopsError as exc:
                trouble = exc.message
            if trouble and trouble != self._capture_trouble.get(name):
                self._tell(scrub_text(f"captures of {name}: {trouble}"))
            self._capture_trouble[name] = trouble

    def say(self, name: str, line: str) -> None:
        """Tell what stands against an endpoint once, and that all is well again."""
        known = self._trouble.get(name)
        if line and not (known and known.message == line):
            self._tell(scrub_text(f"endpoint {name}: {line}" if name else line))
        elif not line and known:
            self._tell(f"endpoint {name}: all is well again")


class Trouble:
    """What stands against an endpoint, since which revision, and until when it is left alone."""

    def __init__(self, revision: int, message: str, pause_s: float) -> None:
        self.revision, self.message, self.pause_s = revision, message, pause_s
        self.until = time.monotonic() + pause_s

    @classmethod
    def after(cls, known: "Trouble | None", revision: int, message: str) -> "Trouble":
        """Wait twice as long as before the last attempt, up to a minute."""
        again = known is not None and known.revision == revision
        return cls(revision, message, min(known.pause_s * 2, 60.0) if again and known else 1.0)
