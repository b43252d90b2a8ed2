"""Full garbage collections wait, if asked to, while many connections end, and not for longer than they have to."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from coatcheck.errors import ConfigurationError
from coatcheck.events import AnnouncementsMissed
from coatcheck.tokens import TokenRefusal
from coatcheck.web import LiveConnections, SessionMiddleware, require
from coatcheck.web.live.closing_queue import ClosingQueue
from coatcheck.web.live.garbage_collection import FullCollections
from tests.web.asgi_calls import bearer, scope_of
from tests.web.live.test_closing_queue import A_DAY, MANY, Connection, add, until
from tests.web.live.test_revalidation import Auth, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coatcheck.web.asgi import AsgiScope, Receive, Send

USUAL = (700, 10, 7)


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Thresholds that are not Python's own."""
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("how_many", "postpones", "wait"), [(MANY, True, True), (10, True, False), (MANY, False, False)]
)
async def test_they_wait_while_many_connections_end_and_they_were_asked_to(
    how_many: int, *, postpones: bool, wait: bool
) -> None:
    seen: list[tuple[int, int, int]] = []
    steps: list[tuple[str, int]] = []
    look = [Connection(number, steps, lambda: seen.append(gc.get_threshold())) for number in range(how_many)]
    add(ClosingQueue(A_DAY, postpone_full_collections=postpones), *look)
    await until(lambda: ("left", 0) in steps)
    seen.append(gc.get_threshold())
    await until(lambda: len(steps) == 2 * how_many)
    assert gc.get_threshold() == USUAL
    assert len(seen) == how_many + 1
    assert {(first, second) for first, second, _ in seen} == {USUAL[:2]}
    assert {full > 1_000_000 for _, _, full in seen} == {wait}


async def test_a_client_that_reads_nothing_makes_them_wait_for_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    reads = asyncio.get_running_loop().create_future()
    steps: list[tuple[str, int]] = []
    endings = ClosingQueue(A_DAY, postpone_full_collections=True)
    add(endings, *(Connection(number, steps, lambda: asyncio.shield(reads)) for number in range(MANY)))
    await asyncio.sleep(0)
    assert gc.get_threshold() != USUAL
    now += 1.1
    await until(lambda: gc.get_threshold() == USUAL)
    assert steps == []
    reads.set_result(None)
    await until(lambda: len(steps) == 2 * MANY)


async def test_of_several_holders_the_last_lets_them_go_on() -> None:
    collections, one, another = FullCollections(), object(), object()
    collections.postpone(one)
    collections.postpone(another)
    collections.postpone(one)
    collections.resume(one)
    assert gc.get_threshold() != USUAL
    collections.resume(another)
    assert gc.get_threshold() == USUAL
    collections.resume(another)
    assert gc.get_threshold() == USUAL


def test_a_loop_that_ends_before_the_second_is_over_does_not_postpone_them_for_ever() -> None:
    collections, one, another = FullCollections(), object(), object()

    async def postpone() -> None:
        collections.postpone(one)

    async def postpone_and_resume() -> None:
        collections.postpone(another)
        collections.resume(another)

    asyncio.run(postpone())
    assert gc.get_threshold() != USUAL
    asyncio.run(postpone_and_resume())
    assert gc.get_threshold() == USUAL


@pytest.mark.parametrize("settings", [{}, {"postpone_full_collections": False}])
async def test_live_connections_leave_the_process_alone_unless_they_are_asked_not_to(settings: dict[str, Any]) -> None:
    auth, seen = Auth(), set[tuple[int, int, int]]()
    token = auth.token_manager.sign_in("ann")
    live = LiveConnections(auth, **settings)

    async def stream(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        require(scope)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await asyncio.Event().wait()

    app = SessionMiddleware(stream, auth=auth, live=live)
    clients = [Client(app, scope_of("http", headers=bearer(token))) for _ in range(MANY)]
    await until(lambda: len(live) == MANY)
    auth.token_manager.end(token, TokenRefusal.UNKNOWN)
    await auth.events.publish(AnnouncementsMissed())

    def look() -> bool:
        seen.add(gc.get_threshold())
        return all(client.task.done() for client in clients)

    await until(look)
    assert seen == {USUAL}


def test_only_true_and_false_say_whether_they_wait() -> None:
    with pytest.raises(ConfigurationError, match="postpone_full_collections must be True or False"):
        LiveConnections(Auth(), postpone_full_collections=1)  # type: ignore[arg-type]  # that is the mistake


async def test_thresholds_that_somebody_else_has_set_meanwhile_stay() -> None:
    collections, holder = FullCollections(), object()
    collections.postpone(holder)
    gc.set_threshold(1, 2, 3)
    collections.resume(holder)
    assert gc.get_threshold() == (1, 2, 3)
