"""Frameworks that answer every exception with a 500 of their own, and do not raise it again: Litestar, Quart, Django.

`test_other_frameworks.py` runs these three; here is what they have in common, and what must not be taken for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import AuthorizationError, StoreUnavailable
from coatcheck.web import SessionMiddleware, authentication_of, require
from tests.web.asgi_calls import bearer, request, websocket
from tests.web.fakes import SID

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from tests.web.fakes import FakeAuth, FakeTokenManager

    Endpoint = Callable[[AsgiScope], Coroutine[Any, Any, bytes]]


def framework(endpoint: Endpoint, *, status: int = 500, size: int = 10, more: bool = False) -> AsgiApp:
    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        try:
            body, answered = await endpoint(scope), 200
        except Exception:  # noqa: BLE001 (as these frameworks do)
            body, answered = b"o" * size, status
        await send({"type": "http.response.start", "status": answered, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": body, "more_body": more})
        if more:
            await send({"type": "http.response.body", "body": b""})

    return app


async def notes(scope: AsgiScope) -> bytes:
    return require(scope, "notes:read").user_identifier.encode()


async def in_a_thread(scope: AsgiScope) -> bytes:
    return (await asyncio.to_thread(require, scope, "notes:read")).user_identifier.encode()


async def asking_without_requiring(scope: AsgiScope) -> bytes:
    caller = authentication_of(scope)
    return b"" if caller is None else caller.user_identifier.encode()


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("endpoint", [notes, in_a_thread])
async def test_each_failed_requirement_has_its_answer(
    auth: FakeAuth, manager: FakeTokenManager, endpoint: Endpoint, more: bool
) -> None:
    app = SessionMiddleware(framework(endpoint, more=more), auth=auth, cookie=SID)
    token = manager.sign_in("ann")
    assert (await request(app)).code == "authentication_required"
    assert (await request(app, headers=bearer("nonsense"))).code == "invalid_token"
    answer = await request(app, headers=bearer(token))
    assert (answer.status, answer.code, answer.json["missing_scopes"]) == (403, "insufficient_scope", ["notes:read"])
    assert answer.header("cache-control") == "no-store"
    manager.rescope(token, ["notes:read"])
    assert (await request(app, headers=bearer(token))).body == b"ann"


async def test_an_outage_is_a_503(auth: FakeAuth, manager: FakeTokenManager) -> None:
    token = manager.sign_in()
    manager.is_down = True
    for endpoint in (notes, asking_without_requiring):
        answer = await request(SessionMiddleware(framework(endpoint), auth=auth), headers=bearer(token))
        assert (answer.status, answer.code) == (503, "store_unavailable")
        assert answer.header("retry-after") is not None


async def test_too_many_cookies_are_a_431(auth: FakeAuth) -> None:
    app = SessionMiddleware(framework(asking_without_requiring), auth=auth, cookie=SID)
    answer = await request(app, headers=[(b"cookie", b"__Host-sid=x; a=" + b"a" * 20_000)])
    assert answer.code == "too_many_cookies"


async def fails(_scope: AsgiScope) -> bytes:
    raise ValueError


async def fails_after_it_was_let_in(scope: AsgiScope) -> bytes:
    require(scope)
    raise ValueError


async def deals_with_it_and_fails(scope: AsgiScope) -> bytes:
    with suppress(AuthorizationError):
        require(scope, "admin")
    raise ValueError


async def asks_for_less_and_fails(scope: AsgiScope) -> bytes:
    try:
        await notes(scope)
    except AuthorizationError:
        require(scope)
    raise ValueError


@pytest.mark.parametrize(
    "endpoint", [fails, fails_after_it_was_let_in, deals_with_it_and_fails, asks_for_less_and_fails]
)
async def test_any_other_500_stays_one(auth: FakeAuth, manager: FakeTokenManager, endpoint: Endpoint) -> None:
    answer = await request(SessionMiddleware(framework(endpoint), auth=auth), headers=bearer(manager.sign_in()))
    assert (answer.status, answer.body) == (500, b"o" * 10)


async def test_an_outage_that_was_dealt_with_stays_so(auth: FakeAuth, manager: FakeTokenManager) -> None:
    """The error is the same object each time that the application asks."""

    async def asks_twice(scope: AsgiScope) -> bytes:
        for _ in range(2):
            with suppress(StoreUnavailable):
                authentication_of(scope)
        raise ValueError

    token = manager.sign_in()
    manager.is_down = True
    assert (await request(SessionMiddleware(framework(asks_twice), auth=auth), headers=bearer(token))).status == 500


@pytest.mark.parametrize("status", [400, 404, 502, 200])
async def test_an_answer_that_is_no_500_is_the_applications(auth: FakeAuth, status: int) -> None:
    """It has a handler of its own for ours."""
    answer = await request(SessionMiddleware(framework(notes, status=status), auth=auth))
    assert (answer.status, answer.body) == (status, b"o" * 10)


async def test_a_500_that_was_sent_already_stays(auth: FakeAuth) -> None:
    """More than the megabyte that is held back."""
    answer = await request(SessionMiddleware(framework(notes, size=2_000_000, more=True), auth=auth))
    assert (answer.status, len(answer.body)) == (500, 2_000_000)


async def test_an_exception_that_escapes_after_all_is_not_masked(auth: FakeAuth) -> None:
    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        await framework(notes)(scope, receive, send)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await request(SessionMiddleware(app, auth=auth))


async def test_a_websocket_is_left_as_the_framework_has_it(auth: FakeAuth) -> None:
    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        try:
            await notes(scope)
        except AuthorizationError:
            await send({"type": "websocket.close", "code": 4000})

    assert (await websocket(SessionMiddleware(app, auth=auth))).close_code == 4000
