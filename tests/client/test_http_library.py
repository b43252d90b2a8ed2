"""The HTTP library of the client: httpx2 or httpx, whichever the program has, and neither before it is needed."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest

from coatcheck import ConfigurationError
from coatcheck.client import AsyncClientSessionManager, ClientSessionManager, SessionAuth
from tests.client.programs import TOKEN, Program, ada
from tests.servers.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import ModuleType

    from tests.servers.faults import FaultyServer

SERVER = "https://notes.example"

ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""

MAKE = """
from coatcheck.client import AsyncClientSessionManager, ClientSessionManager
for kind in (ClientSessionManager, AsyncClientSessionManager):
    try:
        print(type(kind("https://notes.example").http).__module__.partition(".")[0])
    except ModuleNotFoundError as error:
        print(error)
"""


def output_of(program: str, *, absent: Collection[str] = ()) -> list[str]:
    code = ABSENT.format(absent=sorted(absent)) + program
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()


def test_importing_the_client_imports_no_http_library() -> None:
    looks = "print(sorted({'httpx', 'httpx2', 'httpcore', 'httpcore2', 'requests', 'urllib3'} & set(sys.modules)))"
    assert output_of(f"import coatcheck.client\n{looks}") == ["[]"]
    assert output_of(f"from coatcheck.client import SessionAuth, ClientSessionManager\n{looks}") == ["[]"]


@pytest.mark.parametrize(
    ("absent", "taken"),
    [
        (set(), "httpx2"),
        ({"httpx"}, "httpx2"),
        ({"httpx2"}, "httpx"),
        ({"httpx2", "httpx"}, "coatcheck.client needs the package httpx2; install coatcheck[client]"),
        ({"idna"}, "coatcheck.client needs the package idna; install coatcheck[client]"),
    ],
    ids=["both", "httpx2", "httpx", "neither", "half of httpx2"],
)
def test_a_manager_takes_the_newest_library_that_is_installed_or_names_the_extra(absent: set[str], taken: str) -> None:
    assert output_of(MAKE, absent=absent) == [taken, taken]


def test_only_the_library_that_is_used_is_imported() -> None:
    made = 'ClientSessionManager("https://notes.example").auth\nprint({"httpx", "httpx2"} & set(sys.modules))'
    assert output_of(f"from coatcheck.client import ClientSessionManager\n{made}") == ["{'httpx2'}"]
    given = "import httpx\nfrom coatcheck.client import ClientSessionManager\n" + made.replace(
        'example")', 'example", http=httpx.Client())'
    )
    assert output_of(given) == ["{'httpx'}"]


def test_a_process_in_which_httpx_is_another_name_of_httpx2_has_one_library() -> None:
    program = """
import httpx2
httpx2.alias_httpx()
import httpx
from coatcheck.client import ClientSessionManager
sessions = ClientSessionManager("https://notes.example", http=httpx.Client())
print(httpx.Client(auth=sessions.auth).auth is sessions.auth)
"""
    assert output_of(program) == ["True"]


@pytest.mark.parametrize("programs", ["httpx2", "httpx"])
@pytest.mark.parametrize("managers", ["httpx2", "httpx"])
async def test_a_client_of_either_library_takes_the_auth_of_a_manager_that_uses_either(
    kind: str, managers: str, programs: str, server: FaultyServer
) -> None:
    program = Program(kind, server.url, library=import_module(managers))
    http = _client(kind, import_module(programs), server.url, program.manager.auth)
    try:
        await program.sign_in()
        assert (await _get(http)).status_code == 200
        assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
        await server.fail(Fault.OURS_401)
        answer = await _get(http)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
        assert program.reasons == ["revoked"]
    finally:
        await (anyio.to_thread.run_sync(http.close) if kind == "sync" else http.aclose())
        await program.close()


@pytest.mark.parametrize("managers", ["httpx2", "httpx"])
async def test_in_cookie_mode_an_error_of_either_library_ends_no_session(
    kind: str, managers: str, server: FaultyServer
) -> None:
    """The manager asks again with its own client, whose errors are not those of the program's."""
    other = import_module("httpx" if managers == "httpx2" else "httpx2")
    program = Program(kind, server.url, library=import_module(managers), mode="cookie")
    refusal = other.MockTransport(
        lambda _request: other.Response(
            401, json={"code": "invalid_token"}, headers={"Content-Type": "application/problem+json"}
        )
    )
    http = _client(kind, other, server.url, program.manager.auth, transport=refusal)
    try:
        await program.sign_in(ada(""))
        await server.fail(Fault.REFUSED)
        assert (await _get(http)).status_code == 401
        assert program.manager.is_authenticated
    finally:
        await (anyio.to_thread.run_sync(http.close) if kind == "sync" else http.aclose())
        await program.close()


def test_a_manager_has_one_auth_as_long_as_no_other_library_is_imported(library: ModuleType) -> None:
    with ClientSessionManager(SERVER) as sessions:
        assert sessions.auth is sessions.auth
        assert isinstance(sessions.auth, SessionAuth)
        assert isinstance(sessions.auth, library.Auth)


def test_an_http_client_of_another_kind_is_refused(library: ModuleType) -> None:
    wrong: Any
    for wrong in (library.AsyncClient(), library, "https://notes.example"):
        with pytest.raises(ConfigurationError, match=r"http must be an httpx2\.Client or an httpx\.Client, not "):
            ClientSessionManager(SERVER, http=wrong)
    with library.Client() as wrong, pytest.raises(ConfigurationError, match=r"httpx2\.AsyncClient or .*, not Client"):
        AsyncClientSessionManager(SERVER, http=wrong)


@pytest.mark.parametrize("is_read", [False, True])
async def test_a_refusal_says_how_long_it_took(
    kind: str, library: ModuleType, server: FaultyServer, is_read: bool
) -> None:
    """httpx2 asks the body's stream, which is another one after the refusal was looked at."""
    await server.fail(Fault.OURS_401)
    program = Program(kind, server.url, library=library)
    await program.sign_in()
    if is_read:
        answer = await program.get()
    elif kind == "sync":
        answer = await anyio.to_thread.run_sync(_streamed, program.http)
    else:
        http: Any = program.http
        async with http.stream("GET", "/notes") as answer:
            pass
    assert program.reasons == ["revoked"]
    assert answer.elapsed.total_seconds() > 0
    await program.close()


def _streamed(http: Any) -> Any:
    with http.stream("GET", "/notes") as answer:
        return answer


def _client(kind: str, library: ModuleType, url: str, auth: SessionAuth, **options: Any) -> Any:
    made = library.Client if kind == "sync" else library.AsyncClient
    return made(base_url=url, auth=auth, timeout=20, **options)


async def _get(http: Any) -> Any:
    if hasattr(http, "aclose"):
        return await http.get("/notes")
    return await anyio.to_thread.run_sync(http.get, "/notes")
