"""The pure part of the web layer takes facts, wherever they come from: an ASGI scope, or a WSGI environ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from coatcheck.web import ClientCapture, SessionCookie, client_address, is_cross_site
from coatcheck.web.asgi import facts_of
from coatcheck.web.http.credentials import presented_credential
from coatcheck.web.http.request_facts import RequestFacts
from tests.web.asgi_calls import scope_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOKEN = "c2FzAAECAwQFBgcICQoLDA0OD_v_-_v_-_v_-_v_-_v_-_v_-_v_-_v_-_v_-_v_-_v_"


def facts_of_environ(environ: dict[str, str]) -> RequestFacts:
    """As an adapter for WSGI would make them (PEP 3333)."""
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    return RequestFacts(
        environ["REQUEST_METHOD"], environ["wsgi.url_scheme"], headers, environ.get("REMOTE_ADDR") or None
    )


def test_a_wsgi_environ_has_all_that_a_session_in_a_cookie_needs() -> None:
    environ = {
        "REQUEST_METHOD": "POST",
        "wsgi.url_scheme": "https",
        "REMOTE_ADDR": "203.0.113.77",
        "HTTP_HOST": "notes.example",
        "HTTP_COOKIE": f"__Host-sid={TOKEN}",
        "HTTP_ORIGIN": "https://evil.example",
        "HTTP_USER_AGENT": "curl/8.5.0",
    }
    facts = facts_of_environ(environ)
    cookie = SessionCookie(name="sid").on(facts)
    credential = presented_credential(facts.headers, cookie.name)
    assert credential is not None
    assert (credential.token, credential.in_cookie) == (TOKEN, True)
    assert cookie.is_forged
    assert not SessionCookie(name="sid").on(facts_of_environ(environ | {"REQUEST_METHOD": "GET"})).is_forged
    kept = ClientCapture().of(facts)
    assert (kept.label, kept.ip_address) == ("curl", "203.0.113.0/24")


@pytest.mark.parametrize(
    ("scope", "facts"),
    [
        (scope_of("http", method="POST", scheme="https"), RequestFacts("POST", "https", [], "127.0.0.1")),
        (scope_of("websocket", scheme="wss", client=None), RequestFacts("GET", "wss", [], None, is_websocket=True)),
        ({"type": "http", "headers": [], "client": ("", 0)}, RequestFacts("GET", "http", [], "")),
    ],
)
def test_the_facts_of_an_asgi_scope_do_not_refer_to_it(scope: dict[str, Any], facts: RequestFacts) -> None:
    assert facts_of(scope) == facts
    assert all(part is not scope for part in facts_of(scope))


@pytest.mark.parametrize(
    ("method", "is_websocket", "changes_nothing"),
    [
        ("GET", False, True),
        ("HEAD", False, True),
        ("OPTIONS", False, True),
        ("POST", False, False),
        ("TRACE", False, False),
        ("GET", True, False),
    ],
)
def test_safe_methods_change_nothing_and_a_websocket_may(
    method: str, *, is_websocket: bool, changes_nothing: bool
) -> None:
    assert RequestFacts(method, "https", [], None, is_websocket).changes_nothing is changes_nothing


def test_a_header_that_is_sent_twice_has_no_only_value() -> None:
    facts = RequestFacts("GET", "http", [(b"host", b"a"), (b"host", b"b"), (b"x", b"\xe9")], None)
    assert facts.values_of(b"host") == ["a", "b"]
    assert (facts.host, facts.only_value_of(b"x"), facts.only_value_of(b"y")) == (None, "\xe9", None)


@pytest.mark.parametrize("connection_of", [dict, Request], ids=["scope", "request"])
def test_the_edge_functions_take_a_scope_or_a_request_of_starlette(
    connection_of: Callable[[dict[str, Any]], Mapping[str, Any]],
) -> None:
    headers = [(b"origin", b"https://evil.example"), (b"host", b"notes.example"), (b"x-forwarded-for", b"192.0.2.9")]
    connection = connection_of(scope_of("http", headers=headers))
    assert is_cross_site(connection)
    assert not is_cross_site(connection, ["https://evil.example"])
    assert str(client_address(connection)) == "127.0.0.1"
    assert str(client_address(connection, 1)) == "192.0.2.9"
