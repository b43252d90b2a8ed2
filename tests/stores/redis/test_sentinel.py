"""Servers that real sentinels watch over: the primary is found, and followed when another takes its place."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from coatcheck import ConfigurationError, GuaranteeLevel, Pod, RevocationIndeterminate, StoreUnavailable
from coatcheck.events import AnnouncementsMissed, Message, RevokedAuthenticationUser
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.redis.store import RedisStore
from coatcheck.stores.redis.transport import sentinel_topology
from coatcheck.stores.redis.url import Address
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.samples import ADA, BOB, read, read_present, register, sign_in
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy
from tests.servers.redis_sentinel import SERVICE, Watched
from tests.servers.scripted_redis import ScriptedRedis
from tests.stores.redis.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from coatcheck.stores.records import SessionRecord
    from coatcheck.stores.store import Store
    from tests.servers.redis import RedisServer

pytestmark = pytest.mark.sentinel

PASSWORD, OF_SENTINELS = "hunter2-geheim", "another-geheim"
_DOCUMENTED = (Path(__file__).parents[3] / "docs" / "how-to" / "redis-sentinel.md").read_text("utf-8")
RIGHTS_AT_A_SENTINEL = next(
    line for line in _DOCUMENTED.splitlines() if line.startswith("user sentinel-reader on")
).split()[4:]
"""As documented."""
PATIENCE = 20.0  # of stores whose replica may be without a core for a while


@pytest.fixture(scope="module")
def shared_watched() -> Iterator[Watched]:
    """Servers that change roles; all of them run again after each test."""
    with Watched() as watched:
        yield watched


@pytest.fixture
def watched(shared_watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    # A sentinel without a core, where silent servers are given up soon, makes no outage; TestCutOff has the real limit.
    monkeypatch.setattr(sentinel_topology, "_SHORTEST_LEASE_SECONDS", 60.0)
    yield shared_watched
    shared_watched.wait_until_settled()
    shared_watched.set_down_after(60_000)
    shared_watched.flush()


async def _until_it_answers(store: Store, session: SessionRecord) -> bool:
    """Whether a session is there, from the first answer; until then an outage is the only error allowed."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await store.read_session(session.id) is not None
            except StoreUnavailable:
                await asyncio.sleep(0.02)


async def _until_it_refuses(store: Store, session: SessionRecord) -> StoreUnavailable:
    """The first outage; until then the session has to be there."""
    async with asyncio.timeout(60):
        while True:
            try:
                assert await store.read_session(session.id) is not None
            except StoreUnavailable as error:
                return error
            await asyncio.sleep(0.02)


def _sentinel(
    primary: ScriptedRedis, named: Sequence[ScriptedRedis], *, epoch: int = 0
) -> Callable[[list[bytes]], bytes]:
    """The answers of a sentinel that names a primary, and other sentinels that it has just heard from."""

    def answer(command: list[bytes]) -> bytes:
        if command[1] == b"GET-MASTER-ADDR-BY-NAME":
            return _array("127.0.0.1", primary.port)
        if command[1] == b"MASTER":
            return _array("config-epoch", epoch, "down-after-milliseconds", 30_000)
        if command[1] == b"REPLICAS":
            return b"*0\r\n"
        others = [_array("ip", "127.0.0.1", "port", one.port, "last-ok-ping-reply", 0) for one in named]
        return b"*%d\r\n" % len(others) + b"".join(others)

    return answer


def _array(*values: str | int) -> bytes:
    """Texts as Redis sends them."""
    texts = [str(value).encode() for value in values]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)


def _primary_of(store: RedisStore) -> int:
    """The port of the server that the store takes for the primary now."""
    (address,) = store._calls.servers.all()  # noqa: SLF001 (where it sends its calls)
    return address.port


async def _in_thread(function: Callable[..., object], *arguments: object) -> None:
    """Wait for the servers without standing still, so that the store hears of what happens."""
    await asyncio.to_thread(function, *arguments)


class TestFollowing:
    async def test_a_failover_by_hand_is_followed(self, watched: Watched) -> None:
        async with RedisStore(watched.url, timeout_seconds=PATIENCE) as store:
            session = await sign_in(store)
            old = watched.primary
            await _in_thread(watched.fail_over)
            assert await _until_it_answers(store, session)
            assert watched.primary is not old
            await _in_thread(watched.wait_until_settled)  # a revocation waits for the replica
            assert [one.session_id for one in (await store.end_user_sessions(ADA)).ended] == [session.id]
            assert await read(store, session.id) is None

    async def test_a_killed_primary_is_replaced_and_no_call_but_an_outage_is_seen_meanwhile(
        self, watched: Watched
    ) -> None:
        async with RedisStore(watched.url, timeout_seconds=PATIENCE) as store:
            session = await sign_in(store)
            await store.end_user_sessions(BOB)  # waits for the replica, which has the sign-in then
            old = watched.primary
            watched.set_down_after(1000)
            old.kill()
            with pytest.raises(StoreUnavailable):
                await store.read_session(session.id)
            assert await _until_it_answers(store, session)
            assert watched.primary is not old

    @pytest.mark.extended
    async def test_calls_during_a_failover_are_answered_correctly_or_fail_as_an_outage(self, watched: Watched) -> None:
        async with RedisStore(f"{watched.url}?replicas=0") as store:
            await register(store, ADA)
            failover = asyncio.create_task(_in_thread(watched.fail_over))
            ended = 0
            while not failover.done() or ended == 0:
                try:
                    session = await sign_in(store)
                    await store.delete_sessions(SessionFilter(session_id=session.id))
                except StoreUnavailable:
                    continue
                ended += 1
                with suppress(StoreUnavailable):
                    # It may be undone with the old primary, but no answer comes from one that has the call no more.
                    assert await read(store, session.id) is None
            await failover

    async def test_one_sentinel_in_the_url_is_enough_and_may_end_once_it_has_named_the_others(
        self, watched: Watched
    ) -> None:
        first, *others = watched.sentinels
        async with RedisStore(watched.url_by(first), timeout_seconds=PATIENCE) as store:
            session = await sign_in(store)
            await store.end_user_sessions(BOB)
            first.kill()
            assert await read(store, session.id) == session
            old = watched.primary
            await _in_thread(watched.fail_over)
            assert watched.primary is not old
            assert all(one.primary_port == watched.primary.port for one in others)
            assert await _until_it_answers(store, session)

    async def test_sentinels_that_are_down_when_the_store_opens_are_passed_over(self, watched: Watched) -> None:
        watched.sentinels[0].kill()
        async with RedisStore(watched.url) as store:
            session = await sign_in(store)
            await read_present(store, session.id)

    async def test_a_sentinel_whose_machine_has_failed_does_not_hold_up_the_word_of_the_others(
        self, watched: Watched
    ) -> None:
        """Mostly it is the primary's machine. Here a sentinel may take two minutes to answer."""
        async with (
            _line_to_sentinels(watched) as (url, remap, proxies),
            RedisStore(f"{url}?replicas=0", remap=remap, timeout_seconds=600) as store,
        ):
            session = await sign_in(store)
            proxies[0].black_hole()
            await _in_thread(watched.fail_over)
            async with asyncio.timeout(60):
                while _primary_of(store) != watched.primary.port:  # noqa: ASYNC110 (there is no event to wait for)
                    await asyncio.sleep(0.02)
            await _until_it_answers(store, session)

    async def test_sentinels_that_are_named_by_another_are_asked_before_the_store_opens(self) -> None:
        """One that has just come back may not have heard of the latest failover yet."""
        named: list[ScriptedRedis] = []
        async with (
            ScriptedRedis() as old,
            ScriptedRedis() as new,
            ScriptedRedis(SENTINEL=_sentinel(new, [], epoch=1), SUBSCRIBE=None) as other,
            ScriptedRedis(SENTINEL=_sentinel(old, named, epoch=0), SUBSCRIBE=None) as first,
        ):
            named.append(other)
            async with RedisStore(f"redis+sentinel://127.0.0.1:{first.port}/{SERVICE}") as store:
                assert _primary_of(store) == new.port
            assert old.times_asked(b"INFO") == 0

    async def test_a_sentinel_of_which_the_others_do_not_speak_any_more_is_forgotten(self) -> None:
        """Sentinels in containers come back under other addresses, and the old ones would be asked for ever."""

        named: list[ScriptedRedis] = []
        async with (
            ScriptedRedis() as primary,
            ScriptedRedis(SENTINEL=b"-ERR not now\r\n", SUBSCRIBE=None) as other,
            ScriptedRedis(SENTINEL=_sentinel(primary, named), SUBSCRIBE=None) as first,
            RedisStore(f"redis+sentinel://127.0.0.1:{first.port}/{SERVICE}") as store,
        ):
            servers = store._calls.servers  # noqa: SLF001 (asks the sentinels now)
            named.append(other)
            await servers.refresh()
            await servers.refresh()
            asked = other.times_asked(b"SENTINEL")
            assert asked > 0
            named.clear()
            await servers.refresh()
            asked = other.times_asked(b"SENTINEL")
            await servers.refresh()
            await servers.refresh()
            assert other.times_asked(b"SENTINEL") == asked
            named.append(other)
            await servers.refresh()
            await servers.refresh()
            assert other.times_asked(b"SENTINEL") > asked

    @pytest.mark.extended
    async def test_two_failovers_in_turn_lead_back(self, watched: Watched) -> None:
        first = watched.primary
        async with RedisStore(watched.url, timeout_seconds=PATIENCE) as store:
            session = await sign_in(store)
            await _in_thread(watched.wait_until_settled)  # the replicas have the session
            await _in_thread(watched.fail_over)
            assert await _until_it_answers(store, session)
            await _in_thread(watched.wait_until_settled)
            await _in_thread(watched.fail_over)
            assert watched.primary is first
            assert await _until_it_answers(store, session)
            await _in_thread(watched.wait_until_settled)
            assert len((await store.end_user_sessions(ADA)).ended) == 1


class TestOldPrimary:
    """It has old data, and for some seconds it goes on as a primary."""

    async def _replace_while_it_stands_still(self, watched: Watched) -> RedisServer:
        old = watched.primary
        watched.set_down_after(1000)
        old.pause()
        await _in_thread(watched.wait_for_failover, old)
        return old

    @pytest.mark.parametrize("hears_by", ["being told", "asking"])
    async def test_calls_do_not_wait_for_a_frozen_primary_once_it_was_replaced(
        self, hears_by: str, watched: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When it goes on it would answer them from its old data. The limit of this store is no help: ten minutes."""
        if hears_by == "being told":
            monkeypatch.setattr(sentinel_topology, "_ASK_SECONDS", 3600.0)
            monkeypatch.setattr(sentinel_topology, "_SHORTEST_LEASE_SECONDS", 3600.0)
        else:
            monkeypatch.setattr(sentinel_topology, "_SWITCHED", "another channel")
        async with RedisStore(f"{watched.url}?replicas=0", timeout_seconds=600) as store:
            session = await sign_in(store)
            await read_present(store, session.id)
            old = watched.primary
            watched.set_down_after(1000)
            old.pause()
            waiting = asyncio.ensure_future(store.read_session(session.id))
            revoking = asyncio.create_task(store.end_user_sessions(ADA))
            await _in_thread(watched.wait_for_failover, old)
            with suppress(StoreUnavailable):
                await waiting
            with suppress(RevocationIndeterminate):  # unless it is known not to have been sent
                await revoking
            await store.end_user_sessions(ADA)
            old.resume()
            assert old.ask("ROLE")[0] == "master"
            assert await read(store, session.id) is None

    async def test_a_replaced_primary_that_goes_on_as_one_is_not_asked_any_more(self, watched: Watched) -> None:
        async with RedisStore(f"{watched.url}?replicas=0", timeout_seconds=PATIENCE) as store:
            session = await sign_in(store)
            old = await self._replace_while_it_stands_still(watched)
            await _until_it_answers(store, session)
            await store.end_user_sessions(ADA)
            old.resume()
            assert old.ask("ROLE")[0] == "master"  # the sentinels leave it so for ten seconds
            for _ in range(20):
                assert await read(store, session.id) is None
            async with RedisStore(watched.url) as opened_meanwhile:
                assert await read(opened_meanwhile, session.id) is None

    async def test_a_revocation_that_no_replica_has_is_not_acknowledged(
        self, watched: Watched, impatient_store: Callable[[str], RedisStore]
    ) -> None:
        async with impatient_store(watched.url) as store:
            session = await sign_in(store)
            watched.replica.pause()
            with pytest.raises(RevocationIndeterminate, match="0 of 1 replicas"):
                await store.delete_sessions(SessionFilter(session_id=session.id))


class TestTwoReplicas:
    """A revocation waits for each replica that the sentinels might choose, and not only for any one."""

    @pytest.fixture(scope="class")
    @staticmethod
    def of_three() -> Iterator[Watched]:
        with Watched(replicas=2) as watched:
            yield watched

    async def test_a_revocation_that_one_of_them_does_not_have_is_not_acknowledged(
        self, of_three: Watched, impatient_store: Callable[[str], RedisStore]
    ) -> None:
        async with (
            impatient_store(of_three.url) as store,
            impatient_store(f"{of_three.url}?replicas=1") as content_with_one,
        ):
            session = await sign_in(store)
            of_three.replica.pause()
            with pytest.raises(RevocationIndeterminate, match="1 of 2 replicas"):
                await store.delete_sessions(SessionFilter(session_id=session.id))
            await content_with_one.end_user_sessions(ADA)
            of_three.replica.resume()
            async with RedisStore(of_three.url, timeout_seconds=PATIENCE) as patient:
                await patient.end_user_sessions(ADA)

    async def test_a_replica_that_is_down_is_not_waited_for(self, of_three: Watched) -> None:
        """The sentinels would not choose it."""
        async with RedisStore(of_three.url, timeout_seconds=PATIENCE) as store:
            assert (await store.guarantee()).settings["replicas_waited_for"] == "2"
            of_three.replica.kill()
            async with asyncio.timeout(60):
                while (await store.guarantee()).settings["replicas_waited_for"] != "1":  # noqa: ASYNC110 (as above)
                    await asyncio.sleep(0.05)
            await store.end_user_sessions(ADA)
            await _in_thread(of_three.wait_until_settled)
            async with asyncio.timeout(60):
                while (await store.guarantee()).settings["replicas_waited_for"] != "2":  # noqa: ASYNC110 (as above)
                    await asyncio.sleep(0.05)
            await store.end_user_sessions(ADA)


class TestCutOff:
    """A process that hears from few sentinels does not know whether its primary was replaced."""

    @pytest.fixture(autouse=True)
    def short_lease(self, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sentinel_topology, "_SHORTEST_LEASE_SECONDS", 3.0)

    async def test_it_stops_answering_and_goes_on_when_they_are_heard_from(
        self, watched: Watched, caplog: pytest.LogCaptureFixture
    ) -> None:
        watched.set_down_after(3000)
        async with RedisStore(watched.url) as store, RedisStore(f"{watched.url}?sentinels=any") as believing:
            session = await sign_in(store)
            for sentinel in watched.sentinels[1:]:
                sentinel.pause()
            await _until_it_refuses(store, session)
            await read_present(believing, session.id)
            with pytest.raises(StoreUnavailable) as caught:
                await store.end_user_sessions(ADA)
            assert not isinstance(caught.value, RevocationIndeterminate)  # nothing was sent
            assert "no server is known to be the primary" in str(caught.value)
            with pytest.raises(StoreUnavailable, match="have not heard from most of the others"):
                await RedisStore(watched.url).open()
            for sentinel in watched.sentinels[1:]:
                sentinel.resume()
            assert await _until_it_answers(store, session)
        assert "most sentinels have not been heard from" in caplog.text

    async def test_it_goes_to_the_new_primary_when_it_hears_from_them_again(self, watched: Watched) -> None:
        """It was cut off from the sentinels alone. The old primary was there to be asked all the time."""
        async with _line_to_sentinels(watched) as (url, remap, proxies):
            watched.set_down_after(3000)
            async with RedisStore(url, remap=remap, timeout_seconds=PATIENCE) as store:
                session = await sign_in(store)
                await store.end_user_sessions(BOB)
                for proxy in proxies:
                    proxy.black_hole()
                await _until_it_refuses(store, session)
                old = watched.primary
                await _in_thread(watched.fail_over)
                async with RedisStore(f"{watched.url}?replicas=0") as other:
                    await other.end_user_sessions(ADA)
                with pytest.raises(StoreUnavailable):
                    await store.read_session(session.id)
                for proxy in proxies:
                    await proxy.heal()
                assert await _until_it_answers(store, session) is False
                assert watched.primary is not old


class TestAnnouncements:
    async def test_they_are_heard_from_the_new_primary_and_what_may_be_missed_is_told(self, watched: Watched) -> None:
        async with (
            RedisStore(f"{watched.url}?replicas=0", timeout_seconds=PATIENCE) as store,
            RedisStore(f"{watched.url}?replicas=0", timeout_seconds=PATIENCE) as other,
            Listening(store) as listening,
        ):
            await other.end_user_sessions(ADA)
            assert await listening.next() == Announcement(ADA)
            await _in_thread(watched.fail_over)
            assert await listening.next() is None
            # Until the listener has come to the new primary, what is published there is told as missed.
            async with asyncio.timeout(60):
                while True:
                    with suppress(StoreUnavailable):
                        await other.end_user_sessions(BOB)
                    if await listening.next() == Announcement(BOB):
                        return

    async def test_subscribers_of_a_pod_hear_that_they_may_have_missed_announcements(self, watched: Watched) -> None:
        heard = asyncio.Queue[Message]()
        pod = Pod(f"{watched.url}?replicas=0", environ={}, config_dir="no-such-folder", prune_interval=None)
        pod.events.subscribe(heard.put)
        async with pod, RedisStore(f"{watched.url}?replicas=0") as other:
            await other.end_user_sessions(ADA)
            assert await heard.get() == RevokedAuthenticationUser(ADA)
            await _in_thread(watched.fail_over)
            assert await heard.get() == AnnouncementsMissed()

    @pytest.mark.extended
    async def test_a_listener_leaves_a_frozen_primary_that_was_replaced(self, watched: Watched) -> None:
        """Its connection stays open, and nothing would come over it any more."""
        async with (
            RedisStore(f"{watched.url}?replicas=0", timeout_seconds=PATIENCE) as store,
            Listening(store) as listening,
        ):
            old = watched.primary
            watched.set_down_after(1000)
            old.pause()
            await _in_thread(watched.wait_for_failover, old)
            assert await listening.next() is None


class TestOpening:
    """The error names hosts and service, and no secret."""

    async def test_a_service_that_the_sentinels_do_not_know(self, watched: Watched) -> None:
        host = f"127.0.0.1:{watched.sentinels[0].port}"
        with pytest.raises(ConfigurationError, match=f"the sentinels at {host} do not know the service unknown$"):
            await RedisStore(f"redis+sentinel://{host}/unknown").open()

    async def test_no_sentinel_that_answers(self) -> None:
        port, other = free_port(), free_port()
        url = f"redis+sentinel://ann:{PASSWORD}@127.0.0.1:{port},127.0.0.1:{other}/{SERVICE}"
        where = f"no sentinel of the service {SERVICE} answers at 127.0.0.1:{port}, 127.0.0.1:{other}"
        with pytest.raises(StoreUnavailable, match=where) as caught:
            await RedisStore(url).open()
        assert PASSWORD not in str(caught.value)

    async def test_a_primary_that_is_down(self, watched: Watched) -> None:
        primary = watched.primary
        primary.kill()
        with pytest.raises(
            StoreUnavailable, match=rf"primary of {SERVICE} is 127\.0\.0\.1:{primary.port}; it does not"
        ):
            await RedisStore(watched.url).open()

    async def test_a_server_with_data_in_place_of_a_sentinel(self, watched: Watched) -> None:
        host = f"127.0.0.1:{watched.primary.port}"
        with pytest.raises(ConfigurationError, match=f"the server at {host} is none"):
            await RedisStore(f"redis+sentinel://{host}/{SERVICE}").open()

    async def test_a_sentinel_in_place_of_a_server_with_data(self, watched: Watched) -> None:
        with pytest.raises(
            ConfigurationError, match=r"is a sentinel; the store URL must begin with redis\+sentinel://"
        ):
            await RedisStore(f"redis://127.0.0.1:{watched.sentinels[0].port}").open()

    @pytest.mark.extended
    @pytest.mark.valkey
    async def test_a_sentinel_of_valkey_in_place_of_a_server_with_data(self, shared_valkey_sentinel: Watched) -> None:
        with pytest.raises(ConfigurationError, match="is a sentinel"):
            await RedisStore(f"valkey://127.0.0.1:{shared_valkey_sentinel.sentinels[0].port}").open()

    async def test_a_sentinel_that_says_something_else(self) -> None:
        async with ScriptedRedis(SENTINEL=b"*1\r\n$5\r\nhello\r\n") as odd:
            with pytest.raises(StoreUnavailable, match=r"no sentinel of the service .* answers at .* \(ValueError\)"):
                await RedisStore(f"redis+sentinel://127.0.0.1:{odd.port}/{SERVICE}").open()

    @pytest.mark.extended
    async def test_a_store_that_could_not_be_opened_can_be_opened_later(self, watched: Watched) -> None:
        store = RedisStore(watched.url)
        for sentinel in watched.sentinels:
            sentinel.kill()
        with pytest.raises(StoreUnavailable, match="no sentinel"):
            await store.open()
        watched.wait_until_settled()
        async with store:
            await read_present(store, (await sign_in(store)).id)

    async def test_a_store_that_was_closed_asks_no_sentinel_any_more(self, watched: Watched) -> None:
        store = RedisStore(watched.url)
        async with store:
            await sign_in(store)
        names = {one.get_name() for one in asyncio.all_tasks()}
        assert [one for one in asyncio.all_tasks() if "SentinelServers" in repr(one.get_coro())] == [], names
        async with store:
            await sign_in(store)


class TestGuarantee:
    async def test_it_is_best_effort_and_says_for_how_many_replicas_a_revocation_waits(self, watched: Watched) -> None:
        async with RedisStore(watched.url) as store:
            guarantee = await store.guarantee()
        assert guarantee.level == GuaranteeLevel.BEST_EFFORT
        assert len(guarantee.reasons) == 1
        assert "waits for 1" in guarantee.reasons[0]
        assert guarantee.settings["min-replicas-to-write"] == "0"

    async def test_where_no_replica_is_waited_for_it_says_what_a_primary_that_stands_alone_may_lose(
        self, watched: Watched
    ) -> None:
        async with RedisStore(f"{watched.url}?replicas=0&sentinels=any") as store:
            for least, said in (("0", "as long as it stands alone"), ("1", "about 10 seconds")):
                watched.primary.ask("CONFIG SET", "min-replicas-to-write", least)
                reasons = (await store.guarantee()).reasons
                assert any(said in reason for reason in reasons)
                assert any("sentinels is any" in reason for reason in reasons)
            watched.primary.ask("CONFIG SET", "min-replicas-to-write", "0")


class TestSecrets:
    """Sentinels have users, passwords and certificates of their own."""

    async def test_the_password_of_the_sentinels_is_another_than_that_of_the_servers(self) -> None:
        with Watched(requirepass=PASSWORD, sentinels=1, sentinel_settings={"requirepass": OF_SENTINELS}) as watched:
            assert f":{PASSWORD}@" in watched.url
            assert watched.url.endswith(f"?sentinel_password={OF_SENTINELS}")
            async with (
                RedisStore(watched.url, timeout_seconds=PATIENCE) as store,
                RedisStore(watched.url) as other,
                Listening(other) as listening,
            ):
                await store.end_user_sessions(ADA)
                assert await listening.next() == Announcement(ADA)
            for given in ("", f"?sentinel_password={PASSWORD}"):
                with pytest.raises(ConfigurationError, match="sentinel_username and sentinel_password") as caught:
                    await RedisStore(f"{watched.url.partition('?')[0]}{given}").open()
                assert PASSWORD not in str(caught.value)

    async def test_the_documented_rights_at_a_sentinel_are_enough_and_needed(self) -> None:
        with Watched(sentinels=1) as watched:
            (sentinel,) = watched.sentinels
            sentinel.ask("ACL SETUSER", "app", "reset", "on", f">{OF_SENTINELS}", *RIGHTS_AT_A_SENTINEL)
            url = f"{watched.url}?sentinel_username=app&sentinel_password={OF_SENTINELS}"
            async with RedisStore(url, timeout_seconds=PATIENCE) as store:
                await read_present(store, (await sign_in(store)).id)
                await _in_thread(until, lambda: len(sentinel.ask("CLIENT LIST", "TYPE", "pubsub")) == 1)
            # Without these two a failover is followed a second later.
            for rule in set(RIGHTS_AT_A_SENTINEL) - {"+subscribe", "&+switch-master"}:
                sentinel.ask("ACL SETUSER", "app", rule.replace("+", "-", 1))
                with pytest.raises(ConfigurationError, match="want another user or password"):
                    await RedisStore(url).open()
                sentinel.ask("ACL SETUSER", "app", rule)

    @pytest.mark.extended
    async def test_sentinels_and_servers_are_reached_over_tls(self, tmp_path: Path) -> None:
        """Here each has another port for it, and the sentinels know only the first: `remap` gives the second."""
        authority, files = trustme.CA(), {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(files["ca"])
        issued.cert_chain_pems[0].write_to_path(files["cert"])
        issued.private_key_pem.write_to_path(files["key"])
        tls = {"tls-cert-file": files["cert"], "tls-key-file": files["key"], "tls-ca-cert-file": files["ca"]}
        tls["tls-auth-clients"] = "no"
        of_sentinel = {name.replace("-", "_"): value for name, value in tls.items()} | {"tls_port": str(free_port())}
        with Watched(sentinels=1, sentinel_settings=of_sentinel) as watched:
            ports = {watched.sentinels[0].port: int(of_sentinel["tls_port"])}
            for server in watched.servers:
                ports[server.port] = free_port()
                options = tls | {"tls-port": str(ports[server.port])}
                server.ask("CONFIG SET", *(word for option in options.items() for word in option))

            def remap(address: Address) -> Address:
                return Address(address.host, ports[address.port])

            url = f"{watched.url.replace('redis+', 'rediss+')}?ca_certs={files['ca']}"
            async with (
                RedisStore(url, remap=remap, timeout_seconds=PATIENCE) as store,
                RedisStore(url, remap=remap) as other,
                Listening(other) as listening,
            ):
                await store.end_user_sessions(ADA)
                assert await listening.next() == Announcement(ADA)
            with pytest.raises(ConfigurationError, match="the server's certificate is not trusted"):
                await RedisStore(url.partition("?")[0], remap=remap).open()


@asynccontextmanager
async def _line_to_sentinels(
    watched: Watched,
) -> AsyncIterator[tuple[str, Callable[[Address], Address], list[Proxy]]]:
    """A URL and a `remap` by which each sentinel is reached through a proxy."""
    async with AsyncExitStack() as stack:
        proxies = {one.port: await stack.enter_async_context(Proxy(one.port)) for one in watched.sentinels}
        places = {Address("127.0.0.1", port): Address("127.0.0.1", proxy.port) for port, proxy in proxies.items()}
        yield watched.url, lambda address: places.get(address, address), list(proxies.values())
