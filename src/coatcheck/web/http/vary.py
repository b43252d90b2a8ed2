"""The Vary field (RFC 9110 section 12.5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def with_names(lines: Sequence[bytes], names: Sequence[bytes]) -> bytes:
    """The value of one Vary field that says what the `lines` of a response say, and `names` too."""
    present = [item.strip() for line in lines for item in line.split(b",") if item.strip()]
    known = {item.lower() for item in present}
    if b"*" in known:
        return b"*"
    return b", ".join([*present, *(name for name in names if name.lower() not in known)])
