"""`AuthBase` of requests with a session, on the same flows as the `Auth` of httpx2. Needs `coatcheck[requests]`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from coatcheck.client.answers import same_origin
from coatcheck.client.refusal_body import MAX_BYTES
from coatcheck.extras import missing_extra

try:
    import requests
    import urllib3
    from requests.auth import AuthBase
    from requests.utils import get_environ_proxies, select_proxy
except ModuleNotFoundError as _missing:
    raise missing_extra(_missing, module=__name__, extra="requests") from _missing

if TYPE_CHECKING:
    from typing import Any

    import httpx2

    from coatcheck.client.flows import Flows
    from coatcheck.client.httpx_auth import Run
    from coatcheck.tokens import AuthSuccess

__all__ = ["RequestsAuth"]

_OURS = ("authorization", "coatcheck-client")


class RequestsAuth(AuthBase):
    """Carries the session of a `ClientSessionManager`: `requests.Session().auth = sessions.requests_auth`.

    Only requests to the manager's origin carry it; requests removes it when it follows a redirect to another origin.
    Responses are passed on unchanged, and no request is repeated. For a request without the session:
    `auth=lambda request: request`.
    """

    def __init__(self, flows: Flows, *, run: Run) -> None:
        """Made by the manager, which gives its way to run flows."""
        self._flows = flows
        self._run = run

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the session to a request.

        Raises:
            ConfigurationError: the environment has a proxy for a server on this machine, which could read the token.
        """
        asked = self._as_httpx2(request)
        self._check_proxy(asked.url, get_environ_proxies(str(asked.url)))
        sent = self._run(self._flows.before(asked))
        request.headers.update({name: asked.headers[name] for name in _OURS if name in asked.headers})

        def after(response: requests.Response, **options: Any) -> None:  # noqa: ANN401 (those of the request)
            self._after(response, sent, **options)

        request.register_hook("response", after)
        return request

    def _after(
        self,
        response: requests.Response,
        sent: AuthSuccess | None,
        *,
        stream: bool = False,
        proxies: dict[str, str] | None = None,
        **_others: object,
    ) -> None:
        """See `SessionAuth`. requests shows the proxies that the program itself has set only now."""
        asked = self._as_httpx2(response.request)
        self._check_proxy(asked.url, proxies)
        media_type = {"content-type": response.headers.get("content-type", "")}
        answer = self._flows.library.Response(response.status_code, headers=media_type, request=asked)
        if sent is not None and self._flows.may_be_the_end(answer):
            self._run(self._flows.after(_peek(response) if stream else _content(response), sent))

    def _check_proxy(self, url: httpx2.URL, proxies: dict[str, str] | None) -> None:
        loopback = self._flows.loopback
        if loopback.is_guarding and same_origin(url, self._flows.origin) and select_proxy(str(url), proxies):
            raise loopback.refusal()

    def _as_httpx2(self, request: requests.PreparedRequest) -> httpx2.Request:
        headers = {name: request.headers[name] for name in _OURS if name in request.headers}
        asked: httpx2.Request = self._flows.library.Request(request.method, request.url or "", headers=headers)
        return asked


def _content(response: requests.Response) -> bytes | None:
    return response.content if len(response.content) <= MAX_BYTES else None


def _peek(response: requests.Response) -> bytes | None:
    """The body of a streamed response; None if it is longer than MAX_BYTES. The caller can still stream it."""
    raw = response.raw
    try:
        head = raw.read(MAX_BYTES + 1, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error, request=response.request) from error
    response.raw = urllib3.HTTPResponse(
        _Rejoined(head, raw),
        headers=_encoding(raw),
        status=raw.status,
        preload_content=False,
        original_response=getattr(raw, "_original_response", None),  # requests reads the cookies of a session there
    )
    if len(head) > MAX_BYTES:
        return None
    try:
        return urllib3.HTTPResponse(io.BytesIO(head), headers=_encoding(raw), preload_content=False).read()
    except urllib3.exceptions.DecodeError:
        return None  # the caller gets this error when it reads the body


def _encoding(raw: urllib3.BaseHTTPResponse) -> dict[str, str]:
    return {name: value for name, value in raw.headers.items() if name.lower() == "content-encoding"}


class _Rejoined(io.RawIOBase):
    """The part of a body that was read, and then the rest of it."""

    def __init__(self, head: bytes, rest: urllib3.BaseHTTPResponse) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a RawIOBase is given no other buffer
        part = self._head.read(len(buffer)) or self._rest.read(len(buffer), decode_content=False)
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._rest.close()
            self._rest.release_conn()
