"""Who wants to hear of changes: listeners, streams to be closed, and whoever leads to the login page."""

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


class Hearers:
    """Keeps them, and says who is to be called for what, in order. Calling is the manager's."""

    def __init__(self, login_url: str | None, on_sign_in_required: OnSignInRequired | None) -> None:
        """Nobody listens yet."""
        self._login_url = login_url
        self._on_sign_in_required = on_sign_in_required
        self._listeners: dict[object, Listener] = {}
        self._streams: dict[object, Close] = {}

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; returns what removes it."""
        key = object()
        self._listeners[key] = listener

        def unsubscribe() -> None:
            self._listeners.pop(key, None)

        return unsubscribe

    @contextmanager
    def closing(self, close: Close) -> Iterator[None]:
        """Have `close` called, once, if within the block the streams are to be closed."""
        key = object()
        self._streams[key] = close
        try:
            yield
        finally:
            self._streams.pop(key, None)

    def calls_for(self, change: AuthChange) -> list[Callable[[], object]]:
        """What to call for a change."""
        calls: list[Callable[[], object]] = [_telling(listener, change) for listener in [*self._listeners.values()]]
        hook, reason = self._on_sign_in_required, change.reason
        if hook is not None and change.auth_info is None and reason is not None and reason.is_the_servers:
            login_url = None if self._login_url is None else login_url_for(self._login_url, reason)
            required = SignInRequired(reason, login_url)
            calls.append(lambda: hook(required))
        return calls

    def closers(self) -> list[Close]:
        """What to call to close the streams; each is called once."""
        keys = list(self._streams)
        return [close for close in (self._streams.pop(key, None) for key in keys) if close is not None]


def failed(call: Callable[[], object]) -> None:
    """Note that a callback raised; in an `except` block. The others are called all the same."""
    _log.exception("a callback of the session manager failed: %r", call)


def _telling(listener: Listener, change: AuthChange) -> Callable[[], object]:
    return lambda: listener(change)
