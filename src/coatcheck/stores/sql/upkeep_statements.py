"""Upkeep: pruning in steps that no request has to wait for, the lock that lets one process prune, and counting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select

from coatcheck.stores.records import ExpiredSweep, IdleSweep, PepperCount, PepperRecord
from coatcheck.stores.sql.deleting import delete_chosen
from coatcheck.stores.sql.schema import locks, peppers, sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.identifiers import SessionId
    from coatcheck.stores.sql.dialect import SqlDialect


async def prune_expired(connection: AsyncConnection, dialect: SqlDialect, limit: int) -> ExpiredSweep:
    """Delete up to `limit` sessions past their absolute deadline, oldest first, passing over locked rows."""
    past = sessions.c.expires_at <= dialect.now()
    chosen = (
        select(sessions.c.id)
        .where(sessions.c.expires_at.is_not(None), past)
        .order_by(sessions.c.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    # The condition stands again in the DELETE: rows are judged as they are when they go, not when they were chosen.
    ended = await delete_chosen(connection, chosen, past)
    return ExpiredSweep(len(ended) < limit, ended=ended)


async def prune_idle(
    connection: AsyncConnection, dialect: SqlDialect, after: SessionId | None, window: int
) -> IdleSweep:
    """Delete the idle among the next `window` sessions. No index leads to them, so the table is walked by its key."""
    behind = select(sessions.c.id).order_by(sessions.c.id)
    if after is not None:
        behind = behind.where(sessions.c.id > after)
    # The last id of the window, and whether it is full. An aggregate over uuid needs PostgreSQL 18, hence OFFSET.
    last = (await connection.execute(behind.offset(window - 1).limit(1))).scalar()

    past = dialect.idle_deadline() <= dialect.now()
    inside = [sessions.c.expire_after_unused_for_us.is_not(None), past]
    if after is not None:
        inside.append(sessions.c.id > after)
    if last is not None:
        inside.append(sessions.c.id <= last)
    chosen = select(sessions.c.id).where(and_(*inside)).order_by(sessions.c.id).with_for_update(skip_locked=True)
    return IdleSweep(last, ended=await delete_chosen(connection, chosen, past))


async def try_lock(
    connection: AsyncConnection, dialect: SqlDialect, *, name: str, holder: str, duration_us: int
) -> bool:
    """Take or renew a lock in one statement; its row count decides."""
    statement = dialect.insert(locks).values(name=name, holder=holder, expires_at=dialect.later(duration_us))
    taken = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[locks.c.name],
            set_={"holder": statement.excluded.holder, "expires_at": statement.excluded.expires_at},
            where=or_(locks.c.holder == holder, locks.c.expires_at <= dialect.now()),
        ).returning(locks.c.name)
    )
    return taken.one_or_none() is not None


async def count_by_pepper(connection: AsyncConnection) -> Sequence[PepperCount]:
    """How many sessions each pepper was used for."""
    counted = await connection.execute(
        select(sessions.c.pepper_id, func.count()).group_by(sessions.c.pepper_id).order_by(sessions.c.pepper_id)
    )
    return [PepperCount(pepper_id, number) for pepper_id, number in counted]


async def read_peppers(connection: AsyncConnection) -> Sequence[PepperRecord]:
    """Every registered pepper, in order of id. In Python's order, whatever the database's locale."""
    rows = await connection.execute(select(peppers.c.id, peppers.c.check_value))
    return sorted((PepperRecord(id_, bytes(check)) for id_, check in rows), key=lambda one: one.id)


async def register_pepper(connection: AsyncConnection, dialect: SqlDialect, pepper: PepperRecord) -> None:
    """Note a pepper, unless one of that id is known."""
    values = {"id": pepper.id, "check_value": pepper.check_value}
    await connection.execute(dialect.insert(peppers).values(**values).on_conflict_do_nothing())
