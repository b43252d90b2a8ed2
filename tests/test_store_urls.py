"""Each line of the table in docs/reference/store-urls.md is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trustme

from coatcheck import ConfigurationError
from coatcheck.stores.urls import store_from_url
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parent.parent / "docs/reference/store-urls.md"
PASSWORD = "hunter2-the-password"


class Line(NamedTuple):
    options: str
    result: str


LINES = [
    Line(options, result)
    for options, result in re.findall(r"^\| `(\?[^`]*)` \| [^|]* \| ([^|]*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
]


class Hoster(NamedTuple):
    server: PostgresServer
    authority: Path

    def url(self, options: str) -> str:
        known = options.replace("/path/authority.pem", str(self.authority))
        known = known.replace("db1.internal:5432", f"localhost:{self.server.port}")
        return f"postgresql://postgres:{PASSWORD}@localhost:{self.server.port}/postgres{known}"


@pytest.fixture(scope="module")
def hoster(postgres_admin_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hoster]:  # noqa: ARG001 (marks the tests)
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    path.write_bytes(authority.cert_pem.bytes())
    server = PostgresServer()
    server.speak_tls(b"".join(one.bytes() for one in issued.cert_chain_pems), issued.private_key_pem.bytes())
    yield Hoster(server, path)
    server.remove()


def test_the_table_is_read_whole() -> None:
    table = PAGE.read_text("utf-8").split("|---|---|---|\n")[1].split("\n\n")[0]
    assert len(LINES) == table.count("\n") + 1


@pytest.mark.parametrize("line", [one for one in LINES if one.result.startswith("works")], ids=lambda one: one.options)
async def test_a_line_that_works_opens_a_store(line: Line, hoster: Hoster) -> None:
    store = store_from_url(hoster.url(line.options))
    await store.open()
    try:
        assert await store.count_by_pepper() == []
    finally:
        await store.close()


@pytest.mark.parametrize(
    "line", [one for one in LINES if one.result.startswith("refused: ")], ids=lambda one: one.options
)
def test_a_line_that_is_refused_is_refused_in_these_words(line: Line, hoster: Hoster) -> None:
    sentence = line.result.removeprefix("refused: ")
    with pytest.raises(ConfigurationError) as refused:
        store_from_url(hoster.url(line.options))
    assert sentence in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "line", [one for one in LINES if one.result.startswith("refused when")], ids=lambda one: one.options
)
async def test_a_line_that_the_server_refuses_is_refused_in_these_words(line: Line, hoster: Hoster) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await store_from_url(hoster.url(line.options)).open()
    assert line.result.partition(": ")[2] in str(refused.value)


def test_every_line_says_that_it_works_or_is_refused() -> None:
    assert [one for one in LINES if not one.result.startswith(("works", "refused: ", "refused when"))] == []
