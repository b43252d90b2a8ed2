"""The settings of server-side sessions, checked when they are given."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeAlias

from coatcheck.errors import ConfigurationError
from coatcheck.hidden import Hidden, shown_when_made
from coatcheck.sessions.key_hash import KeyHasher, Pepper
from coatcheck.sessions.limits import (
    MAX_SALT_LENGTH,
    MIN_PEPPER_LENGTH,
    MIN_SALT_LENGTH,
    RECOMMENDED_PEPPER_BYTES,
    check_duration,
    check_length,
)
from coatcheck.token_format import MAX_SECRET_LENGTH, MIN_SECRET_LENGTH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.identifiers import SessionId, UserId

SessionCreatedHook: TypeAlias = "Callable[[UserId, SessionId, AsyncConnection], Awaitable[None]]"


class WeakPepperWarning(UserWarning):
    """A pepper is allowed but shorter than the recommended 32 bytes."""


class PepperNewlineWarning(UserWarning):
    """A pepper ends with a newline, as a file has it that was read without stripping."""


class ServerSideSessionsSettings:
    """The settings of server-side sessions, checked when they are given.

    Peppers cannot be read back from it, and it has no repr that would show them.
    """

    def __init__(
        self,
        *,
        session_key_hash_pepper: str,
        fallback_session_key_hash_peppers: Sequence[str] = (),
        default_session_lifetime: timedelta | None = None,
        default_session_inactivity_timeout: timedelta | None = None,
        session_key_secret_length: int = 32,
        session_key_hash_salt_length: int = 16,
        on_session_created: SessionCreatedHook | None = None,
    ) -> None:
        """Check and keep the settings.

        Args:
            session_key_hash_pepper: the application-wide secret mixed into stored hashes. At least 10 characters;
                32 random bytes are recommended (draft-ietf-kitten-password-storage-04), fewer give a warning.
            fallback_session_key_hash_peppers: earlier peppers, still accepted. A session that was hashed under one
                is rehashed under the primary pepper when it is used.
            default_session_lifetime: how long a session lives from sign-in, 1 second to 10 years. None: for ever.
            default_session_inactivity_timeout: how long a session may go unused, 1 second to 10 years. None: for
                ever. Uses are recorded to a tenth of this time, or to a minute if that is shorter.
            session_key_secret_length: random bytes in a token, 16 to 1024. Tokens already issued stay valid.
            session_key_hash_salt_length: random bytes of salt for each session, 8 to 1024.
            on_session_created: called with (user id, session id, connection) inside the transaction that inserts a
                session. If it raises, the session is not created. The connection may be used for other statements.

        Raises:
            ConfigurationError: a setting is not allowed; the message names it and says what is allowed.
        """
        # First of all: a traceback with local variables would show the peppers.
        primary = Hidden(session_key_hash_pepper)
        fallbacks = Hidden(fallback_session_key_hash_peppers)
        del session_key_hash_pepper, fallback_session_key_hash_peppers
        peppers = [_pepper("session_key_hash_pepper", primary)]
        if isinstance(fallbacks.reveal(), str | bytes):
            raise ConfigurationError("fallback_session_key_hash_peppers must be a list of peppers, not one text")
        for number, fallback in enumerate(map(Hidden, fallbacks.reveal())):
            peppers.append(_pepper(f"fallback_session_key_hash_peppers[{number}]", fallback))
        if len({pepper.id for pepper in peppers}) < len(peppers):
            raise ConfigurationError(
                "session_key_hash_pepper and fallback_session_key_hash_peppers must all differ; one is given twice"
            )

        self._peppers = tuple(peppers)
        self.default_session_lifetime: timedelta | None = check_duration(
            "default_session_lifetime", default_session_lifetime
        )
        self.default_session_inactivity_timeout: timedelta | None = check_duration(
            "default_session_inactivity_timeout", default_session_inactivity_timeout
        )
        self.session_key_secret_length: int = check_length(
            "session_key_secret_length", session_key_secret_length, MIN_SECRET_LENGTH, MAX_SECRET_LENGTH
        )
        self.session_key_hash_salt_length: int = check_length(
            "session_key_hash_salt_length", session_key_hash_salt_length, MIN_SALT_LENGTH, MAX_SALT_LENGTH
        )
        if on_session_created is not None and not callable(on_session_created):
            raise ConfigurationError("on_session_created must be an async function or None")
        self.on_session_created = on_session_created

    @shown_when_made
    def __repr__(self) -> str:
        """Show everything but the peppers."""
        return (
            f"{type(self).__name__}(fallbacks={len(self._peppers) - 1}, "
            f"lifetime={self.default_session_lifetime}, inactivity_timeout={self.default_session_inactivity_timeout}, "
            f"secret_length={self.session_key_secret_length}, salt_length={self.session_key_hash_salt_length})"
        )

    @property
    def peppers(self) -> tuple[Pepper, ...]:
        """The primary pepper and the fallbacks. None of them can be printed."""
        return self._peppers

    def key_hasher(self) -> KeyHasher:
        """A hasher that hashes and checks under these peppers."""
        return KeyHasher(self._peppers[0], self._peppers[1:], salt_length=self.session_key_hash_salt_length)


def _pepper(name: str, text: Hidden[str]) -> Pepper:
    if not isinstance(text.reveal(), str):
        raise ConfigurationError(f"{name} must be text, not {type(text.reveal()).__name__}; is the password missing?")
    if not text.reveal().strip():
        raise ConfigurationError(
            f"{name} must not be empty; generate one with `python -c 'import secrets; "
            "print(secrets.token_urlsafe(32))'`"
        )
    encoded = _length_in_utf8(text)
    if encoded is None:
        raise ConfigurationError(f"{name} must be text that can be written as UTF-8")
    length = len(text.reveal())
    if length < MIN_PEPPER_LENGTH:
        raise ConfigurationError(f"{name} must have at least {MIN_PEPPER_LENGTH} characters; it has {length}")
    if encoded < RECOMMENDED_PEPPER_BYTES:
        warnings.warn(
            f"{name} has {encoded} bytes; {RECOMMENDED_PEPPER_BYTES} random bytes or more are recommended",
            WeakPepperWarning,
            stacklevel=3,
        )
    if text.reveal().endswith(("\n", "\r")):
        warnings.warn(
            f"{name} ends with a newline, which is part of the pepper: a server that reads it without the newline "
            "accepts none of these sessions. If it came from a file, strip it, and keep this text among the fallbacks",
            PepperNewlineWarning,
            stacklevel=3,
        )
    return Pepper(text.reveal())


def _length_in_utf8(text: Hidden[str]) -> int | None:
    try:
        return len(text.reveal().encode())
    except UnicodeEncodeError:
        return None
