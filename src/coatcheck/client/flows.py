"""The steps of a session manager, written once for blocking and for asynchronous programs.

Each flow is a generator that yields its next need and is sent the result, as an `httpx2.Auth` flow yields requests.
`ClientSessionManager` fulfils the needs by calling, `AsyncClientSessionManager` by awaiting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from coatcheck.client.answers import confirms_sign_out, may_be_ours, reason_in, same_origin, status_in
from coatcheck.client.changes import AuthChange, SignOutReason
from coatcheck.client.http_library import http_errors
from coatcheck.client.local_session import LocalSession
from coatcheck.client.loopback_only import LoopbackOnly
from coatcheck.client_info import ClientInfo
from coatcheck.errors import ConfigurationError, UnexpectedAnswerError
from coatcheck.loopback import is_loopback
from coatcheck.wire import checked_token

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from types import ModuleType

    import httpx2

    from coatcheck.client.storage import SessionStorage
    from coatcheck.tokens import AuthSuccess

T = TypeVar("T")

_HOST = re.compile(rb"[A-Za-z0-9._:-]+")  # a name, or an address without its brackets

Mode: TypeAlias = Literal["header", "cookie"]

SIGN_OUT_SECONDS = 5.0
"""The time limit of a sign-out's request. It is short because the user waits for it."""


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function that may block on the storage; the result is what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request to the server, without following redirects; the result is its response.

    The HTTP client adds its cookies. `timeout` is in seconds and for the whole request; None: only the HTTP client's
    own timeouts apply, which are for each step.
    """

    method: str
    url: httpx2.URL
    headers: dict[str, str]
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the listeners of a change, and close the streams if they belong to a user who is not signed in any more."""

    change: AuthChange
    closes_streams: bool


class CloseStreams:
    """Close streams now."""


Need: TypeAlias = Call | Send | Tell | CloseStreams
Flow: TypeAlias = Generator[Need, Any, T]


class Flows:
    """The flows of one manager."""

    def __init__(
        self,
        server_url: str,
        *,
        library: ModuleType,
        session_path: str,
        storage: SessionStorage,
        mode: Mode,
        client_label: str | None,
    ) -> None:
        """See `ClientSessionManager`; `library` is that of the HTTP client which sends the manager's own requests."""
        if mode not in {"header", "cookie"}:
            raise ConfigurationError('mode must be "header" or "cookie"')
        self.library: ModuleType = library
        self.origin: httpx2.URL = _checked_origin(server_url, library)
        self.loopback: LoopbackOnly = LoopbackOnly(self.origin)
        self.local: LocalSession = LocalSession(storage)
        self._session_url = self.origin.join(f"/{session_path.strip('/')}/")
        self.is_in_cookie: bool = mode == "cookie"
        self._signing_out: AuthSuccess | None = None
        self._label = None if client_label is None else quote(ClientInfo(label=client_label).label or "")

    # --- the calls of a program ---

    def restore(self) -> Flow[None]:
        """See `ClientSessionManager.restore`."""
        yield from self._changing(self.local.restore)

    def initialize(self, timeout: float) -> Flow[bool]:
        """See `ClientSessionManager.initialize`."""
        yield from self.restore()
        try:
            yield from self.validate(timeout)
        except http_errors(UnexpectedAnswerError):
            return False
        return True

    def validate(self, timeout: float | None) -> Flow[bool]:
        """See `ClientSessionManager.validate_authentication`."""
        yield from self._changing(self.local.refresh)
        info = self.local.info
        if info is None:
            return False
        reason = yield from self._verdict(info, timeout)
        if reason is not None:
            yield from self._ending(info, reason)
        return reason is None

    def update(self, info: AuthSuccess | None) -> Flow[None]:
        """See `ClientSessionManager.update_signed_in_user`."""
        if info is None:
            yield from self._changing(partial(self.local.sign_out, SignOutReason.SIGNED_OUT))
            return
        if self.is_in_cookie and info.token:
            raise ConfigurationError(
                'the server sent a token although this client has mode="cookie"; has its SessionMiddleware a cookie?'
            )
        if not self.is_in_cookie and not info.token:
            raise ConfigurationError('the server sent no token although this client has mode="header"')
        checked_token(info.token)
        yield from self._changing(partial(self.local.sign_in, info))

    def sign_out(self, route: Literal["sign-out", "sign-out-all"]) -> Flow[bool]:
        """See `ClientSessionManager.sign_out_device`; `route` says which sessions end."""
        confirmed = is_readable = False
        forget: Callable[[], AuthChange | None] = partial(self.local.sign_out, SignOutReason.SIGNED_OUT)
        try:
            yield CloseStreams()
            # A storage of the application's own may raise anything. Then the last known session is used, so that the
            # server is told; `forget` raises the storage's error.
            with suppress(Exception):
                yield from self._changing(self.local.refresh)
                is_readable = True
            info = self._signing_out = self.local.info
            if info is not None:
                if is_readable:  # a user who signs in while the server ends `info` stays signed in
                    forget = partial(self.local.end, info, SignOutReason.SIGNED_OUT)
                response = yield self._ask("POST", route, info, SIGN_OUT_SECONDS)
                confirmed = confirms_sign_out(response, self.origin)
        except http_errors():
            pass
        finally:
            try:
                yield from self._changing(forget)
            finally:
                self._signing_out = None
        return confirmed

    # --- for listening (`listening.py`) ---

    def current(self) -> Flow[AuthSuccess | None]:
        """The session that is kept here, read anew because another process may have changed it."""
        yield from self._changing(self.local.refresh)
        return self.local.info

    def events_request(self, info: AuthSuccess) -> Send:
        """The request for the stream of events, which tells when this session ends."""
        request = self._ask("GET", "events", info, None)
        request.headers["Accept"] = "text/event-stream"
        return request

    # --- around the requests of the program ---

    def before(self, request: httpx2.Request) -> Flow[AuthSuccess | None]:
        """Add the session to a request to the server's origin. Returns the session that was added, for `after`."""
        if not same_origin(request.url, self.origin):
            return None
        yield from self._changing(self.local.refresh)
        info = self.local.info
        if "authorization" in request.headers and not self.is_in_cookie:
            return None  # the program has set a header of its own
        self._add_headers(request.headers, info)
        return info

    def may_be_the_end(self, response: httpx2.Response) -> bool:
        """Whether a response may say that the session has ended, so that `after` has to read it."""
        return may_be_ours(response, self.origin)

    def after(self, body: bytes | None, sent: AuthSuccess) -> Flow[None]:
        """Sign out if the body of such a response says that the session that was sent has ended."""
        reason = reason_in(body, in_cookie=self.is_in_cookie)
        if reason is None or self.local.info != sent:
            return
        # The cookie that was sent may be that of an earlier sign-in, which cannot be seen here: ask the server again.
        if self.is_in_cookie and not (yield from self._is_over(sent)):
            return
        yield from self._ending(sent, reason)

    # --- parts of the flows ---

    def _is_over(self, info: AuthSuccess) -> Flow[bool]:
        """Whether the server says again that the session has ended; False if it cannot be asked."""
        try:
            reason = yield from self._verdict(info, None)
        except http_errors(UnexpectedAnswerError):
            return False
        return reason is not None

    def _verdict(self, info: AuthSuccess, timeout: float | None) -> Flow[SignOutReason | None]:
        """The reason why the session has ended, from the status route; None if it has not."""
        response = yield self._ask("GET", "status", info, timeout)
        if may_be_ours(response, self.origin):
            reason = reason_in(response.content, in_cookie=self.is_in_cookie)
            if reason is not None:
                return reason
        return status_in(response, self.origin)

    def _ending(self, info: AuthSuccess, reason: SignOutReason) -> Flow[None]:
        """End the session here because the server says that it has ended, unless this program is signing out."""
        if info == self._signing_out:
            return  # this program has ended it, so the listeners must not be told that the server has
        yield from self._changing(partial(self.local.end, info, reason), reason)

    def _changing(
        self, change: Callable[[], AuthChange | None], lost: SignOutReason = SignOutReason.SIGNED_OUT
    ) -> Flow[None]:
        """Make a change and tell the listeners. If the storage fails and the session ends, they are told `lost`."""
        before = self.local.info
        try:
            before, changed = yield Call(partial(self.local.observe, change))
        except Exception:
            # The storage failed. If nobody is signed in any more, the listeners are told before the error is raised.
            if before is not None and self.local.info is None:
                yield Tell(AuthChange(None, lost), closes_streams=True)
            raise
        if changed is not None:
            yield Tell(changed, closes_streams=_identity(before) != _identity(changed.auth_info))

    def _ask(self, method: str, route: str, info: AuthSuccess, timeout: float | None) -> Send:
        headers: dict[str, str] = {}
        self._add_headers(headers, info)
        return Send(method, self._session_url.join(route), headers, timeout)

    def _add_headers(self, headers: MutableMapping[str, str], info: AuthSuccess | None) -> None:
        if self._label is not None:
            headers["Coatcheck-Client"] = self._label
        if self.is_in_cookie:
            headers["Coatcheck-Mode"] = "cookie"
        elif info is not None:
            headers["Authorization"] = f"Bearer {info.token}"


def _identity(info: AuthSuccess | None) -> str | None:
    return None if info is None else info.auth_user_id


def _checked_origin(server_url: str, library: ModuleType) -> httpx2.URL:
    no_origin = ConfigurationError('server_url must be the server\'s origin, for example "https://example.org"')
    try:
        url: httpx2.URL = library.URL(server_url)
    except (library.InvalidURL, TypeError):
        raise no_origin from None
    has_host = _HOST.fullmatch(url.raw_host) is not None
    if url.scheme not in {"http", "https"} or not has_host:
        raise no_origin
    if url.userinfo or url.path not in {"", "/"} or url.query or url.fragment:
        raise no_origin
    if url.scheme == "http" and not is_loopback(url.host):
        raise ConfigurationError(
            "server_url must begin with https: over plain http anybody on the network can read the token"
        )
    return url.copy_with(path="/")
