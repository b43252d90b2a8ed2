"""Alembic's lines of INFO, which say nothing of the application: left out while it works for a store of ours."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_works_for_us: ContextVar[bool] = ContextVar("alembic_works_for_coatcheck", default=False)


@contextmanager
def without_info() -> Iterator[None]:
    """Leave out the lines of INFO that Alembic writes in this block. Its warnings stay, and what others have it do."""
    token = _works_for_us.set(True)
    try:
        yield
    finally:
        _works_for_us.reset(token)


def _is_kept(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or not _works_for_us.get()


_LOGGERS = (
    "alembic.runtime.migration",
    "alembic.runtime.plugins",
    "__name__",  # that of the plugins in Alembic 1.18.0, literally
)
for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_is_kept)
