"""The version of what is stored: packed values, keys and scripts, and the versions of the code that may use them.

One key of the first shard has it. A change of the format counts `CODE` up, and says in `COMPATIBLE_WITH` which code
may go on using the data.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.identifiers import SHARDS

if TYPE_CHECKING:
    from coatcheck.stores.redis.transport.calls import ServerCalls

CODE = 1
"""The version of the format that this code writes."""

COMPATIBLE_WITH = 1
"""The lowest version that code must know to use what this code writes."""

_log = logging.getLogger(__name__)


async def check_format(calls: ServerCalls) -> None:
    """Check that this code may use what is stored, and note the version where none or an older one is noted.

    A server that is down is passed over: the others are served, and each packed value has its own version.

    Raises:
        ConfigurationError: this code may not.
    """
    shard = SHARDS[0]
    key = calls.keys.format(shard)
    try:
        noted = await calls.read(shard, "HMGET", key, "version", "lowest_code")
        if not isinstance(noted, list):
            raise StoreUnavailable("the server has answered with no list")
        if noted[0] is None or int(noted[0]) < CODE:
            noted = await calls.run_on("note_format", key, shard, CODE, COMPATIBLE_WITH)
    except StoreUnavailable as error:
        _log.warning("the version of the stored format was not checked: %s", error)
        return
    version, lowest = map(int, noted)
    if lowest > CODE:
        raise ConfigurationError(
            f"the stored data are those of a newer Coatcheck: they have version {version}, which needs code that knows "
            f"version {lowest} or newer, and this one knows version {CODE}; install the newer Coatcheck again "
            "(docs/how-to/upgrade.md)"
        )
    if version > CODE:
        _log.info(
            "the stored data have version %s, and this Coatcheck knows version %s; they may be used from version %s on",
            version,
            CODE,
            lowest,
        )
