"""What an agent does for alerts: it delivers what is to be told, in a thread of its own; what of it needs a person."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from nbmlops.agent.cards import Attention
from nbmlops.agent.watch import Watch
from nbmlops.ledger.alerts import GIVEN_UP, MUTED, OPEN, Alerts
from nbmlops.monitoring.alerts import Alert, declared_in
from nbmlops.monitoring.outbound import TIMEOUT_S
from nbmlops.monitoring.telling import told, unheard
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.verb import counted

EVERY_S = 1.0
SHOWN = timedelta(days=7)  # for which what was given up needs a person


class Alerting(Watch):
    """Looks each second whether something is to be told, which costs one query while there is nothing."""

    def __init__(self, project: Project, tell: Callable[[str], object] = str, every_s: float = EVERY_S) -> None:
        super().__init__(every_s, ends_within_s=TIMEOUT_S)
        self._project = project
        self._tell = tell
        self._head = -1  # the newest event that was looked at, under the alerts as they were then
        self._declared: object = None
        self._said: dict[str, str] = {}

    def look(self) -> None:
        """Tell what there is to be told."""
        alerts, wrong = declared_in(self._project.settings)
        for name in {*alerts, *wrong, *self._said} - {""}:
            if name in wrong or name not in alerts:
                self.say(name, wrong.get(name, ""))
        if not alerts:
            self.is_needed = False
            return
        table = self._project.open(Alerts)
        outlook = table.outlook(alerts, datetime.now(UTC))
        if outlook.is_due or outlook.head != self._head or alerts != self._declared:
            for done in told(self._project):
                self.say(done.alert, "" if done.is_taken else done.said)
            self._head, self._declared = outlook.head, alerts
            outlook = table.outlook(alerts, datetime.now(UTC))
        self.is_needed = outlook.is_waiting

    def say(self, name: str, line: str) -> None:
        """Tell what stands against an alert once, and again only after it was otherwise."""
        if self._said.get(name, "") != line:
            self._said[name] = line
            self._tell(scrub_text(f"alert {name}: {line or 'all is well again'}"))


def attention_of(project: Project) -> tuple[Attention, ...]:
    """Collect the alerts that cannot be as they are declared, or that nobody has taken."""
    alerts, wrong = declared_in(project.settings)
    found = [Attention(f"alert {name}: {why}", "mend nbmlops.toml") for name, why in wrong.items()]
    return (*found, *(said for alert in alerts.values() if (said := _undelivered(project, alert))))


def _undelivered(project: Project, alert: Alert) -> Attention | None:
    """Word what of an alert waits, or was given up of late with nothing told since."""
    newest = project.open(Alerts).newest(alert.name)
    waiting = [each for each in newest if each.state in OPEN]
    if n := len(waiting) + unheard(project, alert):
        why = next((each.said for each in waiting if each.said), "no agent has sent it yet")
        return Attention(f"alert {alert.name}: {counted(n, 'message')} undelivered: {why}", "sync")
    last = next((each for each in newest if each.state != MUTED), None)
    if last and last.state == GIVEN_UP and datetime.fromisoformat(last.queued_at) > datetime.now(UTC) - SHOWN:
        return Attention(f"alert {alert.name}: given up after a day: {last.said}", f"alert {alert.name} --test")
    return None
