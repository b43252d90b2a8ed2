"""Announcements are heard, or the listener reports that some may have been missed."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from coatcheck.identifiers import UserId, shard_of_user
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.redis.listener import Listener
from coatcheck.stores.redis.store import RedisStore
from coatcheck.stores.redis.url import Address, parse_url
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.samples import ADA, sign_in
from tests.servers.proxy import Proxy
from tests.servers.scripted_redis import ScriptedRedis

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from redis.asyncio.connection import AbstractConnection

    from tests.servers.redis import RedisServer
    from tests.servers.redis_cluster import RedisCluster

pytestmark = pytest.mark.redis

CHANNEL = "coatcheck:announcements"


class Places:
    """Servers that are tried one after the other, as far as a listener needs to know them."""

    is_cluster = True

    def __init__(self, *ports: int) -> None:
        self.ports = ports

    def all(self) -> Mapping[Address, str]:
        return {Address("127.0.0.1", port): str(number) for number, port in enumerate(self.ports)}

    async def open(self) -> None:
        raise NotImplementedError

    def of(self, shard: str) -> Address | None:
        raise NotImplementedError

    def vouches_for(self, address: Address) -> bool:
        raise NotImplementedError

    def promotable(self) -> int:
        raise NotImplementedError

    async def refresh(self) -> None:
        """The next one's turn."""
        self.ports = (*self.ports[1:], self.ports[0])

    def follow(self, shard: str, address: Address) -> None:
        raise NotImplementedError

    def suspect(self, address: Address) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class First(Places):
    """Of several servers the one whose turn it is."""

    def all(self) -> Mapping[Address, str]:
        return {Address("127.0.0.1", self.ports[0]): "00"}


def _connect(address: Address) -> AbstractConnection:
    return parse_url("redis://db").connection(address, timeout_seconds=5)


def _listener(
    places: Places,
    publish: Callable[[str, str, str], Awaitable[object]],
    *,
    heartbeat_seconds: float = 3600,
    answer_seconds: float = 5.0,
) -> AsyncGenerator[str | None, None]:
    return Listener(
        places,
        _connect,
        publish,
        channel=CHANNEL,
        own_channel=f"{CHANNEL}:mine",
        answer_seconds=answer_seconds,
        heartbeat_seconds=heartbeat_seconds,
    ).texts()


async def _nothing(shard: str, channel: str, text: str) -> None:
    """Publish nothing, so that the probe does not come back."""


async def _next(texts: AsyncGenerator[str | None, None]) -> str | None:
    async with asyncio.timeout(30):
        return await anext(texts)


async def test_probes_reach_only_the_listener_that_sends_them(shared_redis: RedisServer) -> None:
    probes = asyncio.Queue[str]()

    async def publish(shard: str, channel: str, text: str) -> None:
        shared_redis.ask("PUBLISH", channel, text)
        probes.put_nowait(shard)
        if probes.qsize() == 3:
            shared_redis.ask("PUBLISH", CHANNEL, "hello")

    async with aclosing(_listener(Places(shared_redis.port), publish, heartbeat_seconds=0.5)) as texts:
        assert [await _next(texts), await _next(texts)] == [None, "hello"]


async def test_probes_go_on_while_many_announcements_come(shared_redis: RedisServer) -> None:
    """The server whose announcements are missing may be another than the server whose announcements come."""
    probes: list[str] = []

    async def publish(shard: str, channel: str, text: str) -> None:
        probes.append(shard)
        shared_redis.ask("PUBLISH", channel, text)

    async with aclosing(_listener(Places(shared_redis.port), publish, heartbeat_seconds=0)) as texts:
        assert await _next(texts) is None
        for number in range(4):
            shared_redis.ask("PUBLISH", CHANNEL, f"{number}")
        assert [await _next(texts) for _ in range(4)] == list("0123")
    assert probes


async def test_a_process_that_stood_still_reads_what_has_come_before_it_reports_a_gap(
    shared_redis: RedisServer,
) -> None:
    def come_late(*texts: tuple[str, str]) -> None:
        time.sleep(0.3)  # the process stands still until the next probe is due
        for channel, text in texts:
            shared_redis.ask("PUBLISH", channel, text)

    probes: list[str] = []

    async def publish(_: str, channel: str, text: str) -> None:
        probes.append(text)
        if len(probes) == 1:  # a later one would come when the test is over
            asyncio.get_running_loop().call_later(0.05, come_late, (channel, text), (CHANNEL, "hello"))

    async with aclosing(_listener(Places(shared_redis.port), publish, heartbeat_seconds=0.2)) as texts:
        assert [await _next(texts), await _next(texts)] == [None, "hello"]


async def test_a_probe_that_does_not_come_back_is_reported_as_a_gap(
    shared_redis: RedisServer,
) -> None:
    """In a Cluster one member may be cut off from the one that is listened to, and nothing else shows it."""
    async with aclosing(_listener(Places(shared_redis.port), _nothing, heartbeat_seconds=0.01)) as texts:
        assert [await _next(texts) for _ in range(4)] == [None] * 4  # begun, lost, begun again, lost


async def test_a_connection_that_carries_nothing_any_more_is_noticed(shared_redis: RedisServer) -> None:
    async def publish(_: str, channel: str, text: str) -> None:
        shared_redis.ask("PUBLISH", channel, text)

    async with (
        Proxy(shared_redis.port) as proxy,
        aclosing(_listener(Places(proxy.port), publish, heartbeat_seconds=0.05)) as texts,
    ):
        assert await _next(texts) is None
        proxy.black_hole()
        assert await _next(texts) is None
        shared_redis.ask("PUBLISH", CHANNEL, "missed")
        await proxy.heal()
        assert await _next(texts) is None


async def test_a_server_that_does_not_answer_the_subscription_is_given_up_for_the_next(
    shared_redis: RedisServer,
) -> None:
    """It accepts the connection and then does not answer, as a server that hangs."""
    async with ScriptedRedis(CLIENT=b"") as silent, ScriptedRedis(SUBSCRIBE=b"") as mute:
        places = First(silent.port, mute.port, shared_redis.port)
        async with aclosing(_listener(places, _nothing, answer_seconds=0.1)) as texts:
            assert await _next(texts) is None
            shared_redis.ask("PUBLISH", CHANNEL, "hello")
            assert await _next(texts) == "hello"


async def test_a_server_that_refuses_the_subscription_is_given_up_for_the_next(shared_redis: RedisServer) -> None:
    refusal = b"-NOPERM this user has no permissions to access the channel\r\n"
    async with (
        ScriptedRedis(SUBSCRIBE=refusal) as strict,
        aclosing(_listener(First(strict.port, shared_redis.port), _nothing)) as texts,
    ):
        assert await _next(texts) is None
        shared_redis.ask("PUBLISH", CHANNEL, "hello")
        assert await _next(texts) == "hello"


async def test_a_listener_whose_server_dies_goes_to_another(
    redis_server: RedisServer, shared_redis: RedisServer
) -> None:
    places = First(redis_server.port, shared_redis.port)
    async with aclosing(_listener(places, _nothing)) as texts:
        assert await _next(texts) is None
        redis_server.kill()
        assert [await _next(texts), await _next(texts)] == [None, None]
        shared_redis.ask("PUBLISH", CHANNEL, "hello")
        assert await _next(texts) == "hello"


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"not JSON", b'{"v":2,"user":"ada"}', b'{"v":1}', b"[" * 100_000])
async def test_an_unreadable_announcement_is_reported_as_a_gap(payload: bytes, shared_redis: RedisServer) -> None:
    async with RedisStore(shared_redis.url) as store, Listening(store) as listening:
        connection = _connect(Address("127.0.0.1", shared_redis.port))
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py does not say
        await connection.send_command("PUBLISH", CHANNEL, payload)
        await connection.read_response()
        await connection.disconnect()
        assert await listening.next() is None


async def test_a_cluster_carries_announcements_from_every_member_to_every_listener(
    shared_redis_cluster: RedisCluster,
) -> None:
    def home_of(user: UserId) -> int:
        return shared_redis_cluster.primary_of(f"coatcheck:{{{shard_of_user(user)}}}").port

    users = {home_of(user): user for user in map(UserId, "abcdefghij")}
    assert len(users) == 3
    async with RedisStore(shared_redis_cluster.url) as writer:
        for node in shared_redis_cluster.primaries:
            async with aclosing(_listener(Places(node.port), _nothing)) as texts:
                assert await _next(texts) is None
                for user in users.values():
                    await writer.end_user_sessions(user)
                missing = set(users.values())
                while missing:  # what comes from several members comes in any order
                    text = await _next(texts)
                    assert text is not None
                    missing -= {user for user in missing if f'"user":"{user}"' in text}


async def test_stores_on_a_cluster_hear_each_other(shared_redis_cluster: RedisCluster) -> None:
    async with (
        RedisStore(shared_redis_cluster.url) as store,
        RedisStore(shared_redis_cluster.url) as other,
        Listening(store) as listening,
    ):
        session = await sign_in(other)
        await other.delete_sessions(SessionFilter(session_id=session.id))
        # A test before this one may have heard from another member what reaches this one only now.
        await listening.before(Announcement(ADA, session.id))
