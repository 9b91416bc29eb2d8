"""What is registered: lists, and which version a reference means, without MLflow where its tables are known."""

from datetime import UTC, datetime

from nbmlops.errors import NotFoundError, StoreError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Event
from nbmlops.project import Project
from nbmlops.registry.versions import (
    CHAMPION,
    ListedVersion,
    ModelVersion,
    Reference,
    RegisteredModel,
    alias_stack,
    parse_reference,
)
from nbmlops.tracking import sql
from nbmlops.verb import Rows

MOVES = ("register", "promote", "rollback")


def resolved(project: Project, text: str, default_alias: str = CHAMPION) -> ModelVersion:
    """Find the version that a reference means.

    Raises
    ------
    NotFoundError
        The model, the version or the alias does not exist; the hint names the nearest.
    StoreError
        MLflow is out of reach.
    """
    wanted = parse_reference(text, default_alias)
    found = sql.version(project.settings.tracking.value, wanted.name, wanted.version, wanted.alias)
    if found is None:
        from nbmlops.registry.mlflow import Registry

        return project.open(Registry).resolve(text, default_alias)
    return ModelVersion(
        name=wanted.name,
        version=str(found.version),
        source=found.source or "",
        run_id=found.run_id or "",
        digest=found.digest or "",
        registered_at=datetime.fromtimestamp(found.creation_time / 1000, UTC),
    )


def remembered(project: Project, text: str, default_alias: str = CHAMPION) -> ModelVersion:
    """Find the version that a reference means, or meant when the ledger last heard of it: MLflow may be away.

    Raises
    ------
    NotFoundError
        The ledger knows no such version.
    """
    try:
        return resolved(project, text, default_alias)
    except StoreError:
        wanted = parse_reference(text, default_alias)
        moves = moves_of(project, wanted.name)
        stack = alias_stack(moves, wanted.name, wanted.alias)
        number = wanted.version or (stack[-1] if stack else "")
        return _registered(project, wanted, number)


def moves_of(project: Project, name: str) -> list[Event]:
    """List what moved the aliases of a model, oldest first."""
    return project.open(Ledger).events(verbs=MOVES, subject=f"model/{name}", outcome="ok")[::-1]


def models(project: Project) -> Rows[RegisteredModel]:
    """List the registered models by name, with the last gate report of each."""
    from nbmlops.registry.mlflow import Registry, aliases_of, newest_of

    registry, ledger = project.open(Registry), project.open(Ledger)
    rows = []
    for model in sorted(registry.registered(), key=lambda each: each.name):
        newest = newest_of(model)
        events = ledger.events(verbs=("validate",), subject=f"model/{model.name}", limit=1)
        report = events[0].result if events else None
        rows.append(
            RegisteredModel(
                name=model.name,
                version=newest.version if newest else "",
                aliases=aliases_of(model),
                gate=("passed" if report["passed"] else "failed") if report else "",
                judged=report["version"] if report else "",
                updated_at=newest.registered_at if newest else None,
            )
        )
    return Rows(rows)


def versions(project: Project, name: str) -> Rows[ListedVersion]:
    """List a model's versions, newest first, with the last gate report about the very bytes of each.

    Raises
    ------
    NotFoundError
        There is no such model.
    """
    from nbmlops.registry.mlflow import Registry

    registry = project.open(Registry)
    aliases = registry.aliases(name)
    newest = {(event.result["version"], event.result["digest"]): event for event in reversed(judgements(project, name))}
    return Rows(
        ListedVersion.of(version, aliases, newest.get((version.version, version.digest)))
        for version in registry.versions(name)
    )


def judgements(project: Project, name: str) -> list[Event]:
    """List what gates said of a model's versions, newest first: the events whose results are their reports."""
    found = project.open(Ledger).events(verbs=("validate",), subject=f"model/{name}")
    return [event for event in found if isinstance(event.result, dict) and "checks" in event.result]


def _registered(project: Project, wanted: Reference, number: str) -> ModelVersion:
    subject = f"model/{wanted.name}/{number}"
    found = project.open(Ledger).events(verbs=("register",), subject=subject, outcome="ok", limit=1) if number else []
    if not found:
        what = f"version {wanted.version}" if wanted.version else f"alias {wanted.alias!r}"
        raise NotFoundError(
            f"MLflow is out of reach, and the ledger knows no {what} of {wanted.name}.",
            f"Look at what it knows: `history {wanted.name}`",
        )
    told = found[0].result
    return ModelVersion(wanted.name, number, told["source"], told["run_id"], told["digest"], found[0].at)
