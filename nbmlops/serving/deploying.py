"""How a version comes to an endpoint: found, proven, wanted, made so; what fails leaves all as it was."""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from nbmlops import background
from nbmlops.duration import duration_s
from nbmlops.errors import ConflictError, DeployError, NbmlopsError, UsageError
from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted
from nbmlops.project import Project
from nbmlops.registry.reading import remembered
from nbmlops.registry.versions import CHALLENGER, CHAMPION, ModelVersion, parse_reference
from nbmlops.serving import keeping, processes, rolling
from nbmlops.serving.endpoints import Deployment, check_endpoint_name
from nbmlops.serving.rollout import Plan
from nbmlops.serving.slo import Slo

LOCAL = ("127.0.0.1", "localhost", "::1")
LOOK_S = 0.25


@dataclass(frozen=True)
class Terms:
    """How an endpoint is to be, as far as it was said; None leaves what is."""

    port: int | None = None
    workers: int | None = None
    address: str | None = None
    token: str | None = None
    certificate: str | None = None
    key: str | None = None
    capture: bool | None = None

    def applied(self, wanted: Wanted) -> Wanted:
        """Give an endpoint as it is to be.

        Raises
        ------
        UsageError
            It would be open to others without a token, or a value cannot be.
        """
        said = {name: value for name, value in vars(self).items() if value is not None and name != "capture"}
        capture = {} if self.capture is False else ({"rate": 1.0} if self.capture else wanted.capture)
        after = replace(wanted, **said, capture=capture)
        if not 0 <= after.port < 65536:
            raise UsageError(f"There is no port {after.port}.", "Give one from 1024 to 65535.")
        if not 1 <= after.workers <= 64:
            raise UsageError(f"{after.workers} workers cannot be.", "Give a number from 1 to 64.")
        if after.address not in LOCAL and not after.token:
            raise UsageError(
                f"At {after.address} others could reach the endpoint, and it asks for no token.",
                "Give one: --token env:NAME; or leave out --address.",
            )
        if bool(after.certificate) != bool(after.key):
            raise UsageError("TLS needs a certificate and its key.", "--certificate FILE --key FILE")
        return after


@dataclass(frozen=True)
class Trial:
    """How a new version is tried before it is live; no `plan` means at once."""

    plan: Plan | None = None
    slo: str = ""
    promote: bool = False

    @property
    def words(self) -> str:
        """The trial in words."""
        if self.plan is None:
            return ""
        steps = ", ".join(f"{step:g}%" for step in self.plan.steps)
        limits = f", while {self.slo}" if self.slo else ""
        return f"{self.plan.strategy.replace('_', '/')} {steps}, {self.plan.bake_s:g} s each{limits}"


def trial(
    *, canary: str, linear: float | None, blue_green: bool, shadow: bool, bake: str, slo: str, promote: bool
) -> Trial:
    """Read how a version is to be tried.

    Raises
    ------
    UsageError
        Two ways were named, or a value cannot be read.
    """
    bake_s = duration_s(bake, "--bake")
    named = [
        *((Plan.canary(_steps(canary), bake_s),) if canary else ()),
        *((Plan.linear(linear, bake_s),) if linear is not None else ()),
        *((Plan.blue_green(bake_s),) if blue_green else ()),
        *((Plan.shadow(bake_s),) if shadow else ()),
    ]
    if len(named) > 1:
        raise UsageError("--canary, --linear, --blue-green and --shadow exclude each other.", "Give one of them.")
    if not named and (slo or promote):
        raise UsageError("--slo and --promote belong to a rollout.", "Add one: --canary 10,50,100")
    return Trial(named[0] if named else None, str(Slo.parse(slo)) if slo else "", promote)


def _steps(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} are no steps.", "Write percentages with commas: --canary 10,50,100") from None


# ----------------------------------------------------------------------- the deploy
def deployed(project: Project, model: str, name: str, terms: Terms, trial: Trial, *, dry_run: bool) -> Deployment:
    """Have a model version answer on an endpoint, or begin to try it there.

    Raises
    ------
    DeployError
        It failed its preflight, or a server does not start; all is as it was.
    """
    started = time.monotonic()
    version = remembered(project, model)
    known = project.open(Endpoints).wanted().get(check_endpoint_name(name))
    old = ours(known)
    wanted = terms.applied(_with(old, name, version, model, is_tried=bool(old and trial.plan)))
    replaced = old.champion.label if old else ""
    if dry_run:
        words = trial.words if old else ""
        return Deployment(name, "", version.name, version.version, "", replaced, words, dry_run=True)
    _check(project, wanted, old, version, trial)
    with processes.only_one(keeping.lock(project, name)):
        folder = keeping.folder_of(project, name)
        report = keeping.prepared(project, folder, variant_of(version), wanted.workers)
        if old and trial.plan:
            counts = rolling.counted(project, name)
            wanted = rolling.begun(
                wanted, variant_of(version), trial.plan, slo=trial.slo, promote=trial.promote, counts=counts
            )
        found = _made_so(project, wanted, old)
    call_agent(project)
    form = next((each.partition(" ")[2] for each in found.forms if each.startswith(f"{version.label} ")), "")
    return Deployment(
        endpoint=name,
        url=url_of(wanted, found.port),
        model=version.name,
        version=version.version,
        form=form,
        replaced=replaced,
        rollout=trial.words if old else "",
        state="running" if old and trial.plan else "",
        preflight=report.checks,
        seconds=round(time.monotonic() - started, 3),
    )


def variant_of(version: ModelVersion) -> Variant:
    """Give a registered version as one that answers alone."""
    return Variant(version.name, version.version, version.digest)


def url_of(wanted: Wanted, port: int) -> str:
    """Word where an endpoint listens."""
    host = f"[{wanted.address}]" if ":" in wanted.address else wanted.address
    return f"{'https' if wanted.certificate else 'http'}://{host}:{port}" if port else ""


def _with(old: Wanted | None, name: str, version: ModelVersion, model: str, *, is_tried: bool) -> Wanted:
    """Give an endpoint with a version in it; one that is tried goes on to follow what it followed."""
    wanted = parse_reference(model)
    follows = f"{wanted.name}@{wanted.alias}" if wanted.alias else ""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if old is None:
        return Wanted(name, socket.gethostname(), (variant_of(version),), follows, since=now)
    if is_tried:
        return replace(old, since=now)
    return replace(old, variants=(variant_of(version),), follows=follows, rollout={}, since=now)


def _check(project: Project, wanted: Wanted, old: Wanted | None, version: ModelVersion, trial: Trial) -> None:
    """Refuse, before anything is done, what cannot end well."""
    if old and old.rollout.get("state") == rolling.RUNNING:
        raise ConflictError(
            f"A rollout of {old.challenger.label if old.challenger else old.name} goes on at {old.name}.",
            f"Wait for its end (`endpoints`), or end it: `rollback {old.follows or old.champion.model}`",
        )
    if old and trial.plan and old.champion.label == version.label:
        raise ConflictError(f"{version.label} answers at {old.name} already.", "Name another version.")
    if old and trial.plan and old.champion.model != version.name:
        raise UsageError(
            f"{old.name} serves {old.champion.model}, and only its versions can be tried there.",
            f"Deploy {version.name} under a name of its own: --as NAME",
        )
    if trial.promote:
        _check_evidence(project, version, wanted)
    if wanted.port and (old is None or old.port != wanted.port):
        _check_port(project, wanted)


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
        found = keeping.made_so(project, kept)
    except BaseException:
        with contextlib.suppress(NbmlopsError):
            if old is None:
                endpoints.forget(kept.name)
                keeping.ended(project, kept.name)
            else:
                keeping.made_so(project, endpoints.want(replace(old, revision=kept.revision)))
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
    if wanted is not None and wanted.host != socket.gethostname():
        raise ConflictError(
            f"{wanted.host} serves the endpoint {wanted.name}; only that machine can change it.",
            f"Run this on {wanted.host}, or choose another name: --as NAME",
        )
    return wanted


def call_agent(project: Project) -> None:
    """Have an agent look after what is served, unless none is wanted here."""
    if background.is_wanted():
        background.start(project)


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


def _progress(wanted: Wanted) -> str:
    challenger = wanted.challenger
    if challenger is None:
        return f"{wanted.champion.label} answers at {wanted.name}"
    return f"{challenger.label} has {challenger.weight:g}% at {wanted.name}"


def keep(project: Project, wanted: Wanted) -> None:
    """See to one endpoint: take its rollout on, and make it so where it is not; whoever else does so goes first."""
    with processes.only_one(keeping.lock(project, wanted.name), waits=False) as is_mine:
        if not is_mine:
            return
        endpoints = project.open(Endpoints)
        now = endpoints.wanted().get(wanted.name)
        if now is None:
            return
        if now.rollout.get("state") == rolling.RUNNING and keeping.is_level(project, now):
            now = rolling.rolled(project, now) or now
        if not keeping.is_level(project, now):
            endpoints.tell(now.name, keeping.made_so(project, now).record())
