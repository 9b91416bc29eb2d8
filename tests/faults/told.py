"""What killed children were told is safe, held against what the store has: each thing once, and every end true."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# A script that logs for ever, and says what each call has done once it has returned.
LOOP = """
import json, os, random, sys
import mlflow
import nbmlops

uri, seed = sys.argv[1:]
chance = random.Random(seed)
mlflow.set_tracking_uri(uri)
mlflow.set_experiment("kills")


def did(*what):
    os.write(1, (json.dumps(what) + "\\n").encode())


while True:
    run_id = mlflow.start_run().info.run_id
    did("run", run_id)
    for step in range(chance.randrange(1, 80)):
        kind, value = chance.choice(["metric"] * 6 + ["log"] * 6 + ["param", "tag", "text"]), chance.random()
        if kind == "metric":
            mlflow.log_metric("loss", value, step=step)
        elif kind == "log":
            nbmlops.log(auc=value, step=step)
        elif kind == "param":
            mlflow.log_param(f"p{step}", value)
        elif kind == "tag":
            mlflow.set_tag(f"t{step}", value)
        else:
            mlflow.log_text(str(value), f"notes/{step}.txt")
        did(kind, run_id, step, value)
    status = chance.choice(["FINISHED", "FAILED", "KILLED"])
    mlflow.end_run(status)
    did("end", run_id, status)
"""
METRICS = {"metric": "loss", "log": "auc"}


@dataclass
class Store:
    """An MLflow database, read as it lies there; `files` is where a server keeps artifacts."""

    database: Path
    files: Path | None = None

    def rows(self, query: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query, values).fetchall()

    def runs(self) -> dict[str, tuple[str, str, str]]:
        """Every run that is not deleted, by its id and by the id that its creation carried: id, status, artifacts."""
        rows = self.rows("SELECT run_uuid, status, artifact_uri FROM runs WHERE lifecycle_stage = 'active'")
        found = {row[0]: row for row in rows}
        for run_id, intent in self.rows("SELECT run_uuid, value FROM tags WHERE key = 'nbmlops.id'"):
            if run_id in found:
                assert intent not in found, f"a run was created twice: {intent}"
                found[intent] = found[run_id]
        return found

    def text(self, artifacts: str, path: str) -> str:
        parts = urlsplit(artifacts)
        place = self.files / parts.path.strip("/") if self.files else Path(unquote(parts.path))
        return (place / path).read_text()


def assert_true(store: Store, told: Iterable[list[Any]]) -> int:
    """Fail if anything that was told is not in the store just once, or if a run has another end than it had.

    Gives the number of things that were told.
    """
    told = list(told)
    runs = store.runs()
    assert "RUNNING" not in {status for _, status, _ in runs.values()}
    metrics = defaultdict(list)
    for run_id, key, step, value in store.rows("SELECT run_uuid, key, step, value FROM metrics"):
        metrics[run_id, key, step].append(value)
    assert [place for place, values in metrics.items() if len(values) > 1] == [], "doubled"
    params, tags = (
        {row[:2]: row[2] for row in store.rows(f"SELECT run_uuid, key, value FROM {name}")}
        for name in ("params", "tags")
    )
    ended = {run_id: status for kind, run_id, status, *_ in ((*each, "") for each in told) if kind == "end"}
    for kind, run_id, *rest in told:
        real, status, artifacts = runs[run_id]
        match kind:
            case "run":
                assert status == ended.get(run_id, status)
                if run_id not in ended:  # its end may have been written without being told
                    assert status == "FAILED" or "nbmlops.error" not in dict(tags)
            case "metric" | "log":
                assert metrics[real, METRICS[kind], rest[0]] == [rest[1]]
            case "param":
                assert params[real, f"p{rest[0]}"] == str(rest[1])
            case "tag":
                assert tags[real, f"t{rest[0]}"] == str(rest[1])
            case "text":
                assert store.text(artifacts, f"notes/{rest[0]}.txt") == str(rest[1])
    return len(told)
