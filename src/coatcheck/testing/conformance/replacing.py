"""A session that takes the place of another does so in one step; and what is kept of the client it was made on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck.client_info import UNKNOWN_CLIENT, ClientInfo
from coatcheck.stores.records import InsertRefusal, SessionFilter
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.conformance.under_way import HookError
from coatcheck.testing.samples import (
    ADA,
    BOB,
    a_transaction,
    epochs_of,
    insert,
    new_session,
    sign_in,
    stored_ids,
    unknown_id,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.identifiers import UserId
    from coatcheck.stores.store import Store

LAPTOP = ClientInfo("Firefox on Linux", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", "192.0.2.0/24")


class ReplacingPromises(Promises):
    """`NewSession.replaces` and `NewSession.client`."""

    @pytest.mark.parametrize("of", [ADA, BOB], ids=["the same user", "another user"])
    async def test_the_replaced_session_is_gone_once_the_new_one_is_there(self, store: Store, of: UserId) -> None:
        old = await sign_in(store, of)
        spared = await sign_in(store, ADA)
        new = await sign_in(store, ADA, replaces=old.id)
        assert await stored_ids(store) == {spared.id, new.id}

    async def test_replacing_a_session_that_is_gone_already_is_no_error(self, store: Store) -> None:
        new = await sign_in(store, ADA, replaces=unknown_id())
        assert await stored_ids(store) == {new.id}

    async def test_a_sign_in_that_is_refused_replaces_nothing(self, store: Store) -> None:
        old = await sign_in(store, BOB)
        await sign_in(store, ADA)
        begun = await epochs_of(store, ADA)
        await store.end_user_sessions(ADA)
        refused = await insert(store, new_session(ADA, replaces=old.id), epochs=begun)
        assert refused is InsertRefusal.USER_REVOKED
        assert await stored_ids(store) == {old.id}

    async def test_a_sign_in_whose_hook_raises_replaces_nothing(self, held: Store) -> None:
        """The hook runs inside the inserting transaction."""
        old = await sign_in(held, ADA)

        async def hook(_connection: AsyncConnection) -> None:
            raise HookError

        with pytest.raises(HookError):
            await insert(held, new_session(ADA, replaces=old.id), inside_transaction=hook)
        assert await stored_ids(held) == {old.id}

    @pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])
    async def test_in_the_callers_transaction_both_happen_or_neither(self, held: Store, *, commits: bool) -> None:
        old = await sign_in(held, ADA)
        new = new_session(ADA, replaces=old.id)
        async with a_transaction(held, commits=commits) as transaction:
            await insert(held, new, transaction=transaction)
        assert await stored_ids(held) == {new.id if commits else old.id}

    @pytest.mark.parametrize("client", [LAPTOP, UNKNOWN_CLIENT, ClientInfo(label="notes-cli \N{SNOWMAN}")])
    async def test_lists_show_the_client_a_session_was_made_on(self, store: Store, client: ClientInfo) -> None:
        session = await sign_in(store, client=client)
        await sign_in(store, BOB)
        (listed,) = await store.list_sessions(SessionFilter(user_id=ADA))
        assert (listed.session, listed.client) == (session, client)
