"""A user source that does not answer holds up no sign-in for ever."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from anyio import CapacityLimiter, from_thread, to_thread

from coatcheck import ConfigurationError, Pod, ServerSideSessionsConfig, StoreUnavailable, UserSourceUnavailable
from coatcheck.testing import MemoryStore
from coatcheck.web import SessionMiddleware, sign_in
from tests.web.asgi_calls import request
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck import AuthServices, UserAccess, UserSource
    from coatcheck.web.asgi import AsgiScope, Receive, Send

SOON = timedelta(milliseconds=20)


@dataclass
class Access:
    scopes: frozenset[str] = frozenset()
    blocked: bool = False


@dataclass
class Source:
    """Answers as it is told to."""

    answer: Callable[[], Awaitable[Any]]
    was_cancelled: list[bool] = field(default_factory=list)

    async def get(self, user_id: str, *, transaction: object = None) -> UserAccess:
        try:
            await self.answer()
        except asyncio.CancelledError:
            self.was_cancelled.append(True)
            raise
        return Access()


def pod_with(source: UserSource, timeout: timedelta = SOON) -> tuple[Pod, AuthServices]:
    pod = Pod(MemoryStore(), environ={}, config_dir="no-such-folder", prune_interval=None)
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)],
        user_source=source,
        user_source_timeout=timeout,
    )
    return pod, auth


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_sign_in_that_would_wait_for_ever_names_the_setting_and_makes_no_session() -> None:
    source = Source(never)
    pod, auth = pod_with(source)
    async with pod:
        with pytest.raises(UserSourceUnavailable, match=r"user_source_timeout \(0\.02 s\).*limiter of its own"):
            await auth.token_manager.create_token(auth_user_id="ann", method="email")
        assert source.was_cancelled == [True]
        assert len(await auth.token_manager.list_tokens()) == 0


async def test_over_http_it_is_a_503_of_its_own() -> None:
    pod, auth = pod_with(Source(never))

    async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        await sign_in(auth, scope, auth_user_id="ann", method="email")

    async with pod:
        answer = await request(SessionMiddleware(app, auth=auth), method="POST")
    assert (answer.status, answer.code) == (503, "user_source_unavailable")
    assert answer.header("retry-after") is not None


async def test_an_answer_in_time_and_the_sources_own_errors_are_passed_on() -> None:
    async def fails() -> None:
        raise TimeoutError("the source's own")

    async def answers() -> None:
        return None

    pod, auth = pod_with(Source(fails))
    async with pod:
        with pytest.raises(TimeoutError, match="the source's own"):
            await auth.token_manager.create_token(auth_user_id="ann", method="email")
    pod, auth = pod_with(Source(answers))
    async with pod:
        assert (await auth.token_manager.create_token(auth_user_id="ann", method="email")).token


async def test_a_cancelled_sign_in_stays_cancelled() -> None:
    pod, auth = pod_with(Source(never), timedelta(seconds=60))
    async with pod:
        signing_in = asyncio.ensure_future(auth.token_manager.create_token(auth_user_id="ann", method="email"))
        for _ in range(10):
            await asyncio.sleep(0)
        signing_in.cancel()
        with pytest.raises(asyncio.CancelledError):
            await signing_in


class TestThreads:
    """The routes are threads that wait for a sign-in, which waits for a thread."""

    @pytest.fixture
    def one_thread(self) -> CapacityLimiter:
        """What all `def` routes of an application share; forty in FastAPI and Starlette."""
        return CapacityLimiter(1)

    async def sign_in_from_threads(self, auth: AuthServices, threads: CapacityLimiter) -> list[object]:
        async def sign_in_ann() -> str:
            return (await auth.token_manager.create_token(auth_user_id="ann", method="email")).token

        routes = [to_thread.run_sync(from_thread.run, sign_in_ann, limiter=threads) for _ in range(3)]
        return await asyncio.gather(*routes, return_exceptions=True)

    async def test_sign_ins_that_wait_for_each_others_threads_are_told_so(self, one_thread: CapacityLimiter) -> None:
        async def look_up() -> None:
            await to_thread.run_sync(int, limiter=one_thread)

        pod, auth = pod_with(Source(look_up))
        async with pod:
            results = await self.sign_in_from_threads(auth, one_thread)
        assert [type(result) for result in results] == [UserSourceUnavailable] * 3
        assert all(isinstance(result, StoreUnavailable) for result in results)

    async def test_with_a_limiter_of_its_own_they_all_sign_in(self, one_thread: CapacityLimiter) -> None:
        own = CapacityLimiter(1)

        async def look_up() -> None:
            await to_thread.run_sync(int, limiter=own)

        pod, auth = pod_with(Source(look_up), timedelta(seconds=60))
        async with pod:
            results = await self.sign_in_from_threads(auth, one_thread)
        assert [isinstance(result, str) for result in results] == [True] * 3


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(seconds=-1), timedelta(seconds=61), 5, None])
def test_a_timeout_that_is_none_is_refused(timeout: timedelta) -> None:
    with pytest.raises(ConfigurationError, match=r"user_source_timeout must be .* 1 millisecond to 1 minute"):
        pod_with(Source(never), timeout)
