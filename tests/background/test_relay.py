"""The subscribers of every process hear of an ending once, those of the process that made it too."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from coatcheck import Pod, ServerSideSessionsConfig, ServerSideSessionsTokenManager
from coatcheck.background.relay import Relay
from coatcheck.events import (
    AnnouncementsMissed,
    EventBus,
    Message,
    RevokedAuthenticationAuthId,
    RevokedAuthenticationScope,
    RevokedAuthenticationUser,
)
from coatcheck.identifiers import SessionId, UserId
from coatcheck.scope import scope_set
from coatcheck.stores.announcement import Announcement
from tests.kinds_of_store import WITH_TRANSACTIONS_BY_URL
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from typing import Any

    from coatcheck import AuthServices

PATIENCE_SECONDS = 20
SESSION = SessionId("019bea92-71f5-71cd-84bb-86c3d1c42710")


class Hearer:
    """A subscriber that records the messages."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Message] = asyncio.Queue()

    async def __call__(self, message: Message) -> None:
        self.heard.put_nowait(message)

    async def next(self) -> Message:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.heard.get()


@asynccontextmanager
async def server(url: str, *subscribers: Hearer) -> AsyncIterator[tuple[Pod, AuthServices]]:
    """One server of an application."""
    pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )
    for subscriber in subscribers:
        pod.events.subscribe(subscriber)
    async with pod:
        yield pod, auth


async def test_every_server_hears_once_of_a_session_that_one_server_ends(store_url: str) -> None:
    here, there = Hearer(), Hearer()
    async with server(store_url, here) as (_, auth), server(store_url, there):
        user = await auth.auth_users.create(scopes={"a", "b"})
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        await auth.auth_users.update(user.id, scopes={"a"})
        assert await auth.token_manager.revoke_token(token_id=success.server_side_session_id)
        await auth.token_manager.revoke_all_tokens(auth_user_id=user.id)
        expected = [
            RevokedAuthenticationScope(user.id, scope_set({"b"})),
            RevokedAuthenticationAuthId(user.id, success.server_side_session_id),
            RevokedAuthenticationUser(user.id),
        ]
        for hearer in (there, here):
            assert [await hearer.next() for _ in expected] == expected
        assert here.heard.empty()


ENDING = """
import asyncio, sys
from coatcheck import Pod, ServerSideSessionsConfig

async def main(url, pepper, user):
    pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
    config = ServerSideSessionsConfig(session_key_hash_pepper=pepper)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    async with pod:
        await auth.token_manager.revoke_all_tokens(auth_user_id=user)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_an_ending_by_another_process_is_heard(store_url: str) -> None:
    hearer = Hearer()
    async with server(store_url, hearer) as (_, auth):
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", ENDING, store_url, PEPPER, user.id)
        assert await process.wait() == 0
        assert await hearer.next() == RevokedAuthenticationUser(user.id)
        assert await auth.token_manager.validate_token(success.token) is None


async def test_a_late_subscriber_is_told_that_something_may_have_been_missed(store_url: str) -> None:
    hearer = Hearer()
    async with server(store_url) as (pod, auth), server(store_url) as (_, other):
        pod.events.subscribe(hearer)
        assert await hearer.next() == AnnouncementsMissed()
        user = await auth.auth_users.create()
        await other.auth_users.delete(user.id)
        assert await hearer.next() == RevokedAuthenticationUser(user.id)


@WITH_TRANSACTIONS_BY_URL
async def test_an_ending_in_the_applications_transaction_is_heard_by_every_server_when_it_commits(
    store_url: str,
) -> None:
    here, there = Hearer(), Hearer()
    async with server(store_url, here) as (pod, auth), server(store_url, there):
        user = await auth.auth_users.create()
        sessions = auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions
        with pytest.raises(LookupError):
            async with pod.store.transaction() as transaction:
                await sessions.revoke_all_sessions(user.id, transaction=transaction)
                raise LookupError
        async with pod.store.transaction() as transaction:
            await auth.auth_users.delete(user.id, transaction=transaction)
        for hearer in (there, here):
            assert await hearer.next() == RevokedAuthenticationUser(user.id)
            assert hearer.heard.empty()


class ScriptedStore:
    """Announces the messages of the test, and then waits to be closed."""

    def __init__(self, *announcements: Announcement | None, begins: asyncio.Event | None = None) -> None:
        self._announcements = announcements
        self._begins = begins
        self.is_listened_to = False

    async def announcements(self) -> AsyncGenerator[Announcement | None, None]:
        if self._begins is not None:
            await self._begins.wait()
        self.is_listened_to = True
        try:
            for one in self._announcements:
                yield one
            await asyncio.Event().wait()
        finally:
            self.is_listened_to = False


def relay_of(store: Any, *subscribers: Hearer) -> Relay:
    bus = EventBus()
    for subscriber in subscribers:
        bus.subscribe(subscriber)
    return Relay(store, bus)


async def test_each_announcement_becomes_its_message() -> None:
    hearer = Hearer()
    user, scopes = UserId("ada"), scope_set({"a"})
    store = ScriptedStore(
        *(None, Announcement(user), Announcement(user, spared=SESSION), Announcement(user, SESSION)),
        *(Announcement(user, SESSION, scopes), Announcement(user, removed_scopes=scopes), None),
    )
    relay = relay_of(store, hearer)
    await relay.start()
    assert [await hearer.next() for _ in range(6)] == [
        RevokedAuthenticationUser(user),
        RevokedAuthenticationUser(user, SESSION),
        RevokedAuthenticationAuthId(user, SESSION),
        RevokedAuthenticationScope(user, scopes, SESSION),
        RevokedAuthenticationScope(user, scopes),
        AnnouncementsMissed(),
    ]
    await relay.stop()
    assert not store.is_listened_to


async def test_the_relay_does_not_listen_without_subscribers() -> None:
    store = ScriptedStore(None)
    relay = relay_of(store)
    await relay.start()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not store.is_listened_to
    await relay.stop()


async def test_a_store_that_cannot_be_listened_to_yet_does_not_keep_the_pod_from_starting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hearer, begins = Hearer(), asyncio.Event()
    relay = relay_of(ScriptedStore(None, begins=begins), hearer)
    await relay.start(patience_seconds=0)
    assert "cannot be listened to yet" in caplog.text
    begins.set()
    assert (
        await hearer.next() == AnnouncementsMissed()
    )  # connections that were opened meanwhile have to be checked again
    await relay.stop()


async def test_a_failure_while_the_relay_listens_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ScriptedStore):
        async def announcements(self) -> AsyncGenerator[Announcement | None, None]:
            yield None
            raise LookupError("a mistake in a store")

    relay = relay_of(Broken(), Hearer())
    await relay.start()
    for _ in range(5):
        await asyncio.sleep(0)
    assert "listening to other processes has failed" in caplog.text
    assert "a mistake in a store" in caplog.text
    await relay.stop()
