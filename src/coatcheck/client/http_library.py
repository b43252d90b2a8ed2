"""The HTTP library: httpx2, or httpx where only that one is installed. Neither is imported before it is needed.

httpx2 continues httpx under another name, so a process may have both, with classes that know nothing of each other.
The annotations in this package name those of httpx2; the tests run over both.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

from coatcheck.errors import ConfigurationError
from coatcheck.extras import missing_extra

if TYPE_CHECKING:
    from types import ModuleType

    import httpx
    import httpx2
    from typing_extensions import TypeVar  # PEP 696: with a default

    HttpClient = TypeVar("HttpClient", bound=httpx2.Client | httpx.Client, default=httpx2.Client)
    T = TypeVar("T")
    AsyncHttpClient = TypeVar(
        "AsyncHttpClient", bound=httpx2.AsyncClient | httpx.AsyncClient, default=httpx2.AsyncClient
    )
else:
    from typing import TypeVar

    HttpClient = TypeVar("HttpClient")
    AsyncHttpClient = TypeVar("AsyncHttpClient")

_NAMES = ("httpx2", "httpx")  # the newer first
_made: dict[tuple[type, ...], type] = {}


def installed() -> ModuleType:
    """Import the newer of the libraries that are installed.

    Raises:
        ModuleNotFoundError: there is none; the message names the extra.
    """
    for name in _NAMES:
        try:
            return import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name != name:  # it is installed, but not in full
                raise missing_extra(missing, module="coatcheck.client", extra="client") from missing
    neither = ModuleNotFoundError(f"No module named {_NAMES[0]!r}", name=_NAMES[0])
    raise missing_extra(neither, module="coatcheck.client", extra="client")


def loaded() -> list[ModuleType]:
    """The libraries that this process has imported, each once: `httpx2.alias_httpx()` makes both names one module."""
    names = [name for name in _NAMES if sys.modules.get(name) is not None]
    return list(dict.fromkeys(import_module(name) for name in names))  # waits for another thread that imports it now


def library_of(http: object, kind: str) -> ModuleType:
    """The library of an HTTP client of a program's own; `kind` is the class that it has to be of.

    Raises:
        ConfigurationError: it is of another class.
    """
    for library in loaded():
        if isinstance(http, getattr(library, kind)):
            return library
    raise ConfigurationError(f"http must be an httpx2.{kind} or an httpx.{kind}, not {type(http).__qualname__}")


def http_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """The errors of requests, and `others`, for `except`."""
    return (*others, *(library.HTTPError for library in loaded()))


def of_kinds(own: type[T], *kinds: type) -> type[T]:
    """The subclass of `own` and of classes of the libraries, which tell by `isinstance` what they were given."""
    key = (own, *kinds)
    if key not in _made:
        _made[key] = type(own.__name__, key, {"__module__": own.__module__, "__doc__": own.__doc__})
    return cast("type[T]", _made[key])
