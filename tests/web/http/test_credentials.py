"""What counts as a token that was sent."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.token_format import parse_token
from coatcheck.tokens import Token
from coatcheck.web.http.credentials import Credential, presented_credential
from tests.web.malformed import MALFORMED_BEARER, MALFORMED_COOKIE, NO_COOKIE_AT_ALL, NO_TOKEN_AT_ALL

NAME = b"__Host-sid"
TOKEN = b"c2FzAAECAwQFBgcICQoLDA0OD_v_-_v_-_v_-_v_-_v_-_v_-_v_-_v_-_v_-_v_-_v_"


def test_a_bearer_header_shows_its_token() -> None:
    assert presented_credential([(b"authorization", b"Bearer " + TOKEN)]) == Credential(Token(TOKEN.decode()), False)


@pytest.mark.parametrize("scheme", [b"bearer", b"BEARER", b"bEaReR"])
def test_the_scheme_is_read_in_any_case(scheme: bytes) -> None:
    """RFC 9110 section 11.1."""
    assert presented_credential([(b"authorization", scheme + b" " + TOKEN)]) == Credential(Token(TOKEN.decode()), False)


def test_all_of_token68_is_read_so_that_other_managers_tokens_are() -> None:
    token = b"aZ09-._~+/=="
    assert presented_credential([(b"authorization", b"Bearer " + token)]) == Credential(Token(token.decode()), False)


def test_no_header_shows_no_token() -> None:
    assert presented_credential([]) is None
    assert presented_credential([(b"x-authorization", b"Bearer " + TOKEN)], NAME) is None


@pytest.mark.parametrize("value", NO_TOKEN_AT_ALL.values(), ids=NO_TOKEN_AT_ALL)
def test_another_scheme_shows_no_token(value: bytes) -> None:
    assert presented_credential([(b"authorization", value)]) is None


@pytest.mark.parametrize("value", MALFORMED_BEARER.values(), ids=MALFORMED_BEARER)
def test_a_malformed_bearer_is_a_token_that_was_sent_and_cannot_be_one(value: bytes) -> None:
    credential = presented_credential([(b"authorization", value)])
    assert credential is not None
    assert credential.token is None or parse_token(credential.token) is None


def test_two_authorization_headers_are_malformed_whatever_they_say() -> None:
    good, other = (b"authorization", b"Bearer " + TOKEN), (b"authorization", b"Basic YTpi")
    for headers in ([good, good], [good, other], [other, good], [other, other]):
        assert presented_credential(headers) == Credential(None, False)


def test_a_cookie_is_read_only_where_its_name_is_configured() -> None:
    headers = [(b"cookie", b"__Host-sid=" + TOKEN)]
    assert presented_credential(headers) is None
    assert presented_credential(headers, NAME) == Credential(Token(TOKEN.decode()), True)


def test_a_cookie_is_found_among_others() -> None:
    header = b'a="; b\\";\t __Host-sid=' + TOKEN + b" ; =nameless; novalue; \xff\x00=x"
    assert presented_credential([(b"cookie", header)], NAME) == Credential(Token(TOKEN.decode()), True)


def test_a_cookie_is_found_in_any_of_several_lines() -> None:
    """HTTP/2 may split the header (RFC 9113 section 8.2.3)."""
    headers = [(b"cookie", b"a=b"), (b"cookie", b"__Host-sid=" + TOKEN), (b"cookie", b"c=d")]
    assert presented_credential(headers, NAME) == Credential(Token(TOKEN.decode()), True)


def test_the_same_cookie_in_two_lines_is_malformed() -> None:
    headers = [(b"cookie", b"__Host-sid=" + TOKEN), (b"cookie", b"__Host-sid=" + TOKEN)]
    assert presented_credential(headers, NAME) == Credential(None, True)


@pytest.mark.parametrize("value", NO_COOKIE_AT_ALL.values(), ids=NO_COOKIE_AT_ALL)
def test_only_exactly_this_name_is_the_cookie(value: bytes) -> None:
    assert presented_credential([(b"cookie", value)], NAME) is None


@pytest.mark.parametrize("value", MALFORMED_COOKIE.values(), ids=MALFORMED_COOKIE)
def test_a_malformed_cookie_is_a_token_that_was_sent_and_cannot_be_one(value: bytes) -> None:
    credential = presented_credential([(b"cookie", value)], NAME)
    assert credential is not None
    assert credential.in_cookie
    assert credential.token is None or parse_token(credential.token) is None


def test_a_bearer_header_wins_over_the_cookie_even_when_malformed() -> None:
    cookie = (b"cookie", b"__Host-sid=" + TOKEN)
    assert presented_credential([cookie, (b"authorization", b"Bearer abc")], NAME) == Credential(Token("abc"), False)
    assert presented_credential([cookie, (b"authorization", b"Bearer \x00")], NAME) == Credential(None, False)


def test_another_scheme_leaves_the_cookie() -> None:
    headers = [(b"authorization", b"Basic YTpi"), (b"cookie", b"__Host-sid=" + TOKEN)]
    assert presented_credential(headers, NAME) == Credential(Token(TOKEN.decode()), True)


def test_a_token_is_not_in_its_repr() -> None:
    credential = presented_credential([(b"authorization", b"Bearer " + TOKEN)])
    assert TOKEN.decode() not in repr(credential)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_whatever_raise(authorization: bytes, cookie: bytes) -> None:
    presented_credential([(b"authorization", b"Bearer " + authorization), (b"cookie", cookie)], NAME)
    presented_credential([(b"authorization", authorization), (b"cookie", b"__Host-sid=" + cookie)], NAME)


@pytest.mark.parametrize(
    "value", [b"Bearer " + b"a" * 8000 + b"\x00", b"Bearer " + b"=" * 8000 + b"a", b"Bearer " + b"a=" * 4000]
)
def test_a_header_of_the_longest_kind_takes_no_time(value: bytes) -> None:
    """1000 of them in well under a second: nothing backtracks."""
    begin = time.process_time()
    for _ in range(1000):
        presented_credential([(b"authorization", value)])
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("filler", [b";", b"=", b"\\", b'"', b"a=b;", b"sid;", b" ; "])
def test_cookies_of_the_longest_kind_take_no_time(filler: bytes) -> None:
    value = filler * (16 * 1024 // len(filler))
    begin = time.process_time()
    for _ in range(100):
        presented_credential([(b"cookie", value)], NAME)
    assert time.process_time() - begin < 2
