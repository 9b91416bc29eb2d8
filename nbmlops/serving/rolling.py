"""A rollout taken on: what the servers counted is judged, and what comes of it is wanted."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from nbmlops import background
from nbmlops.errors import ConflictError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import CHALLENGER, CHAMPION, SHADOW, Endpoints, Variant, Wanted, alone
from nbmlops.ledger.events import Draft
from nbmlops.project import Project
from nbmlops.scrub import scrub
from nbmlops.serving.rollout import Plan, Rollout, advanced, assessed
from nbmlops.serving.target import target_of
from nbmlops.serving.window import Window
from nbmlops.strict_json import plain

COUNTED = ("baseline", "mark")  # what of a rollout's record is counts: long, and of no use in an event
RUNNING, DONE, ROLLED_BACK = "running", "done", "rolled_back"
PROMOTE_LOG = "promote.log"


def begun(
    wanted: Wanted, challenger: Variant, plan: Plan, *, slo: str, promote: bool, counts: Mapping[str, Window]
) -> Wanted:
    """Have a version tried beside an endpoint's champion."""
    rollout = Rollout.begun(
        plan,
        endpoint=wanted.name,
        challenger=challenger.label,
        champion=wanted.champion.label,
        slo=slo,
        now=datetime.now(UTC),
        counts=counts,
        promote=promote,
    )
    tried = replace(challenger, role=CHALLENGER)
    return _weighted(replace(wanted, variants=(wanted.champion, tried)), rollout)


def rolled(project: Project, wanted: Wanted) -> Wanted | None:
    """Take an endpoint's rollout on; gives what is wanted from now on, None where nothing has changed.

    A version that broke its limits is taken back, whatever its step was; one that passed the last step
    answers alone. Either is an event.
    """
    rollout = Rollout.of(wanted.rollout)
    counts, now = target_of(wanted).counted(project, wanted), datetime.now(UTC)
    verdict = assessed(rollout, counts, now)
    after = advanced(rollout, verdict, now, counts)
    if after is rollout:
        return None
    if after.state == RUNNING:
        changed = _weighted(wanted, after)
    elif after.state == DONE and (after.weight or after.promote):
        live = replace(_challenger(wanted), weight=100.0, role=CHAMPION)
        changed = replace(wanted, variants=(live,), rollout=after.record())
    else:  # taken back, or a shadow that was only to be looked at
        changed = alone(wanted, after.record())
    kept = project.open(Endpoints).want(changed)
    if (after.step, after.state) != (rollout.step, rollout.state):
        _tell(project, wanted.name, after, verdict)
    if after.state == DONE and after.promote:
        promoted(project, after, wanted)
    return kept


def _weighted(wanted: Wanted, rollout: Rollout) -> Wanted:
    """Set the weights that belong to a rollout's step."""
    weight = rollout.weight
    role = SHADOW if rollout.strategy == "shadow" else CHALLENGER
    champion = replace(wanted.champion, weight=100.0 - weight)
    challenger = replace(_challenger(wanted), weight=weight, role=role)
    return replace(wanted, variants=(champion, challenger), rollout=rollout.record())


def _challenger(wanted: Wanted) -> Variant:
    challenger = wanted.challenger
    if challenger is None:
        raise ConflictError(f"The endpoint {wanted.name} has no version that is tried.", "See what it has: `endpoints`")
    return challenger


def _tell(project: Project, name: str, rollout: Rollout, verdict: Any) -> None:
    """Leave an event: every step of a rollout is one, and its end with the reason."""
    record = {name: value for name, value in rollout.record().items() if name not in COUNTED}
    result = {"rollout": record, "verdict": plain(verdict)}
    outcome = "DeployError" if rollout.state == ROLLED_BACK else "ok"
    draft = Draft(
        verb="rollout",
        subject=f"endpoint/{name}",
        surface=project.surface,
        by_human=False,
        outcome=outcome,
        result=scrub(plain(result)),
    )
    project.open(Ledger).append(draft)


def promoted(project: Project, rollout: Rollout, wanted: Wanted) -> None:
    """Point the alias that the endpoint follows at the version that passed, by the very command a person would type."""
    alias = wanted.follows.partition("@")[2]
    reason = f"rollout on {rollout.endpoint}: {rollout.reason}"
    words = ["--project", str(project.root), "promote", rollout.challenger, "--to", alias, "--reason", reason]
    background.spawn(project, "nbmlops.surfaces.cli", words, PROMOTE_LOG)
