"""How an endpoint is to be: as it was said, and where nothing was, as ``[endpoints.NAME]`` of nbmlops.toml has it."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from nbmlops import secrets
from nbmlops.duration import duration_s
from nbmlops.errors import NotFoundError, UsageError, nearest
from nbmlops.ledger.endpoints import Endpoints, Wanted
from nbmlops.project import Project, Settings
from nbmlops.registry.reading import remembered
from nbmlops.registry.versions import parse_reference
from nbmlops.serving.capture.settings import CaptureSettings
from nbmlops.serving.instructions import LOOPBACK
from nbmlops.serving.rollout import Plan
from nbmlops.serving.slo import Slo
from nbmlops.serving.target import LOCAL, RAY

if TYPE_CHECKING:
    from nbmlops.serving.capture.places import Place
    from nbmlops.serving.instructions import Bounds
    from nbmlops.serving.protocols.limits import Limits

BAKE = "5m"
KEEP_DAYS, MAX_BYTES = 30.0, 10 * 10**9  # of captures, unless something else is said
_AS_SAID = ("port", "workers", "address", "token", "certificate", "key")
_STRATEGIES = ("canary", "linear", "blue_green", "shadow")


@dataclass(frozen=True)
class Terms:
    """How an endpoint is to be, as far as it was said; None leaves what is, an empty `capture` captures nothing."""

    port: int | None = None
    workers: int | None = None
    address: str | None = None
    token: str | None = None
    certificate: str | None = None
    key: str | None = None
    capture: Mapping[str, Any] | None = None
    limits: Mapping[str, Any] | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What was said of it."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def over(self, declared: "Terms") -> "Terms":
        """Give these terms, and the declared ones where these say nothing."""
        return replace(declared, **self.said)

    def applied(self, wanted: Wanted) -> Wanted:
        """Give an endpoint as it is to be.

        Raises
        ------
        UsageError
            It would be open to others without a token, or a value cannot be.
        """
        after = replace(wanted, **self.said)
        if not 0 <= after.port < 65536:
            raise UsageError(f"There is no port {after.port}.", "Give one from 1024 to 65535.")
        if not 1 <= after.workers <= 64:
            raise UsageError(f"{after.workers} workers cannot be.", "Give a number from 1 to 64.")
        if after.address not in LOOPBACK and not after.token:
            raise UsageError(
                f"At {after.address} others could reach the endpoint, and it asks for no token.",
                "Give one: --token env:NAME; or leave out --address.",
            )
        if bool(after.certificate) != bool(after.key):
            raise UsageError("TLS needs a certificate and its key.", "--certificate FILE --key FILE")
        return after


@dataclass(frozen=True)
class Trial:
    """How a new version is tried before it is live; no `plan` means at once.

    One that `is_declared`, and was not typed, is left out where there is nothing to try a version against.
    """

    plan: Plan | None = None
    slo: str = ""
    promote: bool = False
    is_declared: bool = False

    @property
    def words(self) -> str:
        """The trial in words."""
        if self.plan is None:
            return ""
        steps = ", ".join(f"{step:g}%" for step in self.plan.steps)
        limits = f", while {self.slo}" if self.slo else ""
        return f"{self.plan.strategy.replace('_', '/')} {steps}, {self.plan.bake_s:g} s each{limits}"


@dataclass(frozen=True)
class Policy:
    """What nbmlops.toml declares of an endpoint; `rollout` is its table, `parameters` belong to the target `to`."""

    model: str = ""
    terms: Terms = Terms()
    rollout: Mapping[str, Any] = field(default_factory=dict)
    to: str = LOCAL
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def target(self, to: str | None, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Give the target and its parameters: what was typed wins, and another target has none of the declared ones.

        Examples
        --------
        >>> declared = Policy(to="ray", parameters={"replicas": 2, "cpus": 1})
        >>> declared.target(None, {"replicas": "3"}), declared.target("local", {})
        (('ray', {'replicas': '3', 'cpus': 1}), ('local', {}))
        """
        below = self.parameters if to in (None, self.to) else {}
        return to or self.to, {**below, **parameters}


def of(project: Project, name: str) -> Policy:
    """Read what nbmlops.toml declares of an endpoint; nothing where it does not name it.

    Raises
    ------
    UsageError
        A value cannot be; the message names file and line.
    """
    settings = project.settings
    table = settings.endpoints.get(name)
    if table is None:
        return Policy()

    with _at(settings, name, "model"):
        if model := table.get("model", ""):
            parse_reference(model)
    with _at(settings, name, "token"):
        _check_token(table.get("token", ""))
    with _at(settings, name, "capture"):
        capture = capture_of(table["capture"]) if "capture" in table else None
    with _at(settings, name, "limits"):
        limits = _limits(table["limits"]) if "limits" in table else None
    with _at(settings, name, "rollout"):
        trial(table.get("rollout", {}))
    with _at(settings, name, "to"):
        _check_target(table.get("to", LOCAL), table.get("parameters", {}))
    terms = Terms(**{key: table[key] for key in _AS_SAID if key in table}, capture=capture, limits=limits)
    with _at(settings, name):
        terms.applied(Wanted(name, "", ()))
    return Policy(model, terms, table.get("rollout", {}), table.get("to", LOCAL), table.get("parameters", {}))


def target_of(project: Project, model: str, name: str | None) -> tuple[str, str]:
    """Give the model and the endpoint that a deploy means: an endpoint's name alone means the model declared for it.

    Raises
    ------
    UsageError
        The reference cannot be read.
    """
    declared = project.settings.endpoints.get(model, {}).get("model", "") if project.exists and name is None else ""
    return (declared, model) if declared else (model, name or parse_reference(model).name)


@contextlib.contextmanager
def _at(settings: Settings, *place: str) -> Iterator[None]:
    """Name file and line in an error about a declared value."""
    try:
        yield
    except UsageError as exc:
        raise UsageError(f"{settings.where('endpoints', *place)}: {exc.message}", exc.hint) from None


def _check_target(to: str, parameters: Mapping[str, Any]) -> None:
    if to not in (LOCAL, RAY):
        hint = nearest(to, (LOCAL, RAY)) or f"Others are typed, since they have rules of their own: deploy --to {to}"
        raise UsageError(f"An endpoint is declared for {LOCAL} or {RAY}, not for {to!r}.", hint)
    if parameters and to == LOCAL:
        raise UsageError("parameters belong to a target.", f'to = "{RAY}"')


def _check_token(token: str) -> None:
    if token and not isinstance(secrets.read(token), secrets.Reference):
        raise UsageError("token must be a reference, since this file is for all to read.", 'token = "env:NAME"')


# ------------------------------------------------------------------------- rollout
def trial(declared: Mapping[str, Any], *, at_once: bool = False, **typed: Any) -> Trial:
    """Read how a version is to be tried: as it was typed, and where nothing was, as it is declared.

    Parameters
    ----------
    declared
        The table ``rollout`` of nbmlops.toml.
    at_once
        Leave out what is declared.
    typed
        ``canary``, ``linear``, ``blue_green``, ``shadow``, ``bake``, ``slo``, ``promote``; empty ones were not typed.
        A way of trying that was typed takes the place of the declared one.

    Raises
    ------
    UsageError
        Two ways were named, or a value cannot be read.

    Examples
    --------
    >>> declared = {"canary": [10, 50, 100], "slo": "err<1%"}
    >>> trial(declared).words, trial(declared, linear=50.0, bake="1m").words
    ('canary 10%, 50%, 100%, 300 s each, while err<1%', 'linear 50%, 100%, 60 s each, while err<1%')
    """
    said = {name: value for name, value in typed.items() if value is not None and value is not False and value != ""}
    way_is_typed = any(name in said for name in _STRATEGIES)
    below = {} if at_once else {k: v for k, v in declared.items() if not (way_is_typed and k in _STRATEGIES)}
    given = {**below, **said}
    bake_s = duration_s(given.get("bake", BAKE), "bake")
    plans = [
        *((Plan.canary(_steps(given["canary"]), bake_s),) if given.get("canary") else ()),
        *((Plan.linear(given["linear"], bake_s),) if given.get("linear") is not None else ()),
        *((Plan.blue_green(bake_s),) if given.get("blue_green") else ()),
        *((Plan.shadow(bake_s),) if given.get("shadow") else ()),
    ]
    slo, promote = given.get("slo", ""), bool(given.get("promote"))
    if len(plans) > 1:
        raise UsageError("Canary, linear, blue/green and shadow exclude each other.", "Give one of them.")
    if not plans and (slo or promote):
        raise UsageError("An slo and promote belong to a rollout.", "Add one: --canary 10,50,100")
    plan = plans[0] if plans else None
    return Trial(plan, str(Slo.parse(slo)) if slo else "", promote, is_declared=bool(plan) and not way_is_typed)


def _steps(given: Any) -> tuple[float, ...]:
    """Read the steps of a canary: a list, or text as it is typed."""
    if not isinstance(given, str):
        return tuple(float(step) for step in given)
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in given.split(","))
    except ValueError:
        raise UsageError(f"{given!r} are no steps.", "Write percentages with commas: --canary 10,50,100") from None


# ------------------------------------------------------------------------- capture
def capture_of(given: bool | Mapping[str, Any]) -> dict[str, Any]:
    """Read what is to be captured, with the limits that captures have unless others are given; empty for nothing.

    Examples
    --------
    >>> settings = CaptureSettings.of(capture_of({"rate": 0.1}))
    >>> settings.rate, settings.keep_days, settings.max_bytes, capture_of(False)
    (0.1, 30.0, 10000000000, {})
    """
    if given is False:
        return {}
    said = {} if given is True else dict(given)
    return CaptureSettings.of({"keep_days": KEEP_DAYS, "max_bytes": MAX_BYTES, **said}).as_json()


def captured(declared: Policy, typed: bool | None) -> dict[str, Any] | None:
    """Say what is to be captured when ``--capture`` was typed or not; None leaves what is."""
    if typed is None:
        return None
    return dict(declared.terms.capture or capture_of(True)) if typed else {}


def check_columns(capture: Mapping[str, Any], inputs: str, label: str) -> None:
    """Refuse to capture a model's requests where a column that must not be written is none of its columns.

    Parameters
    ----------
    capture
        As `capture_of` gives it.
    inputs
        The model's signature, as MLflow's JSON; empty where it has none.
    label
        Whose it is, for the message.

    Raises
    ------
    UsageError
        A column that is excluded or hashed is not in the signature; the hint names the nearest.
    """
    guarded = [*capture.get("exclude", ()), *capture.get("hash", ())]
    if not guarded:
        return
    if not inputs:
        raise UsageError(
            f"{label} has no signature, so nothing says whether {guarded[0]!r} is a column of its requests.",
            "Register it with --input-example, or capture nothing.",
        )
    names = [str(column.get("name") or place) for place, column in enumerate(json.loads(inputs))]
    if unknown := [name for name in guarded if name not in names]:
        raise UsageError(
            f"Capture is to leave out or hash {unknown[0]!r}, and {label} has no such column.",
            nearest(unknown[0], names),
        )


def check_capture(project: Project, name: str) -> None:
    """Refuse columns that an endpoint's captures are to leave out or hash, and that its model has not.

    The model is the one that is declared for it, else the one that it serves; nothing is refused as long as it is not
    registered.

    Raises
    ------
    UsageError
        As `check_columns` has it, with file and line.
    """
    declared = of(project, name)
    if not declared.terms.capture:
        return
    live = project.open(Endpoints).wanted().get(name)
    model = declared.model or (live.champion.label if live else "")
    try:
        version = remembered(project, model) if model else None
    except NotFoundError:
        version = None
    if version is None:
        return
    form = project.open(Endpoints).form(version.digest)
    with _at(project.settings, name, "capture"):
        check_columns(declared.terms.capture, form["inputs"] if form else "", version.label)


def place_of(project: Project, endpoint: str) -> "Place":
    """Say where an endpoint's captures are."""
    from nbmlops.serving.capture.places import Place

    return Place.of(project.root, endpoint, project.settings.capture.value)


def captures(project: Project) -> dict[str, CaptureSettings]:
    """Give how captures are kept, for every endpoint that has some on this machine, or takes them.

    Those of an endpoint that is no more, or captures no more, are kept as nbmlops.toml says, or 30 days.
    """
    folder = project.state("capture", "x").parent
    taking = {each.name: each.capture for each in project.open(Endpoints).wanted().values() if each.capture}
    left = {each.name for each in folder.glob("*") if each.is_dir()} - taking.keys()
    kept = {name: of(project, name).terms.capture or capture_of(True) for name in left}
    return {name: CaptureSettings.of(capture) for name, capture in {**taking, **kept}.items()}


# -------------------------------------------------------------------------- limits
def _limits(table: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a server takes on; durations as seconds."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        is_duration = key in ("deadline", "body", "latency")
        found[f"{key}_s" if is_duration else key] = number = duration_s(value, key) if is_duration else value
        if number <= 0:
            raise UsageError(f"{key} is {value!r}.", "Give more than 0.")
    return found


def limits_of(wanted: Wanted) -> "tuple[Limits, Bounds]":
    """Give what an endpoint's servers take on: of a request, and at once."""
    from nbmlops.serving.instructions import Bounds
    from nbmlops.serving.protocols.limits import Limits

    said = wanted.limits
    return (
        Limits(**{each.name: said[each.name] for each in fields(Limits) if each.name in said}),
        Bounds(**{each.name: said[each.name] for each in fields(Bounds) if each.name in said}),
    )
