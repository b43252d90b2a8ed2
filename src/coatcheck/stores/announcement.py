"""The message to other processes when authentication ends or shrinks, in the transaction in which it does.

The text is JSON, the same on every store, so that a server in another language can read it and write its own:

    {"v": 1, "origin": "5f0c...", "user": "ada"}                             all sessions of a user ended
    {"v": 1, "origin": "5f0c...", "user": "ada", "except": "019bea92-..."}   all but this one
    {"v": 1, "origin": "5f0c...", "user": "ada", "session": "019bea92-..."}  one session ended
    {..., "user": "ada", "scopes": ["notes:write"]}                          all sessions of a user lost scopes
    {..., "user": "ada", "session": "019bea92-...", "scopes": ["admin"]}     one session lost scopes

`origin` is whoever wrote it, and tells a process its own announcements from those of others.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from coatcheck.errors import InvalidArgumentError
from coatcheck.identifiers import session_id_of, user_id_of
from coatcheck.scope import scope_set

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope

__all__ = [
    "Announcement",
    "decode",
    "encode",
    "from_others",
]

MAX_BYTES = 7999
"""How long a text may be: PostgreSQL's limit for the payload of a NOTIFY."""

_VERSION = 1
_SCOPES_IN_ONE = 25  # of the longest kind, with everything around them, they stay below MAX_BYTES


@dataclass(frozen=True, slots=True)
class Announcement:
    """One change. Without `removed_scopes` sessions ended: one, or without `session_id` all but `spared`."""

    user_id: UserId
    """The user of the sessions."""
    session_id: SessionId | None = None
    """The one session that is meant; None: all of the user's."""
    removed_scopes: frozenset[Scope] | None = None
    """The scopes that were lost; None: the sessions have ended."""
    spared: SessionId | None = None
    """The one session that lives on; None: none does."""


def encode(announcement: Announcement, origin: str) -> Iterator[str]:
    """The texts of an announcement: more than one, where it names more scopes than fit."""
    for part in _parts(announcement):
        document: dict[str, object] = {"v": _VERSION, "origin": origin, "user": part.user_id}
        if part.session_id is not None:
            document["session"] = part.session_id
        if part.removed_scopes is not None:
            document["scopes"] = sorted(part.removed_scopes)
        if part.spared is not None:
            document["except"] = part.spared
        yield json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def decode(text: str) -> tuple[str, Announcement] | None:
    """The origin and the announcement; None where the text is none, or one of a version to come."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("v") != _VERSION:
        return None
    try:
        announcement = Announcement(
            user_id_of(document["user"]),
            _session_id(document, "session"),
            _scopes(document.get("scopes")),
            _session_id(document, "except"),
        )
    except (KeyError, TypeError, InvalidArgumentError):
        return None
    return str(document.get("origin")), announcement


async def from_others(
    texts: AsyncGenerator[str | None, None], origin: str
) -> AsyncGenerator[Announcement | None, None]:
    """The announcements in `texts` of others than `origin`; None where something may have been missed."""
    async with aclosing(texts):
        async for text in texts:
            found = None if text is None else decode(text)
            if found is None:
                yield None  # what cannot be read may have said anything
            elif found[0] != origin:
                yield found[1]


def _parts(announcement: Announcement) -> Iterator[Announcement]:
    scopes = sorted(announcement.removed_scopes or ())
    if len(scopes) <= _SCOPES_IN_ONE:
        yield announcement
        return
    for start in range(0, len(scopes), _SCOPES_IN_ONE):
        yield replace(announcement, removed_scopes=frozenset(scopes[start : start + _SCOPES_IN_ONE]))


def _session_id(document: dict[str, Any], key: str) -> SessionId | None:
    if key not in document:
        return None
    session_id = session_id_of(document[key])
    if session_id is None:
        raise InvalidArgumentError(f"{key} is no session id")
    return session_id


def _scopes(names: object) -> frozenset[Scope] | None:
    if names is None:
        return None
    if not isinstance(names, list):
        raise InvalidArgumentError("scopes are no list")
    return scope_set(frozenset(names))
