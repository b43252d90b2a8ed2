"""Signing out while the store cannot say so: the browser is rid of the token, and the sign-out can be finished."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from coatcheck import MultiTokenManager, ServerSideSessionsTokenManager, TokenRefusal
from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import new_session_id
from coatcheck.stores.records import KeyHash, Rehash
from coatcheck.token_format import format_token
from coatcheck.web import SessionMiddleware
from coatcheck.web.sign_out import MAX_COOKIES
from coatcheck.web.starlette import session_routes
from tests.auth.other_manager import OtherTokenManager
from tests.web.asgi_calls import Headers, bearer, request
from tests.web.fakes import SID
from tests.worlds import OTHER_PEPPER, PEPPER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from coatcheck import AuthSuccess
    from coatcheck.web.asgi import AsgiApp
    from coatcheck.web.auth_services import HasTokenManager
    from tests.web.asgi_calls import Answer
    from tests.web.fakes import FakeAuth, FakeTokenManager
    from tests.worlds import NewWorld, World

LOST = RevocationIndeterminate("the connection broke before the answer came")
DOWN = StoreUnavailable("down")
WRITES, READS = ("delete_sessions", "end_user_sessions"), ("read_session",)
OUTAGES = {
    "the answer is lost": (LOST, WRITES),
    "writes fail": (DOWN, WRITES),
    "nothing is answered": (DOWN, WRITES + READS),
}
MINUTE = timedelta(minutes=1)
SESSION, TICKET = "__Host-sid", "__Host-sid-ending"


@dataclass
class Browser:
    """Keeps cookies as a browser does, for one host, over https."""

    app: AsgiApp
    jar: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    async def post(self, path: str = "sign-out", *headers: tuple[bytes, bytes]) -> Answer:
        return await self._ask("POST", path, headers)

    async def status(self) -> Answer:
        return await self._ask("GET", "status", ())

    async def _ask(self, method: str, path: str, headers: tuple[tuple[bytes, bytes], ...]) -> Answer:
        jar: Headers = [(b"cookie", "; ".join(f"{name}={value}" for name, value in self.jar.items()).encode())]
        answer = await request(
            self.app, f"/session/{path}", headers=[*(jar if self.jar else []), *headers], method=method, scheme="https"
        )
        for line in answer.values("set-cookie"):
            ((name, morsel),) = SimpleCookie(line).items()
            self.jar.pop(name, None)
            if morsel["max-age"] != "0":
                self.jar[name] = morsel.value
                self.attributes[name] = line.partition("; ")[2]
        return answer


@dataclass
class Outages:
    """Has calls of a store fail, until it is mended."""

    world: World
    monkeypatch: pytest.MonkeyPatch

    def begin(self, error: Exception, calls: tuple[str, ...]) -> None:
        async def fail(*_: object, **__: object) -> None:
            raise error.with_traceback(None)

        for call in calls:
            self.monkeypatch.setattr(self.world.store, call, fail)

    def end(self) -> None:
        self.monkeypatch.undo()


@pytest.fixture
def outage(world: World) -> Iterator[Outages]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Outages(world, monkeypatch)


def app_of(auth: HasTokenManager) -> AsgiApp:
    return Starlette(
        routes=[Mount("/session", routes=session_routes(auth))],
        middleware=[Middleware(SessionMiddleware, auth=auth, cookie=SID)],
    )


@pytest.fixture
async def ann(world: World) -> AuthSuccess:
    return await world.sign_in(await world.user())


@pytest.fixture
def device(world: World, ann: AuthSuccess) -> Browser:
    return Browser(app_of(world.auth), {SESSION: ann.token})


@pytest.mark.parametrize(("error", "calls"), OUTAGES.values(), ids=OUTAGES)
async def test_it_can_be_repeated_until_the_session_is_over(
    world: World, ann: AuthSuccess, device: Browser, outage: Outages, error: Exception, calls: tuple[str, ...]
) -> None:
    outage.begin(error, calls)
    for _ in range(3):
        answer = await device.post()
        assert answer.status == 503
        assert set(device.jar) == {TICKET}, "the token is gone, and the ticket is there"
        assert answer.header("cache-control") == "no-store"
    assert device.attributes[TICKET] == "Max-Age=86400; Path=/; HttpOnly; SameSite=Strict; Secure"
    outage.end()
    assert await world.is_valid(ann)
    assert (await device.post()).json == {"ended": 1}
    assert not await world.is_valid(ann)
    assert device.jar == {}


async def test_where_the_lost_answer_was_that_it_is_over_the_repeat_says_so(
    world: World, ann: AuthSuccess, device: Browser, outage: Outages
) -> None:
    outage.begin(LOST, WRITES)
    await device.post()
    outage.end()
    await world.sessions.revoke_session(ann.server_side_session_id)
    assert ((await device.post()).json, device.jar) == ({"ended": 0}, {})


async def test_the_ticket_does_nothing_but_end(
    world: World, ann: AuthSuccess, device: Browser, outage: Outages
) -> None:
    outage.begin(DOWN, WRITES)
    await device.post()
    outage.end()
    ticket = device.jar[TICKET]
    assert (await device.status()).json["signed_in"] is False
    assert (await device.post("sign-out-all")).status == 401
    for shown in ({SESSION: ticket}, {}):
        thief = Browser(device.app, dict(shown))
        headers = () if shown else tuple(bearer(ticket))
        assert (await thief.post("sign-out-all", *headers)).code == "invalid_token"
        assert (await thief.post("sign-out", *headers)).json["ended"] == 0
    assert await world.is_valid(ann)


async def test_a_session_that_was_signed_in_to_meanwhile_ends_with_it(
    world: World, ann: AuthSuccess, device: Browser, outage: Outages
) -> None:
    outage.begin(DOWN, WRITES)
    await device.post()
    outage.end()
    newer = await world.sign_in(await world.user())
    device.jar[SESSION] = newer.token
    assert (await device.status()).json["signed_in"] is True
    assert (await device.post()).json == {"ended": 2}
    assert [await world.is_valid(one) for one in (ann, newer)] == [False, False]
    assert device.jar == {}


async def test_a_second_outage_loses_neither_of_two_sign_outs(
    world: World, ann: AuthSuccess, device: Browser, outage: Outages
) -> None:
    """The browser keeps one ticket. Until that one is used up, the newer session keeps its cookie."""
    outage.begin(DOWN, WRITES)
    await device.post()
    newer = await world.sign_in(await world.user())
    device.jar[SESSION] = newer.token
    assert (await device.post()).status == 503
    assert set(device.jar) == {SESSION, TICKET}
    outage.end()
    assert (await device.post()).json == {"ended": 2}
    assert [await world.is_valid(one) for one in (ann, newer)] == [False, False]


async def test_another_site_cannot_use_the_ticket(
    world: World, ann: AuthSuccess, device: Browser, outage: Outages
) -> None:
    outage.begin(DOWN, WRITES)
    await device.post()
    outage.end()
    assert (await device.post("sign-out", (b"sec-fetch-site", b"cross-site"))).code == "cross_site_request"
    assert set(device.jar) == {TICKET}
    assert await world.is_valid(ann)


@pytest.mark.parametrize("length", [0, 1, 31, 20_000])
async def test_what_is_no_ticket_ends_nothing_and_is_left_alone(world: World, length: int) -> None:
    """It may be another application's, as any cookie. One among too many cookies is not said to be none."""
    answer = await Browser(app_of(world.auth), {TICKET: "A" * length}).post()
    assert answer.header("set-cookie") is None
    assert (answer.status, answer.json.get("ended")) == ((200, 0) if length < 16_000 else (431, None))


async def test_a_cookie_that_is_no_token_stays_in_an_outage(world: World, outage: Outages) -> None:
    """Another framework's."""
    device = Browser(app_of(world.auth), {SESSION: "eyJhIjoxfQ.aGVsbG8.c2ln"})
    outage.begin(DOWN, WRITES + READS)
    assert ((await device.post()).code, set(device.jar)) == ("sign_out_unconfirmed", {SESSION})


@pytest.mark.parametrize(("error", "calls"), OUTAGES.values(), ids=OUTAGES)
async def test_a_program_keeps_its_token_and_gets_no_cookie(
    world: World, ann: AuthSuccess, outage: Outages, error: Exception, calls: tuple[str, ...]
) -> None:
    outage.begin(error, calls)
    program = Browser(app_of(world.auth))
    assert (await program.post("sign-out", *bearer(ann.token))).status == 503
    assert program.jar == {}


@pytest.mark.parametrize(("error", "calls"), OUTAGES.values(), ids=OUTAGES)
async def test_signing_out_everywhere_keeps_the_cookie_until_it_is_confirmed(
    world: World, ann: AuthSuccess, device: Browser, outage: Outages, error: Exception, calls: tuple[str, ...]
) -> None:
    """A ticket ends one session; this is repeated with the session's own cookie."""
    outage.begin(error, calls)
    assert (await device.post("sign-out-all")).status == 503
    assert set(device.jar) == {SESSION}
    outage.end()
    assert ((await device.post("sign-out-all")).json, device.jar) == ({"ended": 1}, {})
    assert not await world.is_valid(ann)


async def test_signing_out_everywhere_finishes_an_earlier_sign_out_of_another_user(
    world: World, ann: AuthSuccess, device: Browser, outage: Outages
) -> None:
    outage.begin(DOWN, WRITES)
    await device.post()
    outage.end()
    device.jar[SESSION] = (await world.sign_in(await world.user())).token
    assert ((await device.post("sign-out-all")).json, device.jar) == ({"ended": 2}, {})
    assert not await world.is_valid(ann)


async def test_signing_out_everywhere_in_an_outage_keeps_the_ticket_too(
    world: World, device: Browser, outage: Outages
) -> None:
    outage.begin(DOWN, WRITES)
    await device.post()
    device.jar[SESSION] = (await world.sign_in(await world.user())).token
    shown = dict(device.jar)
    assert ((await device.post("sign-out-all")).status, device.jar) == (503, shown)
    outage.end()
    assert ((await device.post("sign-out-all")).json, device.jar) == ({"ended": 2}, {})


async def test_a_manager_without_tickets_keeps_the_cookie(auth: FakeAuth, manager: FakeTokenManager) -> None:
    device = Browser(app_of(auth), {SESSION: manager.sign_in()})
    manager.revocations_are_lost = True
    assert ((await device.post()).status, set(device.jar)) == (503, {SESSION})
    manager.revocations_are_lost, manager.is_down = False, True
    assert ((await device.post()).status, set(device.jar)) == (503, {SESSION})
    manager.is_down = False
    assert ((await device.post()).json, device.jar) == ({"ended": 1}, {})


def is_unconfirmed(answer: Answer, ended: int = 0) -> bool:
    return (answer.status, answer.code, answer.json["ended"]) == (409, "sign_out_unconfirmed", ended)


class TestATicketThatCannotBeOpened:
    """It was sealed under a pepper that this server has not: removed meanwhile, or not there yet."""

    @pytest.fixture
    async def rotated(
        self, world: World, ann: AuthSuccess, device: Browser, outage: Outages, new_world: NewWorld
    ) -> World:
        """Ann has tried to sign out; then the session was rehashed in use elsewhere, and the old pepper removed."""
        outage.begin(DOWN, WRITES)
        await device.post()
        outage.end()
        both = await new_world(session_key_hash_pepper=OTHER_PEPPER, fallback_session_key_hash_peppers=[PEPPER])
        assert await both.is_valid(ann)
        await both.sessions.flush()
        rotated = await new_world(session_key_hash_pepper=OTHER_PEPPER)
        device.app = app_of(rotated.auth)
        return rotated

    async def test_is_no_proof_that_its_session_is_over(
        self, ann: AuthSuccess, device: Browser, rotated: World
    ) -> None:
        for _ in range(3):
            answer = await device.post()
            assert is_unconfirmed(answer)
            assert answer.header("retry-after") is None, "nobody is asked to repeat it"
            assert set(device.jar) == {TICKET}, "a server that has the pepper can finish it"
        assert await rotated.is_valid(ann)

    async def test_is_finished_by_a_server_that_has_the_pepper(
        self, ann: AuthSuccess, device: Browser, rotated: World, new_world: NewWorld
    ) -> None:
        assert is_unconfirmed(await device.post())
        both = await new_world(session_key_hash_pepper=OTHER_PEPPER, fallback_session_key_hash_peppers=[PEPPER])
        device.app = app_of(both.auth)
        assert ((await device.post()).json, device.jar) == ({"ended": 1}, {})
        assert not await rotated.is_valid(ann)

    async def test_is_no_proof_for_a_server_that_cannot_check_its_session(
        self, world: World, ann: AuthSuccess, device: Browser, rotated: World
    ) -> None:
        """This one opens the ticket, and the session is under the pepper of the others."""
        device.app = app_of(world.auth)
        assert is_unconfirmed(await device.post())
        assert set(device.jar) == {TICKET}
        assert await rotated.is_valid(ann)

    async def test_does_not_keep_a_newer_session_alive(self, ann: AuthSuccess, device: Browser, rotated: World) -> None:
        newer = await rotated.sign_in(await rotated.user())
        device.jar[SESSION] = newer.token
        assert is_unconfirmed(await device.post(), ended=1)
        assert set(device.jar) == {TICKET}
        assert [await rotated.is_valid(one) for one in (ann, newer)] == [True, False]

    async def test_is_not_given_up_for_the_ticket_of_a_newer_session(self, device: Browser, rotated: World) -> None:
        device.jar[SESSION] = (await rotated.sign_in(await rotated.user())).token
        shown = dict(device.jar)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Outages(rotated, monkeypatch).begin(DOWN, WRITES)
            assert (await device.post()).status == 503
        assert device.jar == shown

    async def test_is_not_said_to_be_over_by_signing_out_everywhere(
        self, ann: AuthSuccess, device: Browser, rotated: World
    ) -> None:
        again = await rotated.sessions.create_session(ann.auth_user_id, method="email")
        device.jar[SESSION] = again.token
        assert is_unconfirmed(await device.post("sign-out-all"), ended=2)
        assert set(device.jar) == {TICKET}, "it may be that of another user"
        assert not await rotated.is_valid(ann)


@pytest.mark.parametrize("length", [32, 60, 86, 99, 300, 5000])
async def test_an_invented_ticket_costs_no_read_and_ends_nothing(
    world: World, ann: AuthSuccess, outage: Outages, length: int
) -> None:
    outage.begin(AssertionError("the store is asked"), WRITES + READS)
    device = Browser(app_of(world.auth), {TICKET: "A" * length})
    assert is_unconfirmed(await device.post())
    outage.end()
    device.jar[SESSION] = ann.token
    assert is_unconfirmed(await device.post(), ended=1)
    assert (await Browser(device.app, {}).post()).json == {"ended": 0}, "without it nothing is left to say"


async def test_a_session_whose_secret_cannot_be_checked_here_is_not_said_to_be_over(
    world: World, ann: AuthSuccess, new_world: NewWorld
) -> None:
    other = app_of((await new_world(session_key_hash_pepper=OTHER_PEPPER)).auth)
    device = Browser(other, {SESSION: ann.token})
    assert is_unconfirmed(await device.post())
    assert set(device.jar) == {SESSION}
    assert is_unconfirmed(await Browser(other).post("sign-out", *bearer(ann.token)))
    assert (await device.status()).json["reason"] == "revoked"
    assert await world.is_valid(ann)


async def name_no_pepper(world: World, success: AuthSuccess) -> None:
    """As in a row that was taken over from Serverpod."""
    row = await world.row(success)
    assert row is not None
    await world.store.rehash_sessions([Rehash(row.id, row.key, KeyHash(row.key.hash, row.key.salt, None))])


async def test_a_session_that_names_no_pepper_is_not_said_to_be_over_where_none_fits(
    world: World, ann: AuthSuccess, new_world: NewWorld
) -> None:
    await name_no_pepper(world, ann)
    other = await new_world(session_key_hash_pepper=OTHER_PEPPER)
    device = Browser(app_of(other.auth), {SESSION: ann.token})
    assert is_unconfirmed(await device.post())
    assert set(device.jar) == {SESSION}
    assert is_unconfirmed(await Browser(device.app).post("sign-out", *bearer(ann.token)))
    ticket = other.sessions.ending_ticket(ann.token)
    assert ticket is not None
    device.jar = {TICKET: ticket}
    assert is_unconfirmed(await device.post())
    assert set(device.jar) == {TICKET}
    assert await world.is_valid(ann)


async def damage(world: World, success: AuthSuccess) -> None:
    await world.harness.corrupt_scopes(success.server_side_session_id)


async def leave_unused(world: World, _: AuthSuccess) -> None:
    await world.harness.advance(MINUTE)


async def go_past_its_deadline(world: World, _: AuthSuccess) -> None:
    await world.harness.advance(timedelta(hours=1))


REFUSED = {
    "damaged": (damage, TokenRefusal.CORRUPT),
    "unused": (leave_unused, TokenRefusal.INACTIVE),
    "expired": (go_past_its_deadline, TokenRefusal.EXPIRED),
}


class TestASessionThatIsRefusedAlready:
    """It could be accepted again: with a use that is written late, or with new scopes of its user."""

    @pytest.fixture(params=list(REFUSED))
    async def refused(self, request: pytest.FixtureRequest, new_world: NewWorld) -> tuple[World, AuthSuccess]:
        refuse, refusal = REFUSED[request.param]
        world: World = await new_world(default_session_inactivity_timeout=MINUTE)
        ends_at = await world.now() + timedelta(hours=1)
        success = await world.sign_in(await world.user("a"), expires_at=ends_at)
        await refuse(world, success)
        assert await world.tokens.explain_token(success.token) is refusal
        return world, success

    async def test_is_ended(self, refused: tuple[World, AuthSuccess]) -> None:
        world, success = refused
        device = Browser(app_of(world.auth), {SESSION: success.token})
        assert ((await device.post()).json, device.jar) == ({"ended": 1}, {})
        assert await world.tokens.explain_token(success.token) is TokenRefusal.UNKNOWN

    async def test_is_ended_for_a_program(self, refused: tuple[World, AuthSuccess]) -> None:
        world, success = refused
        program = Browser(app_of(world.auth))
        assert (await program.post("sign-out", *bearer(success.token))).json == {"ended": 1}
        assert await world.tokens.explain_token(success.token) is TokenRefusal.UNKNOWN

    async def test_is_ended_beside_another(self, refused: tuple[World, AuthSuccess]) -> None:
        world, success = refused
        other = await world.sign_in(await world.user())
        answer = await shown_to(app_of(world.auth), success.token, other.token)
        assert (answer.status, answer.json) == (200, {"ended": 2})
        assert (answer.header("set-cookie") or "").startswith(f"{SESSION}=; Max-Age=0; ")
        assert await world.tokens.explain_token(success.token) is TokenRefusal.UNKNOWN

    async def test_is_ended_by_a_ticket(self, refused: tuple[World, AuthSuccess]) -> None:
        world, success = refused
        ticket = world.sessions.ending_ticket(success.token)
        assert ticket is not None
        device = Browser(app_of(world.auth), {TICKET: ticket})
        assert ((await device.post()).json, device.jar) == ({"ended": 1}, {})
        assert await world.tokens.explain_token(success.token) is TokenRefusal.UNKNOWN

    async def test_is_not_ended_for_a_wrong_secret(self, refused: tuple[World, AuthSuccess]) -> None:
        world, success = refused
        forged = format_token(success.server_side_session_id, bytes(32))
        answer = await shown_to(app_of(world.auth), forged)
        assert (answer.json, answer.header("set-cookie")) == ({"ended": 0}, None)
        assert await world.tokens.explain_token(success.token) is not TokenRefusal.UNKNOWN

    async def test_is_ended_beside_other_managers(self, refused: tuple[World, AuthSuccess]) -> None:
        world, success = refused
        unknowing = OtherTokenManager()
        unknowing.refusal = TokenRefusal.UNKNOWN
        manager = MultiTokenManager([unknowing, world.auth.get_token_manager(ServerSideSessionsTokenManager)])
        holder = (await manager.examine_token(success.token)).holder
        assert holder is not None
        assert (holder.auth_id, holder.user_identifier) == (success.server_side_session_id, success.auth_user_id)


async def shown_to(app: AsgiApp, *values: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    cookies = "; ".join(f"{SESSION}={value}" for value in values).encode()
    sent = [(b"cookie", cookies), *headers]
    return await request(app, "/session/sign-out", headers=sent, method="POST", scheme="https")


class TestSeveralSessionCookies:
    """Browsers keep one `__Host-` cookie of a name; on plain http, and in other clients, there may be more."""

    async def test_end_every_session_whose_secret_is_right(self, world: World, ann: AuthSuccess) -> None:
        other = await world.sign_in(await world.user())
        answer = await shown_to(app_of(world.auth), ann.token, other.token)
        assert (answer.status, answer.json) == (200, {"ended": 2})
        assert (answer.header("set-cookie") or "").startswith(f"{SESSION}=; Max-Age=0; ")
        assert [await world.is_valid(one) for one in (ann, other)] == [False, False]

    @pytest.mark.parametrize("is_first", [True, False])
    async def test_end_the_session_beside_one_that_is_over_which_may_be_another_applications(
        self, world: World, ann: AuthSuccess, is_first: bool
    ) -> None:
        over = await world.sign_in(await world.user())
        await world.sessions.revoke_session(over.server_side_session_id)
        forged = format_token(over.server_side_session_id, bytes(32))
        shown = [over.token, forged, ann.token]
        answer = await shown_to(app_of(world.auth), *(reversed(shown) if is_first else shown))
        assert (answer.status, answer.json, answer.header("set-cookie")) == (200, {"ended": 1}, None)
        assert not await world.is_valid(ann)

    async def test_end_no_session_whose_secret_is_wrong(self, world: World, ann: AuthSuccess) -> None:
        forged = format_token(ann.server_side_session_id, bytes(32))
        assert (await shown_to(app_of(world.auth), forged, forged)).json == {"ended": 0}
        assert await world.is_valid(ann)

    @pytest.mark.parametrize("garbage", ["x", "eyJhIjoxfQ.aGVsbG8.c2ln", "a b"])
    async def test_are_not_confirmed_where_one_cannot_be_read(
        self, world: World, ann: AuthSuccess, garbage: str
    ) -> None:
        answer = await shown_to(app_of(world.auth), garbage, ann.token)
        assert is_unconfirmed(answer, ended=1)
        assert answer.header("set-cookie") is None
        assert not await world.is_valid(ann)

    async def test_are_not_confirmed_where_there_are_more_than_are_looked_at(
        self, world: World, ann: AuthSuccess
    ) -> None:
        unknown = format_token(new_session_id(ann.auth_user_id), bytes(32))
        assert is_unconfirmed(await shown_to(app_of(world.auth), *([unknown] * MAX_COOKIES), ann.token))
        assert await world.is_valid(ann)
        assert (await shown_to(app_of(world.auth), *([unknown] * (MAX_COOKIES - 1)), ann.token)).json == {"ended": 1}

    async def test_cannot_be_used_by_another_site(self, world: World, ann: AuthSuccess) -> None:
        forged: Headers = [(b"sec-fetch-site", b"cross-site")]
        answer = await shown_to(app_of(world.auth), ann.token, ann.token, headers=forged)
        assert answer.code == "cross_site_request"
        assert await world.is_valid(ann)

    @pytest.mark.parametrize(("error", "calls"), OUTAGES.values(), ids=OUTAGES)
    async def test_stay_in_an_outage_and_can_be_shown_again(
        self, world: World, ann: AuthSuccess, outage: Outages, error: Exception, calls: tuple[str, ...]
    ) -> None:
        other = await world.sign_in(await world.user())
        outage.begin(error, calls)
        answer = await shown_to(app_of(world.auth), ann.token, other.token)
        assert (answer.status, answer.header("set-cookie")) == (503, None)
        outage.end()
        assert (await shown_to(app_of(world.auth), ann.token, other.token)).json == {"ended": 2}

    @pytest.mark.parametrize("cookies", ['{name}="{token}"', "{name}={token}; {name}=", "{name}=; {name}={token}"])
    async def test_one_that_is_quoted_or_beside_an_empty_one_is_given_up_in_an_outage(
        self, world: World, ann: AuthSuccess, outage: Outages, cookies: str
    ) -> None:
        outage.begin(DOWN, WRITES + READS)
        shown: Headers = [(b"cookie", cookies.format(name=SESSION, token=ann.token).encode())]
        app = app_of(world.auth)
        answer = await request(app, "/session/sign-out", headers=shown, method="POST", scheme="https")
        assert answer.status == 503
        forgotten, ticket = answer.values("set-cookie")
        assert forgotten.startswith(f"{SESSION}=; Max-Age=0; ")
        outage.end()
        device = Browser(app, {TICKET: ticket.partition(";")[0].partition("=")[2]})
        assert ((await device.post()).json, device.jar) == ({"ended": 1}, {})
        assert not await world.is_valid(ann)

    async def test_one_that_is_quoted_is_read(self, world: World, ann: AuthSuccess) -> None:
        """RFC 6265 section 4.1.1 allows quotes. We write none; a client or proxy may."""
        answer = await shown_to(app_of(world.auth), f'"{ann.token}"')
        assert (answer.status, answer.json) == (200, {"ended": 1})
        assert not await world.is_valid(ann)

    async def test_two_tickets_are_both_used(self, world: World, ann: AuthSuccess) -> None:
        other = await world.sign_in(await world.user())
        tickets = [world.sessions.ending_ticket(one.token) for one in (ann, other)]
        cookies = "; ".join(f"{TICKET}={ticket}" for ticket in tickets).encode()
        answer = await request(
            app_of(world.auth), "/session/sign-out", headers=[(b"cookie", cookies)], method="POST", scheme="https"
        )
        assert answer.json == {"ended": 2}
        assert (answer.header("set-cookie") or "").startswith(f"{TICKET}=; Max-Age=0; ")


DAMAGES: dict[str, Callable[[str], str]] = {
    "cut off": lambda token: token[:-1],
    "cut off to the prefix": lambda token: token[:4],
    "with a character too much": lambda token: token + "A",
    "with padding": lambda token: token + "=",
    "with spaces": lambda token: token[:20] + " " + token[20:],
    "half quoted": lambda token: f'"{token}',
    "percent-encoded": lambda token: token.replace("-", "%2D").replace("_", "%5F") + "%00",
    "twice in one": lambda token: f"{token},{token}",
    "signed": lambda token: f"{token}.c2ln",
    "in JSON": lambda token: f'{{"token":"{token}"}}',
    "in upper case": lambda token: token.upper(),
    "not ASCII": lambda token: token + "\N{SNOWMAN}",
    "in quotes twice": lambda token: f'""{token}""',
}


TICKET_DAMAGES: dict[str, Callable[[str], str]] = {
    **{name: change for name, change in DAMAGES.items() if name != "cut off to the prefix"},
    "cut off by 10": lambda ticket: ticket[:-10],
    "cut off to 32": lambda ticket: ticket[:32],
    "in the other alphabet": lambda ticket: ticket[:-2] + "+/",
}


@pytest.mark.parametrize("name", TICKET_DAMAGES)
async def test_a_ticket_that_was_damaged_on_its_way_is_not_said_to_be_over(
    world: World, ann: AuthSuccess, name: str
) -> None:
    ticket = world.sessions.ending_ticket(ann.token)
    assert ticket is not None
    damaged: Headers = [(b"cookie", f"{TICKET}={TICKET_DAMAGES[name](ticket)}".encode())]
    answer = await request(app_of(world.auth), "/session/sign-out", headers=damaged, method="POST", scheme="https")
    assert is_unconfirmed(answer)
    assert answer.header("set-cookie") is None
    assert await world.is_valid(ann)


@pytest.mark.parametrize("way", ["cookie", "bearer"])
@pytest.mark.parametrize("name", DAMAGES)
async def test_what_was_damaged_on_its_way_is_not_said_to_be_over(
    world: World, ann: AuthSuccess, name: str, way: str
) -> None:
    damaged = DAMAGES[name](ann.token)
    app = app_of(world.auth)
    if way == "cookie":
        answer = await shown_to(app, damaged)
    else:
        header: Headers = [(b"authorization", f"Bearer {damaged}".encode())]
        answer = await request(app, "/session/sign-out", headers=header, method="POST", scheme="https")
    assert is_unconfirmed(answer)
    assert answer.header("set-cookie") is None
    assert await world.is_valid(ann)


async def test_an_empty_cookie_is_none(world: World) -> None:
    assert (await shown_to(app_of(world.auth), "")).json == {"ended": 0}
