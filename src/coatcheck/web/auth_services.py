"""The part of `AuthServices` that the web layer needs, so that an application may bring its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from coatcheck.events import EventBus
    from coatcheck.tokens import TokenManager


class HasTokenManager(Protocol):
    """Enough for requests."""

    @property
    def token_manager(self) -> TokenManager:
        """Validates, lists and revokes tokens."""
        ...


class HasTokenManagerAndEvents(HasTokenManager, Protocol):
    """Enough for connections that stay open as well."""

    @property
    def events(self) -> EventBus:
        """Tells of the sessions that have ended."""
        ...
