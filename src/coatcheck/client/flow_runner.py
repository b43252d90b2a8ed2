"""Running a flow: one loop that fulfils its needs by calling, and one that awaits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from coatcheck.client.finishing import Finishing

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


async def run_async(flow: Generator[N, Any, T], fulfil: Callable[[N, Finishing], Awaitable[Any]]) -> T:
    """`run` with an asynchronous `fulfil`.

    `fulfil` says by `Finishing` which steps are finished although the caller is cancelled. The cancellation is raised
    inside the flow at the next step that may be cancelled, or after the flow.
    """
    finishing = Finishing()
    try:
        need = next(flow)
        while True:
            try:
                result = await fulfil(need, finishing)
            except BaseException as error:  # noqa: BLE001 (the flow decides; a cancelled sign-out forgets, too)
                need = flow.throw(error)
            else:
                need = flow.send(result)
    except StopIteration as end:
        value: T = end.value
    except BaseException:
        finishing.raise_held()  # the caller that cancelled waits for its cancellation, not for an error
        raise
    finishing.raise_held()
    return value
