"""What runs inside a Ray cluster: an endpoint's router, its versions, and the proof of a version beforehand.

The nodes need nbmlops, and reach the project's ledger and tracking server: bytes come from there, and are checked
against what was registered wherever they are loaded.
"""

import asyncio
import hashlib
import os
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import orjson

from nbmlops.errors import DataError, KernelError, NbmlopsError, UsageError
from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted
from nbmlops.project import FILE, Project
from nbmlops.registry.forms import COMPILED, Form
from nbmlops.serving import metrics, preflight, variants
from nbmlops.serving.batching import Batcher
from nbmlops.serving.check import Check
from nbmlops.serving.counters import Counters, read, refusals
from nbmlops.serving.instructions import COUNTERS, MODEL, Bounds, Instructions, ServedVariant
from nbmlops.serving.policy import limits_of
from nbmlops.serving.protocols import invocations
from nbmlops.serving.protocols.limits import LIMITS
from nbmlops.serving.protocols.refusals import Answer, refused
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.pyfunc import answers
from nbmlops.serving.schema import Schema
from nbmlops.serving.scored import N_TRIES, N_WARMING, Answered, CompiledModel, names_of, worded
from nbmlops.serving.service import Live, Receive, Send, Service, live_of
from nbmlops.serving.service import Variant as LiveVariant
from nbmlops.serving.targets.ray import STATE, Cluster, app_of, prefix_of

LOOK_S = 0.5  # between two looks at the ledger
READY_S = 10.0  # in which a version that runs already says so
QUIET = {"NBMLOPS_AGENT": "off", "NBMLOPS_SENDER": "off", "MLFLOW_DISABLE_TELEMETRY": "true"}
UNLIMITED = replace(LIMITS, max_body_bytes=sys.maxsize, max_rows=sys.maxsize)  # the router has looked at them
_UNANSWERED = refused(503, NbmlopsError("No version answers here yet."))


@dataclass(frozen=True)
class Origin:
    """A project as a node of the cluster opens it: in its own folder where the node sees that, else by its settings."""

    root: str
    text: str
    stores: str

    @classmethod
    def of(cls, project: Project) -> Self:
        """Describe a project; nothing of it is a secret, since its stores are told by their digest."""
        return cls(str(project.root), project.settings.text, _stores(project))

    def project(self) -> Project:
        """Open the project here.

        Raises
        ------
        UsageError
            This node means other stores than the machine that deploys.
        """
        os.environ.update(QUIET)
        folder = Path(self.root)
        if not (folder / FILE).is_file():
            folder = Path(tempfile.mkdtemp(prefix="nbmlops-"))
            (folder / FILE).write_text(self.text, encoding="utf-8")
        project = Project(folder)
        if _stores(project) != self.stores:
            raise UsageError(
                "Ray's nodes mean another ledger or tracking server than this machine.",
                "Give them servers that all reach: the same nbmlops.toml, and the same variables on every node.",
            )
        return project


def _stores(project: Project) -> str:
    settings = project.settings
    return hashlib.sha256(f"{settings.ledger.value}\n{settings.tracking.value}".encode()).hexdigest()


# ------------------------------------------------------------------------ the proof
def proven(origin: Origin, variant: Variant) -> dict[str, Any]:
    """Make a version's preflight; a task of its own, in a process that has loaded nothing before.

    Raises
    ------
    NbmlopsError
        Its bytes are not those that were registered, or cannot be had.
    """
    project = origin.project()
    with tempfile.TemporaryDirectory(prefix="nbmlops-") as folder:
        place = Path(folder)
        form = variants.fetched(project, place, variant)
        return asdict(preflight.of_compiled(place, form) if form.kind == COMPILED else _proven(place, form))


def _proven(place: Path, form: Form) -> preflight.Preflight:
    from nbmlops.serving.model_process import checked

    started = time.monotonic()
    try:
        model = _loaded(place)
    except Exception as exc:  # noqa: BLE001  # the user's model may raise anything
        traceback.print_exc()
        return preflight.Preflight((Check("load", preflight.FAIL, f"MLflow cannot load it: {exc}"),))
    return checked(model, form, time.monotonic() - started)


def _loaded(place: Path) -> Any:
    import mlflow

    return mlflow.pyfunc.load_model(os.path.realpath(place / MODEL))


# -------------------------------------------------------------------------- a version
class Version:
    """One replica of a model version: takes bodies of MLflow's protocol, and those that come together as one batch."""

    def __init__(self, origin: Origin, variant: Variant, latency_s: float, *, is_batchable: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nbmlops-")  # as long as this replica: models read on demand
        place = Path(self._folder.name)
        self._form = variants.fetched(origin.project(), place, variant)
        if self._form.kind == COMPILED:
            self._compiled = CompiledModel.load(place, self._form, variant.label, latency_s)
            for _ in range(N_WARMING if self._form.example else 0):
                self._compiled.answered(self._form.example.encode())
            self._folder.cleanup()
            return
        model = _loaded(place)
        self._batcher = Batcher(lambda asked: _answered(model, asked, is_batchable=is_batchable), latency_s)

    def about(self) -> tuple[dict[str, Any], Schema]:
        """Tell how the version is served, and what it takes."""
        is_compiled = self._form.kind == COMPILED
        return self._form.record(), self._compiled.schema if is_compiled else Schema.of(self._form.inputs or None)

    async def answer(self, body: bytes, content_type: str) -> tuple[int, bytes]:
        """Answer a request that fits the signature; gives the status and the body."""
        try:
            given = await self._given(body, content_type)
        except (DataError, UsageError) as exc:  # the model does not take these rows
            given = refused(exc.http_status, exc)
        return given.status, given.body

    async def _given(self, body: bytes, content_type: str) -> Answer:
        if self._form.kind != COMPILED:
            answer: Answer = await self._batcher.submit(_unread(body, content_type))
            return answer
        request = invocations.read(body, content_type, self._compiled.schema, UNLIMITED)
        return request if isinstance(request, Answer) else (await self._compiled.answer(request))[0]


def _unread(body: bytes, content_type: str) -> Request:
    """Word a body as a request whose rows MLflow will read."""
    return Request({}, 1, lambda *_: Answer(200, b""), body, content_type)


def _answered(model: Any, asked: Any, *, is_batchable: bool) -> list[Answer]:
    return answers(model, [(each.body, each.content_type) for each in asked], is_batchable=is_batchable)


# -------------------------------------------------------------------------- the router
class Asked:
    """A version as the router asks it: by a handle of Ray Serve."""

    def __init__(self, label: str, app: str) -> None:
        from ray import serve
        from ray.exceptions import RayError

        self._failures = RayError
        self.label = label
        self.app = app
        self._handle: Any = serve.get_app_handle(app)
        record, self.schema = self._handle.about.remote().result(timeout_s=READY_S)
        self.form = Form.of_record(record)
        self.deadline_s = Bounds.deadline_s

    async def answer(self, request: Request) -> Answered:
        """Have a replica predict each row of a request; of one that dies on it, another is asked.

        Raises
        ------
        KernelError
            Two replicas died with the request.
        """
        body, content_type = request.invocation()
        for _ in range(N_TRIES):
            try:
                async with asyncio.timeout(self.deadline_s):
                    status, given = await self._handle.answer.remote(body, content_type)
            except self._failures:
                traceback.print_exc()
                continue
            return worded(request, names_of(self.label), status, given)
        raise KernelError(f"The replicas of {self.label} died on this request.", "Ray Serve's logs say why.")

    def expire(self, before: float) -> None:
        """Each request has its own deadline."""

    def follow(self, sockets: Any) -> None:
        """Ray Serve knows its replicas."""

    def close(self) -> None:
        """Nothing is held."""


class Router:
    """The application of an endpoint: answers as a worker does, asks versions by handles, and follows the ledger."""

    def __init__(self, origin: Origin, name: str, token: str) -> None:
        self._project = origin.project()
        self._prefix = prefix_of(self._project, name)
        self._name, self._token = name, token
        self._folder = tempfile.TemporaryDirectory(prefix="nbmlops-")
        self._counts = Path(self._folder.name) / COUNTERS
        self._counters = Counters.open(self._counts)
        self._service: Service | None = None
        self._revision = self._refused = 0
        self._trouble = ""
        self._look()
        threading.Thread(target=self._follow, daemon=True).start()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; paths are below the endpoint's own."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] != "http":
            return
        elif self._service is None:
            await send({"type": "http.response.start", "status": _UNANSWERED.status, "headers": []})
            await send({"type": "http.response.body", "body": _UNANSWERED.body})
        else:
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            await self._service({**scope, "path": path or "/"}, receive, send)

    # ------------------------------------------------------------------ the ledger
    def _follow(self) -> None:
        while True:
            time.sleep(LOOK_S)
            self._look()

    def _look(self) -> None:
        """Serve what is wanted by now; what cannot be is told, and what is served goes on."""
        try:
            wanted = self._project.open(Endpoints).wanted().get(self._name)
            if wanted and wanted.revision != self._revision:
                self._take(wanted)
        except NbmlopsError as exc:
            self._trouble = exc.message  # the ledger is away, for instance

    def _take(self, wanted: Wanted) -> None:
        try:
            live = self._live_of(wanted)
        except Exception as exc:  # noqa: BLE001  # Ray's own are of many kinds: a version does not run yet
            self._trouble, self._refused = str(exc).strip().splitlines()[0], wanted.revision
            return
        former = self._service.live.variants.keys() if self._service else ()
        if self._service is None:
            self._service = Service(live, None, self._exposition, self._counters.refused, {STATE: self._state})
        self._service.live = live
        self._revision, self._trouble, self._refused = wanted.revision, "", 0
        for label in former - live.variants.keys():
            self._counters.release(label)

    def _live_of(self, wanted: Wanted) -> Live:
        limits, bounds = limits_of(wanted)
        models = {each.label: self._asked(wanted, each) for each in wanted.variants}
        for model in models.values():
            model.deadline_s = bounds.deadline_s
        instructions = Instructions(
            endpoint=wanted.name,
            revision=wanted.revision,
            model=wanted.champion.model,
            variants=tuple(_served(each, models[each.label]) for each in wanted.variants),
            token=self._token,
            limits=limits,
            bounds=bounds,
        )
        served = {
            each.label: LiveVariant(each.label, each.role, models[each.label], self._counters.tally(each.label))
            for each in wanted.variants
        }
        return live_of(instructions, served, {label: model.form for label, model in models.items()})

    def _asked(self, wanted: Wanted, variant: Variant) -> Asked:
        """Find a version; one that is asked already stays as it is."""
        app = app_of(self._prefix, Cluster.of(wanted.parameters), variant)
        known = self._service.live.variants.get(variant.label) if self._service else None
        if known and isinstance(known.model, Asked) and known.model.app == app:
            return known.model
        return Asked(variant.label, app)

    # ----------------------------------------------------------------------- pages
    def _state(self) -> bytes:
        live = self._service.live if self._service else None
        return orjson.dumps(
            {
                "revision": self._revision,
                "refused": self._refused,
                "trouble": self._trouble,
                "asks": bool(self._token),
                "forms": {each.label: each.form for each in live.instructions.variants} if live else {},
                "refusals": {str(status): count for status, count in refusals([self._counts]).items()},
                "windows": {label: window.record() for label, window in read(self._counts).items()},
            }
        )

    def _exposition(self) -> str:
        live = self._service.live if self._service else None
        weights = {each.label: each.weight for each in live.instructions.variants} if live else {}
        return metrics.exposition(self._name, read(self._counts), weights, refusals([self._counts]))


def _served(variant: Variant, model: Asked) -> ServedVariant:
    return ServedVariant(variant.label, variant.role, variant.weight, model.app, model.form.kind)


async def _live(receive: Receive, send: Send) -> None:
    """Say to the server that we are up, and that we are down."""
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})
