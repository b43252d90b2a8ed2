"""Each place where we rely on something that another library does not promise is still as we expect it."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Connection
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from coatcheck import upstream
from tests.servers.scripted_redis import ScriptedRedis


async def test_redis_py_keeps_the_stream_writer_of_a_connection() -> None:
    async with ScriptedRedis() as server:
        connection = Connection(host="127.0.0.1", port=server.port)
        with pytest.raises(ConnectionError):
            upstream.redis_stream_writer(connection)
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py does not say
        writer = upstream.redis_stream_writer(connection)
        assert isinstance(writer, asyncio.StreamWriter)
        assert writer.get_extra_info("socket").getpeername() == ("127.0.0.1", server.port)
        assert not writer.is_closing()
        await connection.disconnect(nowait=True)
        assert writer.is_closing()


@pytest.mark.parametrize(
    ("of_the_engine", "of_the_connection", "level"),
    [
        (None, None, None),
        ("AUTOCOMMIT", None, "AUTOCOMMIT"),
        (None, "AUTOCOMMIT", "AUTOCOMMIT"),
        ("AUTOCOMMIT", "SERIALIZABLE", "SERIALIZABLE"),
    ],
)
def test_sqlalchemy_keeps_the_isolation_level_of_an_engine_and_of_a_connection(
    of_the_engine: str | None, of_the_connection: str | None, level: str | None
) -> None:
    options = {} if of_the_engine is None else {"isolation_level": of_the_engine}
    engine = create_engine("sqlite://", poolclass=NullPool, **options)
    with engine.connect() as connection:
        if of_the_connection is not None:
            connection.execution_options(isolation_level=of_the_connection)
        assert upstream.sqlalchemy_isolation_level(connection) == level
