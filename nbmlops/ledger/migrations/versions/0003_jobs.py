"""The jobs: headless runs of notebooks and pipelines."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "nbmlops_jobs",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, index=True),
        sa.Column("status", sa.String(20), nullable=False, index=True),
        sa.Column("began_at", sa.String(40), nullable=False, index=True),
        sa.Column("record", sa.JSON, nullable=False),
    )
