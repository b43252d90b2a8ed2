"""A pod whose closing is cancelled is closed all the same, before the cancellation goes on: it can be opened again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.events import RevokedAuthenticationUser
from tests.kinds_of_store import POSTGRES, REDIS, SQLITE
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck import AuthServices
    from coatcheck.events import Message

pytestmark = pytest.mark.parametrize("store_url", [SQLITE, POSTGRES, REDIS], indirect=True)

MOST_STEPS = 40
"""More than a closing has; the last of them cut nothing off."""


class Application:
    """A pod with a subscriber, so that it listens, and what the subscriber has heard."""

    def __init__(self, store_url: str) -> None:
        self.pod = Pod(store_url, environ={}, config_dir="no-such-folder")
        self.auth: AuthServices = self.pod.initialize_auth_services(
            token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
        )
        self.heard: list[Message] = []
        self.pod.events.subscribe(self.hear)

    async def hear(self, message: Message) -> None:
        self.heard.append(message)

    async def works(self) -> None:
        """Open the pod, end a user's sessions, and hear of it once."""
        async with self.pod:
            user = await self.auth.auth_users.create()
            await self.auth.token_manager.create_token(auth_user_id=user.id, method="email")
            self.heard.clear()
            await self.auth.token_manager.revoke_all_tokens(auth_user_id=user.id)
            assert self.heard == [RevokedAuthenticationUser(user.id)]


async def cut_off_after(steps: int, work: Callable[[], Awaitable[object]]) -> bool:
    """Cancel `work` after so many steps of the loop; whether that was before its end."""
    task = asyncio.ensure_future(work())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def test_a_closing_that_is_cancelled_at_any_step_leaves_a_pod_that_opens_again(store_url: str) -> None:
    application = Application(store_url)
    cut_off = 0
    for steps in range(1, MOST_STEPS, 4):
        tasks = asyncio.all_tasks()
        await application.pod.__aenter__()
        cut_off += await cut_off_after(steps, lambda: application.pod.__aexit__(None, None, None))
        assert asyncio.all_tasks() == tasks
        await application.works()
    assert cut_off > 0


@pytest.mark.parametrize("steps", range(1, MOST_STEPS, 5))
async def test_a_loop_that_ends_while_it_closes_the_pod_leaves_one_that_opens_in_the_next(
    store_url: str, steps: int
) -> None:
    application = Application(store_url)

    async def leave() -> None:
        await application.pod.__aenter__()
        await cut_off_after(steps, lambda: application.pod.__aexit__(None, None, None))

    for work in (leave, application.works):
        await asyncio.to_thread(asyncio.run, work())


@pytest.mark.parametrize("ends_by", ["scope", "task group", "timeout", "worker"])
async def test_a_block_that_is_left_by_a_cancellation_can_be_entered_again(store_url: str, ends_by: str) -> None:
    """anyio cancels a scope again at each await; a server that stops does so to a lifespan inside of a task group."""
    application = Application(store_url)

    async def use(is_open: asyncio.Event) -> None:
        async with application.pod:
            is_open.set()
            await anyio.sleep_forever()

    async def leave() -> None:
        is_open = asyncio.Event()
        if ends_by == "scope":
            with anyio.CancelScope() as scope:
                async with application.pod:
                    scope.cancel()
                    await anyio.sleep_forever()
        elif ends_by == "task group":
            async with anyio.create_task_group() as group:
                group.start_soon(use, is_open)
                await is_open.wait()
                group.cancel_scope.cancel()
        elif ends_by == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit, application.pod:
                    limit.reschedule(asyncio.get_running_loop().time())
                    await anyio.sleep_forever()
        else:
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(use(is_open))
                    await is_open.wait()
                    raise LookupError

    for work in (leave, application.works) * 2:
        await asyncio.to_thread(asyncio.run, work())
