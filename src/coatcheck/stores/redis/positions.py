"""A position in the history of a store on Redis: the counter of endings of each shard, in the order of the shards.

A counter goes up with each ending and is at least its time (`scripts/prelude.lua`). So an ending comes after every
position that was read before it, also where the data were lost, restored or taken over by a replica in between.

The user is not known yet when a position is taken, and so neither is the shard. A shard whose server does not answer
has no counter in it: sign-ins of its users fail, as all else that concerns them does, and those of others go on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coatcheck.errors import StoreUnavailable
from coatcheck.identifiers import SHARDS
from coatcheck.stores.given_positions import NUMBER
from coatcheck.stores.records import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from coatcheck.stores.redis.keys import Keys

_UNKNOWN = "?"
_COUNTER = rf"(?:{NUMBER}|\{_UNKNOWN})"

FORM: re.Pattern[str] = re.compile(rf"{_COUNTER}(?:,{_COUNTER}){{{len(SHARDS) - 1}}}")


def command_of(keys: Keys) -> Callable[[str], tuple[str, ...]]:
    """The command that reads the counter of a shard."""
    return lambda shard: ("GET", keys.root(shard))


def encode(counters: Mapping[str, Any]) -> Position:
    """The position out of the replies of those shards that have answered; a shard without a counter is at 0."""
    return Position(",".join(_text(counters[shard]) if shard in counters else _UNKNOWN for shard in SHARDS))


def of_shard(position: Position, shard: str) -> str:
    """The counter of a shard at this position.

    Raises:
        StoreUnavailable: the shard did not answer when the position was taken.
    """
    counter = position.split(",")[int(shard, 16)]
    if counter == _UNKNOWN:
        raise StoreUnavailable("the store could not answer when this sign-in began; begin it again")
    return counter


def _text(reply: bytes | None) -> str:
    return "0" if reply is None else str(int(reply))
