"""What an event of the ledger costs, chain and scrubbed JSON included, beside a bare insert into SQLite."""

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from contest import Bench, Figures

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Draft

N = 300
RESULT = {"model": "delays/3", "checks": [{"name": "roc_auc", "value": 0.71, "limit": 0.7, "status": "passed"}] * 5}


def append_events() -> Figures:
    """Append events one by one, each in a transaction of its own."""
    with TemporaryDirectory() as folder, contextlib.closing(Ledger(f"sqlite:///{folder}/l.db", Path(folder))) as ledger:
        draft = Draft("validate", "model/delays/3", "cli", False, "ok", {"model": "delays/3"}, RESULT, 0.1)
        started = time.perf_counter()
        for _ in range(N):
            ledger.append(draft)
        return {"µs an event": (time.perf_counter() - started) / N * 1e6}


def insert_rows() -> Figures:
    """Insert the same JSON with sqlite3 alone, one transaction a row, in the same journal mode."""
    with (
        TemporaryDirectory() as folder,
        contextlib.closing(sqlite3.connect(f"{folder}/l.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, verb TEXT, subject TEXT, result TEXT)")
        started = time.perf_counter()
        for _ in range(N):
            connection.execute("BEGIN IMMEDIATE")
            row = ("validate", "model/delays/3", json.dumps(RESULT))
            connection.execute("INSERT INTO events (verb, subject, result) VALUES (?, ?, ?)", row)
            connection.execute("COMMIT")
        return {"µs an event": (time.perf_counter() - started) / N * 1e6}


BENCHES = (Bench("append to the ledger on SQLite", ours=append_events, peers={"a bare `sqlite3` insert": insert_rows}),)
