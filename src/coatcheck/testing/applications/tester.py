"""What the testers of synchronous and of asynchronous tests share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

from coatcheck.errors import ConfigurationError
from coatcheck.hidden import HiddenText
from coatcheck.sessions.manager import ServerSideSessionsTokenManager
from coatcheck.testing.applications.devices import give_token
from coatcheck.testing.applications.other_store import on_store, outage_of
from coatcheck.testing.manual_clock import ManualClock
from coatcheck.testing.memory.store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager
    from typing import NotRequired
    from uuid import UUID

    from coatcheck.auth.services import AuthServices
    from coatcheck.pod import Pod
    from coatcheck.stores.store import Store
    from coatcheck.testing.applications.devices import Device
    from coatcheck.tokens import AuthSuccess
    from coatcheck.web.asgi import AsgiApp
    from coatcheck.web.exchanges.reply import Mode
    from coatcheck.web.http.cookie import SessionCookie


class AppTesterOptions(TypedDict):
    """The arguments of `AppTester` and `AsyncAppTester`, as the fixtures of `coatcheck.testing.plugin` take them."""

    app: AsgiApp
    """The application, as a server would get it."""
    pod: Pod
    """Its pod."""
    cookie: NotRequired[SessionCookie | None]
    """The cookie that its `SessionMiddleware` has; None: it has none."""
    store: NotRequired[str | Store | None]
    """The store of the test; None: a new one in memory."""
    clock: NotRequired[ManualClock | None]
    """The clock of the store; None: of the store in memory a new one."""
    base_url: NotRequired[str]
    """The origin that devices call."""


class Tester:
    """An application in a test: what both kinds of test ask of it."""

    def __init__(
        self,
        app: AsgiApp,
        pod: Pod,
        *,
        cookie: SessionCookie | None,
        store: str | Store | None,
        clock: ManualClock | None,
        base_url: str,
    ) -> None:
        """See `AppTester`."""
        self.app: AsgiApp = app
        """The application."""
        self.pod: Pod = pod
        """Its pod."""
        self.base_url: str = base_url
        """The origin that devices call."""
        self._cookie = cookie
        self._given_store = HiddenText(store) if isinstance(store, str) else store
        self._clock = ManualClock() if clock is None and store is None else clock
        self._has_store = False

    @property
    def auth(self) -> AuthServices:
        """The auth services of the pod."""
        return self.pod.auth_services

    @property
    def clock(self) -> ManualClock:
        """The clock of the store, which stands still. To move it call `advance`, which writes waiting uses first.

        Raises:
            ConfigurationError: a store was given, and no clock with it.
        """
        if self._clock is None:
            raise ConfigurationError(
                "the clock of this store cannot be moved; give clock=ManualClock() beside store=, on SQLite or Redis. "
                "A PostgreSQL server tells the time itself: test deadlines on a SQLite file"
            )
        return self._clock

    def outage(self) -> AbstractContextManager[None]:
        """Inside this block the store cannot answer; afterwards all is as it was.

        Raises:
            ConfigurationError: the application is not open.
        """
        if not self._has_store:
            raise ConfigurationError("outage() is for the time while the application is open")
        return outage_of(self.pod)

    @contextmanager
    def _on_store_of_the_test(self) -> Iterator[None]:
        given, clock = self._given_store, self._clock
        store = MemoryStore(clock=clock) if given is None else given
        with on_store(self.pod, store, clock=clock if isinstance(given, str) else None):
            self._has_store = True
            try:
                yield
            finally:
                self._has_store = False

    def _check_opened(self) -> None:
        if not self.pod.is_open:
            raise ConfigurationError(
                "the application has started without opening its pod; give it the pod's lifespan: "
                "FastAPI(lifespan=pod.lifespan)"
            )

    async def _flush(self) -> None:
        for manager in self.auth.token_manager.managers:
            if isinstance(manager, ServerSideSessionsTokenManager):
                await manager.server_side_sessions.flush()

    async def _sign_in(
        self,
        client: Device,
        *,
        scopes: AbstractSet[str] | None,
        user_id: str | UUID | None,
        mode: Mode,
        method: str,
    ) -> AuthSuccess:
        if mode == "cookie" and self._cookie is None:
            raise ConfigurationError(
                'mode="cookie" needs the cookie that SessionMiddleware was given; give cookie=SessionCookie(...)'
            )
        if user_id is None:
            user_id, scopes = (await self.auth.auth_users.create(scopes=scopes or frozenset())).id, None
        success = await self.auth.token_manager.create_token(auth_user_id=user_id, method=method, scopes=scopes)
        give_token(client, success, mode=mode, cookie=self._cookie, origin=self.base_url)
        return success
