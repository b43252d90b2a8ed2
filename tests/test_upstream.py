"""What we lean on that other packages do not promise is still there: an upgrade that takes it away fails here, by name.

Each test drives the real package. Where one fails, look into `coatcheck/upstream.py` and find another way.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from coatcheck import upstream
from tests.web.asgi_calls import request

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send


class Trouble(Exception):  # noqa: N818 (an application's own)
    """An error that the application has a handler for."""


class BeginsAndFails(PlainTextResponse):
    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise Trouble


async def begins_and_fails(_request: Request) -> PlainTextResponse:
    return BeginsAndFails()


async def handle(_request: Request, _error: Exception) -> PlainTextResponse:
    return PlainTextResponse("handled")


async def test_starlette_says_in_the_text_we_know_that_an_error_was_handled_too_late() -> None:
    app = Starlette(routes=[Route("/", begins_and_fails)], exception_handlers={Trouble: handle})
    with pytest.raises(RuntimeError) as raised:
        await request(app)
    assert raised.value.args == (upstream.STARLETTE_HANDLED_TOO_LATE,)
    assert isinstance(upstream.error_handled_too_late(raised.value), Trouble)


def test_another_runtime_error_is_no_word_of_starlettes() -> None:
    assert upstream.error_handled_too_late(RuntimeError("bug")) is None
    assert upstream.error_handled_too_late(Trouble(upstream.STARLETTE_HANDLED_TOO_LATE)) is None


def test_uvicorns_handler_of_sigterm_is_a_method_of_a_server_that_knows_whether_it_should_exit() -> None:
    server = uvicorn.Server(uvicorn.Config(handle, lifespan="off"))
    assert not upstream.is_uvicorn_exiting()
    with server.capture_signals():
        assert getattr(signal.getsignal(signal.SIGTERM), "__self__", None) is server
        assert not upstream.is_uvicorn_exiting()
        server.should_exit = True
        assert upstream.is_uvicorn_exiting()
    assert not upstream.is_uvicorn_exiting()


def test_uvicorn_that_is_told_to_stop_by_a_signal_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    server = uvicorn.Server(uvicorn.Config(handle, lifespan="off"))
    monkeypatch.setattr(signal, "raise_signal", lambda _: None)  # uvicorn hands the signal on when it has stopped
    with server.capture_signals():
        server.handle_exit(signal.SIGTERM, None)
        assert upstream.is_uvicorn_exiting()
