"""The version of the tables, and the peppers that sessions are hashed with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from coatcheck.stores.sql import schema_version

revision = "coatcheck_0005"
down_revision = "coatcheck_0004"
branch_labels = None
depends_on = None

VERSION = 5
COMPATIBLE_WITH = 4
"""Two tables more; the version before does not look at them, and goes on working beside this one."""


def upgrade() -> None:
    """Add two small tables. No row of another table is written."""
    op.create_table(
        "coatcheck_schema",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("lowest_code", sa.Integer, nullable=False),
    )
    op.create_table(
        "coatcheck_peppers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("check_value", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    schema_version.note(op.get_bind(), version=VERSION, compatible_with=COMPATIBLE_WITH)


def downgrade() -> None:
    """Forget them."""
    op.drop_table("coatcheck_peppers")
    op.drop_table("coatcheck_schema")
