"""fastapi-users: `DatabaseStrategy.read_token`, with SQLAlchemy's asyncpg (PostgreSQL) or aiosqlite (SQLite).

A request reads the token's row, not older than the lifetime, and then the user's: two statements in one transaction.
It writes nothing. As in its documentation a request has an `AsyncSession`, a user manager and a strategy of its own,
and wants an active user. Its tokens are stored as they are, so the wrong secret is another token.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fastapi_users.authentication.strategy.db import DatabaseStrategy
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseAccessTokenTableUUID
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from contract import Candidate, serve
from fastapi_users import BaseUserManager, UUIDIDMixin
from shared import USERS, Database, rows

if TYPE_CHECKING:
    from collections.abc import Iterable

LIFETIME = timedelta(days=7)


class Base(DeclarativeBase):
    """The tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """The table of users, without columns of our own."""


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """The table of tokens, without columns of our own."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """The user manager that every application makes."""


class FastapiUsers(Candidate):
    """See the module."""

    def __init__(self) -> None:
        """Connect when first used."""
        self._database = Database.from_environment()
        driver = "asyncpg" if self._database.postgres else "aiosqlite"
        self.packages = ("fastapi-users", "fastapi-users-db-sqlalchemy", "sqlalchemy", driver)
        url = self._database.url(postgres="postgresql+asyncpg", sqlite="sqlite+aiosqlite")
        # A connection for each of 64 callers was the quickest of what was tried (5 and 10 more, the default; 8; 16).
        self._engine = create_async_engine(url, pool_size=64, max_overflow=0)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    async def fill(self, sessions: int) -> tuple[list[str], dict[str, str]]:
        """Sessions of up to 1000 users."""
        async with self._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        users = [
            User(id=uuid.uuid4(), email=f"user{number}@example.org", hashed_password="!", is_active=True)  # noqa: S106
            for number in range(min(sessions, USERS))
        ]
        owners = [user.id for user in users]
        async with self._sessions() as session, session.begin():
            session.add_all(users)

        now, kept = datetime.now(UTC), []
        await self._insert(
            rows(sessions, secrets.token_urlsafe, lambda number, new: (new, now, owners[number % len(owners)]), kept)
        )
        expired = secrets.token_urlsafe()
        await self._insert([(expired, now - LIFETIME - timedelta(seconds=1), owners[0])])
        if self._database.sqlite:
            self._database.settle()
        else:
            async with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                await connection.execute(text("VACUUM (ANALYZE)"))
        return kept, {"expired": expired, "wrong secret": secrets.token_urlsafe()}

    async def _insert(self, tokens: Iterable[tuple[str, datetime, uuid.UUID]]) -> None:
        columns = ("token", "created_at", "user_id")
        if self._database.sqlite:
            # As SQLAlchemy keeps them there.
            stored = ((token, f"{created:%Y-%m-%d %H:%M:%S.%f}", str(user)) for token, created, user in tokens)
            self._database.insert("accesstoken", columns, stored)
            return
        async with self._engine.connect() as connection:
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await raw.copy_records_to_table("accesstoken", records=tokens, columns=columns)

    async def validate(self, credential: str) -> bool:
        """Do the work of `current_user(active=True)` on the token of a request."""
        async with self._sessions() as session:
            database = SQLAlchemyAccessTokenDatabase(session, AccessToken)
            strategy = DatabaseStrategy(database, lifetime_seconds=int(LIFETIME.total_seconds()))
            user = await strategy.read_token(credential, UserManager(SQLAlchemyUserDatabase(session, User)))
            return user is not None and user.is_active

    async def close(self) -> None:
        """Close the pool."""
        await self._engine.dispose()


if __name__ == "__main__":
    serve(FastapiUsers())
