"""Store URLs as applications have them: of SQLAlchemy, of pydantic, with the name of a driver."""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

from sqlalchemy import URL

from coatcheck.hidden import HiddenText

__all__ = ["PydanticUrl", "StoreUrl", "store_url_text"]

_DRIVERS = {
    "postgresql": {"asyncpg", "pg8000", "psycopg", "psycopg2", "psycopg2cffi", "psycopg_async"},
    "postgres": {"asyncpg", "pg8000", "psycopg", "psycopg2", "psycopg2cffi", "psycopg_async"},
    "sqlite": {"aiosqlite", "pysqlite"},
}


@runtime_checkable
class PydanticUrl(Protocol):
    """A URL of pydantic's: `PostgresDsn`, `RedisDsn`, `AnyUrl`."""

    def unicode_string(self) -> str:
        """The whole URL, its password as well."""
        ...


StoreUrl: TypeAlias = str | URL | PydanticUrl
"""The ways to write the URL of a store."""


def store_url_text(url: StoreUrl) -> HiddenText:
    """The text of a URL, without SQLAlchemy's name for a driver (`postgresql+psycopg://`): the store brings its own."""
    if isinstance(url, URL):
        text = HiddenText(url.render_as_string(hide_password=False))
    elif isinstance(url, str):
        text = HiddenText(url)
    else:
        text = HiddenText(url.unicode_string())
    scheme, separator, rest = text.partition("://")
    database, _, driver = scheme.partition("+")
    if str(driver) in _DRIVERS.get(str(database), ()):
        return database + separator + rest
    return text
