"""The session manager of a program."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar, assert_never

import httpx

from coatcheck.client.flow_runner import run
from coatcheck.client.flows import Call, CloseStreams, Flows, Send, Tell
from coatcheck.client.hearers import Hearers, failed
from coatcheck.client.httpx_auth import SessionAuth
from coatcheck.client.listening_thread import ListeningThread
from coatcheck.client.storage import MemoryStorage
from coatcheck.client.time_limit import TimeLimitError, call_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, Self

    from coatcheck.client.flows import Flow, Mode, Need
    from coatcheck.client.hearers import Close, Listener, OnSignInRequired
    from coatcheck.client.storage import SessionStorage
    from coatcheck.tokens import AuthSuccess

T = TypeVar("T")

INITIALIZE_SECONDS = 2.0


class ClientSessionManager:
    """Who is signed in to one server, here. For programs with threads or without; see `AsyncClientSessionManager`.

    Only the server's own word ends the session: an answer of its status route, or a 401 problem with the code
    `invalid_token`, about the token that was sent and is still the current one. Any other error leaves it as it is.
    Callbacks run in the thread that found out; one that raises is logged and keeps nobody else from being called.
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
        http: httpx.Client | None = None,
    ) -> None:
        """Begin with nobody signed in (row K1); `initialize` or `restore` reads the storage.

        Args:
            server_url: the server's origin, "https://example.org". Plain http only for this machine.
            session_path: where its session routes are.
            storage: where the session is kept; None: in memory.
            mode: "header", or "cookie" where the token is to come in a cookie, which lives in `http` and nowhere else.
            login_url: where a person signs in.
            on_sign_in_required: called when the server has ended the session; `open_login_page` is ready-made.
            client_label: what this program is called in lists of devices, 1 to 64 characters.
            http: the client for the manager's own requests; None makes one, which is there for yours, too.

        Raises:
            ConfigurationError: `server_url` is no origin or no https, or `mode` is unknown.
            InvalidArgumentError: `client_label` is too long or cannot be printed.
        """
        self._flows = Flows(
            server_url,
            session_path=session_path,
            storage=MemoryStorage() if storage is None else storage,
            mode=mode,
            client_label=client_label,
        )
        self._hearers = Hearers(login_url, on_sign_in_required)
        self.auth = SessionAuth(self._flows, run=self._run)
        self._owns_http = http is None
        self._http = httpx.Client(base_url=server_url, auth=self.auth) if http is None else http

    def __enter__(self) -> Self:
        """Do nothing; for `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    @property
    def http(self) -> httpx.Client:
        """A client that carries the session, its cookies included: in cookie mode, the one to use."""
        return self._http

    @property
    def auth_info(self) -> AuthSuccess | None:
        """Who is signed in, as the sign-in answered; None for nobody."""
        return self._flows.local.info

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is signed in."""
        return self.auth_info is not None

    def restore(self) -> None:
        """Read the storage, past any cache, and tell the listeners.

        Raises:
            StorageError: it cannot be read; who was signed in still is.
        """
        self._run(self._flows.restore())

    def initialize(self, timeout: float = INITIALIZE_SECONDS) -> bool:
        """Restore, and ask the server whether the session still lives. For the start of a program.

        True if it has answered, so that `is_authenticated` is its word, or if there was nothing to ask. False if it
        could not be asked: the session is kept. `timeout` is in seconds, and for the whole question.

        Raises:
            StorageError: the storage cannot be read.
        """
        return self._run(self._flows.initialize(timeout))

    def validate_authentication(self, timeout: float | None = None) -> bool:
        """Ask the server whether the session lives; if not, sign out here. Returns whether somebody is signed in.

        `timeout` is in seconds, and for the whole question; None: as long as the HTTP client takes.

        Raises:
            httpx.HTTPError: it cannot be reached; still signed in.
            UnexpectedAnswerError: what answered is not its status route; still signed in.
        """
        return self._run(self._flows.validate(timeout))

    def update_signed_in_user(self, info: AuthSuccess | None) -> None:
        """Take up what a sign-in answered (`coatcheck.wire.auth_success_of`), or with None forget who is signed in.

        Raises:
            ConfigurationError: the answer has a token in cookie mode, or none in header mode; nothing was stored.
            StorageError: it cannot be kept; who was signed in still is.
        """
        self._run(self._flows.update(info))

    def sign_out_device(self) -> bool:
        """End this session, and forget it here whatever happens. Returns whether the server has confirmed the end.

        Raises:
            StorageError: it is forgotten here, but its token could not be deleted from the storage.
        """
        return self._run(self._flows.sign_out("sign-out"))

    def sign_out_all_devices(self) -> bool:
        """End all sessions of the user; otherwise as `sign_out_device`."""
        return self._run(self._flows.sign_out("sign-out-all"))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with an `AuthChange` when who is signed in was read or changed. Returns what ends that."""
        return self._hearers.listen(listener)

    def listening(self) -> AbstractContextManager[None]:
        """Within the block, hear of the session's end at once, and not with the next request.

            with sessions.listening():
                ...

        A thread keeps a stream of the server open while somebody is signed in, and opens it again when it breaks.
        What it hears is told as ever: to `listen`, `closing` and `on_sign_in_required`, in that thread. Leaving the
        block waits for it, five seconds at most: for longer it may be in a callback or the storage, which it finishes,
        or wait for an answer, which it heeds no more.
        """
        return ListeningThread(self._flows, self._hearers, self._http, self._fulfil)

    def closing(self, close: Close) -> AbstractContextManager[None]:
        """For long-lived streams: within the block, `close` is called once when somebody else or nobody is signed in.

        with http.stream("GET", "/live") as live, sessions.closing(live.close): ...
        """
        return self._hearers.closing(close)

    def close(self) -> None:
        """Close the manager's own HTTP client. Who is signed in stays so."""
        if self._owns_http:
            self._http.close()

    def _run(self, flow: Flow[T]) -> T:
        """Fulfil what a flow needs until it returns."""
        return run(flow, self._fulfil)

    def _fulfil(self, need: Need) -> Any:  # noqa: ANN401 (each need has its own kind of result)
        if isinstance(need, Call):
            return need.function()
        if isinstance(need, Send):
            return self._send(need)
        if isinstance(need, Tell):
            if need.closes_streams:
                _call_all(self._hearers.closers())
            return _call_all(self._hearers.calls_for(need.change))
        if isinstance(need, CloseStreams):
            return _call_all(self._hearers.closers())
        assert_never(need)

    def _send(self, need: Send) -> httpx.Response:
        timeout = httpx.USE_CLIENT_DEFAULT if need.timeout is None else need.timeout
        request = self._http.build_request(need.method, need.url, headers=need.headers, timeout=timeout)
        send = partial(self._http.send, request, auth=None, follow_redirects=False)
        if need.timeout is None:
            return send()
        try:
            return call_within(need.timeout, send)
        except TimeLimitError:
            raise httpx.ReadTimeout(f"no answer within {need.timeout:g} s", request=request) from None


def _call_all(calls: Iterable[Callable[[], object]]) -> None:
    for call in calls:
        try:
            call()
        except Exception:  # noqa: BLE001 (one callback must not keep the others from being called)
            failed(call)
