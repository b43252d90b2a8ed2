"""Passwords from `config/passwords.yaml` and the environment. File and variables are those of Serverpod.

The file has a section for each run mode and one called `shared`. A run mode's section wins over `shared`, and a
variable `SERVERPOD_PASSWORD_<key>` wins over both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RUN_MODES = ("development", "test", "staging", "production")
VARIABLE_PREFIX = "SERVERPOD_PASSWORD_"
_SHARED = "shared"


class Passwords:
    """The passwords of one run mode. The repr does not show them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """Keep these passwords."""
        self._values = dict(values)

    @classmethod
    def load(cls, path: Path, *, run_mode: str, environ: Mapping[str, str]) -> Passwords:
        """Read the file, if there is one, and the environment.

        Raises:
            ConfigurationError: the run mode is unknown, or the file cannot be read, is not YAML, is not a mapping of
                sections, or holds something that is not text. The message names the place, never a value.
        """
        if run_mode not in RUN_MODES:
            raise ConfigurationError(f"run_mode must be one of {', '.join(RUN_MODES)}; it is {run_mode!r}")
        sections = _sections(path)
        values = {**sections.get(_SHARED, {}), **sections.get(run_mode, {})}
        for variable, value in environ.items():
            if variable.startswith(VARIABLE_PREFIX) and len(variable) > len(VARIABLE_PREFIX):
                values[variable.removeprefix(VARIABLE_PREFIX)] = value
        return cls(values)

    def __repr__(self) -> str:
        """Show the keys only."""
        return f"Passwords({sorted(self._values)})"

    def get(self, key: str) -> str | None:
        """The password, or None."""
        return self._values.get(key)

    def get_or_raise(self, key: str) -> str:
        """The password.

        Raises:
            ConfigurationError: it is missing; the message names the key and the variable.
        """
        value = self._values.get(key)
        if value is None:
            raise ConfigurationError(
                f"the password {key!r} is missing: add it to config/passwords.yaml, under the run mode or 'shared', "
                f"or set the environment variable {VARIABLE_PREFIX}{key}"
            )
        return value


def _sections(path: Path) -> dict[str, dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({type(error).__name__})") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # The parser's own message quotes the line, and with it perhaps a password.
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigurationError(f"{path} is not valid YAML{where}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must be a mapping of sections ({_SHARED}, {', '.join(RUN_MODES)})")
    return {str(name): _section(path, str(name), section) for name, section in content.items()}


def _section(path: Path, name: str, section: object) -> dict[str, str]:
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ConfigurationError(f"{path}: the section {name!r} must be a mapping of keys to passwords")
    wrong = sorted(str(key) for key, value in section.items() if not isinstance(key, str) or not isinstance(value, str))
    if wrong:
        raise ConfigurationError(
            f"{path}: in the section {name!r} these keys or values are not text: {', '.join(wrong)}; "
            "put the values in quotes"
        )
    return section
