"""Sessions and users for tests: everything has a default, so that a test says only what it is about."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from coatcheck.client_info import UNKNOWN_CLIENT
from coatcheck.identifiers import SessionId, UserId, new_session_id, session_id_from_bytes, shard_of_user
from coatcheck.scope import scope_set
from coatcheck.stores.records import (
    Insertion,
    KeyHash,
    NewSession,
    SessionFilter,
    SessionReading,
    SessionRecord,
    UserEpochs,
    UserRecord,
)
from coatcheck.testing.transaction_kinds import ChangedMindError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.client_info import ClientInfo
    from coatcheck.scope import Scope
    from coatcheck.stores.store import InsideTransaction, Store, Transaction

T = TypeVar("T")

ADA = UserId("ada")
BOB = UserId("bob")

SECOND_US = 1_000_000

# Far more than any call takes: a call that is still waiting then waits for ever.
_PATIENCE_SECONDS = 30.0


def numbered_id(number: int, user_id: UserId = ADA) -> SessionId:
    """A session id (UUIDv7) of this user, whose place in the order of ids is `number`."""
    shard = bytes.fromhex(shard_of_user(user_id))
    return session_id_from_bytes(bytes.fromhex("018f00000000700080") + number.to_bytes(6, "big") + shard)


def unknown_id() -> SessionId:
    """The id of a session that does not exist."""
    return new_session_id(ADA)


def key_of(text: str, *, pepper_id: str | None = "pepper-1") -> KeyHash:
    """A stored hash in the current form (65 bytes), different for each text."""
    return KeyHash(
        hash=b"\x01" + text.encode().ljust(64, b"\0"), salt=text.encode().rjust(16, b"\xff"), pepper_id=pepper_id
    )


def new_session(
    user_id: UserId = ADA,
    *,
    id: SessionId | None = None,  # noqa: A002 (the record's name for it)
    method: str = "email",
    scopes: Iterable[str] = (),
    follows_user: bool = False,
    expires_at_us: int | None = None,
    lifetime_us: int | None = None,
    expire_after_unused_for_us: int | None = None,
    key: KeyHash | None = None,
    client: ClientInfo = UNKNOWN_CLIENT,
    replaces: SessionId | None = None,
) -> NewSession:
    """A session to be inserted."""
    return NewSession(
        id=id or new_session_id(user_id),
        user_id=user_id,
        method=method,
        scopes=scope_set(scopes),
        follows_user=follows_user,
        expires_at_us=expires_at_us,
        lifetime_us=lifetime_us,
        expire_after_unused_for_us=expire_after_unused_for_us,
        key=key or key_of("secret"),
        client=client,
        replaces=replaces,
    )


async def epochs_of(store: Store, user_id: UserId) -> UserEpochs:
    """The user's epochs, as a sign-in reads them."""
    user = await store.read_user(user_id)
    return UserEpochs() if user is None else user.epochs


async def register(
    store: Store, user_id: UserId = ADA, *, scopes: Iterable[str] = (), blocked: bool = False
) -> UserRecord:
    """A user kept in the store."""
    user = await store.insert_user(user_id, scopes=scope_set(scopes), blocked=blocked)
    assert user is not None, f"the user {user_id!r} exists already"
    return user


async def insert(
    store: Store,
    session: NewSession,
    *,
    epochs: UserEpochs | None = None,
    user_scopes: frozenset[Scope] | None = None,
    inside_transaction: InsideTransaction | None = None,
    transaction: Transaction | None = None,
) -> Any:  # noqa: ANN401 (a SessionRecord or an InsertRefusal, which the test compares)
    """Insert `session` with the epochs as they are now, or as given."""
    if epochs is None:
        user = await store.read_user(session.user_id, transaction=transaction)
        epochs = UserEpochs() if user is None else user.epochs
    outcome = await store.insert_session(
        session,
        expected_revocations=epochs.revocations,
        expected_rescopes=epochs.rescopes if session.follows_user else None,
        user_scopes=user_scopes,
        inside_transaction=inside_transaction,
        transaction=transaction,
    )
    return outcome.session if isinstance(outcome, Insertion) else outcome


async def sign_in(store: Store, user_id: UserId = ADA, **fields: Any) -> SessionRecord:  # noqa: ANN401 (those of `new_session`)
    """A session with scopes of its own, of a user who is registered if need be."""
    user = await store.read_user(user_id)
    if user is None or not user.is_registered:
        await register(store, user_id)
    session = await insert(store, new_session(user_id, **fields))
    assert isinstance(session, SessionRecord), f"not inserted: {session}"
    return session


async def sign_in_following(store: Store, user_id: UserId = ADA, **fields: Any) -> SessionRecord:  # noqa: ANN401 (those of `new_session`)
    """A session that has its user's scopes and follows them. The user must be registered."""
    user = await store.read_user(user_id)
    assert user is not None, f"there is no user {user_id!r}"
    session = await insert(store, new_session(user_id, scopes=user.scopes, follows_user=True, **fields))
    assert isinstance(session, SessionRecord), f"not inserted: {session}"
    return session


async def read(store: Store, session_id: SessionId) -> SessionRecord | None:
    """The session as it is stored, or None. Validations and lists see the same of it."""
    reading = await store.read_session(session_id)
    page = await store.list_sessions(SessionFilter(session_id=session_id), limit=1)
    if reading is None:
        assert not page, "a session is listed that validations do not find"
        return None
    assert page, "a session is not listed that validations find"
    session = page[0].session
    assert reading == reading_of(session, reading.now_us)
    return session


def reading_of(session: SessionRecord, now_us: int) -> SessionReading:
    """The reading that a validation is to get of this session at this time of the store's clock."""
    return SessionReading(
        session.id,
        session.user_id,
        session.scopes,
        session.last_used_at_us,
        session.expires_at_us,
        session.expire_after_unused_for_us,
        session.key,
        now_us,
    )


async def read_together(store: Store, ids: Iterable[SessionId]) -> list[SessionReading | None]:
    """Read many sessions at once, as concurrent validations do."""
    return list(await asyncio.gather(*map(store.read_session, ids)))


async def read_present(store: Store, session_id: SessionId) -> SessionRecord:
    """The session as it is stored."""
    session = await read(store, session_id)
    assert session is not None, f"there is no session {session_id}"
    return session


async def read_user_present(store: Store, user_id: UserId = ADA) -> UserRecord:
    """The user as stored."""
    user = await store.read_user(user_id)
    assert user is not None, f"there is no user {user_id!r}"
    return user


async def stored_ids(store: Store, user_id: UserId | None = None) -> set[SessionId]:
    """The ids of all sessions that exist, of one user or of all."""
    page = await store.list_sessions(SessionFilter(user_id=user_id), limit=1000)
    return {reading.session.id for reading in page}


@asynccontextmanager
async def a_transaction(store: Store, *, commits: bool) -> AsyncIterator[AsyncConnection]:
    """A transaction of the store's that is committed at the end of the block, or else rolled back."""
    try:
        async with store.transaction() as transaction:
            yield transaction
            if not commits:
                raise ChangedMindError
    except ChangedMindError:
        pass


def start(call: Awaitable[T]) -> asyncio.Task[T]:
    """Start a call beside the test. It is given up, and the test fails, if it waits for ever."""
    return asyncio.create_task(asyncio.wait_for(call, _PATIENCE_SECONDS))
