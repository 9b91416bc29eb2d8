"""What alerts are to tell, and how far each has heard."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "nbmlops_alerts",
        sa.Column("alert", sa.String(200), primary_key=True),
        sa.Column("event", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(20), nullable=False, index=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("queued_at", sa.String(40), nullable=False),
        sa.Column("next_at", sa.String(40), nullable=False),
        sa.Column("said", sa.String(500), nullable=False),
    )
    op.create_table(
        "nbmlops_heard",
        sa.Column("alert", sa.String(200), primary_key=True),
        sa.Column("event", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("muted_until", sa.String(40), nullable=False),
    )
