"""The interfaces of the builders that make a pod's token managers and user source, and the context that they get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck.events import EventBus
    from coatcheck.stores.store import Store
    from coatcheck.tokens import TokenManager
    from coatcheck.user_source import UserSource


class StartCheck(Protocol):
    """Something that compares this process with the store, when the pod starts and when it is asked for readiness."""

    async def start(self) -> None:
        """Look once. Log what is wrong, or raise ConfigurationError where the pod must not start."""
        ...

    async def problem(self) -> str | None:
        """The problem as of now, in words; None: there is none."""
        ...


def _not_looked_at(_check: StartCheck) -> None:
    """For contexts that are made without a pod."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The parts that a token manager is built from. `user_source` None: users live in the store."""

    store: Store
    """The store of the pod."""
    bus: EventBus
    """The pod's `events`."""
    user_source: UserSource | None
    """The application's own users; None: users live in the store."""
    get_password_or_raise: Callable[[str], str]
    """Gives a password of the run mode by its key, or raises `ConfigurationError`."""
    at_shutdown: Callable[[Callable[[], Awaitable[None]]], None]
    """Takes a function that the pod awaits when it closes."""
    at_start: Callable[[StartCheck], None] = _not_looked_at
    """Takes a check that the pod makes when it opens, and for `readiness()`."""

    def check_hook(self, name: str, hook: object) -> None:
        """Refuse a hook that runs inside a transaction if the store has no transactions.

        Raises:
            ConfigurationError: `hook` is given, and the store has no transactions that span several calls.
        """
        if hook is not None and not self.store.has_transactions:
            raise ConfigurationError(
                f"{name} runs inside a transaction, and {self.store!r} has no transactions that span several calls; "
                "do the work before or after the call instead, or use a PostgreSQL or SQLite store"
            )


@runtime_checkable
class UserSourceBuilder(Protocol):
    """Makes a user source for a pod: `SqlUserSource` is such a builder."""

    def build(self, context: BuildContext) -> UserSource:
        """Make the user source. The context has none yet.

        Raises:
            ConfigurationError: a setting is wrong, or the store is none that it can be built on.
        """
        ...


@runtime_checkable
class TokenManagerBuilder(Protocol):
    """Makes a token manager for a pod; the configuration classes are builders."""

    def build(self, context: BuildContext) -> TokenManager:
        """Make the manager.

        Raises:
            ConfigurationError: a setting is wrong, or a password it needs is missing.
        """
        ...
