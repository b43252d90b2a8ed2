"""A bare ASGI application and its pod live and end together."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import pytest
from starlette.applications import Starlette

from coatcheck.web import PodLifespan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck.web.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send


class Pod:
    """Notes when it is opened and closed."""

    def __init__(self, log: list[str], *, fails_on: str = "") -> None:
        self.log = log
        self.fails_on = fails_on

    async def __aenter__(self) -> Self:
        self.log.append("pod opens")
        if self.fails_on == "open":
            raise OSError("no store")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.log.append("pod closes")
        if self.fails_on == "close":
            raise OSError("lost the store")


async def live(app: AsgiApp, log: list[str]) -> list[AsgiMessage]:
    """Start and stop an application as a server does."""
    events = ["lifespan.startup", "lifespan.shutdown"]
    sent: list[AsgiMessage] = []

    async def receive() -> AsgiMessage:
        log.append(events[0])
        return {"type": events.pop(0)}

    async def send(message: AsgiMessage) -> None:
        log.append(message["type"])
        sent.append(message)

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return sent


async def raises(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
    assert scope["type"] == "http"


async def returns(_scope: AsgiScope, _receive: Receive, _send: Send) -> None:
    return


async def leaves_early(_scope: AsgiScope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


WHOLE = [
    "lifespan.startup",
    "pod opens",
    "lifespan.startup.complete",
    "lifespan.shutdown",
    "pod closes",
    "lifespan.shutdown.complete",
]


@pytest.mark.parametrize("app", [raises, returns, leaves_early, Starlette()])
async def test_the_pod_is_open_while_the_application_runs(app: AsgiApp) -> None:
    log: list[str] = []
    await live(PodLifespan(app, Pod(log)), log)
    assert log == WHOLE


async def test_the_applications_own_lifespan_is_inside() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[dict[str, int]]:
        log.append("application starts")
        yield {"shared": 1}
        log.append("application stops")

    await live(PodLifespan(Starlette(lifespan=lifespan), Pod(log)), log)
    assert log == [*WHOLE[:2], "application starts", *WHOLE[2:4], "application stops", *WHOLE[4:]]


async def test_a_pod_that_cannot_be_opened_fails_the_start() -> None:
    log: list[str] = []
    with pytest.raises(OSError, match="no store"):
        await live(PodLifespan(returns, Pod(log, fails_on="open")), log)
    assert log == ["lifespan.startup", "pod opens", "lifespan.startup.failed"]


async def test_a_pod_that_cannot_be_closed_fails_the_stop() -> None:
    log: list[str] = []
    with pytest.raises(OSError, match="lost the store"):
        await live(PodLifespan(Starlette(), Pod(log, fails_on="close")), log)
    assert log == [*WHOLE[:-1], "lifespan.shutdown.failed"]


async def test_an_application_that_fails_to_start_says_why_after_the_pod_is_closed() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        raise ValueError("bad setting")
        yield

    sent: list[AsgiMessage] = []
    with pytest.raises(ValueError, match="bad setting"):
        sent = await live(PodLifespan(Starlette(lifespan=lifespan), Pod(log)), log)
    assert log == ["lifespan.startup", "pod opens", "pod closes", "lifespan.startup.failed"]
    assert sent == []


async def test_everything_else_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    log: list[str] = []
    for type_ in ("http", "websocket"):
        await PodLifespan(app, Pod(log))({"type": type_}, None, None)  # type: ignore[arg-type]  # never used
    assert (seen, log) == (["http", "websocket"], [])
