"""Where a sign-in may lead to."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import TokenRefusal
from coatcheck.web import reason_of, safe_next
from coatcheck.web.http.redirects import page_of, sign_in_target

NO_PATHS_OF_THIS_SITE = [
    "",
    "notes",
    "https://evil.example",
    "https:evil.example",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/notes\n",
    "/notes\r\nSet-Cookie: a=b",
    "/ /evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "/@evil.example\\@",
    "/nötes",
    "/\u2215/evil.example",
    "/" + "a" * 512,
]


@pytest.mark.parametrize(
    "path", ["/", "/notes", "/notes?before=12", "/devices?done=ended", "/a/b%20c/~d?e=%2F&f=+", "/@a:b#//c"]
)
def test_paths_of_this_site_are_gone_to(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize("wanted", [None, *NO_PATHS_OF_THIS_SITE])
def test_everything_else_leads_to_the_front_page(wanted: str | None) -> None:
    assert safe_next(wanted) == "/"


@given(st.text(alphabet="/\\.:@?#%\t\n\r evil", max_size=12))
def test_a_path_that_is_let_through_is_resolved_to_this_site_however_it_is_read(wanted: str) -> None:
    path = safe_next(wanted)
    assert path.startswith("/")
    assert not path.startswith("//")
    assert not set(path) & set("\\\t\n\r ")
    assert urlsplit(urljoin("https://notes.example/a/b", path)).netloc == "notes.example"


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (None, None),
        (TokenRefusal.NOT_A_TOKEN, None),
        (TokenRefusal.UNKNOWN, "revoked"),
        (TokenRefusal.WRONG_SECRET, "revoked"),
        (TokenRefusal.EXPIRED, "expired"),
        (TokenRefusal.INACTIVE, "inactive"),
    ],
)
def test_only_the_holder_of_a_session_is_told_how_it_ended(refusal: TokenRefusal | None, reason: str | None) -> None:
    assert reason_of(refusal) == reason


@pytest.mark.parametrize(("path", "query", "page"), [("/a b", "", "/a%20b"), ("/é?", "x=%20", "/%C3%A9%3F?x=%20")])
def test_a_page_is_written_so_that_it_is_a_path_of_this_site(path: str, query: str, page: str) -> None:
    assert page_of(path, query) == page
    assert safe_next(page_of(path, query), "no page") == page


@pytest.mark.parametrize(
    ("back_to", "target"),
    [(None, "/in"), ("/", "/in"), ("//evil.example", "/in"), ("/a?b=c", "/in?next=/a%3Fb%3Dc")],
)
def test_the_sign_in_page_is_told_only_of_pages_of_this_site(back_to: str | None, target: str) -> None:
    assert sign_in_target("/in", back_to=back_to, reason=None) == target
