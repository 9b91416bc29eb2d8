"""The jobs of a project, as its ledger keeps them: each one row that its runner writes anew as it goes on."""

from typing import Any, Self

import sqlalchemy as sa

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.tables import JOBS
from nbmlops.project import Project

Row = dict[str, Any]


class Jobs:
    """The table of jobs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @classmethod
    def of(cls, project: Project) -> Self:
        """Open the table in the project's ledger."""
        return cls(project.open(Ledger))

    def put(self, row: Row) -> None:
        """Keep a job's row, in place of what it was; columns are ``id, name, status, began_at, record``."""
        with self._ledger.writing() as connection:
            connection.execute(JOBS.delete().where(JOBS.c.id == row["id"]))
            connection.execute(JOBS.insert().values(row))

    def newest(self, limit: int | None = None, *, name: str = "", status: str = "", job: str = "") -> list[Row]:
        """List jobs, newest first; `job` is the beginning of an id."""
        query = sa.select(JOBS).order_by(JOBS.c.began_at.desc()).limit(limit)
        if name:
            query = query.where(JOBS.c.name == name)
        if status:
            query = query.where(JOBS.c.status == status)
        if job:
            query = query.where(JOBS.c.id.startswith(job, autoescape=True))
        with self._ledger.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]
