"""Static files and health checks are left alone by the middleware, and nobody is taken for a stranger there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from coatcheck import ConfigurationError, TokenRefusal
from coatcheck.errors import AuthenticationRequiredError
from coatcheck.web import (
    SCOPE_KEY,
    SessionMiddleware,
    authentication_of,
    check_may_sign_in,
    client_of,
    forget_cookie,
    require,
    sign_in_location,
    sign_out,
    traffic_is_use,
)
from coatcheck.web.starlette import exception_handlers
from tests.web.asgi_calls import bearer, request, websocket
from tests.web.fakes import SID, FakeAuth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from starlette.requests import Request
    from starlette.responses import PlainTextResponse

    from coatcheck.web.asgi import AsgiScope, Receive, Send
    from tests.web.asgi_calls import Headers
    from tests.web.fakes import FakeTokenManager

PATHS = ["/static/", "/healthz"]


def cookie(token: str) -> Headers:
    return [(b"cookie", b"__Host-sid=" + token.encode())]


async def whoami(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    caller = authentication_of(scope)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": (caller.user_identifier if caller else "nobody").encode()})


async def test_a_file_is_served_without_a_validation_and_stays_cacheable(
    auth: FakeAuth, manager: FakeTokenManager, tmp_path: Path
) -> None:
    (tmp_path / "app.js").write_text("1")
    site = Starlette(routes=[Mount("/static", StaticFiles(directory=tmp_path))])
    app = SessionMiddleware(site, auth=auth, cookie=SID, except_paths=PATHS)
    token = manager.sign_in()
    manager.end(token, TokenRefusal.EXPIRED)
    manager.is_down = True
    answer = await request(app, "/static/app.js", headers=cookie(token), scheme="https")
    assert answer.status == 200
    assert [answer.header(name) for name in ("cache-control", "vary", "set-cookie")] == [None, None, None]
    assert manager.explained == 0


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/static/a/b.js", ""),
        ("/static/", ""),
        ("/healthz", ""),
        ("/app/static/a.js", "/app"),  # the server keeps the prefix in the path, as ASGI says
        ("/app/static/a.js", "/app/"),
        ("/static/a.js", "/app"),  # or does not, behind a proxy that strips it
    ],
)
async def test_a_path_is_left_alone(auth: FakeAuth, manager: FakeTokenManager, path: str, root_path: str) -> None:
    app = SessionMiddleware(whoami, auth=auth, except_paths=PATHS)
    with pytest.raises(ConfigurationError, match="except_paths"):
        await request(app, path, headers=bearer(manager.sign_in("ann")), root_path=root_path)
    assert manager.explained == 0


@pytest.mark.parametrize(
    "path",
    [
        "/static",
        "/staticx",
        "/STATIC/a.js",
        "/healthz/",
        "/healthz/notes",
        "/x/static/a.js",
        "/static/../notes",
        "/static/./notes",
        "/static/a/..",
        "/static//notes",
        "//static/a.js",
        "/static/..\\notes",
        "/static/%2e%2e/notes",
        "/static/..;/notes",
        "/static/a\x00",
        "/notes",
        "/",
        "",
    ],
)
async def test_any_other_path_is_validated(auth: FakeAuth, manager: FakeTokenManager, path: str) -> None:
    app = SessionMiddleware(whoami, auth=auth, except_paths=PATHS)
    answer = await request(app, path, headers=bearer(manager.sign_in("ann")))
    assert (answer.body, manager.explained) == (b"ann", 1)


ASKING: list[Callable[[Mapping[str, Any]], object]] = [
    authentication_of,
    require,
    check_may_sign_in,
    client_of,
    forget_cookie,
    sign_in_location,
    traffic_is_use,
]


@pytest.mark.parametrize("ask", ASKING, ids=lambda ask: ask.__name__)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_each_question_about_the_caller_is_a_mistake_that_names_the_setting(
    auth: FakeAuth, manager: FakeTokenManager, ask: Callable[[Mapping[str, Any]], object], kind: str
) -> None:
    async def asking(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        ask(scope)

    app = SessionMiddleware(asking, auth=auth, cookie=SID, except_paths=PATHS)
    call = request if kind == "http" else websocket
    with pytest.raises(ConfigurationError, match="except_paths"):
        await call(app, "/static/a", headers=bearer(manager.sign_in()))


async def test_signing_out_is_a_mistake_there(auth: FakeAuth, manager: FakeTokenManager) -> None:
    async def leaving(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        await sign_out(auth, scope)

    app = SessionMiddleware(leaving, auth=auth, except_paths=PATHS)
    with pytest.raises(ConfigurationError, match="except_paths"):
        await request(app, "/healthz", headers=bearer(manager.sign_in()))


async def test_the_caller_of_an_outer_middleware_does_not_pass_for_that_of_an_inner_one(
    auth: FakeAuth, manager: FakeTokenManager
) -> None:
    inner = SessionMiddleware(whoami, auth=FakeAuth(), except_paths=PATHS)
    app = SessionMiddleware(inner, auth=auth)
    with pytest.raises(ConfigurationError, match="except_paths"):
        await request(app, "/static/a", headers=bearer(manager.sign_in("ann")))


async def test_an_application_may_refuse_by_itself_there(auth: FakeAuth) -> None:
    async def refusing(_request: Request) -> PlainTextResponse:
        raise AuthenticationRequiredError

    site = Starlette(routes=[Route("/healthz", refusing)], exception_handlers=exception_handlers)
    answer = await request(SessionMiddleware(site, auth=auth, except_paths=PATHS), "/healthz")
    assert (answer.status, answer.code) == (401, "authentication_required")


async def test_nothing_is_left_alone_by_default(auth: FakeAuth) -> None:
    found: list[object] = []

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        found.append(scope[SCOPE_KEY])
        await whoami(scope, receive, send)

    assert (await request(SessionMiddleware(app, auth=auth), "/static/a")).body == b"nobody"


@pytest.mark.parametrize(
    "paths", ["/static/", ["static/"], ["/"], [""], ["/a/../b"], ["/a//"], ["/a?b"], ["/*"], ["/a%2f"], [b"/a"], [None]]
)
def test_a_wrong_path_is_a_mistake(auth: FakeAuth, paths: Any) -> None:
    with pytest.raises(ConfigurationError, match="except_paths must be a list of paths"):
        SessionMiddleware(whoami, auth=auth, except_paths=paths)
