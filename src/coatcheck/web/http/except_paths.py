"""The paths that the middleware leaves alone: static files, health checks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

# A server may take "static/../notes" for "/notes", "//" for "/" and a backslash for a slash. Such a path is never left
# alone: nobody needs it, and another layer may route it elsewhere. Control characters end a path for some.
_MAY_BE_ANOTHER = re.compile(r"//|/\.{1,2}(/|$)|[\\%;\x00-\x1f\x7f]")


class ExceptPaths:
    """`except_paths` of `SessionMiddleware`: "/static/" is everything below it, "/healthz" is that path alone."""

    __slots__ = ("_alone", "_below")

    def __init__(self, paths: Iterable[str]) -> None:
        """Check the paths.

        Raises:
            ConfigurationError: something is no path, or would leave the whole application alone.
        """
        found = [] if isinstance(paths, str) else list(paths)
        if isinstance(paths, str) or not all(map(_is_path, found)):
            raise ConfigurationError(
                'except_paths must be a list of paths such as ["/static/", "/healthz"]: each begins with a slash, has '
                'none of "//", "..", "%", ";", "?", "#", "*", "{" or backslash, and is not "/" alone'
            )
        self._alone = frozenset(path for path in found if not path.endswith("/"))
        self._below = tuple(path for path in found if path.endswith("/"))

    @property
    def are_any(self) -> bool:
        """Whether there are any."""
        return bool(self._alone or self._below)

    def __contains__(self, path: str) -> bool:
        """Whether this path, decoded and below the prefix of the application, is left alone."""
        return path in self._alone or (path.startswith(self._below) and _MAY_BE_ANOTHER.search(path) is None)


def _is_path(path: object) -> bool:
    return (
        isinstance(path, str)
        and path.startswith("/")
        and path != "/"
        and _MAY_BE_ANOTHER.search(path) is None
        and not set("?#*{}").intersection(path)
    )
