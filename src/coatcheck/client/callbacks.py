"""The callbacks of a session manager: listeners, streams to close, and the hook for a new sign-in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from coatcheck.client.changes import AuthChange, SignInRequired, login_url_for

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("coatcheck.client")

Listener: TypeAlias = Callable[[AuthChange], object]
OnSignInRequired: TypeAlias = Callable[[SignInRequired], object]
Close: TypeAlias = Callable[[], object]


class Callbacks:
    """Keeps the callbacks, and lists those to call for a change, in order. The manager calls them."""

    def __init__(self, login_url: str | None, on_sign_in_required: OnSignInRequired | None) -> None:
        """Begin without listeners and streams."""
        self._login_url = login_url
        self._on_sign_in_required = on_sign_in_required
        self._listeners: dict[object, Listener] = {}
        self._streams: dict[object, Close] = {}

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; returns a function that removes it."""
        key = object()
        self._listeners[key] = listener

        def unsubscribe() -> None:
            self._listeners.pop(key, None)

        return unsubscribe

    @contextmanager
    def closing(self, close: Close) -> Iterator[None]:
        """Within the block, `close` is among the `closers`. It is called once."""
        key = object()
        self._streams[key] = close
        try:
            yield
        finally:
            self._streams.pop(key, None)

    def calls_for(self, change: AuthChange) -> list[Callable[[], object]]:
        """The calls for a change: the listeners and, if the server ended the session, the hook for a new sign-in."""
        calls: list[Callable[[], object]] = [_telling(listener, change) for listener in [*self._listeners.values()]]
        hook, reason = self._on_sign_in_required, change.reason
        if hook is not None and change.auth_info is None and reason is not None and reason.is_the_servers:
            login_url = None if self._login_url is None else login_url_for(self._login_url, reason)
            required = SignInRequired(reason, login_url)
            calls.append(lambda: hook(required))
        return calls

    def closers(self) -> list[Close]:
        """The calls that close the streams. Each stream is listed once."""
        keys = list(self._streams)
        return [close for close in (self._streams.pop(key, None) for key in keys) if close is not None]


def log_failure(call: Callable[[], object]) -> None:
    """Log the error of a callback, from an `except` block. The other callbacks are still called."""
    _log.exception("a callback of the session manager failed: %r", call)


def _telling(listener: Listener, change: AuthChange) -> Callable[[], object]:
    return lambda: listener(change)
