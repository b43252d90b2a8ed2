"""The fault table of docs/reference/clients.md: the answers that end a session, and those that do not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coatcheck import UnexpectedAnswerError
from coatcheck.client import SignOutReason
from tests.client.programs import PATIENCE_SECONDS, TOKEN, ada
from tests.servers.faults import Fault

if TYPE_CHECKING:
    from types import ModuleType

    from tests.client.conftest import NewProgram
    from tests.client.programs import Program
    from tests.servers.faults import FaultyServer

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"

RAISED = {
    Fault.TIMEOUT: "TimeoutException",
    Fault.REFUSED: "ConnectError",
    Fault.RESET_MID_BODY: "TransportError",
}
STATUS = {
    Fault.OURS_401: 401,
    Fault.FOREIGN_401: 401,
    Fault.FORBIDDEN_403: 403,
    Fault.PROXY_AUTH_407: 407,
    Fault.TOO_MANY_429: 429,
    Fault.ERROR_500: 500,
    Fault.BAD_GATEWAY_502: 502,
    Fault.UNAVAILABLE_503: 503,
    Fault.HTML_200: 200,
    Fault.REDIRECT_AWAY: 401,  # the other host's, with the server's own body
}


@pytest.fixture
async def signed_in(program: Program, server: FaultyServer) -> Program:
    """A program that is signed in; another server answers every request with the server's own refusal."""
    await program.sign_in()
    assert server.elsewhere is not None
    await server.elsewhere.fail(Fault.OURS_401)
    return program


def seconds_for(fault: Fault) -> float:
    """The time to wait for an answer."""
    return 0.2 if fault is Fault.TIMEOUT else PATIENCE_SECONDS


def is_kept(program: Program) -> bool:
    """Whether the session is still in memory and in the storage, and no listener was told of an end."""
    assert (program.manager.auth_info == ada()) == (program.storage.read() == ada())
    assert program.manager.is_authenticated == (program.changes == [])
    return program.manager.is_authenticated


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
class TestEachFault:
    async def test_each_fault_of_a_request(
        self, signed_in: Program, server: FaultyServer, fault: Fault, library: ModuleType
    ) -> None:
        await server.fail(fault)
        if fault in RAISED:
            with pytest.raises(getattr(library, RAISED[fault])):
                await signed_in.get(timeout=seconds_for(fault))
        else:
            answer = await signed_in.get(timeout=seconds_for(fault))
            assert answer.status_code == STATUS[fault]
            assert answer.content, "the answer is the caller's to read"
        assert is_kept(signed_in) == (not fault.ends_session)
        assert signed_in.reasons == (["revoked"] if fault.ends_session else [])
        assert len(signed_in.required) == int(fault.ends_session)

    async def test_each_fault_of_asking_for_the_status(
        self, signed_in: Program, server: FaultyServer, fault: Fault, library: ModuleType
    ) -> None:
        """Other errors reach the caller, and the session is kept."""
        await server.fail(fault)
        if fault.ends_session:
            assert await signed_in.do("validate_authentication", seconds_for(fault)) is False
        else:
            raised = getattr(library, RAISED[fault]) if fault in RAISED else UnexpectedAnswerError
            with pytest.raises(raised) as error:
                await signed_in.do("validate_authentication", seconds_for(fault))
            assert TOKEN not in str(error.value)
        assert is_kept(signed_in) == (not fault.ends_session)

    async def test_each_fault_of_initializing(
        self, signed_in: Program, new_program: NewProgram, server: FaultyServer, fault: Fault
    ) -> None:
        """The result is False on network and server errors, and the session is kept."""
        fresh = new_program(storage=signed_in.storage)
        await server.fail(fault)
        assert await fresh.do("initialize", seconds_for(fault)) is fault.ends_session
        assert fresh.manager.is_authenticated == (not fault.ends_session)
        assert (fresh.storage.read() is None) == fault.ends_session

    async def test_each_fault_of_signing_out(self, signed_in: Program, server: FaultyServer, fault: Fault) -> None:
        """The session is forgotten here in any case; the result says whether the server has confirmed."""
        await server.fail(fault)
        if fault is Fault.TIMEOUT:
            await server.fail(Fault.REFUSED)  # it would be waited for
        assert await signed_in.do("sign_out_device") is False
        assert signed_in.manager.auth_info is signed_in.storage.read() is None
        assert signed_in.reasons == [SignOutReason.SIGNED_OUT.value]
        assert signed_in.required == []

    async def test_the_session_works_again_when_the_server_has_recovered(
        self, signed_in: Program, server: FaultyServer, fault: Fault, library: ModuleType
    ) -> None:
        await server.fail(fault)
        try:
            await signed_in.get(timeout=seconds_for(fault))
        except library.TransportError:
            assert fault in RAISED
        await server.heal()
        assert (await signed_in.get()).json() == {"ok": True}
        sent = server.requests[-1].headers.get("authorization")
        assert sent == (None if fault.ends_session else f"Bearer {TOKEN}")

    def test_the_documentation_has_the_fault_table_that_is_run(self, fault: Fault) -> None:
        lines = TABLE.read_text(encoding="utf-8").splitlines()
        rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| ")]
        said = {row[1]: row[2] for row in rows}
        assert said[fault.value] == ("**ended**" if fault.ends_session else "kept")
