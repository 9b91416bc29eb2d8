"""The endpoints as the ledger keeps them: what is wanted, what a machine has made of it, how models are served.

Verbs write what is wanted; the machine that serves an endpoint makes it so, and tells what it found. Who changes
what is wanted names the revision that it has read: of two at once, the second one is told.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from nbmlops.errors import ConflictError, NotFoundError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.tables import ENDPOINTS, FORMS
from nbmlops.project import Project

CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"


@dataclass(frozen=True)
class Variant:
    """A model version behind an endpoint: `weight` is its share of the answers, in percent.

    A shadow answers nobody: what it says is compared with what was answered.
    """

    model: str
    version: str
    digest: str
    weight: float = 100.0
    role: str = CHAMPION

    @property
    def label(self) -> str:
        """The reference that means exactly this version."""
        return f"{self.model}/{self.version}"


@dataclass(frozen=True)
class Wanted:
    """An endpoint as it is to be.

    `host` is the machine that serves it, empty where any may act on it: at a `target` that is no machine of ours,
    reached with `parameters`. `follows` is ``name@alias`` where the endpoint goes with an alias. `port` 0 is any free
    one, and `token`, `certificate` and `key` are references or paths, never values. `capture` is empty where
    nothing is captured, `limits` holds those that are not the servers' own; `rollout` is the record of
    the one that goes on, or went on last.
    """

    name: str
    host: str
    variants: tuple[Variant, ...]
    follows: str = ""
    address: str = "127.0.0.1"
    port: int = 0
    workers: int = 1
    token: str = ""
    certificate: str = ""
    key: str = ""
    capture: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    rollout: Mapping[str, Any] = field(default_factory=dict)
    since: str = ""
    revision: int = 0
    target: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def champion(self) -> Variant:
        """The version that answers unless another one has a share."""
        return next(each for each in self.variants if each.role == CHAMPION)

    @property
    def challenger(self) -> Variant | None:
        """The version that is tried beside the champion, if one is."""
        return next((each for each in self.variants if each.role != CHAMPION), None)

    def record(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return {name: value for name, value in asdict(self).items() if name != "revision"}

    @classmethod
    def of_record(cls, record: Mapping[str, Any], revision: int) -> Self:
        """Read it back."""
        variants = tuple(Variant(**each) for each in record["variants"])
        return cls(**{**record, "variants": variants, "revision": revision})


class Parts(NamedTuple):
    """A compiled model: the form that numpy scores, and its trees for ONNX Runtime where that is faster."""

    compiled: bytes
    onnx: bytes | None = None

    @property
    def sha256(self) -> str:
        """The digest of both, in hex."""
        return hashlib.sha256(self.compiled + (self.onnx or b"")).hexdigest()


def weighted(variant: Variant, weight: float) -> Variant:
    """Give a version a share; a shadow that gets one answers, so it is a shadow no more."""
    role = CHALLENGER if variant.role == SHADOW and weight else variant.role
    return replace(variant, weight=weight, role=role)


def alone(wanted: Wanted, rollout: Mapping[str, Any]) -> Wanted:
    """Have an endpoint's champion answer alone, with what became of its rollout."""
    return replace(wanted, variants=(replace(wanted.champion, weight=100.0),), rollout=rollout)


class Endpoints:
    """The tables of endpoints and of forms."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @classmethod
    def of(cls, project: Project) -> Self:
        """Open the tables in the project's ledger."""
        return cls(project.open(Ledger))

    # ------------------------------------------------------------------- wanted
    def wanted(self) -> dict[str, Wanted]:
        """Give the endpoints that are wanted, by name."""
        with self._ledger.reading() as connection:
            rows = connection.execute(sa.select(ENDPOINTS).order_by(ENDPOINTS.c.name))
            return {row.name: Wanted.of_record(row.record, row.revision) for row in rows}

    def want(self, wanted: Wanted) -> Wanted:
        """Want an endpoint so, in place of the revision that was read; revision 0 is one that was not there.

        Raises
        ------
        ConflictError
            Somebody else has changed it meanwhile.
        """
        now = replace(wanted, revision=wanted.revision + 1)
        if not self._kept(now):
            raise ConflictError(
                f"The endpoint {wanted.name} was changed by somebody else meanwhile.",
                "Look at it, and try again: `endpoints`",
            )
        return now

    def _kept(self, now: Wanted) -> bool:
        """Keep an endpoint in place of the revision before, in one statement; say whether that one was still there."""
        values = {"revision": now.revision, "record": now.record()}
        before = sa.and_(ENDPOINTS.c.name == now.name, ENDPOINTS.c.revision == now.revision - 1)
        with self._ledger.writing() as connection:
            if now.revision > 1:
                return connection.execute(ENDPOINTS.update().where(before).values(**values)).rowcount == 1
            try:
                connection.execute(ENDPOINTS.insert().values(name=now.name, found={}, **values))
            except sa.exc.IntegrityError:
                connection.rollback()
                return False
            return True

    def forget(self, name: str) -> None:
        """Want an endpoint no longer."""
        with self._ledger.writing() as connection:
            connection.execute(ENDPOINTS.delete().where(ENDPOINTS.c.name == name))

    def point(self, followed: str, version: str, digest: str) -> tuple[str, ...]:
        """Have the endpoints that follow an alias, ``name@alias``, answer with a version; give their names.

        A rollout that goes on there is over: what is promoted or rolled back by hand is what is wanted.
        """
        moved = []
        for wanted in self.wanted().values():
            if wanted.follows != followed or (wanted.champion.version == version and wanted.challenger is None):
                continue
            live = Variant(wanted.champion.model, version, digest)
            over = {**wanted.rollout, "state": "aborted", "reason": f"{followed} is version {version} now"}
            rollout = over if wanted.challenger else wanted.rollout
            self.want(replace(wanted, variants=(live,), rollout=rollout))
            moved.append(wanted.name)
        return tuple(moved)

    def abort(self, followed: str, reason: str) -> tuple[str, ...]:
        """End the rollouts of the endpoints that follow an alias: their champions answer alone; give their names."""
        ended = []
        for wanted in self.wanted().values():
            if wanted.follows == followed and wanted.rollout.get("state") == "running":
                self.want(alone(wanted, {**wanted.rollout, "state": "aborted", "reason": reason}))
                ended.append(wanted.name)
        return tuple(ended)

    # -------------------------------------------------------------------- found
    def found(self) -> dict[str, dict[str, Any]]:
        """Give what the machines told of their endpoints, by name."""
        with self._ledger.reading() as connection:
            rows = connection.execute(sa.select(ENDPOINTS.c.name, ENDPOINTS.c.found))
            return {row.name: dict(row.found) for row in rows}

    def tell(self, name: str, found: Mapping[str, Any]) -> None:
        """Keep what is, beside what is wanted."""
        with self._ledger.writing() as connection:
            connection.execute(ENDPOINTS.update().where(ENDPOINTS.c.name == name).values(found=dict(found)))

    # -------------------------------------------------------------------- forms
    def put_form(self, digest: str, record: Mapping[str, Any], parts: Parts | None) -> dict[str, Any]:
        """Keep how a model's bytes are served, unless that is kept, and whole; gives the record as it is kept."""
        if (known := self._whole(digest)) is not None:
            return known
        kept = {**record, "sha256": parts.sha256 if parts else ""}
        with self._ledger.writing() as connection:
            connection.execute(FORMS.delete().where(FORMS.c.digest == digest))
            connection.execute(
                FORMS.insert().values(
                    digest=digest,
                    record=kept,
                    compiled=parts.compiled if parts else None,
                    onnx=parts.onnx if parts else None,
                )
            )
        return kept

    def _whole(self, digest: str) -> dict[str, Any] | None:
        """Give the record of a compiled form whose bytes are still those that were kept."""
        try:
            self.compiled(digest)
        except (NotFoundError, ConflictError):
            return None
        return self.form(digest)

    def form(self, digest: str) -> dict[str, Any] | None:
        """Tell how a model's bytes are served; None where that was never looked at."""
        with self._ledger.reading() as connection:
            return connection.scalar(sa.select(FORMS.c.record).where(FORMS.c.digest == digest))

    def compiled(self, digest: str) -> Parts:
        """Give the compiled form of a model's bytes, checked.

        Raises
        ------
        NotFoundError
            There is none.
        ConflictError
            Its bytes are not those that were kept.
        """
        query = sa.select(FORMS.c.record, FORMS.c.compiled, FORMS.c.onnx).where(FORMS.c.digest == digest)
        with self._ledger.reading() as connection:
            row = connection.execute(query).first()
        if row is None or row.compiled is None:
            raise NotFoundError(f"There is no compiled form of the model with digest {digest[:12]}.")
        parts = Parts(bytes(row.compiled), bytes(row.onnx) if row.onnx is not None else None)
        if parts.sha256 != row.record["sha256"]:
            raise ConflictError(
                f"The compiled form of the model with digest {digest[:12]} is not what was kept.",
                "Find out who can write to the ledger's database; then register the model again.",
            )
        return parts
