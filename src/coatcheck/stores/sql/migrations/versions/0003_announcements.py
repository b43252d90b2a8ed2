"""Announcements on SQLite. PostgreSQL carries them by NOTIFY and keeps none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "coatcheck_0003"
down_revision = "coatcheck_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table. The version before neither writes to it nor reads it."""
    if op.get_bind().dialect.name != "sqlite":
        return
    op.create_table(
        "coatcheck_announcements",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("announced_at", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("coatcheck_announcements_announced_at", "coatcheck_announcements", ["announced_at"])


def downgrade() -> None:
    """Drop it."""
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("coatcheck_announcements")
