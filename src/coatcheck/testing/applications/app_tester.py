"""An application in a synchronous test, over Starlette's `TestClient`."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from starlette.testclient import TestClient

from coatcheck.errors import ConfigurationError
from coatcheck.testing.applications.tester import Tester

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Set as AbstractSet
    from datetime import timedelta
    from types import TracebackType
    from typing import Self
    from uuid import UUID

    from coatcheck.pod import Pod
    from coatcheck.stores.store import Store
    from coatcheck.testing.applications.devices import Device
    from coatcheck.testing.manual_clock import ManualClock
    from coatcheck.tokens import AuthSuccess
    from coatcheck.web.asgi import AsgiApp
    from coatcheck.web.exchanges.reply import Mode
    from coatcheck.web.http.cookie import SessionCookie

T = TypeVar("T")


class AppTester(Tester):
    """An application in a synchronous test: open, on a store in memory, with any number of devices.

        with AppTester(app, pod) as tester:
            phone, laptop = tester.device(), tester.device()
            ann = tester.signed_in(phone, scopes={"notes:read"})
            tester.signed_in(laptop, user_id=ann.auth_user_id)
            assert laptop.post("/session/sign-out-all").status_code == 200
            assert phone.get("/notes").status_code == 401

    The lifespan of the application runs, and all devices call it in one event loop. The pod's own store is not touched:
    it is replaced until the block ends.
    """

    def __init__(
        self,
        app: AsgiApp,
        pod: Pod,
        *,
        cookie: SessionCookie | None = None,
        store: str | Store | None = None,
        clock: ManualClock | None = None,
        base_url: str = "https://testserver",
    ) -> None:
        """Nothing is opened yet.

        Args:
            app: the application, as a server would get it.
            pod: its pod, which the application's lifespan opens.
            cookie: the cookie that its `SessionMiddleware` was given, for `signed_in(..., mode="cookie")`.
            store: the store of the test, as a URL or not opened; None: a new one in memory for each opening.
            clock: the clock of the store, or of the one that is made from the URL; None: a new `ManualClock` for the
                store in memory.
            base_url: the origin that devices call. No session cookie is set over plain http.
        """
        super().__init__(app, pod, cookie=cookie, store=store, clock=clock, base_url=base_url)
        self._opened = ExitStack()
        self._first: TestClient | None = None

    def __enter__(self) -> Self:
        """Replace the store, and start the application.

        Raises:
            ConfigurationError: the pod is open already, or the application has started without opening it.
        """
        with ExitStack() as opening:
            opening.enter_context(self._on_store_of_the_test())
            first = opening.enter_context(TestClient(self.app, base_url=self.base_url))
            self._check_opened()
            self._first = first
            self._opened = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the application, and give the pod its own store again."""
        self._first = None
        self._opened.close()

    def device(self) -> TestClient:
        """Another client of this application, with headers and cookies of its own. It is not to be used with `with`.

        Raises:
            ConfigurationError: the application is not open.
        """
        first = self._running()
        device = TestClient(self.app, base_url=self.base_url)
        device.portal = first.portal
        device.app_state.update(first.app_state)
        self._opened.callback(device.close)
        return device

    def signed_in(
        self,
        client: Device,
        *,
        scopes: AbstractSet[str] | None = None,
        user_id: str | UUID | None = None,
        mode: Mode = "header",
        method: str = "test",
    ) -> AuthSuccess:
        """Sign a client in: from now on it sends the token of a new session, and no earlier one.

        Args:
            client: a device, or any other client of httpx, of httpx2 or of Starlette.
            scopes: those of the new user. With `user_id`: exactly those of the session; None: the user's.
            user_id: the user; None: a new one in the store.
            mode: "header" for `Authorization: Bearer`, "cookie" for the application's session cookie.
            method: how the user signed in, as lists of sessions show it.

        Raises:
            ConfigurationError: the application is not open, or keeps its users itself and `user_id` is not given; or
                cookie mode without `cookie`, or over plain http.
            UserNotFoundError, UserBlockedError: see `TokenManager.create_token`.
        """
        return self.run(self._sign_in(client, scopes=scopes, user_id=user_id, mode=mode, method=method))

    def run(self, call: Awaitable[T]) -> T:
        """The result of an asynchronous call, which is awaited in the event loop that the application runs in.

            tester.run(tester.auth.auth_users.update(user_id, scopes=set()))

        Raises:
            ConfigurationError: the application is not open.
        """
        portal = None if self._first is None else self._first.portal
        if portal is None:
            if inspect.iscoroutine(call):
                call.close()  # nobody will await it
            raise ConfigurationError(_NOT_OPEN)

        async def awaited() -> T:
            return await call

        return portal.call(awaited)

    def advance(self, duration: timedelta) -> None:
        """Move the clock on. Requests that are done count as a use at the time before.

        Raises:
            ConfigurationError: a store was given, and no clock with it.
        """
        self.run(self._flush())
        self.clock.advance(duration)

    def _running(self) -> TestClient:
        if self._first is None:
            raise ConfigurationError(_NOT_OPEN)
        return self._first


_NOT_OPEN = "the application is not open; use the tester inside `with AppTester(app, pod) as tester`"
