"""What runs by itself and when, for `status`; what of it needs a person."""

from nbmlops import background
from nbmlops.agent.cards import Ahead, Attention
from nbmlops.errors import NbmlopsError
from nbmlops.pipelines.scheduled import Upcoming, upcoming
from nbmlops.pipelines.scheduling import FiringTime
from nbmlops.project import Project


def ahead_of(project: Project) -> tuple[Ahead, ...]:
    """List what runs by itself, the next first."""
    try:
        return tuple(_row(each) for each in upcoming(project))
    except NbmlopsError as exc:  # the rest of the card is true without it
        return (Ahead("schedules", "", problem=exc.message),)


def attention_of(project: Project, ahead: tuple[Ahead, ...]) -> tuple[Attention, ...]:
    """Collect what of it needs a person: what never runs, what went wrong, nobody who starts anything."""
    found = [Attention(f"{row.name} never runs: {row.problem}", "mend nbmlops.toml") for row in ahead if row.problem]
    wrong = [row for row in ahead if row.last in ("FAILED", "LOST")]
    found += [Attention(f"the last run of {row.name}: {row.last}", "jobs") for row in wrong]
    if any(row.next for row in ahead) and background.living(project.root) is None:
        found.append(Attention("no agent of this machine starts what is due", "agent"))
    return tuple(found)


def _row(each: Upcoming) -> Ahead:
    next_ = "paused" if each.paused else FiringTime.of(each.next_at).local if each.next_at else ""
    return Ahead(each.name, next_, ", ".join(each.triggers), each.last, each.problem)
