"""A token for a server on this machine does not go to a proxy, which would read it over plain http."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from coatcheck import ConfigurationError
from coatcheck.client import ANONYMOUS, AsyncClientSessionManager, ClientSessionManager
from coatcheck.client.http_library import installed
from tests.client.programs import TOKEN, Program, ada
from tests.servers.origin import Origin
from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

pytestmark = pytest.mark.usefixtures("library")

VARIABLES = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
ELSEWHERE = "http://elsewhere.example/notes"


@pytest.fixture(autouse=True)
def no_proxy_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[Origin]:
    with Origin() as proxy:
        yield proxy


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "notes.localhost"])
async def test_the_managers_own_client_never_uses_a_proxy_for_this_machine(
    kind: str, variable: str, host: str, proxy: Origin, monkeypatch: pytest.MonkeyPatch, library: ModuleType
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    url = f"http://{host}:{free_port()}"
    calls: list[Any]
    if kind == "sync":
        with ClientSessionManager(url) as sessions:
            sessions.update_signed_in_user(ada())
            for call in (sessions.validate_authentication, lambda: sessions.http.get("/notes")):
                with pytest.raises(library.ConnectError):
                    call()
            sessions.sign_out_device()
    else:
        async with AsyncClientSessionManager(url) as others:
            await others.update_signed_in_user(ada())
            calls = [others.validate_authentication, lambda: others.http.get("/notes")]
            for call in calls:
                with pytest.raises(library.ConnectError):
                    await call()
            await others.sign_out_device()
    assert proxy.targets == []


@pytest.mark.parametrize("variable", VARIABLES)
async def test_a_client_of_the_programs_own_that_uses_a_proxy_for_this_machine_is_refused(
    kind: str, variable: str, proxy: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    program = Program(kind, "http://localhost:9")
    try:
        await program.sign_in()
        for call in (
            program.get(),
            program.get(extensions=ANONYMOUS),
            program.do("validate_authentication"),
            program.do("initialize"),
            program.do("sign_out_device"),
        ):
            with pytest.raises(ConfigurationError, match=r"through a proxy, .*NO_PROXY=localhost") as error:
                await call
            assert TOKEN not in str(error.value)
    finally:
        await program.close()
    assert program.manager.auth_info is None, "the sign-out was heeded here"
    assert proxy.targets == []


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1:80", "notes.localhost:8000"])
async def test_a_proxy_that_the_program_has_chosen_itself_is_refused_too(kind: str, host: str, proxy: Origin) -> None:
    url = f"http://{host}"
    ask = _ask if kind == "sync" else _ask_async
    with pytest.raises(ConfigurationError, match="through a proxy"):
        await ask(url, proxy.url)
    assert proxy.targets == []


async def _ask(url: str, proxy: str) -> None:
    def ask() -> None:
        with installed().Client(proxy=proxy, auth=ClientSessionManager(url).auth) as http:
            http.get(f"{url}/notes")

    await anyio.to_thread.run_sync(ask)


async def _ask_async(url: str, proxy: str) -> None:
    async with installed().AsyncClient(proxy=proxy, auth=AsyncClientSessionManager(url).auth) as http:
        await http.get(f"{url}/notes")


async def test_a_client_of_the_programs_own_that_goes_directly_is_not_refused(
    kind: str, origin: Origin, proxy: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    seen: list[str] = []

    def trace(event: str, _info: object) -> None:
        seen.append(event)

    async def trace_async(event: str, _info: object) -> None:
        seen.append(event)

    program = Program(kind, origin.url)
    try:
        await program.sign_in()
        await program.get(extensions={"trace": trace if kind == "sync" else trace_async})
        assert seen, "a trace of the program's own is still called"
        # Another server may be asked through the proxy: the token does not go there.
        origin.redirects["/away"] = ELSEWHERE
        await program.get("/away")
        await program.get(ELSEWHERE)
    finally:
        await program.close()
    assert origin.authorizations == [f"Bearer {TOKEN}"] * 2
    assert proxy.targets == [ELSEWHERE, ELSEWHERE]
    assert proxy.authorizations == [None, None]


async def test_proxies_for_https_stay(
    kind: str, proxy: Origin, monkeypatch: pytest.MonkeyPatch, library: ModuleType
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    if kind == "sync":
        with ClientSessionManager("https://notes.example") as sessions, pytest.raises(library.TransportError):
            sessions.http.get("/notes")
    else:
        async with AsyncClientSessionManager("https://notes.example") as others:
            with pytest.raises(library.TransportError):
                await others.http.get("/notes")
    assert proxy.targets == ["notes.example:443"], "a tunnel"
    assert proxy.authorizations == [None]
