"""Threads without an event loop call the services of a pod that is open in one."""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI, Request

from coatcheck import (
    AuthUsers,
    ConfigurationError,
    InvalidArgumentError,
    MultiTokenManager,
    NotOpenError,
    OpenElsewhereError,
    Pod,
    ServerSideSessions,
    ServerSideSessionsConfig,
    ServerSideSessionsTokenManager,
    Token,
    TokenManager,
)
from coatcheck.auth import blocking
from coatcheck.opening import NOT_OPEN
from coatcheck.sessions.admin import ServerSideSessionsAdmin
from coatcheck.testing import MemoryStore
from coatcheck.web import SessionMiddleware, require
from coatcheck.web.from_threads import sign_in, sign_out
from tests.web.asgi_calls import bearer, request
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from typing import Any

    from coatcheck import AuthServices, AuthSuccess

RUNS_A_LOOP = "from_threads blocks its thread, and this thread runs an event loop: await the asynchronous call instead"


def a_pod() -> tuple[Pod, AuthServices]:
    pod = Pod(MemoryStore(), environ={}, config_dir="no-such-folder", prune_interval=None)
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    return pod, pod.initialize_auth_services(token_manager_builders=[config])


@pytest.mark.parametrize(
    ("mirror", "original"),
    [
        (blocking.BlockingTokenManager, MultiTokenManager),
        (blocking.BlockingTokenManager, TokenManager),
        (blocking.BlockingAuthUsers, AuthUsers),
        (blocking.BlockingServerSideSessions, ServerSideSessions),
        (blocking.BlockingServerSideSessionsAdmin, ServerSideSessionsAdmin),
    ],
)
def test_every_call_but_the_pod_s_is_there_with_the_same_arguments(mirror: type, original: type) -> None:
    for name, call in inspect.getmembers(original, inspect.isfunction):
        if not name.startswith("_") and name != "close":
            found = inspect.signature(getattr(mirror, name)).parameters.values()
            expected = inspect.signature(call).parameters.values()
            assert [(one.name, one.kind, one.default, one.annotation) for one in found] == [
                (one.name, one.kind, one.default, one.annotation) for one in expected
            ]


async def test_a_thread_signs_in_validates_changes_and_ends() -> None:
    pod, auth = a_pod()

    def in_a_thread() -> None:
        threads = auth.from_threads
        user = threads.auth_users.create(scopes={"notes:read"})
        attempt = threads.token_manager.begin_sign_in()
        success = threads.token_manager.create_token(auth_user_id=user.id, method="email", attempt=attempt)
        caller = threads.token_manager.validate_token(success.token)
        assert caller is not None
        assert caller.scopes == {"notes:read"}
        assert threads.server_side_sessions.update_scopes(auth_user_id=user.id, scopes=set())
        assert [one.session_id for one in threads.admin.delete_sessions(auth_user_id=user.id)] == [caller.auth_id]
        assert threads.token_manager.validate_token(success.token) is None
        assert threads.token_manager.issuer == auth.token_manager.issuer

    async with pod:
        await asyncio.to_thread(in_a_thread)


async def test_the_errors_of_a_call_reach_the_thread() -> None:
    pod, auth = a_pod()
    async with pod:
        with pytest.raises(InvalidArgumentError, match="token_id must be the id of a session"):
            await asyncio.to_thread(auth.from_threads.token_manager.revoke_token, token_id="not an id")


async def test_any_asynchronous_function_runs_in_the_loop_of_the_pod_with_the_context_of_the_thread() -> None:
    pod, auth = a_pod()

    async def where(*, of: str) -> tuple[str, object]:
        return of, asyncio.get_running_loop()

    async with pod:
        answer = await asyncio.to_thread(auth.from_threads.call, where, of="this call")
    assert answer == ("this call", asyncio.get_running_loop())


async def test_a_thread_that_runs_a_loop_is_refused_before_anything_is_called() -> None:
    pod, auth = a_pod()

    async def never() -> None:
        raise AssertionError

    async def in_another_loop() -> None:
        with pytest.raises(OpenElsewhereError, match=RUNS_A_LOOP):
            auth.from_threads.call(never)

    async with pod:
        with pytest.raises(OpenElsewhereError, match=RUNS_A_LOOP):
            auth.from_threads.call(never)
        await asyncio.to_thread(asyncio.run, in_another_loop())


async def test_a_pod_that_is_not_open_says_so_in_the_sentence_it_always_says() -> None:
    pod, auth = a_pod()
    for _ in range(2):  # before it is opened, and when it is closed again
        with pytest.raises(NotOpenError) as refused:
            await asyncio.to_thread(auth.from_threads.token_manager.begin_sign_in)
        assert str(refused.value) == NOT_OPEN
        async with pod:
            await asyncio.to_thread(auth.from_threads.token_manager.begin_sign_in)


async def test_it_follows_the_pod_into_the_loop_in_which_it_is_opened_next() -> None:
    pod, auth = a_pod()

    async def opened() -> AuthSuccess:
        async with pod:
            user = await asyncio.to_thread(auth.from_threads.auth_users.create)
            return await asyncio.to_thread(
                auth.from_threads.token_manager.create_token, auth_user_id=user.id, method="email"
            )

    first = await opened()
    second = await asyncio.to_thread(asyncio.run, opened())
    assert first.token != second.token


def test_a_thread_is_not_left_waiting_when_the_loop_ends() -> None:
    """As by a server that gives up: the call was begun, and nothing will ever finish it."""
    pod, auth = a_pod()
    begun = threading.Event()
    outcome: list[BaseException] = []

    async def for_ever() -> None:
        begun.set()
        await asyncio.Event().wait()

    def wait() -> None:
        try:
            auth.from_threads.call(for_ever)
        except BaseException as error:  # noqa: BLE001 (looked at below)
            outcome.append(error)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(pod.__aenter__())
    thread = threading.Thread(target=wait)
    thread.start()
    loop.run_until_complete(asyncio.to_thread(begun.wait))
    left_behind = [one for one in asyncio.all_tasks(loop) if "for_ever" in repr(one)]
    loop.run_until_complete(pod.__aexit__(None, None, None))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    thread.join()
    assert [one.done() for one in left_behind] == [False]
    (error,) = outcome
    assert str(error) == NOT_OPEN


async def test_a_part_that_the_pod_does_not_have_is_named_as_by_the_asynchronous_services() -> None:
    pod = Pod(MemoryStore(), environ={}, config_dir="no-such-folder")
    kept: Any = MultiTokenManager([a_pod()[1].token_manager])
    auth = pod.initialize_auth_services(token_manager_builders=[kept], user_source=object())  # type: ignore[arg-type]  # never asked
    with pytest.raises(ConfigurationError, match="the application keeps the users"):
        _ = auth.from_threads.auth_users
    for part in ("server_side_sessions", "admin"):
        with pytest.raises(ConfigurationError, match=ServerSideSessionsTokenManager.__name__):
            getattr(auth.from_threads, part)


async def test_a_traceback_with_local_variables_shows_no_token_in_the_frames_that_hand_it_over() -> None:
    pod, auth = a_pod()
    token = Token("a token that is nobody's business")

    async def fail(given: str) -> None:
        del given
        raise ZeroDivisionError

    def in_a_thread() -> None:
        auth.from_threads.call(fail, str(token))

    async with pod:
        with pytest.raises(ZeroDivisionError) as caught:
            await asyncio.to_thread(in_a_thread)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    handing_over = [one for one in frames if "from_thread" in one.f_globals["__name__"].removeprefix("tests")]
    shown = [repr(one.f_locals) for one in handing_over if one.f_globals["__name__"] != __name__]
    assert shown != []
    assert [one for one in shown if str(token) in one] == []


async def test_def_routes_sign_in_and_out() -> None:
    pod, auth = a_pod()
    api = FastAPI(lifespan=pod.lifespan)

    @api.post("/sign-in/{user_id}")
    def let_in(incoming: Request, user_id: str) -> dict[str, str]:
        attempt = auth.from_threads.token_manager.begin_sign_in()
        success = sign_in(auth, incoming, auth_user_id=user_id, method="email", attempt=attempt)
        return {"token": success.token}

    @api.post("/sign-out")
    def let_out(incoming: Request) -> int:
        require(incoming)
        return sign_out(auth, incoming).ended

    app = SessionMiddleware(api, auth=auth)
    async with pod:
        user = await auth.auth_users.create()
        token = (await request(app, f"/sign-in/{user.id}", method="POST")).json["token"]
        assert (await request(app, "/sign-out", method="POST", headers=bearer(token))).json == 1
        assert (await request(app, "/sign-out", method="POST", headers=bearer(token))).status == 401
        assert (await request(app, "/sign-in/nobody", method="POST")).status == 403
