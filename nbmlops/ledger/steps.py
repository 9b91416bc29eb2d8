"""The steps of pipelines, as the ledger keeps them: attempts in a row, of which only the newest may publish.

Each attempt at a step gets a fence, a number above every fence before it. What is executed twice is published once: a
result is taken only with the newest fence, and from it once. A stale attempt (of a runner that was cut off, stopped or
killed, while another took its place) has an older one.
"""

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import sqlalchemy as sa

from nbmlops.errors import ConflictError, NotFoundError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.tables import RESULTS, STEPS
from nbmlops.project import Project, actor

KEPT = 50  # publications of one step that are kept: those of a scheduled step of the last weeks
RUNNING, FINISHED, FAILED, SKIPPED, KILLED = "RUNNING", "FINISHED", "FAILED", "SKIPPED", "KILLED"
WAITING, REJECTED, STALE = "WAITING", "REJECTED", "STALE"
Row = dict[str, Any]


@dataclass(frozen=True)
class Fence:
    """One attempt at a step of a pipeline."""

    pipeline: str
    step: str
    job: str
    number: int

    def __str__(self) -> str:
        """Give it as `Steps.is_current` reads it; neither a job nor a number has a slash, a step may."""
        return f"{self.job}/{self.step}/{self.number}"


@dataclass(frozen=True)
class Publication:
    """What an attempt publishes, all of it strict JSON without secrets.

    `key` is the step's: what was published under it is what running the step again would give. `files` tells what the
    results point to as it was then, so that it is seen when that is there no longer.
    """

    key: str
    results: Mapping[str, Any]
    ingredients: Mapping[str, Any]
    files: Mapping[str, Any]
    run_id: str = ""


class Steps:
    """The tables of attempts and of what they published."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @classmethod
    def of(cls, project: Project) -> Self:
        """Open the tables in the project's ledger."""
        return cls(project.open(Ledger))

    # ------------------------------------------------------------------ writing
    def claim(
        self, pipeline: str, step: str, *, job: str, key: str, status: str = RUNNING, record: Row | None = None
    ) -> Fence:
        """Begin an attempt: from now on no earlier one can publish."""
        (fence,) = self.claim_all(pipeline, {step: key}, job=job, status=status, record=record)
        return fence

    def claim_all(
        self, pipeline: str, keys: Mapping[str, str], *, job: str, status: str = RUNNING, record: Row | None = None
    ) -> list[Fence]:
        """Begin attempts at several steps at once, given with their keys."""
        now = _now()
        shared = {"pipeline": pipeline, "job": job, "status": status, "owner": _owner(), "record": record or {}}
        with self._alone(pipeline) as connection:
            newest = _newest(connection, pipeline, keys)
            fences = [Fence(pipeline, step, job, newest.get(step, 0) + 1) for step in keys]
            earlier = sa.and_(_about(STEPS, pipeline, *newest), STEPS.c.status.in_((RUNNING, WAITING)))
            if newest:
                connection.execute(STEPS.update().where(earlier).values(status=STALE, ended_at=now))
            rows = [{"step": fence.step, "fence": fence.number, "key": keys[fence.step]} for fence in fences]
            times = {"began_at": now, "ended_at": "", "run_id": "", "error": {}}
            connection.execute(STEPS.insert(), [{**shared, **times, **row} for row in rows])
        return fences

    def publish(self, fence: Fence, publication: Publication) -> None:
        """Publish an attempt's results, which the steps behind it see from now on.

        Raises
        ------
        ConflictError
            The attempt is stale, or has ended: it publishes nothing.
        """
        with self._alone(fence.pipeline) as connection:
            self._end(connection, fence, FINISHED, run_id=publication.run_id)
            connection.execute(_keeping(fence, publication))
            if fence.number > KEPT:
                connection.execute(_forgetting(fence))

    def end(self, fence: Fence, status: str, *, error: Row | None = None, run_id: str = "") -> None:
        """End an attempt that publishes nothing.

        Raises
        ------
        ConflictError
            It is stale, or has ended.
        """
        with self._alone(fence.pipeline) as connection:
            self._end(connection, fence, status, error=error or {}, run_id=run_id)

    def decide(self, job: str, step: str, *, approved: bool, by: str) -> None:
        """Answer the question of an approval step that waits; what is approved is published with who approved it.

        Raises
        ------
        NotFoundError
            The job has no such step.
        ConflictError
            The step does not wait (any more), or another job has asked since.
        """
        fence, row = self._attempt(job, step)
        with self._alone(fence.pipeline) as connection:
            decision = {"approved": approved, "by": by}
            self._end(
                connection, fence, FINISHED if approved else REJECTED, waited=True, error={} if approved else decision
            )
            if approved:
                publication = Publication(row["key"], decision, row["record"].get("ingredients", {}), {})
                connection.execute(_keeping(fence, publication))

    # ------------------------------------------------------------------ reading
    def is_current(self, fence: str) -> bool:
        """Tell whether an attempt, as `Fence` words it, is the newest of its step and has not ended."""
        job, _, rest = fence.partition("/")
        step, _, number = rest.rpartition("/")
        own = STEPS.alias("own")
        newer = sa.exists().where(
            STEPS.c.pipeline == own.c.pipeline, STEPS.c.step == own.c.step, STEPS.c.fence > own.c.fence
        )
        query = sa.select(own.c.status).where(own.c.job == job, own.c.step == step, own.c.fence == int(number), ~newer)
        with self._ledger.reading() as connection:
            return connection.scalar(query) == RUNNING

    def published(self, pipeline: str) -> list[Row]:
        """List what is kept of a pipeline's publications, from the oldest to the newest of each step.

        Only the newest of each step has its ingredients: that is what a change is told from.
        """
        newest = (
            sa.select(RESULTS.c.step, sa.func.max(RESULTS.c.fence).label("fence"))
            .where(RESULTS.c.pipeline == pipeline)
            .group_by(RESULTS.c.step)
            .subquery()
        )
        ingredients = sa.case((newest.c.fence == RESULTS.c.fence, RESULTS.c.ingredients), else_=sa.null())
        columns = [RESULTS.c.step, RESULTS.c.key, RESULTS.c.job, RESULTS.c.results, RESULTS.c.files]
        query = (
            sa.select(*columns, ingredients.label("ingredients"))
            .join(newest, newest.c.step == RESULTS.c.step)
            .where(RESULTS.c.pipeline == pipeline)
            .order_by(RESULTS.c.fence)
        )
        with self._ledger.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def of_job(self, job: str) -> list[Row]:
        """List the attempts of a job, in the order in which they began."""
        query = sa.select(STEPS).where(STEPS.c.job == job).order_by(STEPS.c.began_at, STEPS.c.step, STEPS.c.fence)
        with self._ledger.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def latest(self, pipeline: str, step: str) -> Row | None:
        """Give the newest attempt at a step."""
        query = sa.select(STEPS).where(_about(STEPS, pipeline, step)).order_by(STEPS.c.fence.desc()).limit(1)
        with self._ledger.reading() as connection:
            row = connection.execute(query).first()
        return dict(row._mapping) if row else None

    # ----------------------------------------------------------------- internal
    @contextlib.contextmanager
    def _alone(self, pipeline: str) -> Iterator[sa.Connection]:
        """Give a transaction in which nobody else writes about a pipeline's steps."""
        with self._ledger.writing() as connection:
            if connection.dialect.name != "sqlite":  # whose writers enter one by one
                lock = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7065437093))")
                connection.execute(lock, {"name": pipeline})
            yield connection

    @staticmethod
    def _end(connection: sa.Connection, fence: Fence, status: str, *, waited: bool = False, **values: Any) -> None:
        open_one = sa.and_(_is(STEPS, fence), STEPS.c.status == (WAITING if waited else RUNNING))
        ended = connection.execute(STEPS.update().where(open_one).values(status=status, ended_at=_now(), **values))
        if ended.rowcount != 1:
            raise _refusal(connection, fence)

    def _attempt(self, job: str, step: str) -> tuple[Fence, Row]:
        rows = [row for row in self.of_job(job) if row["step"] == step]
        if not rows:
            raise NotFoundError(f"Job {job} has no step {step!r} that began.", "See what it has: `jobs`")
        return Fence(rows[-1]["pipeline"], step, job, rows[-1]["fence"]), rows[-1]


def _newest(connection: sa.Connection, pipeline: str, steps: Iterable[str]) -> dict[str, int]:
    query = sa.select(STEPS.c.step, sa.func.max(STEPS.c.fence)).where(_about(STEPS, pipeline, *steps))
    return {row[0]: row[1] for row in connection.execute(query.group_by(STEPS.c.step))}


def _about(table: sa.Table, pipeline: str, *steps: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.pipeline == pipeline, table.c.step.in_(steps))


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _is(table: sa.Table, fence: Fence) -> sa.ColumnElement[bool]:
    return sa.and_(_about(table, fence.pipeline, fence.step), table.c.fence == fence.number)


def _keeping(fence: Fence, publication: Publication) -> sa.Insert:
    return RESULTS.insert().values(
        pipeline=fence.pipeline,
        step=fence.step,
        fence=fence.number,
        key=publication.key,
        job=fence.job,
        published_by=actor(),
        published_at=_now(),
        results=dict(publication.results),
        ingredients=dict(publication.ingredients),
        files=dict(publication.files),
    )


def _forgetting(fence: Fence) -> sa.Delete:
    """Delete the publications of a step that are too many."""
    about = _about(RESULTS, fence.pipeline, fence.step)
    oldest = sa.select(RESULTS.c.fence).where(about).order_by(RESULTS.c.fence.desc()).limit(1).offset(KEPT - 1)
    return RESULTS.delete().where(about, RESULTS.c.fence < oldest.scalar_subquery())


def _refusal(connection: sa.Connection, fence: Fence) -> ConflictError:
    columns = (STEPS.c.job, STEPS.c.fence, STEPS.c.status)
    newest = sa.select(*columns).where(_about(STEPS, fence.pipeline, fence.step)).order_by(STEPS.c.fence.desc())
    row = connection.execute(newest.limit(1)).first()
    if row is not None and row.fence == fence.number:
        return ConflictError(f"Step {fence.step} of job {fence.job} is {row.status} already: it ends once.")
    return stale(fence.step, fence.job, row.job if row else "")


def stale(step: str, job: str, taken_by: str = "") -> ConflictError:
    """Word what a stale attempt is told.

    Examples
    --------
    >>> stale("train", "5f0c").exit_code
    12
    """
    now = f"job {taken_by} has begun it anew" if taken_by else "it was begun anew, or has ended"
    return ConflictError(
        f"This attempt at step {step} of job {job} is stale: {now}. It publishes nothing and changes nothing.",
        "The newer attempt goes on; this one can be left alone.",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
