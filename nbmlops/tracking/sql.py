"""The one file that reads MLflow's tables itself: the values that its client gives, many times faster.

It reads, and nothing else, and only a schema that it knows. At another revision, and for a
store that is no database, every function gives None: then MLflow's client is to be asked.
"""

import contextlib
import functools
import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from nbmlops.project import patient
from nbmlops.tracking.runs import Selection

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Integers = np.ndarray[Any, np.dtype[np.int64]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]

REVISIONS = {"dc11669786a5": "MLflow 3.17"}  # of alembic_version; add one when its tables of runs were looked at
MOST_METRICS = 1_000  # of a run, that are drawn
CONNECT_S = 10  # that a database server may take to answer


_TYPES = {"is_nan": sa.Boolean()}


def _table(name: str, columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(each, _TYPES.get(each)) for each in columns.split()))


_EXPERIMENTS = _table("experiments", "experiment_id name workspace")
_RUNS = _table("runs", "run_uuid name status start_time end_time experiment_id artifact_uri lifecycle_stage")
_METRICS = _table("latest_metrics", "run_uuid key value is_nan")
_PARAMS = _table("params", "run_uuid key value")
_TAGS = _table("tags", "run_uuid key value")
# Sorted afterwards, which is faster. SQLite by itself would look through this metric of all runs.
_HISTORY = """
SELECT step, timestamp, value, is_nan FROM metrics {by_index} WHERE run_uuid = :run_id AND key = :key"""
_BY_INDEX = {"sqlite": "INDEXED BY index_metrics_run_uuid_key_step"}
# The curves of some runs, each read by its ends and evenly spaced steps between them: as long for a history of a
# million values as for one of sixty. A metric of one value has none; one that is short is read whole; one whose values
# all have the same step, by every so many of them.
_CURVES = """
WITH RECURSIVE place(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM place WHERE i < :most - 1),
several AS (
  SELECT run_uuid, key, count(*) OVER (PARTITION BY key) AS n_runs FROM latest_metrics AS latest
  WHERE run_uuid IN :ids AND 1 = (
    SELECT 1 FROM metrics {by_index} WHERE run_uuid = latest.run_uuid AND key = latest.key LIMIT 1 OFFSET 1)),
ranked AS (
  SELECT run_uuid, key, row_number() OVER (PARTITION BY run_uuid ORDER BY key <> :first, n_runs DESC, key) AS at
  FROM several),
curve AS (
  SELECT run_uuid, key,
    (SELECT min(step) FROM metrics {by_index} WHERE run_uuid = ranked.run_uuid AND key = ranked.key) AS low,
    (SELECT max(step) FROM metrics {by_index} WHERE run_uuid = ranked.run_uuid AND key = ranked.key) AS high,
    (SELECT count(*) FROM (
      SELECT 1 FROM metrics {by_index} WHERE run_uuid = ranked.run_uuid AND key = ranked.key LIMIT :most) AS few) AS n
  FROM ranked WHERE at <= :each)
SELECT run_uuid, key, i AS place, step, (
    SELECT CASE WHEN is_nan THEN NULL ELSE value END FROM metrics {by_index}
    WHERE run_uuid = at.run_uuid AND key = at.key AND step <= at.step
    ORDER BY step DESC, timestamp DESC, value DESC LIMIT 1)
FROM (
  SELECT run_uuid, key, i, CAST(low + (1.0 * high - low) * i / (:most - 1) AS BIGINT) AS step
  FROM curve CROSS JOIN place WHERE n = :most AND high > low) AS at
UNION ALL SELECT curve.run_uuid, curve.key,
    row_number() OVER (PARTITION BY curve.run_uuid, curve.key ORDER BY step, timestamp, value), step,
    CASE WHEN is_nan THEN NULL ELSE value END
FROM curve CROSS JOIN metrics AS m {by_index} WHERE m.run_uuid = curve.run_uuid AND m.key = curve.key AND n < :most
UNION ALL SELECT run_uuid, key, place, step, value FROM (
  SELECT curve.run_uuid, curve.key, step, CASE WHEN is_nan THEN NULL ELSE value END AS value,
    row_number() OVER (PARTITION BY curve.run_uuid, curve.key ORDER BY timestamp, value) - 1 AS place,
    count(*) OVER (PARTITION BY curve.run_uuid, curve.key) AS total
  FROM curve CROSS JOIN metrics AS m {by_index}
  WHERE m.run_uuid = curve.run_uuid AND m.key = curve.key AND n = :most AND high = low) AS points
WHERE place = total - 1 OR place % ((total + :most - 2) / (:most - 1)) = 0
ORDER BY 1, 2, 3"""

_TAGGED = sa.text("""
SELECT runs.run_uuid FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid
WHERE tags.key = :key AND tags.value = :value AND runs.lifecycle_stage = 'active' AND :status IN ('', runs.status)
ORDER BY runs.run_uuid""")
_STATE = sa.text("""
SELECT runs.status, tags.value FROM runs LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = :key
WHERE runs.run_uuid = :run_id""")


# A registered version by its number, or by an alias where the number is empty.
_VERSION = sa.text("""
SELECT v.version, v.source, v.run_id, v.creation_time, t.value AS digest FROM model_versions v
LEFT JOIN model_version_tags t
  ON t.workspace = v.workspace AND t.name = v.name AND t.version = v.version AND t.key = 'nbmlops.digest'
WHERE v.workspace = 'default' AND v.name = :name AND v.current_stage <> 'Deleted_Internal' AND v.version = COALESCE(
  CAST(NULLIF(:version, '') AS INTEGER),
  (SELECT a.version FROM registered_model_aliases a
   WHERE a.workspace = 'default' AND a.name = :name AND a.alias = :alias))""")


class History(NamedTuple):
    """Every value that a metric of a run had, in the order in which MLflow gives them: by time, step and value.

    Three arrays of one length: `steps` and `timestamps_ms` (milliseconds of the epoch) are int64,
    `values` float64. NaN is NaN; for an infinity stands the largest float, as MLflow's client gives it.
    """

    steps: "Integers"  # (n,)
    timestamps_ms: "Integers"  # (n,)
    values: "Floats"  # (n,)

    def to_frame(self) -> "pd.DataFrame":
        """Give the history as a DataFrame of three columns, ``step``, ``timestamp`` (UTC) and ``value``."""
        import pandas as pd

        times = pd.to_datetime(self.timestamps_ms, unit="ms", utc=True)
        return pd.DataFrame({"step": self.steps, "timestamp": times, "value": self.values})


class Point(NamedTuple):
    """A metric's value at a step, or the last one before it; NaN is NaN."""

    step: int
    value: float


class Row(NamedTuple):
    """One run as the tables hold it; times are milliseconds of the epoch."""

    run_id: str
    name: str | None
    status: str
    start_time: int | None
    end_time: int | None
    experiment_id: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


class Version(NamedTuple):
    """One registered version as the tables hold it; `creation_time` is in milliseconds of the epoch."""

    version: int
    source: str | None
    run_id: str | None
    creation_time: int
    digest: str | None


def version(uri: str, name: str, number: str, alias: str) -> Version | None:
    """Read a registered version; None too where it does not exist: MLflow's client then says so."""
    with _opened(uri) as connection:
        if connection is None:
            return None
        found = connection.execute(_VERSION, {"name": name, "version": number, "alias": alias}).first()
        return Version(*found) if found else None


# ---------------------------------------------------------------------- one run
def history(uri: str, run_id: str, key: str) -> History | None:
    """Read a metric's history; that of a run or metric that does not exist is empty."""
    with _opened(uri) as connection:
        if connection is None:
            return None
        query = _HISTORY.format(by_index=_BY_INDEX.get(connection.dialect.name, ""))
        return history_of(_tuples(connection.execute(sa.text(query), {"run_id": run_id, "key": key})))


def history_of(rows: Sequence[Any]) -> History:
    """Make a history of rows in any order: step, time, value and whether the value is NaN.

    Examples
    --------
    >>> history_of([(1, 2000, 0.0, True), (0, 1000, 0.5, False)]).values
    array([0.5, nan])
    """
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    import numpy as np  # a tenth of a second that the other readers do without

    steps, stamps = (np.array(column, np.int64) for column in columns[:2])
    values, is_nan = np.array(columns[2], np.float64), np.array(columns[3], np.bool_)
    order = np.lexsort((values, steps, stamps))
    values[is_nan] = np.nan
    return History(steps[order], stamps[order], values[order])


# -------------------------------------------------------------------- many runs
def newest(uri: str, experiment: str, chosen: Selection) -> list[Row] | None:
    """Read the runs of an experiment that a selection chooses, in its order; none of an experiment that is not there.

    MLflow's own order for a metric: best first, then the runs where it is NaN, then those without it.
    """
    with _opened(uri) as connection:
        if connection is None:
            return None
        runs = connection.execute(_choice(experiment, chosen)).fetchall()
        ids = [run.run_uuid for run in runs]
        held = [_by_run(connection, table, ids) for table in (_METRICS, _PARAMS, _TAGS)]
    return [_row(run, *(values.get(run.run_uuid, {}) for values in held)) for run in runs]


def curves(
    uri: str, ids: Sequence[str], most: int, *, each: int | None = None, first: str = ""
) -> dict[str, dict[str, tuple[Point, ...]]] | None:
    """Read how metrics of some runs went, thinned to at most `most` values (2 or more): run -> metric -> points.

    Of each run at most `each` metrics that have several values: `first`, then those that most of the runs have.
    """
    with _opened(uri) as connection:
        if connection is None:
            return None
        query = sa.text(_CURVES.format(by_index=_BY_INDEX.get(connection.dialect.name, "")))
        asked = {"ids": list(ids), "most": most, "each": each or MOST_METRICS, "first": first}
        rows = _tuples(
            connection.execute(query.bindparams(sa.bindparam("ids", type_=sa.String(), expanding=True)), asked)
        )
    found: dict[str, dict[str, tuple[Point, ...]]] = {}
    for (run_id, key), points in itertools.groupby(rows, key=operator.itemgetter(0, 1)):
        found.setdefault(run_id, {})[key] = tuple(
            Point(step, math.nan if value is None else value) for *_, step, value in points
        )
    return found


def frame(uri: str, experiment: str) -> "pd.DataFrame | None":
    """Read all runs of an experiment as ``mlflow.search_runs`` gives them: same columns, same values.

    MLflow puts the columns of metrics, params and tags in no order; here each kind is sorted by name.
    """
    chosen = _active(experiment)
    with _opened(uri) as connection:
        if connection is None:
            return None
        runs = connection.execute(chosen.order_by(*_NEWEST_FIRST)).fetchall()
        place = {run.run_uuid: at for at, run in enumerate(runs)}
        metrics = _by_key(connection, _METRICS, chosen, place, missing=math.nan)
        params, tags = (_by_key(connection, table, chosen, place, missing=None) for table in (_PARAMS, _TAGS))
    info = {
        "run_id": list(place),
        "experiment_id": [str(run.experiment_id) for run in runs],
        "status": [run.status for run in runs],
        "artifact_uri": [run.artifact_uri for run in runs],
    }
    times = {name: [getattr(run, name) for run in runs] for name in ("start_time", "end_time")}
    return assembled(info, times, {"metrics": metrics, "params": params, "tags": tags})


def assembled(
    info: Mapping[str, list[Any]],
    times_ms: Mapping[str, list[int | None]],
    held: Mapping[str, Mapping[str, list[Any]]],
) -> "pd.DataFrame":
    """Put a table of runs together as MLflow does; of each kind that runs hold, the columns are sorted by name.

    Examples
    --------
    >>> assembled({"run_id": ["ab"]}, {"start_time": [1000]}, {"params": {"depth": ["3"]}}).columns.tolist()
    ['run_id', 'start_time', 'params.depth']
    """
    import pandas as pd

    times = {name: _times(stamps) for name, stamps in times_ms.items()}
    columns = {f"{kind}.{key}": values[key] for kind, values in held.items() for key in sorted(values)}
    return pd.DataFrame({**info, **times, **columns})


_NEWEST_FIRST = (_RUNS.c.start_time.desc(), _RUNS.c.run_uuid)


def _row(run: Any, metrics: dict[str, float], params: dict[str, str], tags: dict[str, str]) -> Row:
    times = (run.start_time, run.end_time)
    return Row(run.run_uuid, run.name, run.status, *times, str(run.experiment_id), metrics, params, tags)


def _active(experiment: str, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    number = sa.select(_EXPERIMENTS.c.experiment_id).where(
        _EXPERIMENTS.c.name == experiment, _EXPERIMENTS.c.workspace == "default"
    )
    names = ("run_uuid", "name", "status", "start_time", "end_time", "experiment_id", "artifact_uri")
    return sa.select(*(_RUNS.c[name] for name in names)).where(
        _RUNS.c.experiment_id == number.scalar_subquery(), _RUNS.c.lifecycle_stage == "active", *conditions
    )


def _choice(experiment: str, chosen: Selection) -> sa.Select[Any]:
    query = _active(experiment, *_conditions(chosen)).limit(chosen.limit).offset(chosen.offset)
    if not chosen.metric:
        return query.order_by(*_NEWEST_FIRST)
    key = _METRICS.alias("sorted")
    has_none_last = sa.case((key.c.is_nan, 1), (key.c.value.is_(None), 2), else_=0)
    value = key.c.value.asc() if chosen.lowest_first else key.c.value.desc()
    mine = (key.c.run_uuid == _RUNS.c.run_uuid) & (key.c.key == chosen.metric)
    return query.outerjoin_from(_RUNS, key, mine).order_by(has_none_last, value, *_NEWEST_FIRST)


def _conditions(chosen: Selection) -> Iterator[sa.ColumnElement[bool]]:
    if chosen.status:
        yield _RUNS.c.status == chosen.status
    if chosen.name:
        yield _RUNS.c.name == chosen.name
    if chosen.since:
        yield _RUNS.c.start_time >= int(chosen.since.timestamp() * 1000)
    if chosen.user:
        yield _tagged(("mlflow.user",), (chosen.user,))
    if chosen.sources:
        yield _tagged(("nbmlops.notebook", "mlflow.source.name"), chosen.sources)


def _tagged(keys: Sequence[str], values: Sequence[str]) -> sa.ColumnElement[bool]:
    tag = _TAGS.alias()
    return sa.exists().where(tag.c.run_uuid == _RUNS.c.run_uuid, tag.c.key.in_(keys), tag.c.value.in_(values))


def _by_run(connection: sa.Connection, table: sa.TableClause, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read what a table holds of some runs: run -> key -> value."""
    found: dict[str, dict[str, Any]] = {}
    for run_id, key, value in _tuples(connection.execute(_held(table).where(table.c.run_uuid.in_(ids)))):
        found.setdefault(run_id, {})[key] = value if value is not None or table is not _METRICS else math.nan
    return found


def _by_key(
    connection: sa.Connection, table: sa.TableClause, chosen: sa.Select[Any], place: Mapping[str, int], missing: Any
) -> dict[str, list[Any]]:
    """Read what a table holds of the chosen runs: key -> a column with a place for each run."""
    columns: dict[str, list[Any]] = {}
    ids = chosen.with_only_columns(_RUNS.c.run_uuid)
    for run_id, key, value in _tuples(connection.execute(_held(table).where(table.c.run_uuid.in_(ids)))):
        if run_id in place:  # else it began while the tables were read
            if key not in columns:
                columns[key] = [missing] * len(place)
            columns[key][place[run_id]] = missing if value is None else value
    return columns


def _held(table: sa.TableClause) -> sa.Select[Any]:
    """Ask a table for run, key and value; a metric's NaN, which MLflow keeps as a flag, comes as None."""
    value = sa.case((table.c.is_nan, None), else_=table.c.value) if table is _METRICS else table.c.value
    return sa.select(table.c.run_uuid, table.c.key, value)


def _tuples(result: sa.CursorResult[Any]) -> Sequence[Any]:
    """Fetch all as the driver gives it: rows of SQLAlchemy's take as long again as the query."""
    return result.cursor.fetchall() if result.cursor else ()


def _times(stamps_ms: Sequence[int | None]) -> Any:
    """Make a column of times, in the resolution that the client's has."""
    import pandas as pd

    if not any(stamps_ms):
        return [pd.NaT] * len(stamps_ms)
    resolution = pd.Series([pd.to_datetime(1, unit="ms", utc=True)]).dtype
    return pd.Series(pd.to_datetime(pd.array(list(stamps_ms), dtype="Int64"), unit="ms", utc=True)).astype(resolution)


# ------------------------------------------------------------- behind MLflow's own store
def tagged(engine: sa.Engine, key: str, value: str, status: str = "") -> list[str] | None:
    """List the ids of the runs that carry a tag and are not deleted, in the order of ids; of one status, or of all."""
    with _borrowed(engine) as connection:
        if connection is None:
            return None
        return list(connection.execute(_TAGGED, {"key": key, "value": value, "status": status}).scalars())


def state(engine: sa.Engine, run_id: str, key: str) -> tuple[str, str] | None:
    """Read a run's status, and one of its tags, empty without it; None also for a run that is not there."""
    with _borrowed(engine) as connection:
        found = None if connection is None else connection.execute(_STATE, {"run_id": run_id, "key": key}).first()
    return None if found is None else (found.status, found.value or "")


# -------------------------------------------------------------------- the store
@contextlib.contextmanager
def _borrowed(engine: sa.Engine) -> Iterator[sa.Connection | None]:
    """Use a connection of MLflow's store; None stands for a store whose tables are not known."""
    with engine.connect() as connection:
        yield connection if _is_known(connection) else None


@contextlib.contextmanager
def _opened(uri: str) -> Iterator[sa.Connection | None]:
    """Connect to a store whose tables are known; None stands for any other."""
    plain = uri.removeprefix("nbmlops+")
    if not _is_there(plain):
        yield None
        return
    with _engine(patient(plain)).connect() as connection:
        yield connection if _is_known(connection) else None


def _is_there(uri: str) -> bool:
    """Say whether a store is a database, and an SQLite file exists: connecting would make one."""
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///").partition("?")[0]).is_file()
    return uri.startswith("postgresql")


def _is_known(connection: sa.Connection) -> bool:
    try:
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
    except sa.exc.DatabaseError:  # there is no such table: the database is not MLflow's, or not yet
        connection.rollback()
        return False
    return len(found) == 1 and found[0] in REVISIONS


@functools.lru_cache(maxsize=8)
def _engine(uri: str) -> sa.Engine:
    """Prepare to connect; a connection is made for each read and closed after it."""
    if uri.startswith("postgresql"):
        return sa.create_engine(
            uri,
            poolclass=sa.NullPool,
            isolation_level="REPEATABLE READ",  # several tables of one moment
            connect_args={"connect_timeout": CONNECT_S},
        )
    return sa.create_engine(uri, poolclass=sa.NullPool)
