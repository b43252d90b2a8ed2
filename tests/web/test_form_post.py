"""The form that an identity provider's page sends to the callback: it may sign in where the call says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coatcheck import ConfigurationError
from coatcheck.web import SessionCookie, SessionMiddleware, check_may_sign_in, sign_in
from tests.web.asgi_calls import Answer, Headers, request
from tests.web.fakes import SID

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiScope, Receive, Send
    from tests.worlds import World

APPLE = "https://appleid.apple.com"
HOST = (b"host", b"app.example.org")


def form(origin: str, **changes: str | None) -> Headers:
    """The headers that a browser sends with a form; None leaves one out."""
    said = {"site": "cross-site", "mode": "navigate", "dest": "document", **changes}
    fetch = [(f"sec-fetch-{name}".encode(), value.encode()) for name, value in said.items() if value is not None]
    return [HOST, (b"origin", origin.encode()), *fetch]


async def callback(
    world: World, headers: Headers, from_origins: Any = (APPLE,), *, cookie: SessionCookie = SID, method: str = "POST"
) -> Answer:
    user = await world.user()

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        check_may_sign_in(scope, "cookie", from_origins=from_origins)
        await sign_in(world.auth, scope, auth_user_id=user.id, method="apple", mode="cookie", from_origins=from_origins)
        await send({"type": "http.response.start", "status": 303, "headers": [(b"location", b"/")]})
        await send({"type": "http.response.body", "body": b""})

    answer = await request(
        SessionMiddleware(app, auth=world.auth, cookie=cookie), headers=headers, method=method, scheme="https"
    )
    sessions = await world.tokens.list_tokens(auth_user_id=user.id)
    assert len(sessions) == (answer.status == 303), "a refused form makes no session"
    return answer


OLD_BROWSER: dict[str, str | None] = {"site": None, "mode": None, "dest": None}


@pytest.mark.parametrize("headers", [form(APPLE), form(APPLE, **OLD_BROWSER)], ids=["today", "without Sec-Fetch"])
async def test_the_form_of_the_provider_signs_in(world: World, headers: Headers) -> None:
    answer = await callback(world, headers)
    assert answer.status == 303
    assert (answer.header("set-cookie") or "").startswith("__Host-sid=")


REFUSED = {
    "another origin": form("https://evil.example"),
    "a subdomain of the provider": form("https://x.appleid.apple.com"),
    "the provider over http": form("http://appleid.apple.com"),
    "a script of the provider": form(APPLE, mode="cors", dest="empty"),
    "a script without answer": form(APPLE, mode="no-cors", dest="empty"),
    "a frame": form(APPLE, dest="iframe"),
    "half of Sec-Fetch": form(APPLE, mode=None, dest=None),
    "two origins": [*form(APPLE), (b"origin", APPLE.encode())],
    "two sites": [*form(APPLE), (b"sec-fetch-site", b"cross-site")],
    "an origin that is hidden": form("null"),
    "no origin": [HOST, (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")],
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
async def test_nothing_else_passes_for_that_form(world: World, headers: Headers) -> None:
    answer = await callback(world, headers)
    assert (answer.status, answer.code, answer.header("set-cookie")) == (403, "cross_site_request", None)


async def test_another_method_is_no_form(world: World) -> None:
    assert (await callback(world, form(APPLE), method="PUT")).code == "cross_site_request"


async def test_without_the_setting_the_form_is_refused(world: World) -> None:
    assert (await callback(world, form(APPLE), ())).code == "cross_site_request"


async def test_a_hidden_origin_passes_where_it_is_named_and_a_page_was_opened(world: World) -> None:
    assert (await callback(world, form("null"), [APPLE, "null"])).status == 303
    for headers in (form("null", **OLD_BROWSER), form("null", dest="iframe"), form("null", mode="cors", dest="empty")):
        assert (await callback(world, headers, [APPLE, "null"])).code == "cross_site_request"


async def test_a_provider_of_the_same_site_whose_form_brings_the_session_cookie_needs_trusted_origins(
    world: World,
) -> None:
    idp = "https://idp.example.org"
    headers = [*form(idp, site="same-site"), (b"cookie", b"__Host-sid=c2Fz")]
    assert (await callback(world, headers, [idp])).code == "cross_site_request"
    assert (await callback(world, headers, cookie=SessionCookie(name="sid", trusted_origins=(idp,)))).status == 303
    assert (await callback(world, headers[:-1], [idp])).status == 303  # nobody is signed in


@pytest.mark.parametrize("origins", [APPLE, ["appleid.apple.com"], [f"{APPLE}/"], ["*"], [None]])
async def test_a_wrong_origin_is_a_mistake(world: World, origins: Any) -> None:
    with pytest.raises(ConfigurationError, match="from_origins must be"):
        await callback(world, form(APPLE), origins)
