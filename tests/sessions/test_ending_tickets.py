"""A ticket ends one session, and is good for nothing else."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import IssuesEndingTickets, MultiTokenManager, ServerSideSessionsTokenManager, TokenRefusal
from coatcheck.errors import RevocationIndeterminate, SignOutUnconfirmedError, StoreUnavailable
from coatcheck.identifiers import SessionId, new_session_id, user_id_of
from coatcheck.sessions.ending_tickets import EndingTickets
from coatcheck.sessions.key_hash import Pepper
from coatcheck.token_format import MAX_SECRET_LENGTH, MIN_SECRET_LENGTH, format_token, parse_token
from tests.auth.other_manager import OtherTokenManager
from tests.worlds import OTHER_PEPPER, PEPPER

if TYPE_CHECKING:
    from coatcheck import TokenManager
    from tests.worlds import NewWorld, World

TOKEN = format_token(SessionId("01890a5d-ac96-774b-8000-000000000001"), bytes(range(32)))


def tickets(*peppers: str) -> EndingTickets:
    return EndingTickets([Pepper(pepper) for pepper in peppers or (PEPPER,)])


def ticket() -> str:
    made = tickets().ticket_for(TOKEN)
    assert made is not None
    return made


class TestTheText:
    @given(st.binary(min_size=MIN_SECRET_LENGTH, max_size=MAX_SECRET_LENGTH))
    def test_it_gives_the_token_back_to_a_server_with_the_pepper(self, secret: bytes) -> None:
        token = format_token(new_session_id(user_id_of("ann")), secret)
        made = tickets().ticket_for(token)
        assert made is not None
        assert tickets().token_in(made) == token

    def test_it_is_no_token_and_shows_no_part_of_one(self) -> None:
        made = ticket()
        assert parse_token(made) is None
        assert not any(TOKEN[at : at + 6] in made for at in range(len(TOKEN) - 6))

    def test_another_pepper_does_not_open_it_and_takes_it_for_no_other_text(self) -> None:
        with pytest.raises(SignOutUnconfirmedError):
            tickets(OTHER_PEPPER).token_in(ticket())

    def test_an_earlier_pepper_opens_it(self) -> None:
        assert tickets(OTHER_PEPPER, PEPPER).token_in(ticket()) == TOKEN

    def test_no_changed_character_goes_unnoticed(self) -> None:
        made = ticket()
        for at, character in enumerate(made[:-1]):  # of the last one some bits are not used
            other = "A" if character != "A" else "B"
            with pytest.raises(SignOutUnconfirmedError):
                tickets().token_in(made[:at] + other + made[at + 1 :])

    @given(st.text(max_size=200) | st.binary(max_size=1500).map(bytes.hex))
    def test_no_other_text_is_one(self, text: str) -> None:
        with suppress(SignOutUnconfirmedError):
            assert tickets().token_in(text) is None

    @given(st.text(max_size=31))
    def test_a_text_of_fewer_than_32_characters_was_never_one(self, text: str) -> None:
        assert tickets().token_in(text) is None

    @given(
        st.binary(min_size=24, max_size=63) | st.binary(min_size=48 + MAX_SECRET_LENGTH + 1, max_size=1500),
    )
    def test_any_longer_text_may_be_a_damaged_one(self, raw: bytes) -> None:
        with pytest.raises(SignOutUnconfirmedError):
            tickets().token_in(urlsafe_b64encode(raw).rstrip(b"=").decode())

    @pytest.mark.parametrize("change", [" ", "+", "=", ".", "\N{SNOWMAN}"])
    def test_one_with_other_characters_may_be_a_damaged_one(self, change: str) -> None:
        with pytest.raises(SignOutUnconfirmedError):
            tickets().token_in(ticket()[:-1] + change)

    @pytest.mark.parametrize("text", ["", "x", "c2Fz", TOKEN[:-1], TOKEN + "A"])
    def test_there_is_none_for_what_is_no_token(self, text: str) -> None:
        assert tickets().ticket_for(text) is None

    def test_what_opens_it_shows_no_key(self) -> None:
        assert "Seal(...)" in repr(vars(tickets()))


class TestTheSession:
    """With every store."""

    async def test_it_ends_its_session_and_no_other_and_once(self, world: World) -> None:
        user = await world.user()
        success, other = await world.sign_in(user), await world.sign_in(user)
        made = world.sessions.ending_ticket(success.token)
        assert made is not None
        assert await world.sessions.end_by_ticket(made) is True
        assert [await world.is_valid(one) for one in (success, other)] == [False, True]
        assert await world.sessions.end_by_ticket(made) is False
        assert await world.sessions.end_by_ticket("something else") is None

    async def test_a_ticket_made_of_a_session_id_alone_ends_nothing(self, world: World) -> None:
        """Ids are shown in lists and logs. In an outage a ticket is made for any secret; it is checked afterwards."""
        success = await world.sign_in(await world.user())
        made = world.sessions.ending_ticket(format_token(success.server_side_session_id, bytes(32)))
        assert made is not None
        assert await world.sessions.end_by_ticket(made) is False
        assert await world.is_valid(success)

    async def test_it_does_not_sign_in(self, world: World) -> None:
        success = await world.sign_in(await world.user())
        made = world.sessions.ending_ticket(success.token)
        assert made is not None
        assert await world.tokens.validate_token(made) is None

    async def test_it_outlives_a_new_pepper(self, new_world: NewWorld) -> None:
        before = await new_world()
        success = await before.sign_in(await before.user())
        made = before.sessions.ending_ticket(success.token)
        assert made is not None
        after = await new_world(session_key_hash_pepper=OTHER_PEPPER, fallback_session_key_hash_peppers=[PEPPER])
        assert await after.sessions.end_by_ticket(made) is True
        assert not await before.is_valid(success)

    @pytest.mark.parametrize("error", [RevocationIndeterminate("lost"), StoreUnavailable("down")])
    async def test_it_stays_good_while_the_end_cannot_be_confirmed(
        self, world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        success = await world.sign_in(await world.user())
        made = world.sessions.ending_ticket(success.token)
        assert made is not None

        async def fail(*_: object, **__: object) -> None:
            raise error

        with monkeypatch.context() as broken:
            broken.setattr(world.store, "delete_sessions", fail)
            with pytest.raises(type(error)):
                await world.sessions.end_by_ticket(made)
        assert await world.sessions.end_by_ticket(made) is True


async def test_a_manager_of_one_issues_and_takes_its_tickets(world: World) -> None:
    success = await world.sign_in(await world.user())
    manager = MultiTokenManager([world.auth.get_token_manager(ServerSideSessionsTokenManager)])
    assert isinstance(manager, IssuesEndingTickets)
    made = manager.ending_ticket(success.token)
    assert made is not None
    assert await manager.end_by_ticket(made) is True
    assert await manager.end_by_ticket("something else") is None


class WithoutThePepper(OtherTokenManager):
    """Has tickets, and can open none of these."""

    def ending_ticket(self, token: str) -> str | None:
        return None

    async def end_by_ticket(self, ticket: str) -> bool | None:
        raise SignOutUnconfirmedError


async def test_a_ticket_that_one_manager_cannot_open_is_taken_by_another_that_can(world: World) -> None:
    success = await world.sign_in(await world.user())
    made = world.sessions.ending_ticket(success.token)
    assert made is not None
    manager = MultiTokenManager([WithoutThePepper(), world.auth.get_token_manager(ServerSideSessionsTokenManager)])
    assert await manager.end_by_ticket(made) is True
    with pytest.raises(SignOutUnconfirmedError):
        await manager.end_by_ticket("something that the first may have sealed")


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_session_that_one_manager_cannot_check_is_not_said_to_be_over_by_another(
    world: World, new_world: NewWorld, is_first: bool
) -> None:
    success = await world.sign_in(await world.user())
    rotated = await new_world(session_key_hash_pepper=OTHER_PEPPER)
    unknowing = OtherTokenManager()
    unknowing.refusal = TokenRefusal.UNKNOWN
    managers: list[TokenManager] = [unknowing, rotated.auth.get_token_manager(ServerSideSessionsTokenManager)]
    manager = MultiTokenManager(managers if is_first else managers[::-1])
    assert await manager.explain_token(success.token) is TokenRefusal.UNKNOWN_PEPPER
    assert (await manager.examine_token(success.token)).answer is TokenRefusal.UNKNOWN_PEPPER
