"""Passwords from the file and the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck import ConfigurationError
from coatcheck.passwords import Passwords

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
shared:
  everywhere: from shared
  overlaid: from shared
development:
  overlaid: from development
  varied: from development
production:
  overlaid: from production
staging:
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "passwords.yaml"
    file.write_text(FILE, encoding="utf-8")
    return file


def load(path: Path, run_mode: str = "development", **variables: str) -> Passwords:
    return Passwords.load(path, run_mode=run_mode, environ=variables)


def test_a_run_modes_section_wins_over_shared(path: Path) -> None:
    assert load(path).get("everywhere") == "from shared"
    assert load(path).get("overlaid") == "from development"
    assert load(path, "production").get("overlaid") == "from production"
    assert load(path, "test").get("overlaid") == "from shared"
    assert load(path, "staging").get("varied") is None


def test_a_variable_wins_over_the_file(path: Path) -> None:
    passwords = load(path, SERVERPOD_PASSWORD_varied="from the variable", SERVERPOD_PASSWORD_new="new")
    assert passwords.get("varied") == "from the variable"
    assert passwords.get("new") == "new"


def test_without_a_file_there_are_only_variables(tmp_path: Path) -> None:
    passwords = load(tmp_path / "missing.yaml", SERVERPOD_PASSWORD_a="b", OTHER="c")
    assert passwords.get("a") == "b"
    assert passwords.get("OTHER") is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("- a\n- list\n", "must be a mapping of sections"),
        ("just text", "must be a mapping of sections"),
        ("development: text", "section 'development' must be a mapping"),
        ("shared:\n  hush: 12345\n  good: 'x'\n", "in the section 'shared' these keys or values are not text: hush"),
        ("shared:\n  hush: 12345\n  also: [12345]\n", "these keys or values are not text: also, hush"),
        ("shared:\n  hush: '12345\n", "is not valid YAML, line"),
        ("shared: {hush: 12345", "is not valid YAML"),
        ("shared:\n  hush: !!python/object:os.system 12345\n", "is not valid YAML"),
    ],
)
def test_a_file_of_another_shape_is_an_error_that_names_the_place_and_no_value(
    tmp_path: Path, content: str, says: str
) -> None:
    file = tmp_path / "passwords.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=says) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert "12345" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path)
    file = tmp_path / "passwords.yaml"
    file.write_bytes(b"\xff\xfe\x00shared")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(file)


def test_an_empty_file_has_no_passwords(tmp_path: Path) -> None:
    file = tmp_path / "passwords.yaml"
    file.touch()
    assert load(file).get("a") is None


def test_the_error_for_a_missing_password_names_key_and_variable(path: Path) -> None:
    assert load(path).get_or_raise("everywhere") == "from shared"
    with pytest.raises(ConfigurationError, match=r"'pepper' is missing.*SERVERPOD_PASSWORD_pepper"):
        load(path).get_or_raise("pepper")


def test_an_unknown_run_mode_is_an_error_that_names_the_known_ones(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="development, test, staging, production; it is 'prod'"):
        load(path, "prod")


def test_passwords_have_no_repr(path: Path) -> None:
    assert repr(load(path, "test")) == "Passwords(['everywhere', 'overlaid'])"
