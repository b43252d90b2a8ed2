"""A sign-in or sign-out that is cut off from outside: storage, memory and listeners agree afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from coatcheck.client import AsyncClientSessionManager, MemoryStorage
from coatcheck.client.finishing import Finishing
from coatcheck.client.http_library import installed
from tests.client.programs import ada, bob

if TYPE_CHECKING:
    import httpx2

    from coatcheck import AuthSuccess
    from coatcheck.client import AuthChange

pytestmark = pytest.mark.usefixtures("library")
SERVER = "https://notes.example"

Operation = Callable[[AsyncClientSessionManager], Awaitable[object]]

SIGN_IN: Operation = lambda sessions: sessions.update_signed_in_user(bob())  # noqa: E731 (a table of calls)
FORGET: Operation = lambda sessions: sessions.update_signed_in_user(None)  # noqa: E731
SIGN_OUT: Operation = lambda sessions: sessions.sign_out_device()  # noqa: E731
SIGN_OUT_ALL: Operation = lambda sessions: sessions.sign_out_all_devices()  # noqa: E731
VALIDATE: Operation = lambda sessions: sessions.validate_authentication()  # noqa: E731
INITIALIZE: Operation = lambda sessions: sessions.initialize()  # noqa: E731
REQUEST: Operation = lambda sessions: sessions.http.get("/notes", auth=sessions.auth)  # noqa: E731

CHANGES = {"sign in": SIGN_IN, "forget": FORGET, "sign out": SIGN_OUT, "sign out all": SIGN_OUT_ALL}
OPERATIONS = {**CHANGES, "validate": VALIDATE, "initialize": INITIALIZE, "request": REQUEST}


class GatedStorage(MemoryStorage):
    """Lets a call that changes it wait until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def shut(self) -> None:
        self.entered.clear()
        self.gate.clear()

    def _pass(self) -> None:
        self.entered.set()
        assert self.gate.wait(60)

    def write(self, session: AuthSuccess | None) -> None:
        self._pass()
        super().write(session)

    def remove(self, session: AuthSuccess) -> bool:
        self._pass()
        return super().remove(session)


async def answer(request: httpx2.Request) -> httpx2.Response:
    """The session has ended."""
    await anyio.lowlevel.checkpoint()
    respond: type[httpx2.Response] = installed().Response
    if request.url.path.endswith("/status"):
        return respond(200, json={"signed_in": False, "reason": "expired"})
    if "sign-out" in request.url.path:
        return respond(200, json={"ended": 1})
    return respond(401, json={"code": "invalid_token"}, headers={"content-type": "application/problem+json"})


class Cut:
    """One program that is signed in as Ada, with a storage that waits."""

    def __init__(self, storage: MemoryStorage | None = None) -> None:
        self.storage = storage or MemoryStorage()
        library = installed()
        self.http = library.AsyncClient(transport=library.MockTransport(answer), base_url=SERVER)
        self.sessions = AsyncClientSessionManager(SERVER, storage=self.storage, http=self.http)
        self.told: list[AuthSuccess | None] = []

    async def begin(self) -> None:
        await self.sessions.update_signed_in_user(ada())
        self.sessions.listen(self._hear)

    def _hear(self, change: AuthChange) -> None:
        self.told.append(change.auth_info)

    def check(self) -> None:
        """Memory, storage and listeners agree."""
        now = self.sessions.auth_info
        assert self.storage.read() == now
        assert [ada(), *self.told][-1] == now


async def cut_by_task(work: Awaitable[object], storage: GatedStorage, times: int) -> None:
    task = asyncio.ensure_future(work)
    assert await asyncio.to_thread(storage.entered.wait, 60)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    storage.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cut_by_timeout(work: Awaitable[object], storage: GatedStorage, _times: int) -> None:
    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            await work

    limits: list[asyncio.Timeout] = []
    task = asyncio.ensure_future(limited())
    assert await asyncio.to_thread(storage.entered.wait, 60)
    limits[0].reschedule(asyncio.get_running_loop().time())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    storage.gate.set()
    with pytest.raises(TimeoutError):
        await task


async def cut_by_scope(work: Awaitable[object], storage: GatedStorage, _times: int) -> None:
    async def opens_later() -> None:
        assert await asyncio.to_thread(storage.entered.wait, 60)
        group.cancel_scope.cancel()
        storage.gate.set()

    async with anyio.create_task_group() as group:
        group.start_soon(opens_later)
        await work


async def cut_by_group(work: Awaitable[object], storage: GatedStorage, _times: int) -> None:
    async def fails() -> None:
        assert await asyncio.to_thread(storage.entered.wait, 60)
        asyncio.get_running_loop().call_soon(storage.gate.set)
        raise LookupError("a neighbour")

    async def works() -> None:
        await work

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(works())
            group.create_task(fails())


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("cut_off", [cut_by_task, cut_by_timeout, cut_by_scope, cut_by_group])
@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_that_is_cut_off_in_the_storage_is_finished_and_told(
    name: str, cut_off: Callable[[Awaitable[object], GatedStorage, int], Awaitable[None]], times: int
) -> None:
    storage = GatedStorage()
    program = Cut(storage)
    await program.begin()
    storage.shut()
    await cut_off(CHANGES[name](program.sessions), storage, times)
    assert program.sessions.auth_info == (bob() if name == "sign in" else None)
    program.check()


class CancelledAt:
    """Awaits a coroutine, and cancels its task at the await of this number."""

    def __init__(self, work: Awaitable[object], number: int) -> None:
        self.work, self.number, self.awaits = work, number, 0

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self.work.__await__()
        value, error = None, None
        while True:
            try:
                future = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            if self.awaits == self.number:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            self.awaits += 1
            value = error = None
            try:
                value = yield future
            except BaseException as thrown:  # noqa: BLE001 (passed on)
                error = thrown


@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled_at_any_await_storage_memory_and_listeners_agree(name: str) -> None:
    number, was_hit = 0, True
    while was_hit:
        program = Cut()
        await program.begin()
        cancelled = CancelledAt(OPERATIONS[name](program.sessions), number)

        async def run(work: CancelledAt = cancelled) -> None:
            await work

        (raised,) = await asyncio.gather(run(), return_exceptions=True)
        was_hit = cancelled.awaits > number
        assert isinstance(raised, asyncio.CancelledError) == was_hit
        if name in CHANGES:
            assert program.sessions.auth_info == (bob() if name == "sign in" else None)
        program.check()
        number += 1
    assert number > 1


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_the_background_is_finished_and_told_when_the_program_ends(name: str) -> None:
    """The end of `asyncio.run` cancels every task, those that finish something for others too."""
    storage = GatedStorage()
    program = Cut(storage)

    async def open_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            storage.gate.set()

    async def main() -> list[asyncio.Future[Any]]:
        await program.begin()
        storage.shut()
        tasks: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(one) for one in (CHANGES[name](program.sessions), open_when_cancelled())
        ]
        assert await asyncio.to_thread(storage.entered.wait, 60)
        return tasks

    tasks = asyncio.run(main())
    assert [task.cancelled() for task in tasks] == [True, True]
    assert program.sessions.auth_info == (bob() if name == "sign in" else None)
    program.check()


def test_a_change_that_waits_for_another_when_the_program_ends_is_made_and_told() -> None:
    storage = GatedStorage()
    program = Cut(storage)

    async def open_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            storage.gate.set()

    async def main() -> list[asyncio.Future[Any]]:
        await program.begin()
        storage.shut()
        first = asyncio.ensure_future(program.sessions.update_signed_in_user(bob()))
        assert await asyncio.to_thread(storage.entered.wait, 60)
        second = asyncio.ensure_future(program.sessions.update_signed_in_user(None))
        await asyncio.sleep(0)
        return [first, second, asyncio.ensure_future(open_when_cancelled())]

    asyncio.run(main())
    assert (program.sessions.auth_info, storage.read()) == (None, None)
    assert program.told == [bob(), None]


async def test_a_step_whose_task_is_cancelled_before_a_thread_is_free_is_still_called_once() -> None:
    limiter, calls = anyio.CapacityLimiter(1), []
    limiter.acquire_on_behalf_of_nowait("a neighbour")
    finishing = Finishing()
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(finishing.in_thread(lambda: calls.append("called"), limiter))
    for _ in range(3):
        await asyncio.sleep(0)
        for one in asyncio.all_tasks() - before:  # as the end of asyncio.run does: the step's own task too
            one.cancel()
    await asyncio.sleep(0)
    limiter.release_on_behalf_of("a neighbour")
    await task
    assert calls == ["called"]
    with pytest.raises(asyncio.CancelledError):
        finishing.raise_held()


async def test_a_callback_that_is_awaited_is_not_cut_off_with_the_caller() -> None:
    program = Cut()
    await program.begin()
    begun, may_end, heard = asyncio.Event(), asyncio.Event(), []

    async def hear(change: AuthChange) -> None:
        begun.set()
        await may_end.wait()
        heard.append(change.auth_info)

    program.sessions.listen(hear)
    program.sessions.listen(lambda change: heard.append(change.auth_info))
    task = asyncio.ensure_future(program.sessions.sign_out_device())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == [None, None]


async def test_an_error_of_the_storage_does_not_hide_that_the_caller_was_cancelled() -> None:
    class Failing(GatedStorage):
        def write(self, session: AuthSuccess | None) -> None:
            super().write(session)
            if session is None:
                raise OSError("no space")

    storage = Failing()
    program = Cut(storage)
    await program.begin()
    storage.shut()
    await cut_by_task(program.sessions.update_signed_in_user(None), storage, 1)
    assert program.sessions.auth_info is None
    assert program.told == [None]


async def test_threads_that_the_program_keeps_busy_do_not_hold_up_a_sign_out() -> None:
    program = Cut()
    await program.begin()
    limiter = anyio.to_thread.current_default_thread_limiter()
    holders = [object() for _ in range(int(limiter.total_tokens))]
    for holder in holders:
        limiter.acquire_on_behalf_of_nowait(holder)
    try:
        await program.sessions.sign_out_device()
    finally:
        for holder in holders:
            limiter.release_on_behalf_of(holder)
    assert program.sessions.auth_info is None
    program.check()
