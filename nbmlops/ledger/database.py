"""The ledger's database, SQLite or Postgres: appends to one chain, reads it back."""

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from nbmlops.errors import ConflictError, StoreError
from nbmlops.importing import ALEMBIC, imported
from nbmlops.ledger.events import GENESIS, MAX_SUBJECT, Anchor, Draft, Event, first_break
from nbmlops.ledger.tables import EVENTS, REVISIONS, VERSION_TABLE
from nbmlops.project import BUSY_TIMEOUT_S, Project, actor
from nbmlops.scrub import scrub_text

LOOK_S = 0.01  # between two attempts at what SQLite refuses without a wait


class Ledger:
    """The records of one project, shared by all its processes.

    Parameters
    ----------
    url
        SQLAlchemy URL of the database; it is made or migrated where needed.
    anchors
        Folder of this machine that remembers the chain's head, outside the database.

    Raises
    ------
    StoreError
        The database is out of reach.
    ConflictError
        A newer nbmlops made it.
    """

    def __init__(self, url: str, anchors: Path) -> None:
        self.url = url
        self._anchor_file = anchors / f"ledger-{hashlib.sha256(url.encode()).hexdigest()[:12]}.head"
        with self._reached():
            self._engine = _engine(url)
            try:
                self._migrate()
            except BaseException:
                self.close()
                raise

    @classmethod
    def of(cls, project: Project) -> Self:
        """Open the ledger that the project's settings name."""
        return cls(project.settings.ledger.value, project.state("ledger-heads", "x").parent)

    def reach(self) -> None:
        """Ask the database for nothing.

        Raises
        ------
        StoreError
            It is out of reach now, whatever it was when it was opened.
        """
        with self.reading() as connection:
            connection.execute(sa.select(EVENTS.c.seq).limit(1))

    # ------------------------------------------------------------------ events
    def append(self, draft: Draft) -> Event:
        """Give an event its place at the end of the chain; concurrent writers wait for each other."""
        with self.writing() as connection:
            if connection.dialect.name != "sqlite":  # SQLite's transaction has the write lock already
                connection.execute(sa.text("LOCK TABLE nbmlops_events IN EXCLUSIVE MODE"))
            newest = sa.select(EVENTS.c.seq, EVENTS.c.hash).order_by(EVENTS.c.seq.desc()).limit(1)
            head = connection.execute(newest).first()
            seq, previous = (head.seq + 1, head.hash) if head else (1, GENESIS)
            event = _place(draft, seq, previous)
            connection.execute(EVENTS.insert().values({**vars(event), "at": event.at.isoformat()}))
            holds = self._anchor_holds(connection)
        if holds:  # a broken anchor stays where it is, as the evidence of what was here
            self._remember(event)
        return event

    def events(
        self, *, verbs: tuple[str, ...] = (), subject: str = "", outcome: str = "", limit: int | None = None
    ) -> list[Event]:
        """List events newest first; `subject` also matches what lies under it (``model/a`` has ``model/a/3``)."""
        query = sa.select(EVENTS).order_by(EVENTS.c.seq.desc()).limit(limit)
        if verbs:
            query = query.where(EVENTS.c.verb.in_(verbs))
        if subject := subject[:MAX_SUBJECT]:  # as it is kept; of longer ones SQLite makes no pattern
            under = EVENTS.c.subject.startswith(f"{subject}/", autoescape=True)
            query = query.where(sa.or_(EVENTS.c.subject == subject, under))
        if outcome:
            query = query.where(EVENTS.c.outcome == outcome)
        with self.reading() as connection:
            return [event_of(row) for row in connection.execute(query)]

    def check_chain(self) -> int:
        """Check every link and this machine's anchor; give the number of events.

        Raises
        ------
        ConflictError
            The chain is broken; the message names the first bad event.
        """
        count = 0

        def counted(rows: Iterator[Any]) -> Iterator[Event]:
            nonlocal count
            for row in rows:
                count += 1
                yield event_of(row)

        anchor = self._anchor()  # before the events: one that is appended meanwhile is then no loss
        oldest_first = sa.select(EVENTS).order_by(EVENTS.c.seq).execution_options(yield_per=1000)
        with self.reading() as connection, connection.execute(oldest_first) as rows:
            broken = first_break(counted(iter(rows)), anchor)
        if broken:
            raise ConflictError(
                f"The ledger's chain is broken at event {broken[0]}: {broken[1]}.",
                "Restore the ledger from a backup, and find out who can write to its database.",
            )
        return count

    def close(self) -> None:
        """Give the database's connections back; the next use opens new ones."""
        self._engine.dispose()

    # ---------------------------------------------------------------- internal
    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.ArgumentError, sa.exc.NoSuchModuleError, OSError, ImportError) as exc:
            cause = scrub_text(str(getattr(exc, "orig", None) or exc)).strip().splitlines()[0]
            raise StoreError(
                f"The ledger at {scrub_text(self.url)} is out of reach: {cause}.",
                "Check [stores] ledger in nbmlops.toml (or NBMLOPS_LEDGER), and that its server runs.",
            ) from exc

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction of its own, which writers of SQLite enter one by one."""
        with self._reached(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection to read with."""
        with self._reached(), self._engine.connect() as connection:
            yield connection.execution_options(reads_only=True)

    def _migrate(self) -> None:
        with self.reading() as connection:
            if _revision(connection) == REVISIONS[-1]:
                return
        with self._engine.begin() as connection:
            if connection.dialect.name != "sqlite":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7065437093)"))
            revision = _revision(connection)
            if revision and revision not in REVISIONS:
                raise ConflictError(
                    f"The ledger at {scrub_text(self.url)} has schema {revision}, which a newer nbmlops made; "
                    f"this one knows up to {REVISIONS[-1]}.",
                    "Upgrade this installation: pip install --upgrade nbmlops",
                )
            if revision != REVISIONS[-1]:
                _upgrade(connection)

    def _anchor(self) -> Anchor | None:
        try:
            return Anchor(**json.loads(self._anchor_file.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as exc:
            raise StoreError(
                f"The remembered head of the ledger, {self._anchor_file}, cannot be read: {exc}.",
                "Look at who or what changed it; then remove it: the next event makes it anew.",
            ) from exc

    def _anchor_holds(self, connection: sa.Connection) -> bool:
        try:
            anchor = self._anchor()
        except StoreError:  # kept as it is, for `verify` to tell
            return False
        if anchor is None:
            return True
        return connection.scalar(sa.select(EVENTS.c.hash).where(EVENTS.c.seq == anchor.seq)) == anchor.hash

    def _remember(self, event: Event) -> None:
        known = self._anchor()
        if known is not None and known.seq >= event.seq:
            return
        with contextlib.suppress(OSError):  # the event is written; an older head guards all before it
            with tempfile.NamedTemporaryFile("w", dir=self._anchor_file.parent, suffix=".tmp", delete=False) as draft:
                json.dump({"seq": event.seq, "hash": event.hash}, draft)
                draft.flush()
                os.fsync(draft.fileno())
            Path(draft.name).replace(self._anchor_file)


def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if not parsed.drivername.startswith("sqlite"):
        return sa.create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves, see below
        _write_ahead(connection)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A writer takes the lock at once: one that reads first and asks later is refused without a wait.
        reads = connection.get_execution_options().get("reads_only")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: Any) -> None:
    """Have writers and readers go on beside each other; who asks while a new file is first written to is asked again.

    SQLite refuses that switch at once, however long a connection is ready to wait.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(LOOK_S)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE))).scalar()


def _upgrade(connection: sa.Connection) -> None:
    imported(*ALEMBIC)  # nearly a second, needed only when the schema is behind
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _place(draft: Draft, seq: int, previous: str) -> Event:
    fields = {**vars(draft), "seq": seq, "at": datetime.now(UTC), "actor": actor(), "previous_hash": previous}
    return Event(**fields, hash=Event(**fields, hash="").expected_hash())


def event_of(row: Any) -> Event:
    """Give a row of the table of events as an event."""
    return Event(**{**row._mapping, "at": datetime.fromisoformat(row.at)})
