"""The attempts at steps of pipelines, and what they published."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "nbmlops_steps",
        *_attempt(),
        sa.Column("job", sa.String(40), nullable=False, index=True),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("began_at", sa.String(40), nullable=False),
        sa.Column("ended_at", sa.String(40), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("error", sa.JSON, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_table(
        "nbmlops_results",
        *_attempt(),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("job", sa.String(40), nullable=False),
        sa.Column("published_by", sa.String(200), nullable=False),
        sa.Column("published_at", sa.String(40), nullable=False),
        sa.Column("results", sa.JSON, nullable=False),
        sa.Column("ingredients", sa.JSON, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
    )


def _attempt() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("pipeline", sa.String(200), primary_key=True),
        sa.Column("step", sa.String(1000), primary_key=True),
        sa.Column("fence", sa.Integer, primary_key=True, autoincrement=False),
    )
