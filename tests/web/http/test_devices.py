"""What is kept of the client that signs in, and what is not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import ClientInfo, ConfigurationError, InvalidArgumentError
from coatcheck.web import ClientCapture
from coatcheck.web.http.request_facts import RequestFacts
from coatcheck.web.http.user_agents import label_of

if TYPE_CHECKING:
    from tests.web.asgi_calls import Headers

FIREFOX = b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def calling(*headers: tuple[bytes, bytes], client: str | None = "203.0.113.77") -> RequestFacts:
    return RequestFacts("GET", "https", headers, client)


def forwarded(*values: bytes) -> Headers:
    return [(b"x-forwarded-for", value) for value in values]


class TestAddress:
    def test_the_network_is_kept_and_not_the_address(self) -> None:
        assert ClientCapture().of(calling()).ip_address == "203.0.113.0/24"
        ipv6 = calling(client="2001:db8:1:2:3:4:5:6")
        assert ClientCapture().of(ipv6).ip_address == "2001:db8:1::/48"

    def test_all_of_it_or_nothing_is_kept_where_that_is_set(self) -> None:
        assert ClientCapture(ip_address="full").of(calling()).ip_address == "203.0.113.77"
        assert ClientCapture(ip_address="off").of(calling()).ip_address is None

    def test_without_trusted_proxies_nobody_can_say_they_are_another(self) -> None:
        capture = ClientCapture(ip_address="full")
        assert capture.of(calling(*forwarded(b"198.51.100.1"))).ip_address == "203.0.113.77"

    @pytest.mark.parametrize(
        ("hops", "lines", "address"),
        [
            (1, [b"198.51.100.1"], "198.51.100.1"),
            (1, [b"6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            (2, [b"6.6.6.6, 198.51.100.1, 10.0.0.1"], "198.51.100.1"),
            (2, [b"6.6.6.6", b"198.51.100.1", b"10.0.0.1"], "198.51.100.1"),
            (2, [b"198.51.100.1"], None),
            (1, [], None),
            (1, [b"198.51.100.1:5050"], "198.51.100.1"),
            (1, [b"[2001:db8::1]:5050"], "2001:db8::1"),
            (1, [b"2001:db8::1"], "2001:db8::1"),
            (1, [b"::ffff:198.51.100.1"], "198.51.100.1"),
            (1, [b"unknown"], None),
            (1, [b""], None),
        ],
    )
    def test_behind_proxies_the_address_is_what_the_outermost_of_ours_saw(
        self, hops: int, lines: list[bytes], address: str | None
    ) -> None:
        capture = ClientCapture(trusted_proxies=hops, ip_address="full")
        assert capture.of(calling(*forwarded(*lines))).ip_address == address

    def test_a_unix_socket_has_none(self) -> None:
        assert ClientCapture().of(calling(client=None)).ip_address is None
        assert ClientCapture().of(calling(client="")).ip_address is None


class TestLabel:
    def test_a_browser_is_called_by_its_name_and_system(self) -> None:
        assert ClientCapture().of(calling((b"user-agent", FIREFOX))).label == "Firefox on Linux"

    def test_a_program_is_called_by_its_product(self) -> None:
        assert ClientCapture().of(calling((b"user-agent", b"python-httpx/0.28.1"))).label == "python-httpx"

    @pytest.mark.parametrize(
        ("user_agent", "label"),
        [
            ("", None),
            ("<script>alert(1)</script>", None),
            ("x" * 100_000 + "/1", None),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:130.0) Gecko/2010 Firefox/130.0", "Firefox on macOS"),
            ("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/131.0.0.0 Mobile", "Chrome on Android"),
        ],
    )
    def test_a_user_agent_becomes_a_few_words_or_none(self, user_agent: str, label: str | None) -> None:
        assert ClientCapture().of(calling((b"user-agent", user_agent.encode()))).label == label

    def test_a_client_may_call_itself_something_better(self) -> None:
        name = quote("notes on Ada\u2019s laptop").encode()
        called = calling((b"user-agent", FIREFOX), (b"coatcheck-client", name))
        assert ClientCapture().of(called).label == "notes on Ada\u2019s laptop"

    @pytest.mark.parametrize("value", [b"", b"%20", b"%ff%fe", b"x" * 2000])
    def test_a_name_that_cannot_be_read_is_passed_over(self, value: bytes) -> None:
        headers = [(b"user-agent", b"curl/8.5.0"), (b"coatcheck-client", value)]
        assert ClientCapture().of(calling(*headers)).label == "curl"

    def test_an_application_may_label_as_it_likes_or_not_at_all(self) -> None:
        assert ClientCapture(label=str.upper).of(calling((b"user-agent", b"curl/8"))).label == "CURL/8"
        assert ClientCapture(label=None).of(calling((b"user-agent", b"curl/8"))).label is None

    def test_without_the_parser_a_browser_has_no_label_and_a_program_its_product(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ua_parser", None)
        assert (label_of(FIREFOX.decode()), label_of("curl/8.5.0"), label_of("")) == (None, "curl", None)


class TestUserAgent:
    def test_it_is_kept_up_to_256_characters_or_not_at_all(self) -> None:
        long = b"curl/8 " + b"x" * 5000
        assert len(ClientCapture().of(calling((b"user-agent", long))).user_agent or "") == 256
        without = ClientCapture(user_agent=False).of(calling((b"user-agent", FIREFOX)))
        assert (without.user_agent, without.label) == (None, "Firefox on Linux")

    def test_text_that_could_forge_a_line_of_a_log_is_replaced(self) -> None:
        kept = ClientCapture().of(calling((b"user-agent", b"curl\r\n\x1b[31m\x00\x85"))).user_agent or ""
        assert kept.isprintable()
        assert kept.startswith("curl")

    @given(st.binary(max_size=400), st.binary(max_size=200), st.binary(max_size=100))
    def test_nothing_a_client_sends_is_an_error(self, user_agent: bytes, label: bytes, forwarded_for: bytes) -> None:
        headers = [(b"user-agent", user_agent), (b"coatcheck-client", label), (b"x-forwarded-for", forwarded_for)]
        assert isinstance(ClientCapture(trusted_proxies=1).of(calling(*headers)), ClientInfo)


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [{"trusted_proxies": -1}, {"trusted_proxies": 17}, {"trusted_proxies": True}, {"trusted_proxies": "1"},
         {"ip_address": "hashed"}, {"ip_address": None}, {"user_agent": "no"}],
    )  # fmt: skip
    def test_a_wrong_setting_is_named_with_what_is_allowed(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ConfigurationError, match=f"ClientCapture {next(iter(wrong))} must be"):
            ClientCapture(**wrong)  # type: ignore[arg-type]  # that is the mistake

    @pytest.mark.parametrize("text", ["", "x" * 65, "a\nb", "\x00", 5])
    def test_a_label_that_cannot_be_shown_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidArgumentError, match="label must be"):
            ClientInfo(label=text)
