"""Passwords from `config/passwords.yaml` and the environment. File and variables are those of Serverpod.

The file has a section for each run mode and one called `shared`. A run mode's section wins over `shared`, and a
variable `SERVERPOD_PASSWORD_<key>` wins over both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from coatcheck.errors import ConfigurationError
from coatcheck.hidden import Hidden, HiddenText, shown_when_made

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
        self._values = {key: HiddenText(value) for key, value in values.items()}

    @classmethod
    def load(cls, path: Path, *, run_mode: str, environ: Mapping[str, str]) -> Passwords:
        """Read the file, if there is one, and the environment.

        Raises:
            ConfigurationError: the run mode is unknown, or the file cannot be read, is not YAML, is not a mapping of
                sections, or holds something that is not text. The message names the place, never a value.
        """
        variables = Hidden(environ)
        del environ  # a traceback with local variables would show it
        if run_mode not in RUN_MODES:
            raise ConfigurationError(f"run_mode must be one of {', '.join(RUN_MODES)}; it is {run_mode!r}")
        sections = _sections(path)
        return cls(
            {
                **sections.reveal().get(_SHARED, {}),
                **sections.reveal().get(run_mode, {}),
                **_in_environment(variables.reveal()),
            }
        )

    @shown_when_made
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


def _in_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        variable.removeprefix(VARIABLE_PREFIX): value
        for variable, value in environ.items()
        if variable.startswith(VARIABLE_PREFIX) and len(variable) > len(VARIABLE_PREFIX)
    }


# An error is raised where no local variable has a part of the file, and after the `except` block of its cause: the
# errors of Python and of the parser quote the file.


def _sections(path: Path) -> Hidden[dict[str, dict[str, str]]]:
    content = _content(path)
    if content.reveal() is None:
        return Hidden({})
    sections = _mapping(content)
    if sections is None:
        raise ConfigurationError(f"{path} must be a mapping of sections ({_SHARED}, {', '.join(RUN_MODES)})")
    names = [*sections.reveal()]
    return Hidden({str(name): _section(path, str(name), Hidden(sections.reveal()[name])) for name in names})


def _section(path: Path, name: str, content: Hidden[object]) -> dict[str, str]:
    if content.reveal() is None:
        return {}
    section = _mapping(content)
    if section is None:
        raise ConfigurationError(f"{path}: the section {name!r} must be a mapping of keys to passwords")
    wrong = _keys_without_text(section.reveal())
    if wrong:
        raise ConfigurationError(
            f"{path}: in the section {name!r} these keys or values are not text: {', '.join(wrong)}; "
            "put the values in quotes"
        )
    return {str(key): str(value) for key, value in section.reveal().items()}


def _content(path: Path) -> Hidden[object]:
    text = _text(path)
    content, problem = _parsed(text)
    if problem is not None:
        raise ConfigurationError(f"{path} is not valid YAML{problem}")
    return content


def _text(path: Path) -> HiddenText:
    try:
        return HiddenText(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return HiddenText("")
    except (OSError, UnicodeDecodeError) as error:
        kind = type(error).__name__
    raise ConfigurationError(f"{path} cannot be read ({kind})")


def _parsed(text: str) -> tuple[Hidden[object], str | None]:
    """The content of the file, and where it is not valid YAML; None if it is."""
    try:
        return Hidden(yaml.safe_load(text)), None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return Hidden(None), f", line {mark.line + 1}" if mark is not None else ""
    except (ValueError, RecursionError):  # a date that does not exist, a number that is too long
        return Hidden(None), ""


def _mapping(content: Hidden[object]) -> Hidden[dict[object, object]] | None:
    value = content.reveal()
    return Hidden(value) if isinstance(value, dict) else None


def _keys_without_text(section: dict[object, object]) -> list[str]:
    return sorted(str(key) for key, value in section.items() if not isinstance(key, str) or not isinstance(value, str))
