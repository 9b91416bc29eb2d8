"""Runs the migrations on the connection that the ledger hands over; its caller holds lock and transaction."""

from alembic import context

from nbmlops.ledger.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
