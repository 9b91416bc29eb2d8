"""What is wanted of endpoints, what is, and how registered models are served."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables; endpoints of before were single processes, which `deploy` starts anew."""
    op.drop_table("nbmlops_endpoints")
    op.create_table(
        "nbmlops_endpoints",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.Column("found", sa.JSON, nullable=False),
    )
    op.create_table(
        "nbmlops_forms",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("record", sa.JSON, nullable=False),
        sa.Column("compiled", sa.LargeBinary),
        sa.Column("onnx", sa.LargeBinary),
    )
    op.create_table(
        "nbmlops_moves",
        sa.Column("model", sa.String(256), primary_key=True),
        sa.Column("alias", sa.String(256), primary_key=True),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("asked_at", sa.String(40), nullable=False),
    )
