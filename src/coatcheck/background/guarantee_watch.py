"""Looking again, now and then, whether the store still promises what it did when the pod started."""

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
    """Logs what the store promises at the start, and whenever that has changed.

    A standby may be added to a server, or one that commits waited for be lost, while the application runs.
    """

    INTERVAL = timedelta(minutes=1)

    def __init__(self, store: Store, *, required: GuaranteeLevel | None, interval: timedelta = INTERVAL) -> None:
        """Look every `interval`. Below `required` it does not start, and later complains."""
        self._store = store
        self._required = required
        self._interval = interval
        self._known: Guarantee | None = None
        self._task = BackgroundTask("looking at what the store promises")

    async def start(self) -> None:
        """Look for the first time, and then go on in a task of its own.

        Raises:
            ConfigurationError: the store promises less than what is required; the message says why.
            StoreUnavailable: the store cannot answer.
        """
        guarantee = await self._store.guarantee()
        if self._is_too_little(guarantee):
            raise ConfigurationError(f"{self._store!r} does not promise {self._needed()}. It promises {guarantee}")
        self._tell(guarantee)
        self._task.start(self._run)

    async def stop(self) -> None:
        """End."""
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
        level = logging.INFO if guarantee.level >= GuaranteeLevel.STRICT else logging.WARNING
        _log.log(level, "%r promises %s", self._store, guarantee)

    def _is_too_little(self, guarantee: Guarantee) -> bool:
        return self._required is not None and guarantee.level < self._required

    def _needed(self) -> str:
        return "" if self._required is None else f"{self._required.name}, which `require` asks for"
