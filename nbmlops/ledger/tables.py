"""The ledger's tables, and the revisions of its schema that this version knows, oldest first.

Their names begin with ``nbmlops_``: the database may be MLflow's too, which has ``endpoints`` of its own.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, LargeBinary, MetaData, String, Table

from nbmlops.ledger.events import MAX_SUBJECT

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
VERSION_TABLE = "nbmlops_version"
METADATA = MetaData()

EVENTS = Table(
    "nbmlops_events",
    METADATA,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", String(40), nullable=False),  # ISO 8601, UTC: the hash needs the very same text back
    Column("verb", String(40), nullable=False, index=True),
    Column("subject", String(MAX_SUBJECT), nullable=False, index=True),
    Column("actor", String(200), nullable=False),
    Column("surface", String(20), nullable=False),
    Column("by_human", Boolean, nullable=False),
    Column("outcome", String(60), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("result", JSON),
    Column("seconds", Float, nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
)

ENDPOINTS = Table(
    "nbmlops_endpoints",
    METADATA,
    Column("name", String(200), primary_key=True),
    Column("revision", Integer, nullable=False),  # of what is wanted: who changes it names the one that was read
    Column("record", JSON, nullable=False),  # what is wanted
    Column("found", JSON, nullable=False),  # what is, as the machine that serves it told last
)

FORMS = Table(  # how registered bytes are served
    "nbmlops_forms",
    METADATA,
    Column("digest", String(64), primary_key=True),  # of the model's manifest
    Column("record", JSON, nullable=False),
    Column("compiled", LargeBinary),
    Column("onnx", LargeBinary),  # its trees for ONNX Runtime, where that is faster
)

MOVES = Table(  # aliases that MLflow is still to be told of
    "nbmlops_moves",
    METADATA,
    Column("model", String(256), primary_key=True),
    Column("alias", String(256), primary_key=True),
    Column("version", String(40), nullable=False),
    Column("asked_at", String(40), nullable=False),  # ISO 8601, UTC
)

JOBS = Table(
    "nbmlops_jobs",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("name", String(200), nullable=False, index=True),
    Column("status", String(20), nullable=False, index=True),
    Column("began_at", String(40), nullable=False, index=True),  # ISO 8601, UTC
    Column("record", JSON, nullable=False),
)

STEPS = Table(  # one row for each attempt at a step of a pipeline
    "nbmlops_steps",
    METADATA,
    Column("pipeline", String(200), primary_key=True),
    Column("step", String(1000), primary_key=True),
    Column("fence", Integer, primary_key=True, autoincrement=False),
    Column("job", String(40), nullable=False, index=True),
    Column("key", String(64), nullable=False),
    Column("status", String(20), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("began_at", String(40), nullable=False),  # ISO 8601, UTC
    Column("ended_at", String(40), nullable=False),  # empty as long as it goes on
    Column("run_id", String(64), nullable=False),
    Column("error", JSON, nullable=False),
    Column("record", JSON, nullable=False),
)

RESULTS = Table(  # what was published, under the fence of the attempt that did
    "nbmlops_results",
    METADATA,
    Column("pipeline", String(200), primary_key=True),
    Column("step", String(1000), primary_key=True),
    Column("fence", Integer, primary_key=True, autoincrement=False),
    Column("key", String(64), nullable=False),
    Column("job", String(40), nullable=False),
    Column("published_by", String(200), nullable=False),
    Column("published_at", String(40), nullable=False),
    Column("results", JSON, nullable=False),
    Column("ingredients", JSON, nullable=False),
    Column("files", JSON, nullable=False),  # what the results point to, as it was
)

FIRINGS = Table(  # one row for each time that a schedule is due, and for each thing that a trigger has seen
    "nbmlops_firings",
    METADATA,
    Column("schedule", String(200), primary_key=True),
    Column("occasion", String(400), primary_key=True),  # the due time itself, or what a trigger has seen
    Column("due_at", String(40), nullable=False, index=True),  # ISO 8601, UTC, to the second: it sorts as text
    Column("state", String(20), nullable=False, index=True),
    Column("fence", Integer, nullable=False),
    Column("owner", JSON, nullable=False),
    Column("job", String(40), nullable=False),
    Column("claimed_at", String(40), nullable=False),
    Column("started_at", String(40), nullable=False),  # empty as long as it has not
    Column("ended_at", String(40), nullable=False),
    Column("exit_code", Integer),
    Column("reason", String(1000), nullable=False),
    Column("parameters", JSON, nullable=False),
)

PAUSES = Table(
    "nbmlops_pauses",
    METADATA,
    Column("schedule", String(200), primary_key=True),
    Column("paused_at", String(40), nullable=False),
    Column("paused_by", String(200), nullable=False),
)

SEEN = Table(  # since when a schedule's clock is heeded, and what its triggers have seen
    "nbmlops_seen",
    METADATA,
    Column("schedule", String(200), primary_key=True),
    Column("trigger", String(300), primary_key=True),
    Column("place", String(200), primary_key=True),  # the machine, where a trigger looks at its files
    Column("since_at", String(40), nullable=False),
    Column("seen", JSON),
)

ALERTS = Table(  # one row for each event that an alert is to tell of
    "nbmlops_alerts",
    METADATA,
    Column("alert", String(200), primary_key=True),
    Column("event", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("state", String(20), nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("queued_at", String(40), nullable=False),  # ISO 8601, UTC, to the second: it sorts as text
    Column("next_at", String(40), nullable=False),  # of the next attempt, or when one that goes on counts as lost
    Column("said", String(500), nullable=False),  # what came of the last attempt
)

HEARD = Table(  # up to which event an alert has heard of what happened, and until when it keeps silent
    "nbmlops_heard",
    METADATA,
    Column("alert", String(200), primary_key=True),
    Column("event", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("muted_until", String(40), nullable=False),  # empty where it is not
)
