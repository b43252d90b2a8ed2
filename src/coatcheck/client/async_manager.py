"""The session manager of an asynchronous program."""

from __future__ import annotations

import inspect
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Generic, TypeVar, assert_never, cast

import anyio

from coatcheck.client.callbacks import Callbacks, log_failure
from coatcheck.client.flow_runner import run_async
from coatcheck.client.flows import Call, CloseStreams, Flows, Send, Tell
from coatcheck.client.http_library import AsyncHttpClient, installed, library_of
from coatcheck.client.httpx_auth import SessionAuth
from coatcheck.client.in_each_loop import InEachLoop
from coatcheck.client.listening_task import ListeningTask
from coatcheck.client.loopback_only import without_proxy
from coatcheck.client.manager import INITIALIZE_SECONDS
from coatcheck.client.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType
    from typing import Any, Self

    import httpx2

    from coatcheck.client.callbacks import Close, Listener, OnSignInRequired
    from coatcheck.client.finishing import Finishing
    from coatcheck.client.flows import Flow, Mode, Need
    from coatcheck.client.storage import SessionStorage
    from coatcheck.tokens import AuthSuccess

T = TypeVar("T")

MAX_THREADS = 40
"""The most storage calls at once, as many as anyio allows by default."""


class AsyncClientSessionManager(Generic[AsyncHttpClient]):
    """`ClientSessionManager` for `httpx2.AsyncClient`, on asyncio or trio: the same methods, to be awaited.

    Storages are called in a thread. Callbacks may be asynchronous; the task that notices a change awaits them. A task
    that is cancelled or timed out meanwhile first finishes the change: it is stored, known here and told, or not begun.

    A manager may be used in several `asyncio.run`, one after the other. Each has an HTTP client of its own.
    """

    def __init__(
        self,
        server_url: str,
        *,
        session_path: str = "/session",
        storage: SessionStorage | None = None,
        mode: Mode = "header",
        login_url: str | None = None,
        on_sign_in_required: OnSignInRequired | None = None,
        client_label: str | None = None,
        http: AsyncHttpClient | None = None,
    ) -> None:
        """See `ClientSessionManager`."""
        library = installed() if http is None else library_of(http, "AsyncClient")
        self._flows = Flows(
            server_url,
            library=library,
            session_path=session_path,
            storage=MemoryStorage() if storage is None else storage,
            mode=mode,
            client_label=client_label,
        )
        self._callbacks = Callbacks(login_url, on_sign_in_required)
        self._auth = SessionAuth(self._flows, run_async=self._run)
        self._owns_http = http is None
        cookies, mounts = CookieJar(), without_proxy(self._flows.origin)

        def make() -> AsyncHttpClient:
            if http is not None:
                return http
            made: AsyncHttpClient = library.AsyncClient(
                base_url=server_url, auth=self.auth, cookies=cookies, mounts=mounts
            )
            return made

        self._http = InEachLoop(make)
        # A limit of its own, because threads that the program keeps busy must not hold up a sign-out.
        self._limiter = InEachLoop(lambda: anyio.CapacityLimiter(MAX_THREADS))

    async def __aenter__(self) -> Self:
        """Do nothing; for `async with`."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.aclose()

    @property
    def auth(self) -> SessionAuth:
        """See `ClientSessionManager.auth`."""
        self._auth = self._auth.for_loaded_libraries()
        return self._auth

    @property
    def http(self) -> AsyncHttpClient:
        """See `ClientSessionManager.http`. In another event loop it is another client, with the same cookies."""
        return self._http.get()

    @property
    def auth_info(self) -> AuthSuccess | None:
        """See `ClientSessionManager.auth_info`."""
        return self._flows.local.info

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is signed in."""
        return self.auth_info is not None

    async def restore(self) -> None:
        """See `ClientSessionManager.restore`."""
        await self._run(self._flows.restore())

    async def initialize(self, timeout: float = INITIALIZE_SECONDS) -> bool:  # noqa: ASYNC109 (told as httpx2 tells it)
        """See `ClientSessionManager.initialize`."""
        return await self._run(self._flows.initialize(timeout))

    async def validate_authentication(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 (as above)
        """See `ClientSessionManager.validate_authentication`."""
        return await self._run(self._flows.validate(timeout))

    async def update_signed_in_user(self, info: AuthSuccess | None) -> None:
        """See `ClientSessionManager.update_signed_in_user`."""
        await self._run(self._flows.update(info))

    async def sign_out_device(self) -> bool:
        """See `ClientSessionManager.sign_out_device`."""
        return await self._run(self._flows.sign_out("sign-out"))

    async def sign_out_all_devices(self) -> bool:
        """See `ClientSessionManager.sign_out_all_devices`."""
        return await self._run(self._flows.sign_out("sign-out-all"))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `ClientSessionManager.listen`; `listener` may be asynchronous."""
        return self._callbacks.listen(listener)

    def listening(self) -> AbstractAsyncContextManager[None]:
        """See `ClientSessionManager.listening`; here it is a task, which ends with the block.

        async with sessions.listening(): ...
        """
        return ListeningTask(self._flows, self._callbacks, self._client, self._fulfil)

    def closing(self, close: Close) -> AbstractContextManager[None]:
        """See `ClientSessionManager.closing`; `close` may be asynchronous, as `response.aclose` is."""
        return self._callbacks.closing(close)

    async def aclose(self) -> None:
        """See `ClientSessionManager.close`."""
        if self._owns_http:
            await self._client.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        """Fulfil the needs of a flow until it returns."""
        return await run_async(flow, self._fulfil)

    async def _fulfil(self, need: Need, finishing: Finishing) -> Any:  # noqa: ANN401 (each need has its own kind of result)
        if isinstance(need, Send):
            finishing.raise_held()
            return await self._send(need)
        # A caller that is cancelled in between must not leave a stored change of which the listeners were not told.
        if isinstance(need, Call):
            return await finishing.in_thread(need.function, self._limiter.get())
        if isinstance(need, Tell):
            if need.closes_streams:
                await _call_all(self._callbacks.closers(), finishing)
            return await _call_all(self._callbacks.calls_for(need.change), finishing)
        if isinstance(need, CloseStreams):
            return await _call_all(self._callbacks.closers(), finishing)
        assert_never(need)

    @property
    def _client(self) -> httpx2.AsyncClient:
        return cast("httpx2.AsyncClient", self.http)  # one of httpx has the same methods

    async def _send(self, need: Send) -> httpx2.Response:
        library, http = self._flows.library, self._client
        timeout = library.USE_CLIENT_DEFAULT if need.timeout is None else need.timeout
        request = http.build_request(need.method, need.url, headers=need.headers, timeout=timeout)
        self._flows.loopback.guard_async(request)
        with anyio.move_on_after(need.timeout):
            return await http.send(request, auth=None, follow_redirects=False)
        raise library.ReadTimeout(f"no answer within {need.timeout:g} s", request=request)


async def _call_all(calls: Iterable[Callable[[], object]], finishing: Finishing) -> None:
    for call in calls:
        try:
            result = call()
            if inspect.isawaitable(result):
                await finishing.result_of(result)
        except Exception:  # noqa: BLE001 (one callback must not keep the others from being called)
            log_failure(call)
