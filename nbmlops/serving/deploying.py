"""How a version comes to an endpoint: found, proven, wanted, made so; what fails leaves all as it was."""

import contextlib
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbmlops import background
from nbmlops.errors import ConflictError, DeployError, NbmlopsError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted
from nbmlops.ledger.events import Draft
from nbmlops.project import Project
from nbmlops.registry.reading import remembered
from nbmlops.registry.versions import CHALLENGER, CHAMPION, ModelVersion, parse_reference
from nbmlops.scrub import scrub, scrub_text
from nbmlops.serving import keeping, processes, rolling
from nbmlops.serving.endpoints import Deployment, check_endpoint_name
from nbmlops.serving.policy import Terms, Trial, check_columns
from nbmlops.serving.rollout import Rollout
from nbmlops.serving.target import Place, target_of
from nbmlops.tracking.journal import crash_point

LOOK_S = 0.25
PROMOTE_S = 120.0
LONGEST_TROUBLE = 500


# ----------------------------------------------------------------------- the deploy
def deployed(
    project: Project, model: str, name: str, terms: Terms, trial: Trial, place: Place, *, dry_run: bool
) -> Deployment:
    """Have a model version answer on an endpoint, or begin to try it there.

    Raises
    ------
    DeployError
        It failed its preflight, or a server does not start; all is as it was.
    """
    version = remembered(project, model)
    check_endpoint_name(name)
    if dry_run:
        known = ours(project.open(Endpoints).wanted().get(name))
        trial = _fitting(trial, known, version)
        wanted = terms.applied(_with(known, name, version, model, place, is_tried=bool(known and trial.plan)))
        if not (known and _begun_before(known, terms.applied(place.taken(known)), version, trial)):
            _check(project, wanted, known, version, trial)
        replaced, words = (known.champion.label, trial.words) if known else ("", "")
        return Deployment(name, "", version.name, version.version, "", replaced, words, dry_run=True)
    with processes.only_one(keeping.lock(project, name)):
        made = _put(project, model, version, name, terms, trial, place)
    call_agent(project)
    return made


def _put(
    project: Project, model: str, version: ModelVersion, name: str, terms: Terms, trial: Trial, place: Place
) -> Deployment:
    """Prove a version and have it served; whoever calls holds the endpoint's lock."""
    started = time.monotonic()
    old = ours(project.open(Endpoints).wanted().get(name))
    trial = _fitting(trial, old, version)
    if old and (rollout := _begun_before(old, terms.applied(place.taken(old)), version, trial)):
        return _joined(project, old, version, rollout, trial)
    is_tried = bool(old and trial.plan)
    wanted = terms.applied(_with(old, name, version, model, place, is_tried=is_tried))
    _check(project, wanted, old, version, trial)
    report = target_of(wanted).prepared(project, wanted, variant_of(version))
    crash_point("endpoint-prepared")
    if is_tried and trial.plan:
        counts = target_of(wanted).counted(project, wanted)
        wanted = rolling.begun(
            wanted, variant_of(version), trial.plan, slo=trial.slo, promote=trial.promote, counts=counts
        )
    found = _made_so(project, wanted, old)
    replaced, state = old.champion.label if old else "", rolling.RUNNING if is_tried else ""
    made = _deployment(wanted, found, version, replaced, trial, state)
    return replace(made, preflight=report.checks, seconds=round(time.monotonic() - started, 3))


def _begun_before(old: Wanted, wanted: Wanted, version: ModelVersion, trial: Trial) -> Rollout | None:
    """Find the very rollout that is asked for, where it goes on or has made the version live: who asks again, joins."""
    rollout = Rollout.of(old.rollout) if old.rollout and wanted == old else None
    if rollout is None or rollout.asked != (version.label, trial.plan, trial.slo, trial.promote):
        return None
    is_live = rollout.state == rolling.DONE and old.champion.label == version.label
    return rollout if is_live or rollout.state == rolling.RUNNING else None


def _joined(project: Project, wanted: Wanted, version: ModelVersion, rollout: Rollout, trial: Trial) -> Deployment:
    """Go on with a rollout that was begun before; what has died of it meanwhile is started again."""
    found = target_of(wanted).made_so(project, wanted)
    project.open(Endpoints).tell(wanted.name, found.record())
    if rollout.state == rolling.DONE and trial.promote and not _has_moved(project, wanted):
        rolling.promoted(project, rollout, wanted)
    return _deployment(wanted, found, version, rollout.champion, trial, rollout.state)


def _deployment(
    wanted: Wanted, found: keeping.Found, version: ModelVersion, replaced: str, trial: Trial, state: str
) -> Deployment:
    return Deployment(
        endpoint=wanted.name,
        url=url_of(wanted, found.record()),
        model=version.name,
        version=version.version,
        form=next((each.partition(" ")[2] for each in found.forms if each.startswith(f"{version.label} ")), ""),
        replaced=replaced,
        rollout=trial.words if state else "",
        state=state,
    )


def variant_of(version: ModelVersion) -> Variant:
    """Give a registered version as one that answers alone."""
    return Variant(version.name, version.version, version.digest)


def url_of(wanted: Wanted, found: Mapping[str, Any]) -> str:
    """Word where an endpoint listens, by what was found of it."""
    if url := found.get("url"):
        return str(url)
    port = found.get("port", 0)
    host = f"[{wanted.address}]" if ":" in wanted.address else wanted.address
    return f"{'https' if wanted.certificate else 'http'}://{host}:{port}" if port else ""


def _with(old: Wanted | None, name: str, version: ModelVersion, model: str, place: Place, *, is_tried: bool) -> Wanted:
    """Give an endpoint with a version in it; one that is tried goes on to follow what it followed."""
    wanted = parse_reference(model)
    follows = f"{wanted.name}@{wanted.alias}" if wanted.alias else ""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if old is None:
        return place.taken(Wanted(name, place.host, (variant_of(version),), follows, since=now))
    old = place.taken(old)
    if is_tried:
        return replace(old, since=now)
    return replace(old, variants=(variant_of(version),), follows=follows, rollout={}, since=now)


def _fitting(trial: Trial, old: Wanted | None, version: ModelVersion) -> Trial:
    """Leave a declared rollout out where there is no other version of the model to try it against."""
    is_fitting = old and old.champion.label != version.label and old.champion.model == version.name
    return trial if is_fitting or not trial.is_declared else Trial()


def _check(project: Project, wanted: Wanted, old: Wanted | None, version: ModelVersion, trial: Trial) -> None:
    """Refuse, before anything is done, what cannot end well."""
    if old and old.rollout.get("state") == rolling.RUNNING:
        raise ConflictError(
            f"A rollout of {old.challenger.label if old.challenger else old.name} goes on at {old.name}.",
            f"Wait for its end (`endpoints`), or end it: `{_end_of(old)}`",
        )
    if old and trial.plan and old.champion.label == version.label:
        raise ConflictError(f"{version.label} answers at {old.name} already.", "Name another version.")
    if old and trial.plan and old.champion.model != version.name:
        raise UsageError(
            f"{old.name} serves {old.champion.model}, and only its versions can be tried there.",
            f"Deploy {version.name} under a name of its own: --as NAME",
        )
    form = project.open(Endpoints).form(version.digest) or {}
    check_columns(wanted.capture, form.get("inputs", ""), version.label)
    if trial.promote:
        _check_evidence(project, version, wanted)
    if wanted.port and (old is None or old.port != wanted.port):
        _check_port(project, wanted)


def _end_of(wanted: Wanted) -> str:
    """Word the command that ends an endpoint's rollout."""
    return f"rollback {wanted.follows}" if wanted.follows else f"traffic {wanted.name} {wanted.champion.version}=100"


def _check_evidence(project: Project, version: ModelVersion, wanted: Wanted) -> None:
    """Refuse a rollout that is to move an alias when no gate would let it."""
    from nbmlops.registry.verbs import promote

    alias = wanted.follows.partition("@")[2]
    if alias in ("", CHALLENGER):
        raise UsageError(
            f"{wanted.name} follows no alias that could be promoted.", f"Deploy it as {version.name}@{CHAMPION} first."
        )
    promote(project, version.label, to=alias, dry_run=True)


def _check_port(project: Project, wanted: Wanted) -> None:
    found = project.open(Endpoints).found().get(wanted.name, {})
    if found.get("port") == wanted.port:
        return
    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    with socket.socket(family) as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((wanted.address, wanted.port))
        except OSError as exc:
            raise DeployError(f"Port {wanted.port} cannot be had: {exc.strerror}.", "Give another one.") from exc


def _made_so(project: Project, wanted: Wanted, old: Wanted | None) -> keeping.Found:
    """Want it and make it so; where that fails, want again what was."""
    endpoints = project.open(Endpoints)
    kept = endpoints.want(wanted)
    try:
        crash_point("endpoint-wanted")
        found = target_of(kept).made_so(project, kept)
        crash_point("endpoint-made")
    except BaseException:
        with contextlib.suppress(NbmlopsError):
            if old is None:
                endpoints.forget(kept.name)
                target_of(kept).ended(project, kept)
            else:
                target_of(kept).made_so(project, endpoints.want(replace(old, revision=kept.revision)))
        raise
    endpoints.tell(kept.name, found.record())
    return found


def ours(wanted: Wanted | None) -> Wanted | None:
    """Give an endpoint back when this machine may act on it.

    Raises
    ------
    ConflictError
        Another machine serves it.
    """
    if wanted is not None and not keeping.is_ours(wanted):
        raise ConflictError(
            f"{wanted.host} serves the endpoint {wanted.name}; only that machine can change it.",
            f"Run this on {wanted.host}, or choose another name: --as NAME",
        )
    return wanted


def call_agent(project: Project) -> None:
    """Have an agent look after what is served, unless none is wanted here."""
    if background.is_wanted():
        background.start(project)


def tell_if_left_alone(project: Project) -> None:
    """Say so where a rollout has begun and no agent will take it on."""
    if not background.is_wanted() and not background.living(project.root):
        project.notify("No agent is left behind here: nobody goes on with the rollout until `agent --foreground` does.")


# ------------------------------------------------------------------------ waiting
def awaited(project: Project, name: str) -> Wanted:
    """Wait for the end of an endpoint's rollout; without an agent, take it on from here.

    Raises
    ------
    DeployError
        It was rolled back; the message says why.
    """
    for wanted in _states(project, name):
        rollout = wanted.rollout
        project.notify(_progress(wanted))
        if rollout.get("state") == rolling.DONE:
            if rollout.get("promote"):
                _await_alias(project, wanted)
            return wanted
        if rollout.get("state") != rolling.RUNNING:
            raise DeployError(
                f"The rollout at {name} was {str(rollout.get('state')).replace('_', ' ')}: {rollout.get('reason')}",
                f"See what was measured: `show {name}`",
            )
    raise ConflictError(f"The endpoint {name} is gone.", "See what there is: `endpoints`")


def _states(project: Project, name: str) -> Iterator[Wanted]:
    """Give an endpoint each time that it has changed, as long as it is there."""
    before = -1
    while wanted := project.open(Endpoints).wanted().get(name):
        if wanted.revision != before:
            before = wanted.revision
            yield wanted
        if not background.living(project.root):
            keep(project, wanted)
        time.sleep(LOOK_S)


def _await_alias(project: Project, wanted: Wanted) -> None:
    """Wait until the alias that an endpoint follows points at its version."""
    deadline = time.monotonic() + PROMOTE_S
    while not _has_moved(project, wanted):
        if time.monotonic() > deadline:
            log = project.state(rolling.PROMOTE_LOG)
            raise DeployError(
                f"{wanted.champion.label} passed, and {wanted.follows} did not move to it.", f"Read {log}"
            )
        time.sleep(LOOK_S)


def _has_moved(project: Project, wanted: Wanted) -> bool:
    return remembered(project, wanted.follows).version == wanted.champion.version


def _progress(wanted: Wanted) -> str:
    challenger = wanted.challenger
    if challenger is None:
        return f"{wanted.champion.label} answers at {wanted.name}"
    return f"{challenger.label} has {challenger.weight:g}% at {wanted.name}"


def tell_trouble(project: Project, name: str, error: NbmlopsError) -> None:
    """Keep what stands against an endpoint beside what is of it; what was live goes on."""
    endpoints, trouble = project.open(Endpoints), scrub_text(error.message)[:LONGEST_TROUBLE]
    found = endpoints.found().get(name, {})
    if found.get("trouble") == trouble:
        return
    endpoints.tell(name, {**found, "trouble": trouble})
    about, outcome = f"endpoint/{name}", type(error).__name__
    draft = Draft("deploy", about, project.surface, by_human=False, outcome=outcome, result=scrub(error.details()))
    project.open(Ledger).append(draft)


def keep(project: Project, wanted: Wanted, *, waits: bool = False) -> None:
    """See to one endpoint: take its rollout on, and make it so where it is not; whoever else does so goes first."""
    with processes.only_one(keeping.lock(project, wanted.name), waits=waits) as is_mine:
        if not is_mine:
            return
        endpoints = project.open(Endpoints)
        now = endpoints.wanted().get(wanted.name)
        if now is None:
            return
        target = target_of(now)
        if now.rollout.get("state") == rolling.RUNNING and target.is_level(project, now):
            now = _taken_on(project, now)
        is_told = endpoints.found().get(now.name, {}).get("revision") == now.revision
        if not is_told or not target.is_level(project, now):
            endpoints.tell(now.name, target.made_so(project, now).record())


def _taken_on(project: Project, wanted: Wanted) -> Wanted:
    """Take a rollout on; another machine that may do so too, and was quicker, is no trouble."""
    try:
        return rolling.rolled(project, wanted) or wanted
    except ConflictError:
        if wanted.host:
            raise
        return project.open(Endpoints).wanted().get(wanted.name, wanted)


def main(root: Path) -> None:
    """See to every endpoint of this machine once: what a promotion or a rollback has changed, where no agent runs."""
    project = Project(root)
    for wanted in list(keeping.of_this_machine(project)):
        try:
            keep(project, wanted, waits=True)
        except NbmlopsError as exc:
            tell_trouble(project, wanted.name, exc)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
