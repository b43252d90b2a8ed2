"""An application in an asynchronous test, over the `AsyncClient` of httpx or httpx2."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from coatcheck.errors import ConfigurationError
from coatcheck.testing.applications.lifespan import lifespan_of
from coatcheck.testing.applications.tester import Tester

if TYPE_CHECKING:
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
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from coatcheck.web.exchanges.reply import Mode
    from coatcheck.web.http.cookie import SessionCookie


class Closes(Protocol):
    """An asynchronous client, as far as it is closed here."""

    async def aclose(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closes)


class AsyncAppTester(Tester, Generic[C]):
    """An application in an asynchronous test: open, on a store in memory, with any number of devices.

        async with AsyncAppTester(app, pod, httpx.AsyncClient) as tester:
            phone, laptop = tester.device(), tester.device()
            ann = await tester.signed_in(phone, scopes={"notes:read"})
            await tester.signed_in(laptop, user_id=ann.auth_user_id)
            assert (await laptop.post("/session/sign-out-all")).status_code == 200
            assert (await phone.get("/notes")).status_code == 401

    The lifespan of the application runs, in the event loop of the test. The pod's own store is not touched: it is
    replaced until the block ends.
    """

    def __init__(
        self,
        app: AsgiApp,
        pod: Pod,
        client: type[C],
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
            client: the class of the devices, `httpx.AsyncClient` or `httpx2.AsyncClient`.
            cookie: the cookie that its `SessionMiddleware` was given, for `signed_in(..., mode="cookie")`.
            store: the store of the test, as a URL or not opened; None: a new one in memory for each opening.
            clock: the clock of the store, or of the one that is made from the URL; None: a new `ManualClock` for the
                store in memory.
            base_url: the origin that devices call. No session cookie is set over plain http.
        """
        super().__init__(app, pod, cookie=cookie, store=store, clock=clock, base_url=base_url)
        self._client = client
        self._opened: AsyncExitStack | None = None
        self._state: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        """Replace the store, and start the application.

        Raises:
            ConfigurationError: the pod is open already, or the application has started without opening it; or the test
                runs on trio.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "Coatcheck runs on asyncio, and this test on another event loop; have the fixture anyio_backend return "
                '"asyncio"'
            ) from None
        async with AsyncExitStack() as opening:
            opening.enter_context(self._on_store_of_the_test())
            self._state = await opening.enter_async_context(lifespan_of(self.app))
            self._check_opened()
            self._opened = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the application, and give the pod its own store again."""
        if self._opened is not None:
            await self._opened.aclose()
        self._opened = None

    def device(self) -> C:
        """Another client of this application, with headers and cookies of its own.

        Raises:
            ConfigurationError: the application is not open, or the class of clients is none of httpx or httpx2.
        """
        if self._opened is None:
            raise ConfigurationError(
                "the application is not open; use `async with AsyncAppTester(app, pod, ...) as tester`"
            )
        transport = _transport_for(self._client)(app=self._answer)
        client: Any = self._client  # its options are those of httpx, which is not imported here
        device: C = client(transport=transport, base_url=self.base_url)
        self._opened.push_async_callback(device.aclose)
        return device

    async def signed_in(
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
            client: a device, or any other client of httpx or httpx2.
            scopes: those of the new user. With `user_id`: exactly those of the session; None: the user's.
            user_id: the user; None: a new one in the store.
            mode: "header" for `Authorization: Bearer`, "cookie" for the application's session cookie.
            method: how the user signed in, as lists of sessions show it.

        Raises:
            ConfigurationError: the application keeps its users itself and `user_id` is not given; or cookie mode
                without `cookie`, or over plain http.
            UserNotFoundError, UserBlockedError: see `TokenManager.create_token`.
        """
        return await self._sign_in(client, scopes=scopes, user_id=user_id, mode=mode, method=method)

    async def advance(self, duration: timedelta) -> None:
        """Move the clock on. Requests that are done count as a use at the time before.

        Raises:
            ConfigurationError: a store was given, and no clock with it.
        """
        await self._flush()
        self.clock.advance(duration)

    async def _answer(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "state": dict(self._state)}, receive, send)


def _transport_for(client: type[object]) -> Any:  # noqa: ANN401 (a class of httpx or httpx2)
    """The transport of the library that the class of clients comes from, which may be a class derived from its own."""
    for base in client.__mro__:
        library = sys.modules.get(base.__module__.partition(".")[0])
        if hasattr(library, "ASGITransport") and hasattr(library, "AsyncClient"):
            return library.ASGITransport  # type: ignore[union-attr]  # it is there, as the line before has seen
    raise ConfigurationError(f"{client.__name__} is not httpx.AsyncClient or httpx2.AsyncClient, nor derived from one")
