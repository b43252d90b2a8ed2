"""An ending inside an application's own transaction is heard in this process too, when that is committed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck import ServerSideSessionsTokenManager
from coatcheck.events import Message, RevokedAuthenticationAuthId, RevokedAuthenticationUser
from coatcheck.stores.sql.store import SqlStore
from tests.background.test_relay import Hearer, server
from tests.kinds_of_store import WITH_TRANSACTIONS_BY_URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from coatcheck import AuthServices, AuthSuccess, Pod


async def sign_in(auth: AuthServices) -> AuthSuccess:
    user = await auth.auth_users.create()
    return await auth.token_manager.create_token(auth_user_id=user.id, method="email")


async def heard_before_the_end(auth: AuthServices, hearer: Hearer) -> list[Message]:
    """The messages until that of a last ending, which this function makes in a transaction too."""
    last = await sign_in(auth)
    store = auth_store(auth)
    async with store.transaction() as transaction:
        await auth.token_manager.revoke_token(token_id=last.server_side_session_id, transaction=transaction)
    heard: list[Message] = []
    end = RevokedAuthenticationAuthId(last.auth_user_id, last.server_side_session_id)
    while (message := await hearer.next()) != end:
        heard.append(message)
    return heard


def auth_store(auth: AuthServices) -> SqlStore:
    store = auth.auth_users._store  # noqa: SLF001 (the store of the pod)
    assert isinstance(store, SqlStore)
    return store


@asynccontextmanager
async def an_engine(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of the application's own."""
    for scheme, driver in (("sqlite", "sqlite+aiosqlite"), ("postgresql", "postgresql+asyncpg")):
        if url.startswith(f"{scheme}://"):
            url = url.replace(scheme, driver, 1)
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


@WITH_TRANSACTIONS_BY_URL
async def test_an_ending_is_heard_at_once_although_the_connection_begins_its_next_transaction(store_url: str) -> None:
    """The next transaction of the connection is open until the message has come."""
    hearer = Hearer()
    async with server(store_url, hearer) as (_, auth), an_engine(store_url) as engine:
        success = await sign_in(auth)
        async with engine.connect() as connection:
            await auth.token_manager.revoke_all_tokens(auth_user_id=success.auth_user_id, transaction=connection)
            await connection.commit()
            await connection.execute(text("SELECT 1"))
            assert connection.in_transaction()
            assert await hearer.next() == RevokedAuthenticationUser(success.auth_user_id)
            await connection.rollback()
        assert await heard_before_the_end(auth, hearer) == []


@WITH_TRANSACTIONS_BY_URL
@pytest.mark.parametrize("end", ["rollback", "close"])
async def test_an_ending_is_not_heard_if_its_transaction_is_not_committed(store_url: str, end: str) -> None:
    hearer = Hearer()
    async with server(store_url, hearer) as (_, auth), an_engine(store_url) as engine:
        success = await sign_in(auth)
        async with engine.connect() as connection:
            await auth.token_manager.revoke_all_tokens(auth_user_id=success.auth_user_id, transaction=connection)
            await getattr(connection, end)()
        assert await heard_before_the_end(auth, hearer) == []
        assert await auth.token_manager.validate_token(success.token) is not None


@WITH_TRANSACTIONS_BY_URL
async def test_an_ending_is_not_heard_if_its_savepoint_is_rolled_back(store_url: str) -> None:
    here, there = Hearer(), Hearer()
    async with server(store_url, here) as (pod, auth), server(store_url, there) as (_, other):
        success = await sign_in(auth)
        async with pod.store.transaction() as transaction:
            savepoint = await transaction.begin_nested()
            await auth.token_manager.revoke_all_tokens(auth_user_id=success.auth_user_id, transaction=transaction)
            await savepoint.rollback()
        assert await auth.token_manager.validate_token(success.token) is not None
        assert await heard_before_the_end(auth, here) == []
        # The other server has heard of the first one's end, and of nothing before.
        assert len(await heard_before_the_end(other, there)) == 1


@WITH_TRANSACTIONS_BY_URL
async def test_a_committed_ending_is_heard_although_the_application_was_cancelled_meanwhile(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearer, committing = Hearer(), asyncio.Event()
    async with server(store_url, hearer) as (pod, auth):
        success = await sign_in(auth)
        transactions = auth_store(auth)._transactions  # noqa: SLF001 (to know when COMMIT begins)
        commit = transactions._commit  # noqa: SLF001 (as above)

        async def commit_and_say_so(connection: AsyncConnection, timeout_seconds: float | None) -> None:
            committing.set()
            await commit(connection, timeout_seconds)

        monkeypatch.setattr(transactions, "_commit", commit_and_say_so)
        application = asyncio.create_task(_revoke_all(pod, auth, success))
        await committing.wait()
        application.cancel()
        await asyncio.wait({application})
        monkeypatch.undo()
        is_over = await _is_over_for_good(auth, success)
        heard = await heard_before_the_end(auth, hearer)
        assert heard == ([RevokedAuthenticationUser(success.auth_user_id)] if is_over else [])


async def _revoke_all(pod: Pod, auth: AuthServices, success: AuthSuccess) -> None:
    async with pod.store.transaction() as transaction:
        await auth.token_manager.revoke_all_tokens(auth_user_id=success.auth_user_id, transaction=transaction)


async def _is_over_for_good(auth: AuthServices, success: AuthSuccess) -> bool:
    """Whether the session ended, once the COMMIT that was left behind is done: it holds a lock until then."""
    await auth.token_manager.begin_sign_in(success.auth_user_id)
    async with auth_store(auth).transaction() as transaction:
        await auth.token_manager.create_token(
            auth_user_id=success.auth_user_id, method="email", transaction=transaction
        )
    return await auth.token_manager.validate_token(success.token) is None


@pytest.mark.postgres
async def test_postgresql_refuses_to_prepare_a_transaction_that_has_announced(postgres_dsn: str) -> None:
    """A two-phase commit would lose the announcements, so the database refuses it."""
    async with server(postgres_dsn) as (_, auth), an_engine(postgres_dsn) as engine:
        success = await sign_in(auth)
        async with engine.connect() as connection:
            await auth.token_manager.revoke_all_tokens(auth_user_id=success.auth_user_id, transaction=connection)
            with pytest.raises(DBAPIError, match="PREPARE"):
                await connection.exec_driver_sql("PREPARE TRANSACTION 'one'")
        assert await auth.token_manager.validate_token(success.token) is not None


async def test_a_process_hears_of_the_sessions_that_its_own_operator_deletes(store_url: str) -> None:
    here, there = Hearer(), Hearer()
    async with server(store_url, here) as (_, auth), server(store_url, there):
        success = await sign_in(auth)
        sessions = auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions
        await sessions.admin.delete_sessions(method="email")
        expected = RevokedAuthenticationAuthId(success.auth_user_id, success.server_side_session_id)
        assert await here.next() == expected
        assert await there.next() == expected
