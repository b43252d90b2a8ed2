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

FORM: re.Pattern[str] = re.compile(rf"{NUMBER}(\.[0-9]+)?/{NUMBER}:{NUMBER}:({NUMBER}(,{NUMBER})*)?")


def is_before(ending: str, position: str) -> str:
    """The condition that the transaction `ending` (xid8) was committed before `position`, both SQL."""
    return (
        f"(split_part({position}, '/', 1) = {SERVER} "
        f"AND pg_visible_in_snapshot({ending}, split_part({position}, '/', 2)::pg_snapshot))"
    )
