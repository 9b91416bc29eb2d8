"""The verbs of the registry: register, models, promote, rollback, history, verify."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nbmlops.errors import GateError, UsageError
from nbmlops.project import Project
from nbmlops.registry.audit import RUNS_CODE
from nbmlops.registry.forms import Form, form_of
from nbmlops.registry.manifest import digest_of, manifest_of
from nbmlops.registry.versions import (
    CHALLENGER,
    CHAMPION,
    Evidence,
    HistoryEntry,
    ListedVersion,
    ModelVersion,
    Promotion,
    RegisteredModel,
    Registration,
    Rollback,
    Verification,
    check_name,
    history_entry,
    model_of,
    parse_reference,
)
from nbmlops.verb import AliasName, DataRef, FittedModel, GateName, ModelName, ModelRef, Rows, verb

if TYPE_CHECKING:
    from nbmlops.registry.mlflow import Registry, Source
    from nbmlops.registry.staging import Staged

MODEL_VERBS = ("register", "validate", "promote", "rollback")


@verb
def register(
    project: Project,
    what: FittedModel,
    name: ModelName,
    *,
    input_example: DataRef = None,
    trust: list[str] | None = None,
    dry_run: bool = False,
) -> Registration:
    """Register a model as the next version of a name.

    Logs a model held in memory to the active run (or a run of its own), makes it
    a version, keeps the SHA-256 of every file in the ledger, and points the alias
    ``challenger`` at the version.

    Parameters
    ----------
    what
        A fitted scikit-learn model, a run (its last logged model), the folder of a saved
        MLflow model, or an MLflow URI (``models:/...``, ``runs:/...``).
    name
        The registered model's name.
    input_example
        A table of features without the target; the signature and the input example come from it.
    trust
        A type from outside scikit-learn that may be brought to life when the model is loaded; may be repeated.
    dry_run
        Only tell what would be registered.

    Returns
    -------
    Registration
        The version, its manifest and digest, and the types that were trusted.

    Raises
    ------
    ApprovalError
        Loading it would run code from outside scikit-learn, and there is no consent to it.
    NotFoundError
        There is no such run, model or path.
    UsageError
        It is not a model, or cannot predict its input example.

    Examples
    --------
    ``%mlops register model delays --input-example features``

    Plain code
    ----------
    import mlflow
    mlflow.set_tracking_uri($tracking)
    what = $what
    if not isinstance(what, str):
        what = mlflow.sklearn.log_model(what, name="model", input_example=$input_example).model_uri
    version = mlflow.register_model(what, $name)
    mlflow.MlflowClient().set_registered_model_alias($name, "challenger", version.version)
    """
    from nbmlops.registry.mlflow import Registry
    from nbmlops.registry.staging import stage

    registry = project.open(Registry)
    check_name(name)
    with TemporaryDirectory(prefix="nbmlops-model-") as private:
        command = f"register {what if isinstance(what, str) else 'MODEL'} {name}"
        staged = stage(project, what, input_example, tuple(trust or ()), command, Path(private))
        source = staged.source if staged.source or dry_run else registry.log_folder(name, staged.folder)
        form = None if dry_run else _kept_form(project, staged)
    previous = registry.aliases(name).get(CHALLENGER, "") if name in registry.names() else ""
    version = "" if dry_run or source is None else _create(registry, name, source, staged)
    return Registration(
        name=name,
        version=version,
        alias=CHALLENGER,
        previous=previous,
        digest=digest_of(staged.manifest),
        manifest=staged.manifest,
        source=source.uri if source else "",
        run_id=source.run_id if source else "",
        signature=staged.signature,
        trusted_types=staged.trusted_types,
        consented_types=staged.consented_types,
        form=form.kind if form else "",
        why=form.why if form else "",
        sha256=form.sha256 if form else "",
        dry_run=dry_run,
    )


@verb
def models(project: Project, name: ModelName | None = None) -> Rows[RegisteredModel] | Rows[ListedVersion]:
    """List registered models, or the versions of one.

    Parameters
    ----------
    name
        A registered model, whose versions are listed; bare: all models.

    Returns
    -------
    Rows of RegisteredModel or ListedVersion
        Models by name, with the last gate report of each; versions the newest first, with the last
        gate report about their very bytes.

    Raises
    ------
    NotFoundError
        There is no such model.

    Examples
    --------
    ``%mlops models delays``

    Plain code
    ----------
    import mlflow
    client = mlflow.MlflowClient($tracking, $tracking)
    for model in client.search_registered_models():
        print(model.name, model.aliases)
    """
    from nbmlops.registry import reading

    return reading.models(project) if name is None else reading.versions(project, parse_reference(name).name)


@verb
def promote(
    project: Project,
    model: ModelRef,
    *,
    to: AliasName = CHAMPION,
    gate: GateName | None = None,
    reason: str = "",
    dry_run: bool = False,
) -> Promotion:
    """Point an alias at a model version whose gate has passed.

    Changes that one alias in MLflow. Its bytes are checked first, and the ledger
    must hold a passed gate report about exactly these bytes. Endpoints that were
    deployed by the alias switch to the version without a lost request.

    Parameters
    ----------
    model
        ``name/version``, ``name@alias``, or ``name`` for ``name@challenger``.
    to
        The alias to point.
    gate
        The gate that must have passed; without it any one.
    reason
        Why, for the history.
    dry_run
        Only tell whether it would be promoted.

    Returns
    -------
    Promotion
        The version, the one before it, the evidence, and the endpoints that switch. An alias that is there already
        stays, and the result says so.

    Raises
    ------
    ConflictError
        The version's bytes are not those that were registered.
    GateError
        No passed gate report is about these bytes.
    NotFoundError
        There is no such version.

    Examples
    --------
    ``%mlops promote delays/3``

    Plain code
    ----------
    import mlflow
    client = mlflow.MlflowClient($tracking, $tracking)
    name, _, version = $model.partition("/")
    client.set_registered_model_alias(name, $to, version)
    """
    from nbmlops.registry import moving
    from nbmlops.registry.mlflow import Registry

    registry = project.open(Registry)
    version = registry.resolve(model, CHALLENGER)
    previous = registry.aliases(version.name).get(to, "")
    moved = previous != version.version
    evidence = _evidence(project, version, gate) if moved else None
    switched: tuple[str, ...] = ()
    if moved and not dry_run:
        registry.set_alias(version.name, to, version.version)
        switched = moving.told(project, version, to)
    return Promotion(version.name, version.version, to, previous, moved, evidence, reason, switched, dry_run)


@verb
def rollback(project: Project, model: ModelRef, *, reason: str = "", dry_run: bool = False) -> Rollback:
    """Point an alias back at the version before, or end the rollout of a newer one.

    Changes that one alias in MLflow, and the endpoints that follow it, and is never
    gated. Repeated, it goes further back. Where a version is being tried beside the
    alias's, that trial ends and the alias stays. It works while MLflow is away: the
    ledger knows the past, and MLflow is told as soon as it answers.

    Parameters
    ----------
    model
        ``name`` (its champion) or ``name@alias``.
    reason
        Why, for the history.
    dry_run
        Only tell where it would lead.

    Returns
    -------
    Rollback
        The version that the alias points at now, the one it left, and the endpoints that switch.

    Raises
    ------
    ConflictError
        There is no version before.
    NotFoundError
        There is no such model or alias.
    UsageError
        A version was named, where an alias is meant.

    Examples
    --------
    ``%mlops rollback delays``

    Plain code
    ----------
    import mlflow
    client = mlflow.MlflowClient($tracking, $tracking)
    name, _, alias = $model.partition("@")
    current = client.get_model_version_by_alias(name, alias or "champion")
    client.set_registered_model_alias(name, alias or "champion", str(int(current.version) - 1))
    """
    from nbmlops.registry import moving

    wanted = parse_reference(model)
    if wanted.version:
        raise UsageError(
            "rollback moves an alias, not a version.", f"Type rollback {wanted.name}, or promote {model} to choose one."
        )
    return moving.rolled_back(project, wanted, reason, dry_run=dry_run)


@verb
def history(project: Project, model: ModelName) -> Rows[HistoryEntry]:
    """Show what happened to a model, newest first.

    Parameters
    ----------
    model
        The registered model's name.

    Returns
    -------
    Rows of HistoryEntry
        Every registration, validation, promotion and rollback, those that were refused too.

    Raises
    ------
    NotFoundError
        Nothing of that name was ever registered.

    Examples
    --------
    ``%mlops history delays``

    Plain code
    ----------
    import mlflow
    client = mlflow.MlflowClient($tracking, $tracking)
    for version in client.search_model_versions("name = '" + $model + "'"):
        print(version.version, version.aliases, version.creation_timestamp)
    """
    from nbmlops.ledger.database import Ledger
    from nbmlops.registry.mlflow import Registry

    name = parse_reference(model).name
    events = [event for event in project.open(Ledger).events(verbs=MODEL_VERBS) if model_of(event) == name]
    if not events:
        project.open(Registry).aliases(name)  # says that there is none, and names the nearest
    return Rows(history_entry(event) for event in events)


@verb
def verify(project: Project, model: ModelRef | None = None) -> Verification:
    """Check a model's bytes against its manifest; bare: the ledger's chain.

    Parameters
    ----------
    model
        ``name/version``, ``name@alias`` or ``name`` for its champion; without it the ledger is checked.

    Returns
    -------
    Verification
        What was found whole.

    Raises
    ------
    ApprovalError
        The version has no manifest.
    ConflictError
        A file was changed, is missing or was added; or an event of the ledger was edited, deleted or moved.
    NotFoundError
        There is no such version.

    Examples
    --------
    ``%mlops verify delays/3``

    Plain code
    ----------
    import hashlib, pathlib, mlflow
    folder = mlflow.artifacts.download_artifacts("models:/" + $model, tracking_uri=$tracking)
    for path in sorted(pathlib.Path(folder).rglob("*")):
        print(path, path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest())
    """
    from nbmlops.ledger.database import Ledger
    from nbmlops.registry.mlflow import Registry

    if model is None:
        return Verification(events=project.open(Ledger).check_chain())
    version = project.open(Registry).resolve(model)
    return Verification(version.label, version.digest, files=_verified_files(project, version))


def _create(registry: "Registry", name: str, source: "Source", staged: "Staged") -> str:
    tags = {"nbmlops.digest": digest_of(staged.manifest)}
    if staged.consented_types:
        tags["nbmlops.trusted_types"] = ",".join(staged.consented_types)
    version = registry.create_version(name, source, tags).version
    registry.set_alias(name, CHALLENGER, version)
    return version


def _kept_form(project: Project, staged: "Staged") -> Form:
    """Find out how the model will be served, and keep that under its digest."""
    from nbmlops.ledger.endpoints import Endpoints

    form, parts = form_of(staged.folder, staged.example, may_load=RUNS_CODE.isdisjoint(staged.consented_types))
    kept = project.open(Endpoints).put_form(digest_of(staged.manifest), form.record(), parts)
    return Form.of_record(kept)


def _evidence(project: Project, version: ModelVersion, gate: str | None) -> Evidence:
    """Find the newest passed gate report about a version's bytes as they are now."""
    from nbmlops.ledger.database import Ledger

    _verified_files(project, version)
    for event in project.open(Ledger).events(verbs=("validate",), subject=f"model/{version.label}", outcome="ok"):
        report = event.result
        if report["passed"] and report["digest"] == version.digest and gate in (None, report["gate"]):
            return Evidence(event.seq, report["gate"], version.digest)
    asked = f" of gate {gate!r}" if gate else ""
    option = f" --gate {gate}" if gate else ""
    raise GateError(
        f"No passed report{asked} is about the bytes of {version.label}, so no alias moves to it.",
        f"`validate {version.label}{option}`",
    )


def _verified_files(project: Project, version: ModelVersion) -> int:
    """Check a version's bytes as they are now against its manifest; give the number of files."""
    from nbmlops.registry.loader import verified_copy

    with TemporaryDirectory(prefix="nbmlops-model-") as private:
        return len(manifest_of(verified_copy(project, version, into=Path(private))))
