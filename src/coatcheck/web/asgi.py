"""The shapes of ASGI 3 (https://asgi.readthedocs.io/en/latest/specs/), named as this package uses them.

Structurally those of Starlette, so that our middleware fits where theirs does; nothing is imported from it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

AsgiScope: TypeAlias = MutableMapping[str, Any]
"""What is known of a connection before its first message. Not to be confused with `coatcheck.Scope`."""

AsgiMessage: TypeAlias = MutableMapping[str, Any]
"""One event of a connection, in either direction."""

Receive: TypeAlias = Callable[[], Awaitable[AsgiMessage]]
"""Gives the next event of the client."""

Send: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]
"""Sends an event to the client."""

AsgiApp: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]
"""An application, or a middleware around one."""
