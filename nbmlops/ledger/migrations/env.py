"""Runs the migrations on the connection that the ledger hands over; its caller holds lock and transaction."""

from alembic import context

from nbmlops.ledger.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
