"""The settings of server-side sessions. They are also the builder that a pod makes the token manager from."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from coatcheck.errors import ConfigurationError
from coatcheck.sessions.key_hash import KeyHasher, Pepper
from coatcheck.token_format import MAX_SECRET_LENGTH, MIN_SECRET_LENGTH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Unpack

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.builders import BuildContext
    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.sessions.manager import ServerSideSessionsTokenManager

SessionCreatedHook: TypeAlias = "Callable[[UserId, SessionId, AsyncConnection], Awaitable[None]]"

PEPPER_PASSWORD_KEY = "serverSideSessionKeyHashPepper"  # noqa: S105 (the name of a password)
"""The key of the pepper in `config/passwords.yaml`; the seed's spelling, so that one file serves both."""

MIN_PEPPER_LENGTH = 10
RECOMMENDED_PEPPER_BYTES = 32
MIN_SALT_LENGTH, MAX_SALT_LENGTH = 8, 1024
MIN_DURATION, MAX_DURATION = timedelta(seconds=1), timedelta(days=3653)


class WeakPepperWarning(UserWarning):
    """A pepper is allowed but shorter than the recommended 32 bytes."""


class ServerSideSessionsOptions(TypedDict, total=False):
    """Every option but the pepper."""

    fallback_session_key_hash_peppers: Sequence[str]
    default_session_lifetime: timedelta | None
    default_session_inactivity_timeout: timedelta | None
    session_key_secret_length: int
    session_key_hash_salt_length: int
    on_session_created: SessionCreatedHook | None


class ServerSideSessionsConfig:
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
                ever. Uses are recorded to a tenth of it, a minute at most.
            session_key_secret_length: random bytes in a token, 16 to 1024. Tokens already issued stay valid.
            session_key_hash_salt_length: random bytes of salt for each session, 8 to 1024.
            on_session_created: called with (user id, session id, connection) inside the transaction that inserts a
                session. If it raises, there is no session. The connection may be used for other statements.

        Raises:
            ConfigurationError: a setting is not allowed; the message names it and what is.
        """
        peppers = [_pepper("session_key_hash_pepper", session_key_hash_pepper)]
        if isinstance(fallback_session_key_hash_peppers, str | bytes):
            raise ConfigurationError("fallback_session_key_hash_peppers must be a list of peppers, not one text")
        for number, text in enumerate(fallback_session_key_hash_peppers):
            peppers.append(_pepper(f"fallback_session_key_hash_peppers[{number}]", text))
        if len({pepper.id for pepper in peppers}) < len(peppers):
            raise ConfigurationError("session_key_hash_pepper and its fallbacks must differ; one is listed twice")

        self._peppers = tuple(peppers)
        self.default_session_lifetime = _duration("default_session_lifetime", default_session_lifetime)
        self.default_session_inactivity_timeout = _duration(
            "default_session_inactivity_timeout", default_session_inactivity_timeout
        )
        self.session_key_secret_length = _length(
            "session_key_secret_length", session_key_secret_length, MIN_SECRET_LENGTH, MAX_SECRET_LENGTH
        )
        self.session_key_hash_salt_length = _length(
            "session_key_hash_salt_length", session_key_hash_salt_length, MIN_SALT_LENGTH, MAX_SALT_LENGTH
        )
        if on_session_created is not None and not callable(on_session_created):
            raise ConfigurationError("on_session_created must be an async function or None")
        self.on_session_created = on_session_created

    def __repr__(self) -> str:
        """Show everything but the peppers."""
        if not hasattr(self, "on_session_created"):  # seen half-built, by a traceback with local variables
            return "ServerSideSessionsConfig(...)"
        return (
            f"ServerSideSessionsConfig(fallbacks={len(self._peppers) - 1}, "
            f"lifetime={self.default_session_lifetime}, inactivity_timeout={self.default_session_inactivity_timeout}, "
            f"secret_length={self.session_key_secret_length}, salt_length={self.session_key_hash_salt_length})"
        )

    @property
    def peppers(self) -> tuple[Pepper, ...]:
        """The primary pepper and the fallbacks, none of which can be printed."""
        return self._peppers

    def key_hasher(self) -> KeyHasher:
        """What hashes and checks under these peppers."""
        return KeyHasher(self._peppers[0], self._peppers[1:], salt_length=self.session_key_hash_salt_length)

    def build(self, context: BuildContext) -> ServerSideSessionsTokenManager:
        """Make the token manager (the pod calls this).

        Raises:
            ConfigurationError: the store cannot run the hook.
        """
        context.check_hook("on_session_created", self.on_session_created)
        from coatcheck.sessions.manager import ServerSideSessionsTokenManager  # noqa: PLC0415 (it imports this module)

        return ServerSideSessionsTokenManager.from_context(self, context)


class ServerSideSessionsConfigFromPasswords:
    """`ServerSideSessionsConfig` with the pepper taken from the pod's passwords.

    The pepper is looked up when the pod builds the manager: key `serverSideSessionKeyHashPepper` in
    `config/passwords.yaml`, or the variable `SERVERPOD_PASSWORD_serverSideSessionKeyHashPepper`.
    """

    def __init__(self, **options: Unpack[ServerSideSessionsOptions]) -> None:
        """Take any option of `ServerSideSessionsConfig` but the pepper; all are checked when the pod builds."""
        self._options = options

    def build(self, context: BuildContext) -> ServerSideSessionsTokenManager:
        """Make the token manager (the pod calls this).

        Raises:
            ConfigurationError: the pepper is missing, or a setting is not allowed.
        """
        pepper = context.get_password_or_raise(PEPPER_PASSWORD_KEY)
        return ServerSideSessionsConfig(session_key_hash_pepper=pepper, **self._options).build(context)


def check_duration(name: str, value: timedelta) -> timedelta:
    """Check a duration given by a caller.

    Raises:
        ConfigurationError: it is not a timedelta of 1 second to 10 years.
    """
    if not isinstance(value, timedelta) or not MIN_DURATION <= value <= MAX_DURATION:
        raise ConfigurationError(f"{name} must be a timedelta of 1 second to 10 years, or None for no limit")
    return value


def _duration(name: str, value: timedelta | None) -> timedelta | None:
    return None if value is None else check_duration(name, value)


def _length(name: str, value: int, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ConfigurationError(f"{name} must be a whole number of bytes from {lowest} to {highest}")
    return value


def _pepper(name: str, text: str) -> Pepper:
    if not isinstance(text, str):
        raise ConfigurationError(f"{name} must be text, not {type(text).__name__}; is the password missing?")
    if not text.strip():
        raise ConfigurationError(
            f"{name} must not be empty; generate one with `python -c 'import secrets; "
            "print(secrets.token_urlsafe(32))'`"
        )
    try:
        encoded = len(text.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} must be text that can be written as UTF-8") from None
    if len(text) < MIN_PEPPER_LENGTH:
        raise ConfigurationError(f"{name} must have at least {MIN_PEPPER_LENGTH} characters; it has {len(text)}")
    if encoded < RECOMMENDED_PEPPER_BYTES:
        warnings.warn(
            f"{name} has {encoded} bytes; {RECOMMENDED_PEPPER_BYTES} random bytes are recommended",
            WeakPepperWarning,
            stacklevel=3,
        )
    return Pepper(text)
