"""A hook that does not answer holds up no sign-in for ever, and no other writer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from coatcheck import Pod, ServerSideSessionsConfig, StoreUnavailable, in_time
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck import AuthServices, AuthUser, NewAuthUser, SessionId, UserId


class Hooks:
    """Those of an application; one of them, by name, waits for ever."""

    def __init__(self, stuck: str) -> None:
        self.stuck = stuck

    async def wait_if_stuck(self, name: str) -> None:
        if self.stuck == name:
            await asyncio.Event().wait()

    async def before_user_created(self, new: NewAuthUser, _connection: AsyncConnection) -> NewAuthUser:
        await self.wait_if_stuck("before_user_created")
        return new

    async def after_user_created(self, _user: AuthUser, _connection: AsyncConnection) -> None:
        await self.wait_if_stuck("after_user_created")

    async def on_session_created(self, _user: UserId, _session: SessionId, _connection: AsyncConnection) -> None:
        await self.wait_if_stuck("on_session_created")


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    monkeypatch.setattr(in_time, "HOOK_LIMIT", timedelta(milliseconds=20))
    return Hooks(stuck="")


def pod_with(hooks: Hooks, folder: Path) -> tuple[Pod, AuthServices]:
    pod = Pod(f"sqlite:///{folder}/sessions.db", environ={}, config_dir="no-such-folder", prune_interval=None)
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER, on_session_created=hooks.on_session_created)
    auth = pod.initialize_auth_services(
        token_manager_builders=[config],
        before_user_created=hooks.before_user_created,
        after_user_created=hooks.after_user_created,
    )
    return pod, auth


@pytest.mark.parametrize("name", ["before_user_created", "after_user_created"])
async def test_a_stuck_hook_of_a_new_user_is_named_and_the_user_is_not_created(
    name: str, hooks: Hooks, tmp_path: Path
) -> None:
    pod, auth = pod_with(hooks, tmp_path)
    async with pod:
        hooks.stuck = name
        with pytest.raises(StoreUnavailable, match=rf"^{name} took longer than the 0\.02 s a hook may take$"):
            await auth.auth_users.create(id="ann")
        hooks.stuck = ""
        assert (await auth.auth_users.create(id="ann")).id == "ann"  # not taken, and the file is free to write


async def test_a_stuck_hook_of_a_new_session_is_named_and_the_session_is_not_created(
    hooks: Hooks, tmp_path: Path
) -> None:
    pod, auth = pod_with(hooks, tmp_path)
    async with pod:
        await auth.auth_users.create(id="ann")
        hooks.stuck = "on_session_created"
        with pytest.raises(StoreUnavailable, match=r"^on_session_created took longer"):
            await auth.token_manager.create_token(auth_user_id="ann", method="email")
        assert len(await auth.token_manager.list_tokens()) == 0
        hooks.stuck = ""
        assert (await auth.token_manager.create_token(auth_user_id="ann", method="email")).token


async def test_a_hooks_own_timeout_error_is_passed_on(hooks: Hooks, tmp_path: Path) -> None:
    async def fails(_user: AuthUser, _connection: AsyncConnection) -> None:
        raise TimeoutError("the hook's own")

    hooks.after_user_created = fails  # type: ignore[method-assign]
    pod, auth = pod_with(hooks, tmp_path)
    async with pod:
        with pytest.raises(TimeoutError, match="the hook's own"):
            await auth.auth_users.create(id="ann")
