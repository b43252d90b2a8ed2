"""Every setting of server-side sessions: its default, its allowed values, and the error that names them."""

from __future__ import annotations

import warnings
from datetime import timedelta

import pytest

from coatcheck import ConfigurationError, ServerSideSessionsConfig, WeakPepperWarning

GOOD = "a pepper of thirty-two bytes ok!"


def config(**settings: object) -> ServerSideSessionsConfig:
    return ServerSideSessionsConfig(**{"session_key_hash_pepper": GOOD, **settings})  # type: ignore[arg-type]  # wrong types are the point


def test_the_defaults_are_those_of_serverpod() -> None:
    made = config()
    assert len(made.peppers) == 1
    assert made.default_session_lifetime is None
    assert made.default_session_inactivity_timeout is None
    assert made.session_key_secret_length == 32
    assert made.session_key_hash_salt_length == 16
    assert made.on_session_created is None


@pytest.mark.parametrize(
    "pepper", ["", "   \t\n          ", "123456789", None, 1234567890, b"bytes are not text either"]
)
def test_a_pepper_that_is_missing_blank_short_or_no_text_is_refused_by_name(pepper: object) -> None:
    with pytest.raises(ConfigurationError, match="session_key_hash_pepper"):
        config(session_key_hash_pepper=pepper)


def test_a_pepper_of_ten_characters_is_accepted_with_a_warning() -> None:
    with pytest.warns(WeakPepperWarning, match="session_key_hash_pepper has 10 bytes; 32"):
        config(session_key_hash_pepper="0123456789")


def test_a_pepper_of_32_bytes_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config(session_key_hash_pepper="ü" * 16)  # bytes are counted, not characters


def test_every_fallback_is_checked_like_the_pepper() -> None:
    with pytest.raises(ConfigurationError, match=r"fallback_session_key_hash_peppers\[1\] must have at least 10"):
        config(fallback_session_key_hash_peppers=["another pepper of more than 32 bytes", "short"])


def test_a_plain_text_is_no_list_of_fallbacks() -> None:
    with pytest.raises(ConfigurationError, match="must be a list of peppers"):
        config(fallback_session_key_hash_peppers="another pepper of more than 32 bytes")


def test_a_missing_fallback_password_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match=r"\[0\] must be text, not NoneType; is the password missing"):
        config(fallback_session_key_hash_peppers=[None])


def test_a_pepper_listed_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        config(fallback_session_key_hash_peppers=[GOOD])


@pytest.mark.parametrize("name", ["default_session_lifetime", "default_session_inactivity_timeout"])
@pytest.mark.parametrize(
    "value",
    [timedelta(0), timedelta(seconds=-1), timedelta(milliseconds=999), timedelta(days=3654), 3600, "1h", float("nan")],
    ids=str,
)
def test_a_duration_outside_one_second_to_ten_years_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a timedelta of 1 second to 10 years"):
        config(**{name: value})


@pytest.mark.parametrize("name", ["default_session_lifetime", "default_session_inactivity_timeout"])
@pytest.mark.parametrize("value", [None, timedelta(seconds=1), timedelta(days=3653)], ids=str)
def test_a_duration_inside_the_limits_is_kept(name: str, value: timedelta | None) -> None:
    assert getattr(config(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("session_key_secret_length", 15),
        ("session_key_secret_length", 1025),
        ("session_key_secret_length", 32.0),
        ("session_key_secret_length", "32"),
        ("session_key_secret_length", True),
        ("session_key_hash_salt_length", 7),
        ("session_key_hash_salt_length", 1025),
        ("session_key_hash_salt_length", None),
    ],
)
def test_a_length_outside_its_limits_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a whole number of bytes from (16|8) to 1024"):
        config(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("session_key_secret_length", 16),
        ("session_key_secret_length", 1024),
        ("session_key_hash_salt_length", 8),
        ("session_key_hash_salt_length", 1024),
    ],
)
def test_a_length_at_its_limits_is_kept(name: str, value: int) -> None:
    assert getattr(config(**{name: value}), name) == value


def test_a_hook_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on_session_created"):
        config(on_session_created="notify")


def test_no_text_of_a_configuration_or_of_its_errors_shows_a_pepper() -> None:
    secret = "hush hush hush hush hush hush hush"
    made = config(session_key_hash_pepper=secret, fallback_session_key_hash_peppers=["tush" * 10])
    assert "hush" not in f"{made!r} {made} {vars(made)}"
    assert "tush" not in f"{made!r} {made} {vars(made)}"
    with pytest.raises(ConfigurationError) as caught:
        config(session_key_hash_pepper="hush")
    assert "hush" not in str(caught.value)
