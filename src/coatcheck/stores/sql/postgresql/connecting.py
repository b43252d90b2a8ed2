"""Connects to the primary, whichever of the connection URI's hosts that is at the moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from coatcheck.stores.failures import kind_of
from coatcheck.stores.sql.postgresql import commits
from coatcheck.stores.sql.postgresql.setup_mistakes import may_be_behind, setup_mistake

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coatcheck.stores.sql.postgresql.dsn import Dsn


# A role, a database or the URI may say otherwise. A commit that did not wait is known by its warning; and a statement
# by itself, as a batch is, must see what was committed while it waited for a lock.
_SETTINGS = {
    "application_name": "coatcheck",
    "client_min_messages": "warning",
    "default_transaction_isolation": "read committed",
}
_URI_DECIDES = frozenset({"application_name"})

_STANDBY = asyncpg.TargetServerAttributeNotMatched


class SilentHostError(OSError):
    """A host does not serve, and another one refuses what the former might accept."""

    def __init__(self, silence: str, refusal: str) -> None:
        """Each is the kind of an error."""
        super().__init__(
            0,
            f"a host of the store URL does not serve: {silence}; another refuses the connection, but may be a standby "
            f"that is behind: {refusal}",
        )


async def connect_to_primary(
    dsn: Dsn, *, timeout_seconds: float, server_settings: Mapping[str, str]
) -> asyncpg.Connection[asyncpg.Record]:
    """A connection to the primary, on which the server's warnings are noted (`commits`).

    All hosts are tried at once. asyncpg tries one after the other: a machine that is gone and does not even refuse then
    uses up the time limit, and the host that has taken over is never tried.

    Raises:
        asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError: none of the hosts is a primary that
            accepts the connection. It is the error of the host that tells most.
    """
    settings = {name: value for name, value in _SETTINGS.items() if name not in dsn.option_names & _URI_DECIDES}
    settings.update(server_settings)
    timeout_seconds = min(timeout_seconds, dsn.connect_timeout_seconds or timeout_seconds)
    hosts: Sequence[tuple[str | None, int | None]] = dsn.hosts or [(None, None)]
    attempts: set[asyncio.Future[asyncpg.Connection[asyncpg.Record]]] = {
        asyncio.ensure_future(
            asyncpg.connect(
                str(dsn.without_hosts),
                host=host,
                port=port,
                timeout=timeout_seconds,
                server_settings=settings,
                # A standby may still accept sessions that were revoked long ago.
                target_session_attrs=SessionAttribute.primary,
            )
        )
        for host, port in hosts
    }
    try:
        connection = await _first_to_succeed(attempts)
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_drop)
            attempt.cancel()
    commits.listen(connection)
    return connection


async def _first_to_succeed(
    attempts: set[asyncio.Future[asyncpg.Connection[asyncpg.Record]]],
) -> asyncpg.Connection[asyncpg.Record]:
    pending = attempts.copy()
    errors: list[BaseException] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for attempt in done:
            error = attempt.exception()
            if error is None:
                attempts.discard(attempt)
                return attempt.result()
            errors.append(error)
    raise _the_one_to_tell(errors)


def _the_one_to_tell(errors: Sequence[BaseException]) -> BaseException:
    """The error that tells most, of one of each host.

    A refusal tells more than the news that another server is a standby or does not answer. But a standby may refuse
    what it has not heard of yet: while another host does not answer, which may be the primary, it is an outage.
    """
    mistake = next((error for error in errors if setup_mistake(error) is not None), None)
    outages = (error for error in errors if setup_mistake(error) is None and not isinstance(error, _STANDBY))
    silence = next(outages, None)
    if mistake is None or silence is None or not may_be_behind(mistake):
        return mistake or errors[-1]
    return SilentHostError(kind_of(silence), kind_of(mistake))


def _drop(attempt: asyncio.Future[asyncpg.Connection[asyncpg.Record]]) -> None:
    """Close the connection of an attempt that is not needed, and retrieve its error."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()
