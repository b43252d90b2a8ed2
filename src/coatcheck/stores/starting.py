"""The error of a store that cannot be opened names the store, whichever part of it has failed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def telling_what_failed(store: object) -> Iterator[None]:
    """Put the store's servers and database, as its repr shows them, before what has kept it from being opened."""
    try:
        yield
    except (ConfigurationError, StoreUnavailable) as error:
        error.args = (f"{store!r} cannot be opened: {error}",)
        raise
