"""A rollout under traffic that is made up: what is found, how soon, and how seldom wrongly."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from nbmlops.errors import UsageError
from nbmlops.serving.bins import latency_bin, number_bins
from nbmlops.serving.rollout import Plan, Rollout, aborted, advanced, assessed, weights
from nbmlops.serving.window import Window

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SLO = "err<1%,p99<50ms,shift<0.2"
LOOK_S = 0.5


class Traffic:
    """Counts that grow by what each version does with its share of the requests."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.counts = {"2": Window(), "3": Window()}

    def serve(self, label: str, n: int, err: float = 0.0, slow: float = 0.0, mean: float | None = 0.0) -> None:
        if not n:
            return
        n_slow = int(self.random.binomial(n, slow))
        fast, late = latency_bin(0.01), latency_bin(0.2)
        numbers: dict[int, int] = {}
        if mean is not None:
            bins, found = np.unique(number_bins(self.random.normal(mean, 1, n)), return_counts=True)
            numbers = dict(zip(bins.tolist(), found.tolist(), strict=True))
        n_errors = int(self.random.binomial(n, err))
        latencies = {place: count for place, count in ((fast, n - n_slow), (late, n_slow)) if count}
        served = Window(n_requests=n, n_rows=n, n_errors=n_errors, latencies=latencies, numbers=numbers)
        self.counts[label] = self.counts[label].plus(served)

    def split(self, n: int, percent: float) -> tuple[int, int]:
        ours = int(self.random.binomial(n, percent / 100))
        return ours, n - ours


def begun(plan: Plan, traffic: Traffic, slo: str = SLO, **how: Any) -> Rollout:
    return Rollout.begun(
        plan, endpoint="delays", challenger="3", champion="2", slo=slo, now=NOW, counts=traffic.counts, **how
    )


def looks(
    rollout: Rollout,
    traffic: Traffic,
    n_each: int,
    challenger: dict[str, Any],
    champion: dict[str, Any],
    most: int = 4000,
) -> Iterator[Rollout]:
    """Let traffic come in, and look after each half a second."""
    now = NOW
    for _ in range(most):
        now += timedelta(seconds=LOOK_S)
        ours, theirs = traffic.split(n_each, weights(rollout)["3"])
        traffic.serve("3", ours, **challenger)
        traffic.serve("2", theirs, **champion)
        rollout = advanced(rollout, assessed(rollout, traffic.counts, now), now, traffic.counts)
        yield rollout
        if rollout.state != "running":
            return


def ended(*given: Any, **how: Any) -> Rollout:
    *_, last = looks(*given, **how)
    return last


GOOD = {"err": 0.002, "slow": 0.003}


def test_a_canary_that_is_as_good_goes_to_all_traffic() -> None:
    traffic = Traffic(0)
    seen = [
        (rollout.state, weights(rollout)["3"])
        for rollout in looks(begun(Plan.canary(bake_s=15), traffic), traffic, 40, GOOD, GOOD)
    ]
    assert sorted(set(seen), key=seen.index) == [("running", 10), ("running", 50), ("running", 100), ("done", 100)]
    assert len(seen) >= 3 * 15 / LOOK_S


@pytest.mark.parametrize(
    ("plan", "history", "most"),
    [
        (Plan.canary(), 0, 10),
        (Plan.canary((50, 100)), 0, 20),
        (Plan.canary((90, 100)), 0, 50),
        (Plan.canary((99, 100)), 0, 50),
        (Plan.blue_green(), 1000, 10),
        (Plan.blue_green(), 0, 10),
    ],
)
def test_a_challenger_that_only_fails_is_rolled_back_after_few_bad_answers(plan: Plan, history: int, most: int) -> None:
    for seed in range(15):
        traffic = Traffic(seed)
        traffic.serve("2", history, **GOOD)
        rollout = ended(begun(plan, traffic), traffic, 1, {"err": 1.0}, GOOD)
        assert rollout.state == "rolled_back"
        assert rollout.reason.startswith("err is 100% of ")
        assert traffic.counts["3"].n_errors <= most
        assert weights(rollout) == {"2": 100, "3": 0}


@pytest.mark.parametrize(
    ("kind", "told"), [({"slow": 0.5}, "p99 is 197.6ms of "), ({"mean": 3.0}, "shift is "), ({"err": 0.5}, "err is ")]
)
def test_every_limit_rolls_back_and_says_why(kind: dict[str, Any], told: str) -> None:
    traffic = Traffic(1)
    rollout = ended(begun(Plan.canary(bake_s=60), traffic), traffic, 20, GOOD | kind, GOOD)
    assert rollout.state == "rolled_back"
    assert rollout.reason.startswith(told)
    assert "above its limit of" in rollout.reason


def test_a_challenger_is_rolled_back_from_the_last_step_too() -> None:
    traffic = Traffic(2)
    rollout = begun(Plan.canary(bake_s=10), traffic)
    for later in looks(rollout, traffic, 60, GOOD, GOOD):
        rollout = later
        if weights(rollout)["3"] == 100:
            break
    traffic.serve("3", 8, err=1.0)
    now = rollout.step_began_at + timedelta(seconds=5)
    verdict = assessed(rollout, traffic.counts, now)
    rollout = advanced(rollout, verdict, now, traffic.counts)
    assert (rollout.state, weights(rollout)) == ("rolled_back", {"2": 100, "3": 0})


@pytest.mark.parametrize("percent", [10, 50, 90])
def test_a_challenger_that_turns_bad_late_is_found_as_soon(percent: int) -> None:
    traffic, now = Traffic(3), NOW
    traffic.serve("2", 1000, **GOOD)
    rollout = begun(Plan.canary((percent, 100), bake_s=3000), traffic)
    for _ in range(400):
        now += timedelta(seconds=5)
        ours, theirs = traffic.split(100, percent)
        traffic.serve("3", ours, **GOOD)
        traffic.serve("2", theirs, **GOOD)
        rollout = advanced(rollout, assessed(rollout, traffic.counts, now), now, traffic.counts)
    before = traffic.counts["3"].n_errors
    for later in looks(replace(rollout, step_began_at=NOW, marked_at=NOW), traffic, 1, {"err": 1.0}, GOOD):
        rollout = later
    assert rollout.state == "rolled_back"
    assert rollout.reason.startswith("in the last ")
    assert traffic.counts["3"].n_errors - before <= 50


def test_a_machine_that_fails_for_both_is_no_fault_of_the_challenger() -> None:
    traffic = Traffic(4)
    rollout = ended(
        begun(Plan.canary(bake_s=15), traffic), traffic, 40, {"err": 0.3, "slow": 0.5}, {"err": 0.3, "slow": 0.5}, 200
    )
    assert rollout.state == "running"
    verdict = assessed(rollout, traffic.counts, NOW + timedelta(seconds=200))
    assert verdict.outcome == "wait"
    assert {check.status for check in verdict.checks if check.name != "shift"} == {"warn"}
    assert "not certainly worse than the champion" in verdict.reasons[0]


def test_too_little_traffic_waits_and_says_how_much_is_missing() -> None:
    traffic = Traffic(5)
    rollout = begun(Plan.blue_green(bake_s=10), traffic, "err<1%")
    traffic.serve("3", 49)
    early = assessed(rollout, traffic.counts, NOW + timedelta(seconds=2.5))
    assert early.reasons == ("1 more request is needed (49 of 50)", "it bakes for 8 s more")
    late = NOW + timedelta(days=3)
    assert assessed(rollout, traffic.counts, late).outcome == "wait"
    traffic.serve("3", 1)
    verdict = assessed(rollout, traffic.counts, late)
    assert verdict.outcome == "pass"
    assert advanced(rollout, verdict, late, traffic.counts).state == "done"


def test_nothing_counted_at_all_waits() -> None:
    verdict = assessed(begun(Plan.canary(), Traffic(0)), {}, NOW)
    assert verdict.outcome == "wait"
    assert verdict.reasons[0] == "50 more requests are needed (0 of 50)"


def test_five_bad_answers_are_the_least_that_roll_back() -> None:
    traffic = Traffic(0)
    rollout = begun(Plan.blue_green(), traffic, "err<1%")
    outcomes = []
    for _ in range(5):
        traffic.serve("3", 1, err=1.0)
        outcomes.append(assessed(rollout, traffic.counts, NOW).outcome)
    assert outcomes == ["wait"] * 4 + ["breach"]


def test_the_checks_have_figures_bounds_and_the_champions() -> None:
    traffic = Traffic(6)
    traffic.serve("2", 1000, err=0.01, slow=0.02)
    rollout = begun(Plan.canary((50, 100)), traffic)
    traffic.serve("3", 400, err=0.2, slow=0.3)
    traffic.serve("2", 400, err=0.0, slow=0.0)
    verdict = assessed(rollout, traffic.counts, NOW)
    checks = {check.name: check for check in verdict.checks}
    assert [check.status for check in verdict.checks] == ["fail", "fail", "pass"]
    err, p99, shift = checks["err"], checks["p99"], checks["shift"]
    assert err.lower < err.value < err.upper
    assert (err.limit, err.champion, err.n) == (0.01, 0.0, 400)
    assert err.lower > err.limit
    assert (p99.value, p99.champion) == (pytest.approx(0.2, rel=0.02), pytest.approx(0.01, rel=0.02))
    assert 0.05 < p99.lower <= p99.value <= p99.upper
    assert 0 <= shift.lower <= shift.value < shift.limit < shift.upper + 1


def test_a_breach_of_latency_is_a_lower_bound_above_the_limit() -> None:
    traffic = Traffic(7)
    rollout = begun(Plan.blue_green(), traffic, "p90<50ms")
    for _ in range(60):
        traffic.serve("3", 5, slow=0.2)
        verdict = assessed(rollout, traffic.counts, NOW)
        assert (verdict.outcome == "breach") == (verdict.checks[0].lower > 0.05)
    assert verdict.outcome == "breach"


def test_a_shadow_gets_no_traffic_and_is_judged_by_its_differences() -> None:
    traffic = Traffic(8)
    rollout = begun(Plan.shadow(bake_s=10), traffic, "err<1%,diff<5%", min_requests=20)
    assert weights(rollout) == {"2": 100, "3": 0}
    traffic.serve("3", 100)
    alike = traffic.counts["3"].plus(Window(n_compared=100, n_differing=2))
    later = NOW + timedelta(seconds=11)
    passed = assessed(rollout, traffic.counts | {"3": alike}, later)
    assert passed.outcome == "pass"
    done = advanced(rollout, passed, later, traffic.counts)
    assert (done.state, weights(done)["3"], weights(replace(done, promote=True))["3"]) == ("done", 0, 100)
    unlike = traffic.counts["3"].plus(Window(n_compared=100, n_differing=40))
    verdict = assessed(rollout, traffic.counts | {"3": unlike}, later)
    assert verdict.outcome == "breach"
    assert verdict.reasons[0].startswith("diff is 40% of 100 answers")


def test_differences_without_a_limit_are_told_and_not_judged() -> None:
    traffic = Traffic(8)
    rollout = begun(Plan.shadow(bake_s=0), traffic, "")
    counts = {"3": Window(n_requests=100, n_compared=100, n_differing=100)}
    verdict = assessed(rollout, counts, NOW)
    assert (verdict.outcome, verdict.checks[0].name, verdict.checks[0].status) == ("pass", "diff", "skip")


def test_a_rollout_survives_the_ledger() -> None:
    traffic = Traffic(9)
    traffic.serve("2", 500, **GOOD)
    *_, rollout = looks(begun(Plan.canary(bake_s=30), traffic), traffic, 40, GOOD, GOOD, most=90)
    again = Rollout.of(json.loads(json.dumps(rollout.record())))
    assert again == rollout
    assert assessed(again, traffic.counts, NOW) == assessed(rollout, traffic.counts, NOW)


def test_counts_from_before_the_rollout_are_not_the_challengers() -> None:
    traffic = Traffic(10)
    traffic.serve("3", 500, err=1.0)  # it was rolled back once, and is tried again
    rollout = begun(Plan.canary(bake_s=0), traffic)
    traffic.serve("3", 100)
    traffic.serve("2", 900)
    assert assessed(rollout, traffic.counts, NOW).outcome == "pass"


def test_what_has_ended_stays_as_it_is() -> None:
    traffic = Traffic(0)
    rollout = begun(Plan.canary(), traffic)
    gone = aborted(rollout, "rolled back by hand")
    assert (gone.state, gone.reason, weights(gone)) == ("aborted", "rolled back by hand", {"2": 100, "3": 0})
    verdict = assessed(rollout, traffic.counts, NOW)
    assert advanced(gone, verdict, NOW, traffic.counts) is gone
    assert aborted(gone, "again") is gone


def test_a_look_that_changes_nothing_gives_the_same_object() -> None:
    traffic = Traffic(0)
    rollout = begun(Plan.canary(), traffic)
    later = NOW + timedelta(seconds=60)
    assert advanced(rollout, assessed(rollout, traffic.counts, later), later, traffic.counts) is rollout


@pytest.mark.parametrize("steps", [(), (10, 50), (50, 10, 100), (0, 100), (10, 10, 100), (50, 101), (-5, 100)])
def test_steps_that_do_not_rise_to_all_are_refused(steps: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="must rise and end at 100"):
        Plan.canary(steps)


@pytest.mark.parametrize("step", [0, -1, 101, float("nan")])
def test_a_linear_step_is_a_percent(step: float) -> None:
    with pytest.raises(UsageError, match="1 to 100 percent"):
        Plan.linear(step)


def test_linear_steps_end_at_all() -> None:
    assert Plan.linear(10).steps == (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert Plan.linear(100).steps == (100,)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a shadow"):
        begun(Plan.canary(), Traffic(0), "diff<1%")
    with pytest.raises(UsageError, match="live already"):
        Rollout.begun(Plan.canary(), endpoint="d", challenger="2", champion="2", slo="", now=NOW, counts={})
    with pytest.raises(UsageError, match="is no limit"):
        begun(Plan.canary(), Traffic(0), "fast")
    with pytest.raises(UsageError, match="bake"):
        Plan.shadow(bake_s=-1)


def states(n: int, kind: dict[str, Any], plan: Plan, most: int) -> list[str]:
    found = []
    for seed in range(n):
        traffic = Traffic(seed)
        traffic.serve("2", 1000, **kind)
        found.append(ended(begun(plan, traffic), traffic, 20, kind, kind, most).state)
    return found


@pytest.mark.parametrize("kind", [GOOD, {"err": 0.009, "slow": 0.009}, {"err": 0.03, "slow": 0.03}])
def test_a_challenger_equal_to_its_champion_is_not_rolled_back(kind: dict[str, Any]) -> None:
    assert "rolled_back" not in states(8, kind, Plan.canary(bake_s=15), 200)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", [GOOD, {"err": 0.009, "slow": 0.009}, {"err": 0.03, "slow": 0.03}])
def test_of_two_thousand_equal_challengers_at_most_twenty_are_rolled_back(kind: dict[str, Any]) -> None:
    found = states(2000, kind, Plan.canary(bake_s=8), 100)
    assert found.count("rolled_back") <= 20


@pytest.mark.parametrize(("err", "within"), [(0.03, 1000), (0.05, 500), (0.1, 250)])
def test_a_challenger_above_its_limit_is_found_within_some_hundred_requests(err: float, within: int) -> None:
    needed = []
    for seed in range(15):
        traffic = Traffic(seed)
        rollout = begun(Plan.canary((50, 100), bake_s=1e6), traffic, "err<1%,p99<50ms")
        ended(rollout, traffic, 20, {"err": err, "mean": None}, GOOD | {"mean": None})
        needed.append(traffic.counts["3"].n_requests)
    assert np.median(needed) <= within
