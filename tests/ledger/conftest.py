"""The ledger's tests run on every database that it supports."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from nbmlops.ledger.database import Ledger

DATABASES = ("sqlite", "postgres")
Opened = Callable[[], Ledger]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database's URL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    """Where this machine remembers the chain's head."""
    folder = tmp_path / "heads"
    folder.mkdir()
    return folder


@pytest.fixture
def open_ledger(url: str, anchors: Path) -> Iterator[Opened]:
    """Opens the ledger anew, as another process would; closes what it opened."""
    with contextlib.ExitStack() as stack:

        def opened() -> Ledger:
            return stack.enter_context(contextlib.closing(Ledger(url, anchors)))

        yield opened


@pytest.fixture
def ledger(open_ledger: Opened) -> Ledger:
    """An empty ledger."""
    return open_ledger()


@contextlib.contextmanager
def intruder(url: str) -> Iterator[sa.Connection]:
    """Reach the database past nbmlops, as somebody with its password does; what is done is committed."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextlib.contextmanager
def without_triggers(url: str) -> Iterator[sa.Connection]:
    """Reach the database with the guard of its events taken away."""
    with intruder(url) as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(sa.text("DROP TRIGGER nbmlops_events_no_update"))
            connection.execute(sa.text("DROP TRIGGER nbmlops_events_no_delete"))
        else:
            connection.execute(sa.text("DROP TRIGGER nbmlops_events_no_change ON nbmlops_events"))
        yield connection
