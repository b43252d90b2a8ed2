"""A revocation that has begun runs to its end, and is never reported as done before it is."""

from __future__ import annotations

import asyncio
import logging

import pytest

from coatcheck import RevocationIndeterminate, StoreUnavailable
from coatcheck.sessions.finishing import Finisher


async def test_the_result_of_a_revocation_is_returned() -> None:
    async def work() -> int:
        return 7

    assert await Finisher().run(work()) == 7


async def test_the_error_of_a_revocation_is_raised() -> None:
    async def work() -> None:
        raise StoreUnavailable("nothing was ended")

    with pytest.raises(StoreUnavailable, match="nothing was ended"):
        await Finisher().run(work())


async def test_a_revocation_that_takes_too_long_is_indeterminate_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    may_finish, done = asyncio.Event(), []

    async def work() -> None:
        await may_finish.wait()
        done.append(True)

    finisher = Finisher(patience_seconds=0)
    with pytest.raises(RevocationIndeterminate, match="it goes on"):
        await finisher.run(work())
    assert done == []
    with caplog.at_level(logging.ERROR, logger="coatcheck"):
        await finisher.close()
    assert caplog.messages == ["1 revocations were not confirmed before the pod closed; repeat them"]
    may_finish.set()
    await asyncio.gather(*finisher._running)  # noqa: SLF001 (the work itself)
    assert done == [True]


async def test_a_cancelled_caller_does_not_stop_the_revocation(caplog: pytest.LogCaptureFixture) -> None:
    started, may_finish = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        await may_finish.wait()
        raise StoreUnavailable("nobody is left to be told")

    finisher = Finisher()
    caller = asyncio.create_task(finisher.run(work()))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    may_finish.set()
    with caplog.at_level(logging.WARNING, logger="coatcheck"):
        await finisher.close()
    assert [record.message for record in caplog.records] == ["a revocation failed: StoreUnavailable"]
