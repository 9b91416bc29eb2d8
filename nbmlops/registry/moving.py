"""Aliases moved: back to the version before, with the endpoints that follow them, also while MLflow is away."""

from nbmlops import background
from nbmlops.errors import ConflictError, StoreError
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.ledger.moves import Move, Moves
from nbmlops.project import Project
from nbmlops.registry.reading import moves_of, remembered
from nbmlops.registry.versions import ModelVersion, Reference, Rollback, alias_stack, version_before

SWITCH = "nbmlops.serving.deploying"  # by name, for serving is the layer above
LOG = "switching.log"


def told(project: Project, version: ModelVersion, alias: str) -> tuple[str, ...]:
    """Have the endpoints that follow an alias switch to its version; give their names."""
    project.open(Moves).overtaken(version.name, alias)
    return _switched(project, f"{version.name}@{alias}", version)


def _switched(project: Project, followed: str, version: ModelVersion) -> tuple[str, ...]:
    """Have the endpoints that follow an alias switch, by the agent or, where none is to be, by a process for this."""
    switched = project.open(Endpoints).point(followed, version.version, version.digest)
    if switched:
        _see_to_endpoints(project)
    return switched


def _see_to_endpoints(project: Project) -> None:
    if background.is_wanted():
        background.start(project)
    elif not background.living(project.root):
        background.spawn(project, SWITCH, [str(project.root)], LOG)


def rolled_back(project: Project, wanted: Reference, reason: str, *, dry_run: bool) -> Rollback:
    """End the rollouts of the endpoints that follow an alias, or point it at the version before.

    Raises
    ------
    ConflictError
        There is no version before.
    """
    current = remembered(project, f"{wanted.name}@{wanted.alias}")
    followed = f"{wanted.name}@{wanted.alias}"
    if tried := _tried(project, followed):
        if not dry_run:
            project.open(Endpoints).abort(followed, reason or "rolled back by hand")
            _see_to_endpoints(project)
        return Rollback(wanted.name, current.version, wanted.alias, "", reason, ended=tried, dry_run=dry_run)
    before = _before(project, wanted, current)
    if dry_run:
        return Rollback(wanted.name, before.version, wanted.alias, current.version, reason, dry_run=True)
    is_told = _set(project, Move(wanted.name, wanted.alias, before.version))
    switched = _switched(project, followed, before)
    return Rollback(
        wanted.name, before.version, wanted.alias, current.version, reason, switched=switched, mlflow_is_told=is_told
    )


def _tried(project: Project, followed: str) -> tuple[str, ...]:
    """Name the endpoints at which another version is tried beside that of an alias."""
    wanted = project.open(Endpoints).wanted().values()
    return tuple(each.name for each in wanted if each.follows == followed and each.rollout.get("state") == "running")


def _before(project: Project, wanted: Reference, current: ModelVersion) -> ModelVersion:
    stack = alias_stack(moves_of(project, wanted.name), wanted.name, wanted.alias)
    before = version_before(stack, current.version, _existing(project, wanted.name, stack))
    if not before:
        raise ConflictError(
            f"{wanted.name}@{wanted.alias} is version {current.version}, and there is none before it.",
            f"See what there was: `history {wanted.name}`",
        )
    return remembered(project, f"{wanted.name}/{before}")


def _existing(project: Project, name: str, stack: list[str]) -> list[str]:
    """List the versions that exist; while MLflow is away, those that the ledger knows of."""
    from nbmlops.registry.mlflow import Registry

    try:
        return [version.version for version in project.open(Registry).versions(name)]
    except StoreError:
        return stack


def _set(project: Project, move: Move) -> bool:
    """Tell MLflow of a move, now or as soon as it answers; says whether it was told."""
    from nbmlops.registry.mlflow import Registry

    moves = project.open(Moves)
    try:
        project.open(Registry).set_alias(move.model, move.alias, move.version)
    except StoreError:
        moves.put(move)
        project.notify("MLflow is away: it is told as soon as it answers.")
        return False
    moves.overtaken(move.model, move.alias)
    return True


def catch_up(project: Project) -> list[Move]:
    """Tell MLflow of the moves that it has missed; gives those that it knows of now.

    Raises
    ------
    StoreError
        It is still away.
    """
    from nbmlops.registry.mlflow import Registry

    moves, made = project.open(Moves), []
    for move in moves.waiting():
        project.open(Registry).set_alias(move.model, move.alias, move.version)
        moves.done(move)
        made.append(move)
    return made
