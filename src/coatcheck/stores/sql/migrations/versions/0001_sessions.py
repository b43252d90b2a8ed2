"""Sessions, users and leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "coatcheck_0001"
down_revision = None
branch_labels: tuple[str, ...] = ("coatcheck",)
depends_on = None

# A revision is history: it says what it needs itself and does not follow later changes of `schema`.
_time = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
_session_id = sa.Text().with_variant(postgresql.UUID(), "postgresql")
_exact_text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "coatcheck_users",
        sa.Column("id", _exact_text, primary_key=True),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("blocked", sa.Boolean, nullable=False),
        sa.Column("is_registered", sa.Boolean, nullable=False),
        sa.Column("revocations", sa.BigInteger, nullable=False),
        sa.Column("rescopes", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "coatcheck_sessions",
        sa.Column("id", _session_id, primary_key=True),
        sa.Column("user_id", _exact_text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("follows_user", sa.Boolean, nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("last_used_at", _time, nullable=False),
        sa.Column("expires_at", _time, nullable=True),
        sa.Column("expire_after_unused_for_us", sa.BigInteger, nullable=True),
        sa.Column("key_hash", sa.LargeBinary, nullable=False),
        sa.Column("key_salt", sa.LargeBinary, nullable=False),
        sa.Column("pepper_id", sa.Text, nullable=True),
        sqlite_with_rowid=False,
    )
    if op.get_context().dialect.name == "postgresql":  # SQLAlchemy 2.0 cannot say it in CREATE TABLE
        op.execute("ALTER TABLE coatcheck_sessions SET (fillfactor = 85)")
    op.create_index("coatcheck_sessions_user_id", "coatcheck_sessions", ["user_id", "id"])
    op.create_index(
        "coatcheck_sessions_expires_at",
        "coatcheck_sessions",
        ["expires_at"],
        postgresql_where=sa.text("expires_at IS NOT NULL"),
        sqlite_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_table(
        "coatcheck_leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("expires_at", _time, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables, and with them every session."""
    op.drop_table("coatcheck_leases")
    op.drop_table("coatcheck_sessions")
    op.drop_table("coatcheck_users")
