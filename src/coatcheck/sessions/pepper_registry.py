"""Compares the peppers of this process with those that the store's sessions are hashed with. No session is read for it.

A process with another pepper than the rest would otherwise refuse every token in silence.
"""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores.records import SessionFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coatcheck.sessions.key_hash import Pepper
    from coatcheck.stores.records import PepperRecord
    from coatcheck.stores.store import Store

_log = logging.getLogger(__name__)


class PepperRegistry:
    """The peppers of one token manager, primary first, and the store's records of them."""

    def __init__(self, store: Store, peppers: Sequence[Pepper]) -> None:
        """Nothing is read yet."""
        self._store = store
        self._records = [pepper.record() for pepper in peppers]
        self._primary_is_known = False

    async def start(self) -> None:
        """Register the peppers, and log an error where the store's sessions are hashed with none of them.

        If the store cannot answer, it is a warning: of a Cluster, the servers that answer are enough to start.

        Raises:
            ConfigurationError: a check value differs; the message names the pepper's id.
        """
        self._primary_is_known = False
        try:
            stored = await self._store.read_peppers()
            differing = self._differing(stored)
            if differing is not None:
                raise ConfigurationError(differing)
            problem = await self._missing(stored)
        except StoreUnavailable as error:
            _log.warning("the peppers were not compared with those of the store: %s", error)
            return
        if problem is not None:
            _log.error("%s", problem)

    async def problem(self) -> str | None:
        """The mistake in the peppers, in words; None: there is none, and the peppers are registered.

        Raises:
            StoreUnavailable: the store cannot answer.
        """
        stored = await self._store.read_peppers()
        return self._differing(stored) or await self._missing(stored)

    async def before_insert(self) -> None:
        """Register the primary pepper before the first session that is hashed with it. Later calls do nothing."""
        if self._primary_is_known:
            return
        try:
            await self._store.register_peppers(self._records[:1])
        except StoreUnavailable as error:  # the insertion says better what is the matter
            _log.warning("the pepper %s was not registered: %s", self._records[0].id, error)
            return
        self._primary_is_known = True

    def _differing(self, stored: Sequence[PepperRecord]) -> str | None:
        check_values = {one.id: one.check_value for one in stored}
        for ours in self._records:
            if not hmac.compare_digest(check_values.get(ours.id, ours.check_value), ours.check_value):
                return (
                    f"the pepper {ours.id} is another one than the store's sessions are hashed with, though their ids "
                    "are equal: the store was tampered with, or two peppers share an id by chance; take another pepper"
                )
        return None

    async def _missing(self, stored: Sequence[PepperRecord]) -> str | None:
        known = {one.id for one in stored}
        ours = {one.id for one in self._records}
        if known and not known & ours and await self._has_sessions():
            return (
                f"the sessions in the store are hashed with other peppers ({_listed(known)}) than this process has "
                f"({_listed(ours)}), which refuses their tokens; configure one of those, as the primary or a fallback "
                "(docs/how-to/rotate-the-pepper.md)"
            )
        if ours - known:
            await self._store.register_peppers(self._records)
        self._primary_is_known = True
        return None

    async def _has_sessions(self) -> bool:
        return len(await self._store.list_sessions(SessionFilter(), limit=1)) > 0


def _listed(ids: set[str]) -> str:
    return ", ".join(sorted(ids))
