"""Reading the headers of an ASGI scope: raw bytes, names in lower case, in the order they came."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def values_of(connection: Mapping[str, Any], name: bytes) -> list[str]:
    """All values of a header. `connection` is an ASGI scope, or a Starlette `Request` or `WebSocket` around one."""
    return [value.decode("latin-1") for found, value in connection["headers"] if found == name]


def only_value_of(connection: Mapping[str, Any], name: bytes) -> str | None:
    """The value of a header that may be there once. Sent twice it is none: two readers may each take another."""
    values = values_of(connection, name)
    return values[0] if len(values) == 1 else None
