"""The limits of settings and arguments, and the name of the strategy."""

from __future__ import annotations

from datetime import timedelta

from coatcheck.errors import ConfigurationError, InvalidArgumentError

STRATEGY = "session"
"""The name of server-side sessions in `AuthSuccess.auth_strategy` and `TokenInfo.token_issuer`."""

MIN_PEPPER_LENGTH = 10
RECOMMENDED_PEPPER_BYTES = 32
MIN_SALT_LENGTH, MAX_SALT_LENGTH = 8, 1024
MIN_DURATION, MAX_DURATION = timedelta(seconds=1), timedelta(days=3653)
MAX_METHOD_LENGTH = 255


def check_duration(name: str, value: timedelta | None) -> timedelta | None:
    """Check a duration given by a caller; None stands for no limit.

    Raises:
        ConfigurationError: it is neither None nor a timedelta of 1 second to 10 years.
    """
    if value is not None and (not isinstance(value, timedelta) or not MIN_DURATION <= value <= MAX_DURATION):
        raise ConfigurationError(f"{name} must be a timedelta of 1 second to 10 years, or None for no limit")
    return value


def check_length(name: str, value: int, lowest: int, highest: int) -> int:
    """Check a number of bytes.

    Raises:
        ConfigurationError: it is not a whole number from `lowest` to `highest`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ConfigurationError(f"{name} must be a whole number of bytes from {lowest} to {highest}")
    return value


def check_method(method: str) -> str:
    """Check the name of a way to sign in.

    Raises:
        InvalidArgumentError: it is not text of 1 to 255 printable characters.
    """
    if not isinstance(method, str) or not 1 <= len(method) <= MAX_METHOD_LENGTH or not method.isprintable():
        raise InvalidArgumentError(f"method must be text of 1 to {MAX_METHOD_LENGTH} printable characters")
    return method
