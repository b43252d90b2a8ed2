"""The session manager of a program."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar, assert_never, cast

from coatcheck.client.callbacks import Callbacks, log_failure
from coatcheck.client.flow_runner import run
from coatcheck.client.flows import Call, CloseStreams, Flows, Send, Tell
from coatcheck.client.http_library import HttpClient, installed, library_of
from coatcheck.client.httpx_auth import SessionAuth
from coatcheck.client.listening_thread import ListeningThread
from coatcheck.client.loopback_only import without_proxy
from coatcheck.client.storage import MemoryStorage
from coatcheck.client.time_limit import TimeLimitError, call_within
from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, Self

    import httpx2

    from coatcheck.client.callbacks import Close, Listener, OnSignInRequired
    from coatcheck.client.flows import Flow, Mode, Need
    from coatcheck.client.requests_auth import RequestsAuth
    from coatcheck.client.storage import SessionStorage
    from coatcheck.tokens import AuthSuccess

T = TypeVar("T")

INITIALIZE_SECONDS = 2.0


class ClientSessionManager(Generic[HttpClient]):
    """Keeps this program's session with one server. Threads may share a manager. See also `AsyncClientSessionManager`.

    Only the server's own answer ends the session: the answer of its status route, or a 401 problem with the code
    `invalid_token` about the token that was sent, if that is still the current one. Any other error changes nothing.
    Callbacks run in the thread that notices a change; the error of a callback is logged, and the others are called.
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
        http: HttpClient | None = None,
    ) -> None:
        """Begin with nobody signed in; `initialize` or `restore` reads the storage.

        Args:
            server_url: the server's origin, "https://example.org". Plain http is allowed for this machine only.
            session_path: the path of the server's session routes.
            storage: the place where the session is kept; None: in memory.
            mode: "header", or "cookie" if the server sends the token in a cookie, which only `http` keeps.
            login_url: the page on which a person signs in.
            on_sign_in_required: called when the server has ended the session; `open_login_page` is ready-made.
            client_label: the name of this program in lists of devices, 1 to 64 characters.
            http: the HTTP client for the manager's own requests, of httpx2 or httpx; None: a new one, which the
                program may use too. It is of the newer library that is installed.

        Raises:
            ConfigurationError: `server_url` is not an origin or not https, `mode` is unknown, or `http` is no client.
            InvalidArgumentError: `client_label` is too long or cannot be printed.
            ModuleNotFoundError: neither httpx2 nor httpx is installed.
        """
        library = installed() if http is None else library_of(http, "Client")
        self._flows = Flows(
            server_url,
            library=library,
            session_path=session_path,
            storage=MemoryStorage() if storage is None else storage,
            mode=mode,
            client_label=client_label,
        )
        self._callbacks = Callbacks(login_url, on_sign_in_required)
        self._auth = SessionAuth(self._flows, run=self._run)
        self._owns_http = http is None
        if http is None:
            mounts = without_proxy(self._flows.origin)
            made: HttpClient = library.Client(base_url=server_url, auth=self.auth, mounts=mounts)
            http = made
        self._http: HttpClient = http

    def __enter__(self) -> Self:
        """Do nothing; for `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    @property
    def auth(self) -> SessionAuth:
        """Carries the session: `httpx2.Client(auth=sessions.auth)`, or `httpx.Client(auth=sessions.auth)`.

        It suits the libraries that are imported by now, so ask for it where the client is made.
        """
        self._auth = self._auth.for_loaded_libraries()
        return self._auth

    @property
    def requests_auth(self) -> RequestsAuth:
        """Carries the session of header mode in requests: `requests.Session().auth = sessions.requests_auth`.

        Raises:
            ConfigurationError: in cookie mode, because the cookie is in `http`.
            ModuleNotFoundError: requests is not installed; it comes with `coatcheck[requests]`.
        """
        if self._flows.is_in_cookie:
            raise ConfigurationError('with mode="cookie" only the manager\'s own client (sessions.http) has the cookie')
        from coatcheck.client.requests_auth import RequestsAuth  # noqa: PLC0415 (an extra)

        return RequestsAuth(self._flows, run=self._run)

    @property
    def http(self) -> HttpClient:
        """An HTTP client that carries the session and its cookies. In cookie mode, send requests with this one."""
        return self._http

    @property
    def auth_info(self) -> AuthSuccess | None:
        """The session that is kept here, as the sign-in answered it; None if nobody is signed in."""
        return self._flows.local.info

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is signed in."""
        return self.auth_info is not None

    def restore(self) -> None:
        """Read the storage, past any cache, and tell the listeners.

        Raises:
            StorageError: the storage cannot be read; the session stays as it was.
        """
        self._run(self._flows.restore())

    def initialize(self, timeout: float = INITIALIZE_SECONDS) -> bool:
        """Restore, and ask the server whether the session is still live. For the start of a program.

        True if the server has answered, so that `is_authenticated` is its answer, or if nobody is signed in. False if
        the server could not be asked: the session is kept. `timeout` is in seconds, and for the whole request.

        Raises:
            StorageError: the storage cannot be read.
        """
        return self._run(self._flows.initialize(timeout))

    def validate_authentication(self, timeout: float | None = None) -> bool:
        """Ask the server whether the session is live; if not, sign out here. Returns whether somebody is signed in.

        `timeout` is in seconds, and for the whole request; None: only the HTTP client's own timeouts apply.

        Raises:
            httpx2.HTTPError: the server cannot be reached; the session is kept. Of httpx with a client of httpx.
            UnexpectedAnswerError: the answer is not that of the status route; the session is kept.
        """
        return self._run(self._flows.validate(timeout))

    def update_signed_in_user(self, info: AuthSuccess | None) -> None:
        """Keep the answer to a sign-in (read by `coatcheck.wire.auth_success_of`); None forgets the session.

        Raises:
            ConfigurationError: the answer has a token in cookie mode, or none in header mode; nothing was stored.
            InvalidArgumentError: the token cannot be sent in a header; nothing was stored.
            StorageError: the answer cannot be stored; the session stays as it was.
        """
        self._run(self._flows.update(info))

    def sign_out_device(self) -> bool:
        """End this session, and forget it here in any case. Returns whether the server has confirmed the end.

        Raises:
            StorageError: the session is forgotten here, but its token could not be deleted from the storage.
        """
        return self._run(self._flows.sign_out("sign-out"))

    def sign_out_all_devices(self) -> bool:
        """End all sessions of the user; otherwise like `sign_out_device`."""
        return self._run(self._flows.sign_out("sign-out-all"))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with an `AuthChange` when the session was restored or has changed.

        Returns a function that removes the listener.
        """
        return self._callbacks.listen(listener)

    def listening(self) -> AbstractContextManager[None]:
        """Within the block, notice the session's end at once instead of with the next request.

            with sessions.listening():
                ...

        A thread keeps a stream of the server open while somebody is signed in, and opens it again when it breaks.
        It calls the callbacks of `listen`, `closing` and `on_sign_in_required`. Leaving the block waits for the thread
        for at most five seconds. A thread that is in a callback or the storage after that finishes it; a thread that
        waits for an answer ignores it.
        """
        return ListeningThread(self._flows, self._callbacks, self._client, self._fulfil)

    def closing(self, close: Close) -> AbstractContextManager[None]:
        """For long-lived streams: within the block, `close` is called once when the user changes or signs out.

        with http.stream("GET", "/live") as live, sessions.closing(live.close): ...
        """
        return self._callbacks.closing(close)

    def close(self) -> None:
        """Close the manager's own HTTP client. The session is kept."""
        if self._owns_http:
            self._http.close()

    def _run(self, flow: Flow[T]) -> T:
        """Fulfil the needs of a flow until it returns."""
        return run(flow, self._fulfil)

    def _fulfil(self, need: Need) -> Any:  # noqa: ANN401 (each need has its own kind of result)
        if isinstance(need, Call):
            return need.function()
        if isinstance(need, Send):
            return self._send(need)
        if isinstance(need, Tell):
            if need.closes_streams:
                _call_all(self._callbacks.closers())
            return _call_all(self._callbacks.calls_for(need.change))
        if isinstance(need, CloseStreams):
            return _call_all(self._callbacks.closers())
        assert_never(need)

    @property
    def _client(self) -> httpx2.Client:
        return cast("httpx2.Client", self._http)  # one of httpx has the same methods

    def _send(self, need: Send) -> httpx2.Response:
        library = self._flows.library
        timeout = library.USE_CLIENT_DEFAULT if need.timeout is None else need.timeout
        request = self._client.build_request(need.method, need.url, headers=need.headers, timeout=timeout)
        self._flows.loopback.guard(request)
        send = partial(self._client.send, request, auth=None, follow_redirects=False)
        if need.timeout is None:
            return send()
        try:
            return call_within(need.timeout, send)
        except TimeLimitError:
            raise library.ReadTimeout(f"no answer within {need.timeout:g} s", request=request) from None


def _call_all(calls: Iterable[Callable[[], object]]) -> None:
    for call in calls:
        try:
            call()
        except Exception:  # noqa: BLE001 (one callback must not keep the others from being called)
            log_failure(call)
