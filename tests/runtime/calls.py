"""Every kind of call on a pod, and what becomes of it where it is made."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from coatcheck import AuthServices, Pod
    from coatcheck.events import Message

STORE_VARIABLE = "COATCHECK_RUNTIME_STORE"
"""The environment variable with the URL of the application's store."""

CALLS = (
    "validate",
    "create",
    "list",
    "update user",
    "guarantee",
    "announcements",
    "subscribe",
    "revoke",
    "revoke all",
    "create user",
)
OPENING = ("open", "open the store")
CLOSING = ("close", "close the store")

WORKS = "works"
NO_EFFECT = "nothing has changed"

# The sentences of refusals.
OPEN_ALREADY = "the pod is open already; open it once, and use it inside that `async with pod`"
OTHER_LOOP = "the pod is open in another event loop; call it there, or close it before it is opened in this one"
NO_LOOP = (
    "the pod is open in an event loop, which this thread does not run; call it from here by `auth.from_threads`, as in "
    "`auth.from_threads.token_manager.list_tokens(...)`"
)
INHERITED = (  # the program puts PARENT in the place of its number
    "the pod was opened in process PARENT before a fork, and is open only there; open it in the worker, after the fork"
)

_LIMIT_SECONDS = 15.0


@dataclass
class Calls:
    """A signed-in user, and the calls that are made about them."""

    pod: Pod
    auth: AuthServices
    user_id: str = ""
    token: str = ""
    token_id: str = ""
    users: int = 0
    heard: list[Message] = field(default_factory=list)

    async def sign_in(self) -> None:
        """In the pod's own event loop."""
        self.user_id = (await self.auth.auth_users.create(scopes={"read", "write"})).id
        success = await self.auth.token_manager.create_token(auth_user_id=self.user_id, method="email")
        self.token, self.token_id = success.token, success.server_side_session_id
        self.users = len(await self.auth.auth_users.list(limit=1000))

    def all(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """The calls by name, in an order in which each of them works."""
        tokens, users = self.auth.token_manager, self.auth.auth_users
        return {
            "validate": lambda: tokens.validate_token(self.token),
            "create": lambda: tokens.create_token(auth_user_id=self.user_id, method="email"),
            "list": lambda: tokens.list_tokens(auth_user_id=self.user_id),
            "update user": lambda: users.update(self.user_id, scopes={"read"}),
            "guarantee": self.pod.store.guarantee,
            "announcements": self._listen,
            "subscribe": self._subscribe,
            "revoke": lambda: tokens.revoke_token(token_id=self.token_id),
            "revoke all": lambda: tokens.revoke_all_tokens(auth_user_id=self.user_id),
            "create user": users.create,
        }

    def opening(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Opening and closing."""
        return {
            "open": self.pod.__aenter__,
            "open the store": self.pod.store.open,
            "close": lambda: self.pod.__aexit__(None, None, None),
            "close the store": self.pod.store.close,
        }

    async def effect(self) -> str:
        """What is seen, in the pod's own loop, of calls that were refused elsewhere."""
        user = await self.auth.auth_users.get(self.user_id)
        sessions = await self.auth.token_manager.list_tokens(auth_user_id=self.user_id)
        users = await self.auth.auth_users.list(limit=1000)
        found = (
            await self.auth.token_manager.validate_token(self.token) is not None,
            sorted(user.scopes),
            [one.token_id for one in sessions],
            len(users),
        )
        return NO_EFFECT if found == (True, ["read", "write"], [self.token_id], self.users) else str(found)

    async def _listen(self) -> None:
        async with aclosing(self.pod.store.announcements()) as announcements:
            async for _ in announcements:
                return

    async def _subscribe(self) -> None:
        async def hear(message: Message) -> None:
            self.heard.append(message)

        self.pod.events.subscribe(hear)()


Outcomes = dict[str, str]


async def outcomes(calls: dict[str, Callable[[], Awaitable[object]]]) -> Outcomes:
    """What becomes of each call in the running event loop. None may hang."""
    return {name: await _outcome(call) for name, call in calls.items()}


def outcomes_without_a_loop(calls: dict[str, Callable[[], Awaitable[object]]]) -> Outcomes:
    """What becomes of each call in a thread that runs no event loop: one step of it."""
    found: Outcomes = {}
    for name, call in calls.items():
        try:
            _as_coroutine(call).send(None)
        except StopIteration:
            found[name] = WORKS
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what is asked for)
            found[name] = _text(error)
        else:
            found[name] = "waits"
    return found


def summary(found: Outcomes) -> str:
    """One text, where all of them are the same."""
    different = set(found.values())
    return different.pop() if len(different) == 1 else str(found)


async def _outcome(call: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            await _as_coroutine(call)
    except TimeoutError:
        return "hangs"
    except Exception as error:  # noqa: BLE001 (as above)
        return _text(error)
    return WORKS


async def _awaited(call: Callable[[], Awaitable[object]]) -> object:
    return await call()


def _as_coroutine(call: Callable[[], Awaitable[object]]) -> Coroutine[Any, Any, object]:
    return _awaited(call)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
