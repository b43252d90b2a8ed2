"""The JSON body that answers a sign-in. The members are those of Serverpod's `AuthSuccess`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from coatcheck.errors import InvalidArgumentError
from coatcheck.hidden import Hidden
from coatcheck.identifiers import user_id_of
from coatcheck.scope import scope_set
from coatcheck.tokens import AuthSuccess, Token

if TYPE_CHECKING:
    from typing import TypeAlias, TypeVar

    T = TypeVar("T")
    _Answer: TypeAlias = Hidden[Mapping[object, object]]

__all__ = [
    "auth_success_json",
    "auth_success_of",
    "timestamp",
]

_VISIBLE = re.compile(r"[!-~]*")


def auth_success_json(success: AuthSuccess) -> dict[str, object]:
    """The body that answers a sign-in. Do not log it: it holds the token, except in cookie mode.

    `token_expires_at` is an RFC 3339 time in UTC or None, `scope_names` are sorted.
    """
    expires_at = success.token_expires_at
    return {
        "auth_strategy": success.auth_strategy,
        "token": str(success.token),
        "token_expires_at": None if expires_at is None else timestamp(expires_at),
        "auth_user_id": success.auth_user_id,
        "scope_names": sorted(success.scope_names),
    }


def timestamp(moment: datetime) -> str:
    """An RFC 3339 time, as FastAPI writes it too; `moment` is in UTC."""
    return moment.isoformat().replace("+00:00", "Z")


def auth_success_of(value: object) -> AuthSuccess:
    """Read the body that answers a sign-in, as `auth_success_json` writes it. Unknown members are ignored.

    Raises:
        InvalidArgumentError: a member is missing or wrong; the message names it and never shows the token.
    """
    if not isinstance(value, Mapping):
        value = Hidden(value)
        raise InvalidArgumentError("the answer to a sign-in must be a JSON object")
    # No local variable may show it, here or below: in a damaged answer the token can be in any place.
    answer: _Answer = Hidden(value)
    del value
    if not all(isinstance(name, str) for name in _member(answer, "scope_names", list)):
        raise InvalidArgumentError("scope_names in the answer to a sign-in must be a list of texts")
    return AuthSuccess(
        auth_strategy=_member(answer, "auth_strategy", str),
        token=checked_token(_member(answer, "token", str)),
        token_expires_at=_time(answer),
        auth_user_id=user_id_of(_member(answer, "auth_user_id", str)),
        scope_names=scope_set(_member(answer, "scope_names", list)),
    )


def checked_token(text: str) -> Token:
    """A token that can be sent in a header; empty in cookie mode.

    Raises:
        InvalidArgumentError: it has a character that HTTP libraries refuse, with an error that shows the whole header.
    """
    text = token = Token(text)
    if _VISIBLE.fullmatch(token) is None:
        raise InvalidArgumentError("token in the answer to a sign-in must be of visible ASCII characters")
    return token


def _member(answer: _Answer, name: str, kind: type[T]) -> T:
    if not isinstance(answer.reveal().get(name), kind):
        raise InvalidArgumentError(f"{name} in the answer to a sign-in must be a {kind.__name__}")
    return cast("T", answer.reveal()[name])


def _time(answer: _Answer) -> datetime | None:
    if answer.reveal().get("token_expires_at") is None:
        return None
    moment = None
    with suppress(ValueError, TypeError):  # no time, and no text
        moment = datetime.fromisoformat(cast("str", answer.reveal()["token_expires_at"]))
    if moment is None or moment.utcoffset() != timedelta(0):
        raise InvalidArgumentError(
            "token_expires_at in the answer to a sign-in must be None or a time in UTC (RFC 3339)"
        )
    return moment
