"""Connects to the primary, whichever of the connection URI's hosts that is at the moment, and knows a pooler.

A pooler answers with a process id of its own making when it is connected to. The server itself says which it is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from coatcheck.stores.failures import kind_of
from coatcheck.stores.sql.postgresql import commits
from coatcheck.stores.sql.postgresql.setup_mistakes import may_be_behind, setup_mistake

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Any

    from coatcheck.stores.sql.postgresql.dsn import Dsn


# A role, a database or the URI may say otherwise. A commit that did not wait is known by its warning; and a statement
# by itself, as a batch is, must see what was committed while it waited for a lock.
_SETTINGS = {
    "application_name": "coatcheck",
    "client_min_messages": "warning",
    "default_transaction_isolation": "read committed",
}
_URI_DECIDES = frozenset({"application_name"})


class SilentHostError(OSError):
    """A host does not serve, and another one refuses what the former might accept."""

    def __init__(self, silence: str, refusal: str) -> None:
        """Each is the kind of an error."""
        super().__init__(
            0,
            f"a host of the store URL does not serve: {silence}; another refuses the connection, but may be a standby "
            f"that is behind: {refusal}",
        )


# PgBouncer makes these settings on the server connection before a transaction, where they differ. asyncpg calls the
# encoding 'utf-8', which differs from what every server says: a round trip for each transaction.
_SETTINGS_OF_POOLERS = {"application_name": "coatcheck", "client_encoding": "UTF8"}

_WHICH_PROCESS = "SELECT pg_backend_pid(), pg_is_in_recovery()"

_REFUSED_SETTINGS = (asyncpg.ProtocolViolationError, asyncpg.FeatureNotSupportedError)
"""How poolers refuse settings of a server: PgBouncer as `unsupported startup parameter`."""


class PoolerFoundError(asyncpg.InterfaceError):
    """A pooler answers, where each connection should have a process of the server's for itself."""

    def __init__(self) -> None:
        """Say what helps."""
        super().__init__("a pooler answers where the server itself did: open the store again")


_ANSWERS = (asyncpg.TargetServerAttributeNotMatched, PoolerFoundError)
"""The errors of hosts that serve, but are not what was asked for."""


async def is_pooled(dsn: Dsn, *, timeout_seconds: float) -> bool:
    """Whether there is a pooler before the server.

    Raises:
        asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError: no primary accepts the connection.
    """
    if dsn.is_pooled:
        return True
    try:
        connection = await connect_to_primary(dsn, timeout_seconds=timeout_seconds)
    except (PoolerFoundError, *_REFUSED_SETTINGS):
        return True
    await connection.close(timeout=timeout_seconds)
    return False


async def connect_to_primary(dsn: Dsn, *, timeout_seconds: float) -> asyncpg.Connection[asyncpg.Record]:
    """A connection to the primary, on which the server's warnings are noted (`commits`).

    All hosts are tried at once. asyncpg tries one after the other: a machine that is gone and does not even refuse then
    uses up the time limit, and the host that has taken over is never tried.

    Raises:
        PoolerFoundError: it leads to a pooler.
        asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError: none of the hosts is a primary that
            accepts the connection. It is the error of the host that tells most.
    """

    async def connect(host: str | None, port: int | None) -> asyncpg.Connection[asyncpg.Record]:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            str(dsn.without_hosts),
            host=host,
            port=port,
            server_settings=_settings(_SETTINGS, dsn),
            # A standby may still accept sessions that were revoked long ago.
            target_session_attrs=SessionAttribute.primary,
        )
        return await _checked(connection, may_be_pooled=False)

    return await _first(dsn, connect, timeout_seconds)


async def connect_through_pooler(dsn: Dsn, *, timeout_seconds: float) -> asyncpg.Connection[asyncpg.Record]:
    """The same by way of a pooler: without settings, which it refuses or forgets, and without a cache of statements.

    Of several poolers it is one that leads to a primary at this moment.

    Raises:
        asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError: as `connect_to_primary`.
    """

    async def connect(host: str | None, port: int | None) -> asyncpg.Connection[asyncpg.Record]:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            str(dsn.without_hosts),
            host=host,
            port=port,
            server_settings=_settings(_SETTINGS_OF_POOLERS, dsn),
            target_session_attrs=SessionAttribute.any,
            statement_cache_size=0,
        )
        return await _checked(connection, may_be_pooled=True)

    return await _first(dsn, connect, timeout_seconds)


def _settings(ours: Mapping[str, str], dsn: Dsn) -> dict[str, str]:
    return {name: value for name, value in ours.items() if name not in dsn.option_names & _URI_DECIDES}


async def _checked(
    connection: asyncpg.Connection[asyncpg.Record], *, may_be_pooled: bool
) -> asyncpg.Connection[asyncpg.Record]:
    try:
        async with connection.transaction():  # a pooler changes servers outside of one
            row = await connection.fetchrow(_WHICH_PROCESS)
        if row is None or row[1]:
            raise asyncpg.TargetServerAttributeNotMatched("the server is a standby")
        if not may_be_pooled and row[0] != connection.get_server_pid():
            raise PoolerFoundError
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _first(
    dsn: Dsn,
    connect: Callable[[str | None, int | None], Coroutine[Any, Any, asyncpg.Connection[asyncpg.Record]]],
    timeout_seconds: float,
) -> asyncpg.Connection[asyncpg.Record]:
    """The connection of the first host that accepts one."""
    limit = min(timeout_seconds, dsn.connect_timeout_seconds or timeout_seconds)

    async def connect_in_time(host: str | None, port: int | None) -> asyncpg.Connection[asyncpg.Record]:
        async with asyncio.timeout(limit):
            return await connect(host, port)

    hosts: Sequence[tuple[str | None, int | None]] = dsn.hosts or [(None, None)]
    attempts: set[asyncio.Future[asyncpg.Connection[asyncpg.Record]]] = {
        asyncio.ensure_future(connect_in_time(host, port)) for host, port in hosts
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
    outages = (error for error in errors if setup_mistake(error) is None and not isinstance(error, _ANSWERS))
    silence = next(outages, None)
    if mistake is None or silence is None or not may_be_behind(mistake):
        return mistake or errors[-1]
    return SilentHostError(kind_of(silence), kind_of(mistake))


def _drop(attempt: asyncio.Future[asyncpg.Connection[asyncpg.Record]]) -> None:
    """Close the connection of an attempt that is not needed, and retrieve its error."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()
