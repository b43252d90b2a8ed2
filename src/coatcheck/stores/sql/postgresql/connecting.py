"""Connecting to the primary, whichever of the connection URI's hosts that is at the moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from coatcheck.stores.sql.postgresql import commits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coatcheck.stores.sql.postgresql.dsn import Dsn


async def connect_to_primary(
    target: Dsn, *, timeout_seconds: float, server_settings: Mapping[str, str]
) -> asyncpg.Connection[asyncpg.Record]:
    """A connection to the primary, on which what the server warns of is noted (`postgresql_commits`).

    Several hosts are asked at once. One after the other, as asyncpg does it, a machine that is gone and does not even
    refuse takes up all the time there is, and the one that has taken over is never asked.

    Raises:
        asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError: what the last host to answer said, where
            none of them is a primary that lets us in.
    """
    hosts: Sequence[tuple[str | None, int | None]] = target.addresses or [(None, None)]
    attempts: set[asyncio.Future[asyncpg.Connection[asyncpg.Record]]] = {
        asyncio.ensure_future(
            asyncpg.connect(
                target.dsn,
                host=host,
                port=port,
                timeout=timeout_seconds,
                # Where a role or a database has silenced warnings, we would not hear of a commit that did not wait.
                server_settings={"application_name": "coatcheck", "client_min_messages": "warning", **server_settings},
                # A standby may answer with what was revoked long ago; only the primary will do.
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
    error: BaseException | None = None
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for attempt in done:
            error = attempt.exception()
            if error is None:
                attempts.discard(attempt)
                return attempt.result()
    raise error or OSError("the connection URI names no host")


def _drop(attempt: asyncio.Future[asyncpg.Connection[asyncpg.Record]]) -> None:
    """Close the connection of an attempt that was not waited for, and take its error."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()
