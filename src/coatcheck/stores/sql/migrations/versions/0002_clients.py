"""The client each session was made on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "coatcheck_0002"
down_revision = "coatcheck_0001"
branch_labels = None
depends_on = None

_COLUMNS = ("client_label", "user_agent", "ip_address")


def upgrade() -> None:
    """Add columns that may be NULL: no row is rewritten, and the version before goes on working beside this one."""
    for column in _COLUMNS:
        op.add_column("coatcheck_sessions", sa.Column(column, sa.Text, nullable=True))


def downgrade() -> None:
    """Forget the clients."""
    for column in reversed(_COLUMNS):
        op.drop_column("coatcheck_sessions", column)
