"""A mistake in a call is named, with what is allowed. A token in the wrong place is not repeated."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from coatcheck import (
    AuthServices,
    AuthSuccess,
    ConfigurationError,
    InvalidArgumentError,
    NotOpenError,
    Pod,
    Scope,
    ServerSideSessionsConfig,
    ServerSideSessionsTokenManager,
    Token,
)
from coatcheck.clock import SystemClock
from coatcheck.scope import scope_set
from coatcheck.testing import ManualClock, MemoryStore
from tests.auth.other_manager import OtherTokenManager
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Call = Callable[[AuthServices, str], Awaitable[object]]


def sessions_of(auth: AuthServices) -> Any:
    return auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions


SESSION_IDS: dict[str, Call] = {
    "revoke_token": lambda auth, given: auth.token_manager.revoke_token(token_id=given),
    "the manager's revoke_token": lambda auth, given: auth.token_manager.primary.revoke_token(token_id=given),
    "revoke_all_tokens": lambda auth, given: auth.token_manager.revoke_all_tokens(
        auth_user_id="ann", except_token_id=given
    ),
    "revoke_session": lambda auth, given: sessions_of(auth).revoke_session(given),
    "revoke_all_sessions": lambda auth, given: sessions_of(auth).revoke_all_sessions("ann", except_session_id=given),
    "get_session": lambda auth, given: sessions_of(auth).get_session(given),
    "update_scopes": lambda auth, given: sessions_of(auth).update_scopes(session_id=given, scopes=set()),
    "delete_sessions": lambda auth, given: sessions_of(auth).admin.delete_sessions(session_id=given),
}
USER_IDS: dict[str, Call] = {
    "create_token": lambda auth, given: auth.token_manager.create_token(auth_user_id=given, method="email"),
    "begin_sign_in": lambda auth, given: auth.token_manager.begin_sign_in(given),
    "revoke_all_tokens": lambda auth, given: auth.token_manager.revoke_all_tokens(auth_user_id=given),
    "list_tokens": lambda auth, given: auth.token_manager.list_tokens(auth_user_id=given),
    "auth_users.create": lambda auth, given: auth.auth_users.create(id=given),
    "auth_users.get": lambda auth, given: auth.auth_users.get(given),
    "auth_users.update": lambda auth, given: auth.auth_users.update(given, blocked=True),
    "auth_users.delete": lambda auth, given: auth.auth_users.delete(given),
}


def memory_pod() -> Pod:
    return Pod(MemoryStore(), environ={}, config_dir="no-such-folder", prune_interval=None)


@pytest.fixture
async def auth() -> AsyncIterator[AuthServices]:
    pod = memory_pod()
    services = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )
    async with pod:
        yield services


async def signed_in(auth: AuthServices) -> AuthSuccess:
    user = await auth.auth_users.create()
    return await auth.token_manager.create_token(auth_user_id=user.id, method="email")


def forms_of(token: Token) -> list[str]:
    """The token as a sign-in returns it, and as a plain text that came in a header or a body."""
    return [token, "".join(token)]


class TestIds:
    @pytest.mark.parametrize("call", [*SESSION_IDS.values(), *USER_IDS.values()], ids=[*SESSION_IDS, *USER_IDS])
    async def test_a_token_in_the_place_of_an_id_is_refused_and_not_repeated(
        self, auth: AuthServices, call: Call
    ) -> None:
        success = await signed_in(auth)
        for given in forms_of(success.token):
            with pytest.raises(InvalidArgumentError, match=r"id, not a token.*`validate_token`") as raised:
                await call(auth, given)
            shown = f"{raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"
            assert not any(str(success.token)[at : at + 12] in shown for at in range(len(success.token) - 12))
        assert await auth.token_manager.validate_token(success.token) is not None

    @pytest.mark.parametrize("call", SESSION_IDS.values(), ids=SESSION_IDS)
    @pytest.mark.parametrize("given", ["not an id", "", "' OR 1=1 --", 7, None])
    async def test_what_is_no_session_id_is_refused(self, auth: AuthServices, call: Call, given: Any) -> None:
        if given is None and call not in {SESSION_IDS[name] for name in ("revoke_token", "revoke_session")}:
            given = b"bytes"  # None has a meaning there
        success = await signed_in(auth)
        with pytest.raises(InvalidArgumentError, match=r"^(except_)?(token|session)_id must be.*UUID"):
            await call(auth, given)
        assert await auth.token_manager.validate_token(success.token) is not None

    async def test_the_id_that_the_message_points_to_is_accepted(self, auth: AuthServices) -> None:
        success = await signed_in(auth)
        info = await auth.token_manager.validate_token(success.token)
        assert info is not None
        assert await auth.token_manager.revoke_token(token_id=info.auth_id)
        assert await auth.token_manager.validate_token(success.token) is None

    async def test_beside_another_manager_its_ids_are_ids_and_tokens_are_refused(self) -> None:
        pod, other = memory_pod(), OtherTokenManager()
        auth = pod.initialize_auth_services(
            token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER), other]
        )
        async with pod:
            success = await signed_in(auth)
            others = await other.create_token(auth_user_id=success.auth_user_id, method="email")
            for given in forms_of(success.token):
                with pytest.raises(InvalidArgumentError, match="token_id must be an id, not a token"):
                    await auth.token_manager.revoke_token(token_id=given)
            assert await auth.token_manager.revoke_token(token_id=other.id_of(others))
            assert not await auth.token_manager.revoke_token(token_id="what the other manager may call an id")
            assert await auth.token_manager.validate_token(success.token) is not None


class TestScopes:
    @pytest.mark.parametrize("scopes", [set("notes:read"), frozenset("read"), set("user")])
    async def test_the_letters_of_one_text_are_refused(self, auth: AuthServices, scopes: set[str]) -> None:
        with pytest.raises(InvalidArgumentError, match=r"scopes has \d scopes of one letter.*write \{'notes:read'\}"):
            await auth.auth_users.create(scopes=scopes)
        user = await auth.auth_users.create()
        with pytest.raises(InvalidArgumentError, match="of one letter"):
            await auth.auth_users.update(user.id, scopes=scopes)
        with pytest.raises(InvalidArgumentError, match="of one letter"):
            await auth.token_manager.create_token(auth_user_id=user.id, method="email", scopes=scopes)

    @pytest.mark.parametrize(
        "scopes", [{"r", "w"}, {Scope("r"), Scope("w"), Scope("x")}, {"r", "w", "x", "notes:read"}, {"a"}, set()]
    )
    def test_scopes_of_one_letter_that_are_meant_are_accepted(self, scopes: set[str]) -> None:
        assert scope_set(scopes) == scopes


class TestClock:
    def test_a_clock_beside_a_store_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"clock is for a store.*by its URL.*MemoryStore\(\.\.\., clock="):
            Pod(MemoryStore(), environ={}, config_dir="no-such-folder", clock=ManualClock())

    @pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
    def test_a_clock_for_postgresql_is_refused_without_its_url(self, scheme: str) -> None:
        with pytest.raises(ConfigurationError, match=r"clock is not for PostgreSQL.*MemoryStore\(clock=") as raised:
            Pod(f"{scheme}://ann:secret@host/db", environ={}, config_dir="no-such-folder", clock=SystemClock())
        assert "secret" not in str(raised.value)

    @pytest.mark.parametrize("url", ["sqlite:///{}/a.db", "redis://localhost"])
    def test_a_store_with_a_url_takes_a_clock(self, url: str, tmp_path: object) -> None:
        pod = Pod(url.format(tmp_path), environ={}, config_dir="no-such-folder", clock=ManualClock())
        assert pod.store is not None


async def test_a_store_that_is_not_open_says_how_an_application_opens_it() -> None:
    pod = memory_pod()
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )
    with pytest.raises(
        NotOpenError, match=r"async with pod.*FastAPI\(lifespan=pod\.lifespan\).*with TestClient\(app\)"
    ):
        await auth.auth_users.create()


PROGRAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
try:
    import {module}
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "absent", "extra"),
    [
        ("coatcheck.web.fastapi", "fastapi", "fastapi"),
        ("coatcheck.web.starlette", "starlette", "starlette"),
        ("coatcheck.client.requests_auth", "requests", "requests"),
        ("coatcheck.client", "filelock", "client"),
        ("coatcheck.testing.plugin", "pytest", "testing"),
    ],
)
def test_a_module_whose_extra_is_missing_says_what_to_install(module: str, absent: str, extra: str) -> None:
    program = PROGRAM.format(module=module, absent=absent)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{module} needs the package {absent}; install coatcheck[{extra}]\n"
