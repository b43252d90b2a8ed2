"""The last ending of all sessions of a user, in the order in which endings are committed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "coatcheck_0004"
down_revision = "coatcheck_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column that may be NULL, and on SQLite a counter: no row is rewritten.

    The version before goes on working beside this one. What it ends stops no sign-in that this one began before its
    user was known.
    """
    op.add_column("coatcheck_users", sa.Column("last_ending", sa.BigInteger, nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        op.create_table(
            "coatcheck_endings",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("number", sa.BigInteger, nullable=False),
        )


def downgrade() -> None:
    """Forget them."""
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("coatcheck_endings")
    op.drop_column("coatcheck_users", "last_ending")
