"""Checking every minute whether the store still promises what it promised when the pod started."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from coatcheck.background.task import BackgroundTask
from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores.guarantee import GuaranteeLevel

if TYPE_CHECKING:
    from coatcheck.stores.guarantee import Guarantee
    from coatcheck.stores.store import Store

_log = logging.getLogger(__name__)


class GuaranteeWatch:
    """Logs the store's guarantee at the start, and each time it has changed.

    The guarantee can change while the application runs: somebody adds a standby to the server, or the standby that
    commits wait for is lost.
    """

    INTERVAL = timedelta(minutes=1)

    def __init__(self, store: Store, *, required: GuaranteeLevel | None, interval: timedelta = INTERVAL) -> None:
        """Check every `interval`. Below `required`, `start` raises an error and a later check logs one."""
        self._store = store
        self._required = required
        self._interval = interval
        self._known: Guarantee | None = None
        self._task = BackgroundTask("looking at what the store promises")

    async def start(self) -> None:
        """Check once, and go on in a background task.

        Raises:
            ConfigurationError: the store promises less than is required; the message says why.
            StoreUnavailable: the store cannot answer.
        """
        guarantee = await self._store.guarantee()
        if self._is_too_little(guarantee):
            raise ConfigurationError(f"{self._store!r} does not promise {self._needed()}. It promises {guarantee}")
        self._tell(guarantee)
        self._task.start(self._run)

    async def stop(self) -> None:
        """Stop the background task."""
        await self._task.stop()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval.total_seconds())
            try:
                guarantee = await self._store.guarantee()
            except StoreUnavailable as error:
                _log.debug("the store's guarantee was not probed: %s", error)
                continue
            if self._known is None or guarantee.level != self._known.level:
                self._tell(guarantee)

    def _tell(self, guarantee: Guarantee) -> None:
        self._known = guarantee
        if self._is_too_little(guarantee):
            _log.error("%r no longer promises %s. It promises %s", self._store, self._needed(), guarantee)
            return
        is_all_there_is = guarantee.level >= GuaranteeLevel.STRICT and not guarantee.notes
        level = logging.INFO if is_all_there_is else logging.WARNING
        _log.log(level, "%r promises %s", self._store, guarantee)

    def _is_too_little(self, guarantee: Guarantee) -> bool:
        return self._required is not None and guarantee.level < self._required

    def _needed(self) -> str:
        return "" if self._required is None else f"{self._required.name}, which `require` asks for"
