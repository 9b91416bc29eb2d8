"""The agent: the one long-lived process of a project on a machine, which starts what is due; ``python -m ... FOLDER``.

What it does is decided in `deciding`; this file looks and acts. It keeps nothing in memory that counts: everything is
in the ledger, so any number of agents on machines that share one may come and go. Runs are processes of their own
sessions (`runner`): they go on when the agent stops or dies, and tell their ends themselves.
"""

import os
import signal
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from nbmlops import background
from nbmlops.agent import deciding, triggers
from nbmlops.agent.alerting import Alerting
from nbmlops.agent.answered import answered
from nbmlops.agent.launching import Launcher
from nbmlops.agent.serving import Serving
from nbmlops.agent.triggers import Measuring
from nbmlops.agent.upkeep import Upkeep
from nbmlops.agent.webhooks import Webhooks
from nbmlops.errors import NbmlopsError, NotFoundError, StoreError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Draft
from nbmlops.ledger.schedules import (
    ANSWER,
    CLAIMED,
    FAILED,
    FINISHED,
    LOST,
    QUEUED,
    SKIPPED,
    STARTED,
    Firing,
    Schedules,
    Seen,
    stamp,
)
from nbmlops.pipelines import jobs
from nbmlops.pipelines.running import DUE
from nbmlops.pipelines.scheduled import Scheduled, declared_in
from nbmlops.project import FILE, Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking.journal import crash_point
from nbmlops.tracking.owner import owner_is_dead, owner_tags

LEASE_S = 120.0  # in which a claim becomes a run; after it another may try, and the fence lets only one start
PAUSE_S = (1.0, 30.0)  # between attempts at a ledger that is away
IDLE_S = 600.0  # without a schedule, after which an agent that was started by a command ends


class Clock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Give the time, aware, in UTC."""
        return datetime.now(UTC)

    def wait(self, seconds: float, woken: threading.Event) -> None:
        """Wait, at most until woken."""
        woken.wait(seconds)


@dataclass
class Agent:
    """One agent of a project: looks, fires, and looks after what was fired."""

    project: Project
    launcher: Launcher
    clock: Clock = field(default_factory=Clock)
    tell: Callable[[str], object] = str
    lease_s: float = LEASE_S
    heeded: dict[str, Scheduled] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    told: dict[str, str] = field(default_factory=dict)
    children: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.measuring = Measuring(self.project, self.tell)

    # ------------------------------------------------------------------- a look
    def look(self) -> float:
        """Do all that is to be done now; give the seconds until the next look.

        Raises
        ------
        StoreError
            The ledger is out of reach; nothing is lost: what was due meanwhile is made up as its schedule says.
        NotFoundError
            The project is gone.
        """
        self.children = [child for child in self.children if child.poll() is None]
        if not self._read():
            return deciding.LOOK_S
        ledger = self.project.open(Schedules)
        self._heed(ledger)
        still_open = list(self._looked_after(ledger))
        paused = ledger.paused()
        awake = [each for name, each in self.heeded.items() if name not in paused]
        seen = ledger.seen()
        self._fire_what_is_due(ledger, awake, seen)
        self._pull_triggers(ledger, awake, seen)
        self._go_on(ledger, awake)
        self._move_queues(ledger, {each.name for each in awake}, still_open)
        return deciding.wait_s(awake, self.clock.now())

    def _read(self) -> bool:
        """Say whether nbmlops.toml can be read; without it nothing can run, so all waits until that is mended."""
        if not (self.project.folder / FILE).exists():
            raise NotFoundError(f"{self.project.folder} is no project any more.")
        try:
            self.project.settings  # noqa: B018  # read anew if it changed
            trouble = ""
        except NbmlopsError as exc:
            trouble = exc.message
        self.say("settings", trouble)
        return not trouble

    def _heed(self, ledger: Schedules) -> None:
        """Take what is declared now; what is gone is forgotten, so that it begins anew if it comes back."""
        heeded, wrong = declared_in(self.project.settings)
        for name in self.named - {*heeded, *wrong}:
            ledger.forget(name)
            self.say(name, "")
        self.heeded, self.named = heeded, {*heeded, *wrong}
        for name in self.named:
            self.say(name, wrong.get(name, ""))

    # -------------------------------------------------------------------- firing
    def _fire_what_is_due(
        self, ledger: Schedules, awake: list[Scheduled], seen: dict[tuple[str, str, str], Seen]
    ) -> None:
        now = self.clock.now()
        newest = ledger.newest_due([each.name for each in awake if each.clock], now + deciding.SLACK)
        for each in awake:
            if not each.clock:
                continue
            known = seen.get((each.name, each.clock, ""))
            if known is None or deciding.is_of_wrong_clock(known, now):
                ledger.see(each.name, each.clock, "", Seen(now))
                continue
            times = deciding.due_now(each, known, newest.get(each.name), now)
            for due_at in map(stamp, times):
                self._fire(ledger, each, due_at, due_at, is_late=len(times) > 1)

    def _pull_triggers(self, ledger: Schedules, awake: list[Scheduled], seen: dict[tuple[str, str, str], Seen]) -> None:
        """Look at all triggers of what does not run now; what comes during a run starts one afterwards."""
        busy = {firing.schedule for firing in ledger.open_firings()} if any(each.timing.on for each in awake) else set()
        for each in awake:
            is_free = bool(each.timing.on) and each.name not in busy and not self._beside(each)
            for trigger in each.timing.on if is_free else ():
                key = (each.name, trigger, triggers.place_of(trigger))
                try:
                    fired = self._pull(ledger, each, key, seen.get(key))
                except (UsageError, OSError) as exc:
                    self.say(f"{each.name}: {trigger}", f"{each.name}: {trigger}: {exc}")
                    continue
                self.say(f"{each.name}: {trigger}", "")
                if fired:
                    break

    def _pull(self, ledger: Schedules, each: Scheduled, key: tuple[str, str, str], known: Seen | None) -> bool:
        """Look at one trigger, and start a run if there is news and it may."""
        now, trigger = self.clock.now(), key[1]
        before = known.value if known else None
        sight = triggers.look(self.project, trigger, before)
        if sight is None:
            return False
        if not sight.news:
            if before is None or sight.value != before:
                ledger.see(*key, Seen(now, sight.value))
            return False
        in_period = ledger.n_triggered(each.name, deciding.period_start(each.timing.budget, now))
        if deciding.why_not(each.timing, ledger.last_run(each.name), in_period, now):
            return False
        if trigger.startswith("drift:"):
            judged = self.measuring.judged(each, trigger, sight, {DUE: now.isoformat()})
            if judged is None or not judged.news:
                if judged:
                    ledger.see(*key, Seen(now, judged.value))
                return False
            sight = judged
        fired = self._fire(ledger, each, f"{trigger}#{sight.news}", stamp(now))
        ledger.see(*key, Seen(now, sight.value))
        return fired is not None

    def _go_on(self, ledger: Schedules, awake: list[Scheduled]) -> None:
        """Go on with runs whose questions a person has answered, behind what may have begun meanwhile."""
        busy = {firing.schedule for firing in ledger.open_firings()}
        for each in awake:
            patient = replace(each, timing=replace(each.timing, overlap="queue"))
            for job, due_at in answered(self.project, each.name) if each.name not in busy else ():
                self._fire(ledger, patient, f"{ANSWER}#{job}", due_at)

    def _fire(
        self, ledger: Schedules, each: Scheduled, occasion: str, due_at: str, *, is_late: bool = False
    ) -> Firing | None:
        """Claim an occasion, and start it where it is ours and its turn."""
        owner, job, claimed_at = self._claim()
        asked = Firing(each.name, occasion, due_at, CLAIMED, 1, owner, job, claimed_at)
        firing = ledger.claim(asked, overlap=each.timing.overlap, is_late=is_late, beside=self._beside(each))
        if firing and firing.state == CLAIMED:
            self._launch(firing, each)
        elif firing and firing.state == SKIPPED:
            self.tell(f"{each.name}: {occasion} is skipped: {firing.reason}")
        return firing

    def _beside(self, each: Scheduled) -> str:
        """Name the run of a pipeline that goes on, whoever has started it; notebooks may run beside each other."""
        job = jobs.running(self.project, each.target) if each.is_pipeline else None
        return f"job {job.job}" if job else ""

    def _claim(self) -> tuple[dict[str, str], str, str]:
        """Give what a claim bears: its owner, the job that it is to become, and when it was made."""
        return owner_tags(), uuid.uuid4().hex[:12], self.clock.now().isoformat()

    def _launch(self, firing: Firing, each: Scheduled) -> None:
        """Start the process of a claimed firing; where that fails, the claim is taken over when its lease is out."""
        crash_point("firing-claimed")
        try:
            self.children.append(self.launcher.launch(firing, each))
            crash_point("firing-launched")
        except (OSError, NbmlopsError) as exc:
            self.tell(f"{each.name}: {firing.occasion} cannot be started: {scrub_text(str(exc))}")
        else:
            self.tell(f"{each.name}: {firing.occasion} starts as job {firing.job}")

    def _move_queues(self, ledger: Schedules, awake: set[str], still_open: list[Firing]) -> None:
        for name in dict.fromkeys(each.schedule for each in still_open if each.state == QUEUED):
            if name not in awake or self._beside(self.heeded[name]):
                continue
            if firing := ledger.take_next(name, owner_tags(), self.clock.now().isoformat()):
                self._launch(firing, self.heeded[name])

    # ------------------------------------------------------------- what was fired
    def _looked_after(self, ledger: Schedules) -> Iterator[Firing]:
        """Take over what dead agents have claimed, tell the end of runs that died; give what is open after that."""
        for firing in ledger.open_firings():
            is_free = firing.state == QUEUED or (firing.state == CLAIMED and self._is_abandoned(firing))
            if is_free and firing.schedule not in self.named:
                ledger.drop(firing, "it is no longer scheduled")
            elif is_free and firing.state == CLAIMED:
                self._take_over(ledger, firing)
            elif firing.state == STARTED and owner_is_dead(firing.owner):
                self._settle(ledger, firing)
            else:
                yield firing

    def _is_abandoned(self, firing: Firing) -> bool:
        age_s = abs((self.clock.now() - datetime.fromisoformat(firing.claimed_at)).total_seconds())
        return age_s > self.lease_s or owner_is_dead(firing.owner)

    def _take_over(self, ledger: Schedules, firing: Firing) -> None:
        each = self.heeded.get(firing.schedule)  # one that is declared badly now waits until that is mended
        if each and (taken := ledger.take_over(firing, owner_tags(), self.clock.now().isoformat())):
            self._launch(taken, each)

    def _settle(self, ledger: Schedules, firing: Firing) -> None:
        """Tell the end of a firing whose runner died: as its job tells, or that it is lost; it is not run again."""
        job = next(iter(jobs.newest(self.project, job=firing.job)), None)
        if job and job.status == jobs.RUNNING:
            return
        state, reason = _end_of(job, firing)
        ended_at = stamp(self.clock.now())
        code = job.exit_code if job else None
        place = (firing.schedule, firing.occasion, firing.fence)
        if ledger.end(*place, state, ended_at=ended_at, exit_code=code, reason=reason):
            self.tell(f"{firing.schedule}: {firing.occasion} is {state}: {reason}")
            if state == LOST:  # of any other end the run has left its own event
                self._record_loss(firing, reason)

    def _record_loss(self, firing: Firing, reason: str) -> None:
        lost = Draft("run", f"job/{firing.job}", self.project.surface, by_human=False, outcome=LOST)
        about = replace(lost, arguments={"what": firing.schedule}, result={"message": reason})
        self.project.open(Ledger).append(about)

    # -------------------------------------------------------------------- telling
    def say(self, about: str, line: str) -> None:
        """Tell something once, and again only after it was otherwise."""
        if self.told.get(about, "") != line:
            self.told[about] = line
            self.tell(scrub_text(line) if line else f"{about}: all is well again")


def _end_of(job: jobs.Job | None, firing: Firing) -> tuple[str, str]:
    if job and job.status in ("FINISHED", "SKIPPED"):
        return FINISHED, ""
    if job and job.status in ("FAILED", "KILLED"):
        return FAILED, job.message
    return LOST, f"its process is gone without a word; it is not run again by itself: `run {firing.schedule}`"


# ------------------------------------------------------------------------ the loop
def serve(
    agent: Agent,
    stop: threading.Event,
    others: Sequence[Upkeep | Webhooks] = (),
    idle_s: float = float("inf"),
    is_mine: Callable[[], bool] = lambda: True,
    is_needed: Callable[[], bool] = lambda: False,
) -> None:
    """Look until told to stop, the project is gone, or nothing was scheduled or served for a while."""
    pause_s, busy_at = PAUSE_S[0], agent.clock.now()
    while not stop.is_set() and is_mine():
        trouble = ""
        try:
            wait_s = agent.look()
            for other in others:
                other.look()
        except NotFoundError:
            break
        except StoreError as exc:
            trouble = f"{exc.message} It is tried again."
        except Exception:  # noqa: BLE001  # one that is not foreseen must not end what all schedules hang on
            trouble = traceback.format_exc()
        agent.say("ledger", trouble)
        pause_s = min(pause_s * 2, PAUSE_S[1]) if trouble else PAUSE_S[0]
        now = agent.clock.now()
        busy_at = now if agent.named or is_needed() else busy_at
        if (now - busy_at).total_seconds() > idle_s:
            break
        agent.clock.wait(pause_s if trouble else wait_s, stop)


def run(project: Project, tell: Callable[[str], object], idle_s: float = float("inf")) -> bool:
    """Be the project's agent on this machine until told to stop by a signal; False where another is."""
    stop = threading.Event()
    before = {each: signal.signal(each, lambda *_: stop.set()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        with background.only_one(project, stamp(datetime.now(UTC))) as is_mine:
            if is_mine:
                tell(f"agent of {project.root}, process {os.getpid()}")
                agent = Agent(Project(project.root, surface=project.surface), Launcher(project), tell=tell)
                webhooks, serving = Webhooks(agent.project, tell), Serving(Project(project.root), tell)
                alerting = Alerting(Project(project.root), tell)
                serving.start()
                alerting.start()
                others = (Upkeep(agent.project, tell), webhooks)
                serve(agent, stop, others, idle_s, is_mine, lambda: serving.is_needed or alerting.is_needed)
                alerting.close()
                serving.close()
                webhooks.close()
                agent.measuring.close()
                tell("agent stopped; runs that go on tell their ends themselves")
            return is_mine is not None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> None:
    """Be the agent of the project in a folder."""

    def tell(line: str) -> None:
        sys.stdout.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}  {line}\n")
        sys.stdout.flush()

    run(Project(Path(sys.argv[1])), tell, IDLE_S)


if __name__ == "__main__":
    main()
