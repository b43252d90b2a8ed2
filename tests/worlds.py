"""A pod's auth services on a store whose clock the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from coatcheck import Pod, ServerSideSessions, ServerSideSessionsConfig, ServerSideSessionsTokenManager
from coatcheck.clock import from_us
from coatcheck.testing.samples import read

if TYPE_CHECKING:
    from coatcheck import AuthServices, AuthSuccess, AuthUser, TokenManager, TokenManagerBuilder, UserSource
    from coatcheck.events import Message
    from coatcheck.stores.records import SessionRecord
    from coatcheck.stores.store import Store
    from coatcheck.testing import StoreHarness

PEPPER = "a pepper of thirty-two bytes ok!"
OTHER_PEPPER = "another pepper, as long as it ought to be"


@dataclass
class World:
    """The parts that a test of sessions needs."""

    harness: StoreHarness
    pod: Pod
    auth: AuthServices
    heard: list[Message] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.pod.store

    @property
    def tokens(self) -> TokenManager:
        return self.auth.token_manager

    @property
    def sessions(self) -> ServerSideSessions:
        return self.auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions

    async def now(self) -> datetime:
        """The store's clock."""
        return from_us(await self.harness.now_us()).astimezone(UTC)

    async def user(self, *scopes: str, **options: Any) -> AuthUser:
        return await self.auth.auth_users.create(scopes=set(scopes), **options)

    async def sign_in(self, user: AuthUser, **options: Any) -> AuthSuccess:
        return await self.sessions.create_session(user.id, **{"method": "email", **options})

    async def is_valid(self, success: AuthSuccess) -> bool:
        return await self.tokens.validate_token(success.token) is not None

    async def row(self, success: AuthSuccess) -> SessionRecord | None:
        return await read(self.store, success.server_side_session_id)


NewWorld = Callable[..., Coroutine[Any, Any, World]]


@asynccontextmanager
async def worlds(harness: StoreHarness) -> AsyncIterator[NewWorld]:
    """Makes worlds on one store, for example with other settings of the same application."""
    made: list[Pod] = []

    async def make(
        *,
        builders: Sequence[TokenManagerBuilder | TokenManager] | None = None,
        store: Store | None = None,
        user_source: UserSource | None = None,
        hooks: dict[str, Any] | None = None,
        **settings: Any,
    ) -> World:
        pod = Pod(store or harness.store, environ={}, config_dir="no-such-folder", prune_interval=None)
        config = ServerSideSessionsConfig(**{"session_key_hash_pepper": PEPPER, **settings})
        auth = pod.initialize_auth_services(
            token_manager_builders=[config] if builders is None else builders, user_source=user_source, **(hooks or {})
        )
        world = World(harness, pod, auth)

        async def hear(message: Message) -> None:
            world.heard.append(message)

        pod.events.subscribe(hear)
        made.append(pod)
        return world

    try:
        yield make
    finally:
        for pod in made:
            for close in pod._closing:  # noqa: SLF001 (the harness closes the store)
                await close()
