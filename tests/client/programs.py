"""Programs that are signed in: the blocking and the asynchronous client, driven by the same calls."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from coatcheck import AuthSuccess, Token, UserId
from coatcheck.client import AsyncClientSessionManager, ClientSessionManager, MemoryStorage
from coatcheck.client.http_library import installed
from coatcheck.scope import scope_set

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import httpx2

    from coatcheck.client import AuthChange, SessionStorage, SignInRequired

TOKEN = "c2Fz-the-token-of-the-tests"

PATIENCE_SECONDS = 20.0
"""Longer than any answer takes that comes at all."""


def ada(token: str = TOKEN) -> AuthSuccess:
    """Ada, signed in."""
    expires_at = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    return AuthSuccess("session", Token(token), expires_at, UserId("ada"), scope_set({"notes:read"}))


def bob() -> AuthSuccess:
    """Bob, signed in."""
    return AuthSuccess("session", Token("c2Fz-of-bob"), None, UserId("bob"), frozenset())


class Program:
    """One program with a session manager and an HTTP client that uses it."""

    def __init__(
        self,
        kind: str,
        server_url: str,
        *,
        storage: SessionStorage | None = None,
        follow_redirects: bool = True,
        library: ModuleType | None = None,
        **options: Any,
    ) -> None:
        """`kind` is "sync" or "async"; `library` is httpx2 or httpx, None: the newer that is installed."""
        library = library or installed()
        self.storage = MemoryStorage() if storage is None else storage
        self.changes: list[AuthChange] = []
        self.required: list[SignInRequired] = []
        options = {
            "storage": self.storage,
            "login_url": "https://notes.example/sign-in?from=cli",
            "on_sign_in_required": self.required.append,
            **options,
        }
        self.manager: ClientSessionManager | AsyncClientSessionManager
        http: Any
        settings: dict[str, Any] = {
            "base_url": server_url,
            "follow_redirects": follow_redirects,
            "timeout": PATIENCE_SECONDS,
        }
        if kind == "sync":
            http = library.Client(**settings)
            self.manager = ClientSessionManager(server_url, http=http, **options)
        else:
            http = library.AsyncClient(**settings)
            self.manager = AsyncClientSessionManager(server_url, http=http, **options)
        self.http: httpx2.Client | httpx2.AsyncClient = http
        self.http.auth = self.manager.auth
        self.manager.listen(self.changes.append)

    async def do(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the manager."""
        return await _run(getattr(self.manager, name), *arguments, **options)

    async def request(self, method: str, url: str, **options: Any) -> httpx2.Response:
        """Send a request with the session."""
        response: httpx2.Response = await _run(self.http.request, method, url, **options)
        return response

    async def get(self, url: str = "/notes", **options: Any) -> httpx2.Response:
        return await self.request("GET", url, **options)

    async def sign_in(self, info: AuthSuccess | None = None) -> None:
        """Sign in, and forget the change that was told."""
        await self.do("update_signed_in_user", info or ada())
        self.changes.clear()

    @property
    def reasons(self) -> list[str]:
        """The reasons of the sign-outs that the listeners were told of."""
        return [change.reason.value for change in self.changes if change.reason is not None]

    async def close(self) -> None:
        is_sync = isinstance(self.manager, ClientSessionManager)
        for client in (self.http, self.manager):
            await _run(getattr(client, "close" if is_sync else "aclose"))


async def _run(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Await what is asynchronous, and run the rest in a thread: the server is in this loop."""
    if getattr(function, "__func__", function).__code__.co_flags & 0x80:  # a coroutine function
        return await function(*arguments, **options)
    return await anyio.to_thread.run_sync(partial(function, *arguments, **options))
