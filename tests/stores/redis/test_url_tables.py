"""The tables of URLs and options in the reference: each line does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coatcheck import ConfigurationError
from coatcheck.stores.redis.store import RedisStore
from coatcheck.stores.redis.url import parse_url
from coatcheck.stores.redis.url_options import ALLOWED, OTHER_NAMES, REFUSED, WITHOUT_EFFECT
from coatcheck.stores.urls import store_from_url

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "redis-urls.md").read_text("utf-8")


def _rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


URLS = [(row[0].strip("`"), row[2]) for row in _rows("URLs")]
OPTIONS = [(name, here) for names, here in _rows("Options") for name in re.findall(r"`(\w+)`", names)]
PLACES = {"ssl_certfile": "/a", "ca_certs": "/a", "ssl_ca_certs": "/a", "db": "1", "virtual_host": "1", "protocol": "3",
          "replicas": "2", "ssl_cert_reqs": "required", "ssl_check_hostname": "true", "sentinels": "any"}  # fmt: skip


def test_the_tables_are_there() -> None:
    assert len(URLS) > 30
    assert len(OPTIONS) > 40


@pytest.mark.parametrize(("url", "here"), URLS, ids=[url for url, _ in URLS])
def test_a_url_as_it_is_printed_works_or_is_refused_with_the_documented_sentence(url: str, here: str) -> None:
    if here.startswith("works"):
        assert isinstance(store_from_url(url), RedisStore)
        return
    with pytest.raises(ConfigurationError) as caught:
        store_from_url(url)
    assert here.removeprefix("refused: ") in str(caught.value)
    assert "p4ss" not in str(caught.value)


def test_the_table_has_every_option_once_and_in_its_place() -> None:
    names = [name for name, _ in OPTIONS]
    assert len(names) == len(set(names))
    kinds = {"used": set[str](), "accepted": set[str](), "refused": set[str]()}
    for name, here in OPTIONS:
        kinds[re.split("[:,]", here)[0]].add(name)
    assert kinds["used"] == {*ALLOWED, *OTHER_NAMES}
    assert kinds["accepted"] == WITHOUT_EFFECT
    assert kinds["refused"] == set(REFUSED)


@pytest.mark.parametrize(("name", "here"), OPTIONS, ids=[name for name, _ in OPTIONS])
def test_an_option_is_used_ignored_or_refused_with_the_documented_sentence(name: str, here: str) -> None:
    base = "rediss+sentinel://a/service" if name.startswith("sentinel") else "rediss://a"
    beside = "&ssl_certfile=/a" if name in {"ssl_keyfile", "ssl_password"} else ""
    url = f"{base}?{name}={PLACES.get(name, 'x')}{beside}"
    if not here.startswith("refused: "):
        changes = parse_url(url) != parse_url(f"{base}?{beside}")
        has_effect = here.startswith("used") and name not in {"protocol", "ssl_cert_reqs", "ssl_check_hostname"}
        assert changes == has_effect
        return
    with pytest.raises(ConfigurationError) as caught:
        parse_url(url)
    assert f"{name} in the store URL is refused: {here.removeprefix('refused: ')}" in str(caught.value)
