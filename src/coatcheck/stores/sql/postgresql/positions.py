"""A position in the history of a PostgreSQL server: when the server started, and which transactions were visible.

A history may go back: the server's files are restored, a standby without the last commits is promoted, or the data are
moved to a younger server. Transaction ids are then given again, and an ending cannot be compared with a position
of before. In each case the server is another one, or was started since.
"""

from __future__ import annotations

import re

from coatcheck.stores.given_positions import NUMBER

SERVER = "extract(epoch FROM pg_postmaster_start_time())::text"
"""When the server started, to the microsecond: no two servers, and no two starts, have the same. All roles may ask."""

READ_POSITION = f"SELECT {SERVER} || '/' || pg_current_snapshot()::text"

# A snapshot does not list the id of the transaction that takes it. Once another one that began later is committed, the
# own id counts as committed in it, and so would an ending of the transaction's that is still to come.
READ_POSITION_INSIDE = f"""
SELECT {SERVER} || '/' || pg_snapshot_xmin(seen) || ':' || pg_snapshot_xmax(seen) || ':' || coalesce((
    SELECT string_agg(id::text, ',' ORDER BY id)
    FROM (SELECT pg_snapshot_xip(seen) AS id UNION SELECT own WHERE own < pg_snapshot_xmax(seen)) AS running
), '')
FROM (SELECT pg_current_snapshot() AS seen, pg_current_xact_id_if_assigned() AS own) AS snapshot
"""  # noqa: S608 (constants only)
"""The position inside of a transaction: its own id, if it has one, is among those that are not committed yet."""

FORM: re.Pattern[str] = re.compile(rf"{NUMBER}(\.[0-9]+)?/{NUMBER}:{NUMBER}:({NUMBER}(,{NUMBER})*)?")


def is_before(ending: str, position: str) -> str:
    """The condition that the transaction `ending` (xid8) was committed before `position`, both SQL."""
    return (
        f"(split_part({position}, '/', 1) = {SERVER} "
        f"AND pg_visible_in_snapshot({ending}, split_part({position}, '/', 2)::pg_snapshot))"
    )
