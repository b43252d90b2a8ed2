"""Running a flow: one loop that fulfils its needs by calling, and one that awaits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

N = TypeVar("N")
T = TypeVar("T")


def run(flow: Generator[N, Any, T], fulfil: Callable[[N], Any]) -> T:
    """Fulfil the needs of a flow until it returns. An error of `fulfil` is raised inside the flow."""
    try:
        need = next(flow)
        while True:
            try:
                result = fulfil(need)
            except BaseException as error:  # noqa: BLE001 (the flow decides; KeyboardInterrupt signs out, too)
                need = flow.throw(error)
            else:
                need = flow.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


async def run_async(flow: Generator[N, Any, T], fulfil: Callable[[N], Awaitable[Any]]) -> T:
    """`run` with an asynchronous `fulfil`."""
    try:
        need = next(flow)
        while True:
            try:
                result = await fulfil(need)
            except BaseException as error:  # noqa: BLE001 (the flow decides; a cancelled sign-out forgets, too)
                need = flow.throw(error)
            else:
                need = flow.send(result)
    except StopIteration as end:
        value: T = end.value
        return value
