"""Where something is open: in one process and one event loop at a time, and nowhere else.

A pod and its store hold connections, threads, tasks and timers. They belong to the process that made them, and to the
event loop that drives them. Whatever says "this process" is therefore drawn when something is opened: an application
may be imported before a server forks its workers, and opened in one event loop after the other by its tests.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

from coatcheck.errors import NotOpenError, OpenElsewhereError

if TYPE_CHECKING:
    from collections.abc import Callable

# In asyncio's `__all__`; `get_running_loop` raises where there is none.
running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop  # noqa: SLF001 (see above)
"""The running event loop; None in a thread that runs none."""

_NOWHERE = object()
"""In the place of an event loop. None stands for code that runs without one."""

NOT_OPEN = (
    "the store is not open; use it inside `async with pod`, or have the application open it: "
    "FastAPI(lifespan=pod.lifespan), Starlette(lifespan=pod.lifespan), and in its tests `with TestClient(app)`"
)


class Opening:
    """One thing that can be opened and closed, and opened again: in this event loop or another, one at a time.

    Calls on the path of every request compare `loop` with the running loop themselves, and raise `refusal()` if these
    differ. In a forked child `loop` is no loop at all, so that one comparison finds that too, without a system call.
    """

    __slots__ = ("__weakref__", "_home", "_inherited_from", "_lock", "_pid", "loop", "name")

    def __init__(self) -> None:
        """Nothing is open yet."""
        self.loop: object = _NOWHERE
        """The event loop in which calls are answered; something that is never running where they are refused."""
        self.name: str = ""
        """A random name for this opening, by which a process knows its own announcements and locks."""
        self._home: object = _NOWHERE  # as `loop`, but until the closing is done
        self._pid = 0
        self._inherited_from: int | None = None
        self._lock = threading.Lock()

    @property
    def is_here(self) -> bool:
        """Whether it is open, in the running event loop."""
        return running_loop() is self.loop

    @property
    def is_anywhere(self) -> bool:
        """Whether it is open, in whichever event loop or process, or is being opened or closed."""
        return self.is_inherited or self._home is not _NOWHERE

    @property
    def is_inherited(self) -> bool:
        """Whether it was opened in another process, of which this one is a forked child."""
        return self._inherited_from is not None

    def begin(self) -> None:
        """Open it here.

        Raises:
            OpenElsewhereError: it is open, here or elsewhere.
        """
        with self._lock:
            if self.is_anywhere:
                raise self._in_use()
            self.loop = self._home = running_loop()
            self._pid = os.getpid()
            self.name = secrets.token_hex(8)
            _opened.add(self)

    def check(self) -> None:
        """Check that it is open here.

        Raises:
            NotOpenError: it is not open.
            OpenElsewhereError: it is open in another event loop or process.
        """
        if running_loop() is not self.loop:
            raise self.refusal()

    def check_not_elsewhere(self) -> None:
        """Check that it is either open here, or not open.

        Raises:
            OpenElsewhereError: it is open in another event loop or process.
        """
        if self.is_inherited or self._home not in {_NOWHERE, running_loop()}:
            raise self.refusal()

    def refusal(self) -> NotOpenError:
        """The error for a call that was made where it is not open."""
        if not self.is_inherited and self.loop is _NOWHERE:
            return NotOpenError(NOT_OPEN)
        return self._elsewhere()

    def stop(self) -> bool:
        """Refuse calls from now on. False where there is nothing to close: it is closed, or a parent process's.

        Raises:
            OpenElsewhereError: it is open in another event loop.
        """
        if self._home is not _NOWHERE and self._pid != os.getpid():  # a server may fork without telling Python
            self._inherit()
        if self.is_inherited or self.loop is _NOWHERE:
            return False
        self.check()
        self.loop = _NOWHERE
        return True

    def end(self) -> None:
        """Note that the closing is done: it may be opened again."""
        self._home = _NOWHERE
        _opened.discard(self)

    def _in_use(self) -> OpenElsewhereError:
        if self.is_inherited or (self.loop is not _NOWHERE and not self.is_here):
            return self._elsewhere()
        if self.loop is _NOWHERE:
            return OpenElsewhereError("the pod is being closed; open it again when that is done")
        return OpenElsewhereError("the pod is open already; open it once, and use it inside that `async with pod`")

    def _elsewhere(self) -> OpenElsewhereError:
        if self.is_inherited:
            return OpenElsewhereError(
                f"the pod was opened in process {self._inherited_from} before a fork, and is open only there; "
                "open it in the worker, after the fork"
            )
        if isinstance(self._home, asyncio.AbstractEventLoop) and self._home.is_closed():
            return OpenElsewhereError(
                "the pod is still open in an event loop that has ended; close the pod before its loop ends"
            )
        if running_loop() is None:
            return OpenElsewhereError(
                "the pod is open in an event loop, which this thread does not run; call it from here by "
                "`auth.from_threads`, as in `auth.from_threads.token_manager.list_tokens(...)`"
            )
        return OpenElsewhereError(
            "the pod is open in another event loop; call it there, or close it before it is opened in this one"
        )

    def _inherit(self) -> None:
        """Note, in a forked child, that all of this is the parent's."""
        self._inherited_from = self._pid
        self.loop = _NOWHERE
        self._lock = threading.Lock()  # another thread of the parent may have held it


_opened: WeakSet[Opening] = WeakSet()


def _inherit_all() -> None:
    for opening in list(_opened):
        opening._inherit()  # noqa: SLF001 (of the same module)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_inherit_all)
