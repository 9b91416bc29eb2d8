"""The endpoints that are wanted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "nbmlops_endpoints",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("record", sa.JSON, nullable=False),
    )
