"""URLs of Redis stores: which are valid, and the errors for those that are not."""

from __future__ import annotations

import sys
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import ConfigurationError
from coatcheck.stores.redis.encryption import Encryption
from coatcheck.stores.redis.store import RedisStore
from coatcheck.stores.redis.url import Address, parse_url
from coatcheck.stores.urls import store_from_url

PASSWORD = "hunter2-geheim"


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("redis://db", [("db", 6379)]),
        ("redis://db:7000", [("db", 7000)]),
        ("redis://127.0.0.1:7000/3", [("127.0.0.1", 7000)]),
        ("valkey://[::1]", [("::1", 6379)]),
        ("valkey://[::1]:7000", [("::1", 7000)]),
        ("redis://ann:secret@[2001:db8::1]:7000/0", [("2001:db8::1", 7000)]),
        ("redis+sentinel://a,b:7001,[::1]:7002/service", [("a", 26379), ("b", 7001), ("::1", 7002)]),
        ("unix:///run/redis%20s/redis.sock", [("/run/redis s/redis.sock", 0)]),
        ("redis+socket:///run/redis.sock?virtual_host=2", [("/run/redis.sock", 0)]),
        ("valkey+unix:///run/valkey.sock", [("/run/valkey.sock", 0)]),
        ("redis+cluster://a,b:7001,[::1]:7002", [("a", 6379), ("b", 7001), ("::1", 7002)]),
        ("valkeys+cluster://ann:secret@a:1", [("a", 1)]),
    ],
)
def test_a_url_names_one_server_the_members_of_a_cluster_sentinels_or_a_socket(
    url: str, addresses: list[tuple[str, int]]
) -> None:
    target = parse_url(url)
    assert target.addresses == tuple(Address(*address) for address in addresses)
    assert target.is_cluster == ("+cluster" in url)
    assert [str(address) for address in target.addresses] == [_written(*address) for address in addresses]


def _written(host: str, port: int) -> str:
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
@pytest.mark.parametrize("cluster", ["", "+cluster"])
def test_every_scheme_is_accepted_and_an_s_means_tls(scheme: str, cluster: str) -> None:
    url = f"{scheme}{cluster}://db"
    assert (parse_url(url).encryption is not None) == (scheme in {"rediss", "valkeys"})
    assert isinstance(store_from_url(url), RedisStore)


def test_each_missing_part_of_a_url_has_a_default() -> None:
    target = parse_url("redis://db")
    assert target.addresses == (Address("db", 6379),)
    assert (target.database, target.prefix, target.replicas, target.encryption) == (0, "coatcheck", None, None)
    assert target.sentinels is None
    assert (target.username, target.password) == (None, None)


def test_a_url_of_sentinels_names_their_service_a_database_and_their_own_password() -> None:
    url = (
        f"rediss+sentinel://ann:{PASSWORD}@a,b/my.service-1/3?sentinel_username=s&sentinel_password=p%40&sentinels=any"
    )
    target = parse_url(url)
    assert target.sentinels is not None
    assert (target.sentinels.service, target.database, target.waits_for) == ("my.service-1", 3, 1)
    assert (target.sentinels.username, target.sentinels.password) == ("s", "p@")
    assert target.sentinels.believes_any
    assert (target.username, target.password) == ("ann", PASSWORD)
    assert "p@" not in repr(target)
    assert repr(RedisStore(url)) == "RedisStore(a:26379,b:26379/my.service-1/3)"


def test_a_database_a_user_and_a_password_may_be_options() -> None:
    target = parse_url(f"unix:///run/redis.sock?db=4&username=ann&password={PASSWORD}%40")
    assert (target.database, target.username, target.password) == (4, "ann", f"{PASSWORD}@")
    assert parse_url("redis://ann@db/4?db=4&username=ann").database == 4


def test_options_come_behind_a_question_mark() -> None:
    target = parse_url("rediss://db/2?prefix=shop_1-a&replicas=2&ca_certs=/etc/ca%20s.pem")
    assert (target.database, target.prefix, target.replicas) == (2, "shop_1-a", 2)
    assert target.encryption == Encryption("/etc/ca s.pem")


@given(username=st.text(max_size=20), password=st.text(min_size=1, max_size=20))
def test_any_name_and_password_can_be_percent_encoded(username: str, password: str) -> None:
    def encoded(text: str) -> str:
        return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))

    if any("\ud800" <= character <= "\udfff" for character in username + password):
        return  # no URL can say those
    target = parse_url(f"redis://{encoded(username)}:{encoded(password)}@db")
    assert (target.username or "", target.password) == (username, password)


@pytest.mark.parametrize(
    ("url", "what_is_wrong"),
    [
        ("redis://", "no host"),
        ("redis://:7000", "no host"),
        ("redis://a,", "no host"),
        ("redis+cluster://a,,b", "no host"),
        ("redis://::1", "no host"),
        ("redis://[db]", "cannot be read"),
        ("redis://d b", "no host"),
        ("redis://[::1", "cannot be read"),
        ("redis://db:", "the port"),
        ("redis://db:0", "the port"),
        ("redis://db:65536", "the port"),
        ("redis://db:six", "the port"),
        ("redis://db:٣", "the port"),
        (f"redis://db:{'9' * 5000}", "the port"),
        ("redis://db/-1", "the database"),
        ("redis://db/one", "the database"),
        ("redis+cluster://db/1", "the database"),
        ("redis://a,b", "several hosts"),
        ("redis://db?prefix=", "prefix"),
        ("redis://db?prefix={a}", "prefix"),
        ("redis://db?prefix=a:b", "prefix"),
        ("redis://db?prefix=a*", "prefix"),
        (f"redis://db?prefix={'a' * 65}", "prefix"),
        ("redis://db?replicas=-1", "replicas"),
        ("redis://db?replicas=101", "replicas"),
        ("redis://db?replicas=", "replicas"),
        ("redis://db?ba=3", "unknown option"),
        ("redis://db/1?db=3", "the database twice"),
        ("redis://db?db=1&db=3", "db twice"),
        ("redis://db?db=one", "the database"),
        ("redis+cluster://db?db=1", "the database"),
        ("redis://ann:a@db?password=b", "the password twice"),
        ("redis://ann:a@db?username=bob", "the user twice"),
        ("redis://db?protocol=4", "protocol"),
        ("rediss://db?ssl_check_hostname=perhaps&ca_certs=/a", "ssl_check_hostname .* must be true or false"),
        ("rediss://db?ssl_keyfile=/key.pem", "no ssl_certfile"),
        ("rediss://db?ssl_certfile=", "ssl_certfile"),
        ("redis://db?ssl_certfile=/a", "ssl_certfile .* it is for rediss://"),
        ("redis://db?sentinels=any", r"sentinels .* it is for redis\+sentinel://"),
        ("redis://db?sentinel_password=a", r"sentinel_password .* it is for redis\+sentinel://"),
        ("redis+sentinel://db", "no service"),
        ("redis+sentinel://db/", "no service"),
        ("redis+sentinel://db/a%20b", "no service"),
        ("redis+sentinel://db/a/b", "the database"),
        ("redis+sentinel:///a", "no host"),
        ("redis+sentinel://db/a?sentinels=all", "most or any"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("unix:///", "three slashes"),
        ("rediss+unix:///run/redis.sock", "TLS and a Unix socket"),
        ("unix:///run/redis.sock?ca_certs=/a", "ca_certs .* it is for rediss://"),
        ("redis+nothing://db", "not one of Redis"),
        ("redis://db?ca_certs=/etc/ca.pem", "ca_certs"),
        ("rediss://db?ca_certs=", "ca_certs"),
        ("postgresql://db", "Redis or Valkey"),
    ],
)
def test_the_error_for_an_invalid_url_names_the_wrong_part(url: str, what_is_wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=what_is_wrong):
        parse_url(url)


def _said_of(url: str) -> str:
    """The text that a log would show of a URL, valid or not."""
    try:
        return repr(parse_url(url))
    except ConfigurationError as error:
        return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "tail",
    [*"/?#[]:,", "@db/@", "@db:port", "@db/x", "@db?x=1", "@db?prefix=*", "@[db", "@db#x", "?x@db", "/@db", "#@db:1"],
)
def test_no_error_repeats_a_password_however_it_was_written(tail: str) -> None:
    for url in (f"redis://ann:{PASSWORD}{tail}", f"redis://:{PASSWORD}{tail}", f"redis://{PASSWORD}{tail}"):
        said = _said_of(url)
        assert PASSWORD not in said.replace(f"host={PASSWORD!r}", "").replace(f"username={PASSWORD!r}", "")


def test_a_number_sign_in_a_password_does_not_turn_its_beginning_into_a_host() -> None:
    with pytest.raises(ConfigurationError, match="%23"):
        parse_url("redis://ann:123#4@db")


def test_no_repr_shows_a_password() -> None:
    url = f"redis://ann:{PASSWORD}@db:7000/3?prefix=shop"
    target, store = parse_url(url), RedisStore(url)
    encrypted = parse_url(f"rediss://db?ssl_certfile=/a&ssl_password={PASSWORD}")
    for shown in (
        repr(encrypted),
        repr(target),
        repr(store),
        repr(target.connection(Address("db", 1), timeout_seconds=1)),
    ):
        assert PASSWORD not in shown
    assert repr(store) == "RedisStore(db:7000/3)"


@pytest.mark.parametrize(
    "url", [f"ftp://ann:{PASSWORD}@db", f"REDIS://:{PASSWORD}@db", PASSWORD, f"{PASSWORD}@db:6379"]
)
def test_the_error_for_an_unknown_url_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis://") as caught:
        store_from_url(url)
    assert PASSWORD not in str(caught.value)


def test_the_error_for_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coatcheck.stores.redis.store", None)
    with pytest.raises(ConfigurationError, match=r"coatcheck\[redis\]"):
        store_from_url("redis://db")
