"""Attempts at steps: however many there are and whatever becomes of them, one publishes, and it is the newest."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbmlops.errors import ConflictError, NotFoundError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.steps import KEPT, Publication, Steps

# An attempt in a process of its own: it claims, says so, waits for a line, publishes, and says what came of it.
ATTEMPT = """
import sys
from pathlib import Path
from nbmlops.errors import ConflictError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.steps import Publication, Steps

url, anchors, job = sys.argv[1:]
steps = Steps(Ledger(url, Path(anchors)))
fence = steps.claim("retrain", "train", job=job, key="k")
print(fence.number, flush=True)
for line in sys.stdin:
    try:
        steps.publish(fence, Publication("k", {"by": job}, {}, {}))
        print("published", flush=True)
    except ConflictError as exc:
        print("refused", flush=True)
"""


class Attempt:
    """A process that makes one attempt."""

    def __init__(self, url: str, anchors: Path, job: str) -> None:
        words = [sys.executable, "-c", ATTEMPT, url, str(anchors), job]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def told(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def publish(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


Begin = Callable[[str], Attempt]


@pytest.fixture
def begin(url: str, anchors: Path, ledger: Ledger) -> Iterator[Begin]:
    """Begins attempts, and ends their processes; the tables are there by then."""
    begun: list[Attempt] = []

    def new(job: str) -> Attempt:
        begun.append(Attempt(url, anchors, job))
        return begun[-1]

    yield new
    for attempt in begun:
        attempt.end()


@pytest.fixture
def steps(ledger: Ledger) -> Steps:
    return Steps(ledger)


def publication(**results: object) -> Publication:
    return Publication("k", results, {"step": "retrain/train"}, {})


def test_of_many_attempts_at_once_each_has_its_fence_and_one_publishes(begin: Begin, steps: Steps) -> None:
    attempts = [begin(f"job{n}") for n in range(8)]
    fences = [int(attempt.told) for attempt in attempts]
    assert sorted(fences) == list(range(1, 9))
    for attempt in attempts:
        attempt.publish()
    told = [attempt.told for attempt in attempts]
    assert Counter(told) == {"published": 1, "refused": 7}
    assert told[fences.index(8)] == "published"
    (row,) = steps.published("retrain")
    assert row["results"] == {"by": f"job{fences.index(8)}"}


def test_an_attempt_that_publishes_often_at_once_does_so_once(url: str, steps: Steps, anchors: Path) -> None:
    fence = steps.claim("retrain", "train", job="a", key="k")
    publishing = (
        "import sys; from pathlib import Path; from nbmlops.ledger.database import Ledger\n"
        "from nbmlops.ledger.steps import Fence, Publication, Steps\n"
        "steps = Steps(Ledger(sys.argv[1], Path(sys.argv[2])))\n"
        f"steps.publish(Fence('retrain', 'train', 'a', {fence.number}), Publication('k', {{}}, {{}}, {{}}))\n"
    )
    words = [sys.executable, "-c", publishing, url, str(anchors)]
    processes = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    complaints = [process.communicate(timeout=60)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1, 1, 1, 1]
    assert sum("FINISHED already: it ends once" in each for each in complaints) == 5
    assert len(steps.published("retrain")) == 1


def test_an_attempt_that_was_stopped_and_goes_on_after_another_has_begun_publishes_nothing(
    begin: Begin, steps: Steps
) -> None:
    stopped = begin("stopped")
    assert stopped.told == "1"
    os.kill(stopped.process.pid, signal.SIGSTOP)
    stopped.publish()  # it is on its way when the other one begins
    fence = steps.claim("retrain", "train", job="other", key="k")
    assert fence.number == 2
    os.kill(stopped.process.pid, signal.SIGCONT)
    assert stopped.told == "refused"
    assert steps.published("retrain") == []
    steps.publish(fence, publication(n=1))
    assert [row["results"] for row in steps.published("retrain")] == [{"n": 1}]


def test_an_attempt_that_was_killed_holds_up_nobody(begin: Begin, steps: Steps) -> None:
    killed = begin("killed")
    assert killed.told == "1"
    killed.end()
    fence = steps.claim("retrain", "train", job="other", key="k")
    steps.publish(fence, publication())
    assert [(row["job"], row["status"]) for row in (*steps.of_job("killed"), *steps.of_job("other"))] == [
        ("killed", "STALE"),
        ("other", "FINISHED"),
    ]


def test_kills_at_any_moment_leave_at_most_one_publication_of_each_attempt(begin: Begin, steps: Steps) -> None:
    published = 0
    for n in range(4):
        attempt = begin(f"job{n}")
        assert attempt.told == str(n + 1)
        attempt.publish()
        time.sleep(0.002 * n)  # a kill before, during or after the publication
        attempt.end()
        now = len(steps.published("retrain"))
        assert now - published in (0, 1)
        published = now
    fence = steps.claim("retrain", "train", job="last", key="k")
    steps.publish(fence, publication(n="last"))
    assert steps.published("retrain")[-1]["results"] == {"n": "last"}
    assert len(steps.published("retrain")) == published + 1


def test_steps_and_pipelines_have_fences_of_their_own(steps: Steps) -> None:
    places = [("retrain", "train"), ("retrain", "train[kind=a/b]"), ("other", "train")]
    fences = [steps.claim(pipeline, step, job=f"of {pipeline}", key="k") for pipeline, step in places]
    assert [fence.number for fence in fences] == [1, 1, 1]
    for fence in fences:
        assert steps.is_current(str(fence))
        steps.publish(fence, publication(step=fence.step))
        assert not steps.is_current(str(fence))
    assert [row["step"] for row in steps.published("retrain")] == ["train", "train[kind=a/b]"]


def test_an_attempt_is_current_until_another_begins_or_it_ends(steps: Steps) -> None:
    first = steps.claim("retrain", "train", job="a", key="k")
    assert steps.is_current(str(first))
    second = steps.claim("retrain", "train", job="b", key="k")
    assert (steps.is_current(str(first)), steps.is_current(str(second))) == (False, True)
    with pytest.raises(ConflictError, match="job b has begun it anew"):
        steps.end(first, "FAILED")
    steps.end(second, "FAILED", error={"message": "no disk"})
    assert not steps.is_current(str(second))
    assert not steps.is_current("nobody/train/1")
    assert steps.of_job("b")[0]["error"] == {"message": "no disk"}


def test_only_the_newest_publication_has_its_ingredients_and_old_ones_are_forgotten(steps: Steps) -> None:
    for n in range(KEPT + 3):
        steps.publish(steps.claim("retrain", "train", job="a", key=f"k{n}"), publication(n=n))
    rows = steps.published("retrain")
    assert [row["results"]["n"] for row in rows] == list(range(3, KEPT + 3))
    assert [row["ingredients"] for row in rows[-2:]] == [None, {"step": "retrain/train"}]


def test_an_approval_is_published_by_the_one_who_decides_and_once(steps: Steps) -> None:
    steps.claim("retrain", "ask", job="a", key="k", status="WAITING", record={"ingredients": {"kind": "approval"}})
    steps.decide("a", "ask", approved=True, by="ann")
    (row,) = steps.published("retrain")
    assert (row["results"], row["ingredients"]) == ({"approved": True, "by": "ann"}, {"kind": "approval"})
    with pytest.raises(ConflictError, match="FINISHED already"):
        steps.decide("a", "ask", approved=False, by="bob")


def test_a_rejection_publishes_nothing_and_a_question_asked_anew_is_answered_there(steps: Steps) -> None:
    steps.claim("retrain", "ask", job="a", key="k", status="WAITING")
    steps.claim("retrain", "ask", job="b", key="k", status="WAITING")
    with pytest.raises(ConflictError, match="job b has begun it anew"):
        steps.decide("a", "ask", approved=True, by="ann")
    steps.decide("b", "ask", approved=False, by="ann")
    assert steps.published("retrain") == []
    latest = steps.latest("retrain", "ask")
    assert latest is not None
    assert (latest["status"], latest["error"]) == ("REJECTED", {"approved": False, "by": "ann"})
    with pytest.raises(NotFoundError, match="has no step 'ask'"):
        steps.decide("c", "ask", approved=True, by="ann")
