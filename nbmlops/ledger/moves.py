"""Moves of aliases that MLflow has not heard of yet, because it was away."""

from datetime import UTC, datetime
from typing import NamedTuple, Self

import sqlalchemy as sa

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.tables import MOVES
from nbmlops.project import Project


class Move(NamedTuple):
    """An alias that is to point at a version."""

    model: str
    alias: str
    version: str


class Moves:
    """The table of moves that wait; of each alias the newest one counts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @classmethod
    def of(cls, project: Project) -> Self:
        """Open the table in the project's ledger."""
        return cls(project.open(Ledger))

    def waiting(self) -> list[Move]:
        """List the moves that wait, oldest first."""
        query = sa.select(MOVES.c.model, MOVES.c.alias, MOVES.c.version).order_by(MOVES.c.asked_at)
        with self._ledger.reading() as connection:
            return [Move(*row) for row in connection.execute(query)]

    def put(self, move: Move) -> None:
        """Have a move wait, in place of an older one of that alias."""
        with self._ledger.writing() as connection:
            connection.execute(MOVES.delete().where(_of(move)))
            connection.execute(MOVES.insert().values(**move._asdict(), asked_at=datetime.now(UTC).isoformat()))

    def done(self, move: Move) -> None:
        """Forget a move that MLflow has heard of, or one that a newer one has overtaken."""
        with self._ledger.writing() as connection:
            connection.execute(MOVES.delete().where(_of(move), MOVES.c.version == move.version))

    def overtaken(self, model: str, alias: str) -> None:
        """Forget what waits for an alias that was moved directly."""
        with self._ledger.writing() as connection:
            connection.execute(MOVES.delete().where(_of(Move(model, alias, ""))))


def _of(move: Move) -> sa.ColumnElement[bool]:
    return sa.and_(MOVES.c.model == move.model, MOVES.c.alias == move.alias)
