"""The time limit of a blocking call."""

from __future__ import annotations

import contextvars
import threading

import pytest

from coatcheck.client.time_limit import TimeLimitError, call_within

LONG = 600.0

trace = contextvars.ContextVar("trace", default="none")


def test_a_result_in_time_is_returned() -> None:
    assert call_within(LONG, lambda: 5) == 5


def test_a_call_that_takes_too_long_is_left_alone() -> None:
    may_end = threading.Event()
    try:
        with pytest.raises(TimeLimitError):
            call_within(0.001, may_end.wait)
    finally:
        may_end.set()


@pytest.mark.parametrize("error", [OSError("no network"), TimeoutError("its own"), KeyboardInterrupt()])
def test_an_error_of_the_call_is_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        call_within(LONG, fail)
    assert raised.value is error


def test_the_call_runs_in_the_context_of_its_caller() -> None:
    token = trace.set("the caller's")
    try:
        assert call_within(LONG, trace.get) == "the caller's"
    finally:
        trace.reset(token)


def test_the_call_is_made_although_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that signs out while it exits cannot start threads."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert call_within(LONG, lambda: 5) == 5
