"""Signing out while the store cannot say so: the browser is rid of the token, and the sign-out can be finished."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.web import SessionMiddleware
from coatcheck.web.starlette import session_routes
from tests.web.asgi_calls import Headers, bearer, request
from tests.web.fakes import SID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coatcheck import AuthSuccess
    from coatcheck.web.asgi import AsgiApp
    from coatcheck.web.auth_services import HasTokenManager
    from tests.web.asgi_calls import Answer
    from tests.web.fakes import FakeAuth, FakeTokenManager
    from tests.worlds import World

LOST = RevocationIndeterminate("the connection broke before the answer came")
DOWN = StoreUnavailable("down")
WRITES, READS = ("delete_sessions", "end_user_sessions"), ("read_session",)
OUTAGES = {
    "the answer is lost": (LOST, WRITES),
    "writes fail": (DOWN, WRITES),
    "nothing is answered": (DOWN, WRITES + READS),
}
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
        assert (await thief.post("sign-out", *headers)).json == {"ended": 0}
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


@pytest.mark.parametrize("length", [0, 1, 60, 5000, 20_000])
async def test_what_is_no_ticket_ends_nothing_and_is_left_alone(world: World, length: int) -> None:
    """It may be another application's, as any cookie. One among too many cookies is not said to be none."""
    answer = await Browser(app_of(world.auth), {TICKET: "A" * length}).post()
    assert answer.header("set-cookie") is None
    assert (answer.status, answer.json.get("ended")) == ((200, 0) if length < 16_000 else (431, None))


async def test_a_cookie_that_is_no_token_stays_in_an_outage(world: World, outage: Outages) -> None:
    """Another framework's."""
    device = Browser(app_of(world.auth), {SESSION: "eyJhIjoxfQ.aGVsbG8.c2ln"})
    outage.begin(DOWN, WRITES + READS)
    assert ((await device.post()).json, set(device.jar)) == ({"ended": 0}, {SESSION})


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


async def test_a_manager_without_tickets_keeps_the_cookie(auth: FakeAuth, manager: FakeTokenManager) -> None:
    device = Browser(app_of(auth), {SESSION: manager.sign_in()})
    manager.revocations_are_lost = True
    assert ((await device.post()).status, set(device.jar)) == (503, {SESSION})
    manager.revocations_are_lost, manager.is_down = False, True
    assert ((await device.post()).status, set(device.jar)) == (503, {SESSION})
    manager.is_down = False
    assert ((await device.post()).json, device.jar) == ({"ended": 1}, {})
