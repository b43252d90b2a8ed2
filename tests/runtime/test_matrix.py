"""Start method, event loops, store and call: each cell of the table works, or is refused at once with one sentence."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kinds_of_store import POSTGRES, REDIS, SQLITE
from tests.runtime.calls import (
    CALLS,
    CLOSING,
    INHERITED,
    NO_EFFECT,
    NO_LOOP,
    OPEN_ALREADY,
    OPENING,
    OTHER_LOOP,
    STORE_VARIABLE,
    WORKS,
)
from tests.runtime.places import AFTERWARDS, EFFECT, PLACES
from tests.runtime.program import STARTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.runtime.calls import Outcomes

_LIMIT_SECONDS = 90


def refused(sentence: str, calls: Iterable[str]) -> Outcomes:
    return dict.fromkeys(calls, f"OpenElsewhereError: {sentence}")


EVERYTHING_WORKS = dict.fromkeys(CALLS, WORKS)
NOTHING_HAPPENED = {EFFECT: NO_EFFECT, AFTERWARDS: WORKS}
IN_A_CHILD = refused(INHERITED, (*OPENING, *CALLS)) | dict.fromkeys(CLOSING, WORKS)  # closing there does nothing

IN_EACH_PLACE: dict[str, Outcomes] = {
    "one loop": EVERYTHING_WORKS,
    "loops in turn": EVERYTHING_WORKS,
    "opened again while open": refused(OPEN_ALREADY, ["open"]) | NOTHING_HAPPENED,
    "two loops at once": refused(OTHER_LOOP, (*OPENING, *CLOSING, *CALLS)) | NOTHING_HAPPENED,
    "the first loop stands still": refused(OTHER_LOOP, (*OPENING, *CLOSING, *CALLS)) | NOTHING_HAPPENED,
    "foreign thread": refused(NO_LOOP, (*OPENING, *CLOSING, *CALLS)) | NOTHING_HAPPENED,
    "forked child": IN_A_CHILD | NOTHING_HAPPENED,
}
WHERE_THE_PARENT_IS_OPEN: dict[str, Outcomes] = {
    "one loop": IN_A_CHILD,
    "the parent's loop": IN_A_CHILD,
    "a fork of the fork": IN_A_CHILD,
    "the parent": NOTHING_HAPPENED,
}
EXPECTED = dict.fromkeys(STARTS, IN_EACH_PLACE) | {"forked_while_open": WHERE_THE_PARENT_IS_OPEN}


def test_the_table_has_every_place() -> None:
    assert IN_EACH_PLACE.keys() == PLACES.keys()


@pytest.mark.parametrize("store_url", [SQLITE, POSTGRES, REDIS], indirect=True)
@pytest.mark.parametrize("start", STARTS)
async def test_every_call_works_where_the_pod_is_open_and_is_refused_everywhere_else(
    store_url: str, start: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.runtime.program", start),
        env=os.environ | {STORE_VARIABLE: store_url, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            printed, logged = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert logged.decode() == ""
    assert json.loads(printed) == EXPECTED[start]
