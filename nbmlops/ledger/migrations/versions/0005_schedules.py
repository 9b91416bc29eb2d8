"""The firings of schedules, their pauses, and what their triggers have seen."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "nbmlops_firings",
        sa.Column("schedule", sa.String(200), primary_key=True),
        sa.Column("occasion", sa.String(400), primary_key=True),
        sa.Column("due_at", sa.String(40), nullable=False, index=True),
        sa.Column("state", sa.String(20), nullable=False, index=True),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("owner", sa.JSON, nullable=False),
        sa.Column("job", sa.String(40), nullable=False),
        sa.Column("claimed_at", sa.String(40), nullable=False),
        sa.Column("started_at", sa.String(40), nullable=False),
        sa.Column("ended_at", sa.String(40), nullable=False),
        sa.Column("exit_code", sa.Integer),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
    )
    op.create_table(
        "nbmlops_pauses",
        sa.Column("schedule", sa.String(200), primary_key=True),
        sa.Column("paused_at", sa.String(40), nullable=False),
        sa.Column("paused_by", sa.String(200), nullable=False),
    )
    op.create_table(
        "nbmlops_seen",
        sa.Column("schedule", sa.String(200), primary_key=True),
        sa.Column("trigger", sa.String(300), primary_key=True),
        sa.Column("place", sa.String(200), primary_key=True),
        sa.Column("since_at", sa.String(40), nullable=False),
        sa.Column("seen", sa.JSON),
    )
