"""Which events of the ledger are worth an alert, and what it says of each; pure."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbmlops.ledger.events import Event
from nbmlops.scrub import scrub, scrub_text

KINDS = ("slo", "drift", "job")
LONGEST = 1000  # characters of a cause
_REFUSED = (
    "UsageError",
    "NotFoundError",
    "ApprovalError",
    "ConflictError",
)  # nothing has begun, and who typed it knows
_TAKEN_BACK = "The rollout at "  # begins what `deploy --wait` fails with; the rollout's own event tells more


@dataclass(frozen=True)
class Message:
    """What is said of one event: what happened, why, what stays live, and the command to type next."""

    kind: str
    headline: str
    cause: str
    live: str = ""
    next_step: str = ""

    @property
    def text(self) -> str:
        """All of it as lines.

        Examples
        --------
        >>> print(Message("job", "train.ipynb failed", "ValueError: no flights", next_step="jobs --name train").text)
        job: train.ipynb failed
        why: ValueError: no flights
        next: nbmlops jobs --name train
        """
        parts = {self.kind: self.headline, "why": self.cause, "live": self.live}
        parts["next"] = f"nbmlops {self.next_step}" if self.next_step else ""
        return "\n".join(f"{name}: {part}" for name, part in parts.items() if part)


def message_of(event: Event) -> Message | None:
    """Word what an event is worth an alert for; None where it is not.

    ``slo`` is a rollout that was taken back, a deployment that failed, an endpoint that cannot be kept up. ``drift`` is
    a report that says so, whoever asked for it. ``job`` is a run that failed; of a pipeline its own end, and not that
    of each step. A call that was refused before anything began counts only where no person typed it.
    """
    reader = _READERS.get(event.verb)
    found = reader(event) if reader else None
    return Message(**scrub(vars(found))) if found else None


def body_of(message: Message, event: Event, project: str, alert: str) -> dict[str, Any]:
    """Give a message as JSON: `text` for chat rooms, the same as fields for programs.

    There is no top-level ``type``: Mattermost takes one for a kind of post.
    """
    return {
        "text": f"[{_quoted(project)}] {_quoted(message.text)}",
        "timestamp": event.at.isoformat(),
        "data": {
            **vars(message),
            "alert": alert,
            "project": project,
            "event": event.seq,
            "verb": event.verb,
            "outcome": event.outcome,
            "subject": event.subject,
            "actor": scrub_text(event.actor),
        },
    }


def trial() -> Message:
    """Word the message of ``alert NAME --test``."""
    return Message("test", "this alert is heard", "somebody asked for a test", next_step="alert")


def _quoted(text: str) -> str:
    """Escape what chat rooms take for links and for calls to everybody: a cause may hold anything."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --------------------------------------------------------------------- readers
def _rollout(event: Event) -> Message | None:
    rollout = _table(_table(event.result).get("rollout"))
    if event.outcome == "ok":
        return None
    name = str(rollout.get("endpoint", event.subject.partition("/")[2]))
    headline = f"{rollout.get('challenger')} was taken back at {name}"
    live = f"{rollout.get('champion')} answers alone"
    return Message("slo", headline, _cut(rollout.get("reason")), live, f"show {shlex.quote(name)}")


def _deploy(event: Event) -> Message | None:
    cause = _cause(event)
    if not _failed(event) or cause.startswith(_TAKEN_BACK):
        return None
    if name := event.subject.partition("/")[2]:
        live = "what answers there goes on"
        return Message("slo", f"the endpoint {name} is in trouble", cause, live, f"show {shlex.quote(name)}")
    model, place = event.arguments.get("model", "a model"), event.arguments.get("as_")
    where = f" as {place}" if place else ""
    return Message("slo", f"{model} could not be deployed{where}", cause, "what was live before goes on", "endpoints")


def _drift(event: Event) -> Message | None:
    report = _table(event.result)
    if not report.get("drifted"):
        return None
    columns = [str(row.get("name")) for row in report.get("columns", ()) if row.get("drifted")]
    cause = f"{', '.join(columns[:5])}{', …' if columns[5:] else ''} drifted against {report.get('reference')}"
    next_step = "status" if event.by_human else "jobs"
    return Message("drift", f"{report.get('current')} has drifted", _cut(cause), "what is served goes on", next_step)


def _run(event: Event) -> Message | None:
    if not _failed(event) or event.arguments.get("fence"):
        return None
    what = str(event.arguments.get("what") or event.arguments.get("job") or event.subject.partition("/")[2])
    name = what.rpartition("/")[2].removesuffix(".ipynb")
    next_step = f"jobs --name {shlex.quote(name)}" if event.verb == "run" else "jobs"
    if job := _table(event.result).get("job"):  # a pipeline's
        next_step = f"resume {job}"
    return Message("job", f"{what or 'a run'} failed", _cause(event), "what is served goes on", next_step)


_READERS: Mapping[str, Callable[[Event], Message | None]] = {
    "rollout": _rollout,
    "deploy": _deploy,
    "drift": _drift,
    "run": _run,
    "resume": _run,
}
VERBS = tuple(_READERS)


def _failed(event: Event) -> bool:
    """Say whether something has failed that was not only mistyped, and that nobody has ended."""
    is_refused = event.by_human and event.outcome in _REFUSED
    waits = event.outcome == "ConflictError" and event.verb != "deploy"  # another run goes on: this one comes after it
    return event.outcome not in ("ok", "KeyboardInterrupt") and not is_refused and not waits


def _cause(event: Event) -> str:
    told = _table(event.result)
    steps = [step for step in map(_table, told.get("steps") or ()) if step.get("status") == "FAILED"]
    of_steps = "; ".join(f"step {step.get('name')}: {step.get('message')}" for step in steps)
    return _cut(told.get("message") or of_steps or event.outcome)


def _cut(text: Any) -> str:
    said = str(text or "")
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
