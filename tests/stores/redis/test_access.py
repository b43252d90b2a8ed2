"""The rights that a store needs, applications that share a server, encryption, and secrets that never show."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from coatcheck import (
    ConfigurationError,
    GuaranteeLevel,
    Pod,
    RevocationIndeterminate,
    ServerSideSessionsConfig,
    StoreUnavailable,
)
from coatcheck.scope import Scope
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import Rehash, SessionFilter, SessionUse
from coatcheck.stores.redis.store import RedisStore
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.samples import ADA, BOB, insert, key_of, new_session, read_present, register, sign_in, stored_ids
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer
from tests.servers.scripted_redis import ScriptedRedis
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.redis_cluster import RedisCluster

pytestmark = pytest.mark.redis

PASSWORD = "hunter2-geheim"
_DOCUMENTED = (Path(__file__).parents[3] / "docs" / "how-to" / "redis.md").read_text("utf-8")
LEAST = next(line for line in _DOCUMENTED.splitlines() if line.startswith("user app on")).split()[4:]
"""The rights of a user that only keeps sessions, as documented."""


class TestPrefixes:
    async def test_two_applications_on_one_server_do_not_see_each_other(self, redis_url: str) -> None:
        async with (
            RedisStore(f"{redis_url}?prefix=shop") as shop,
            RedisStore(f"{redis_url}?prefix=notes") as notes,
            Listening(notes) as listening,
        ):
            mine, theirs = await sign_in(shop), await sign_in(notes)
            assert await notes.read_session(mine.id) is None
            assert await stored_ids(notes) == {theirs.id}
            assert len((await shop.delete_sessions(SessionFilter())).ended) == 1
            await shop.end_user_sessions(ADA)
            await read_present(notes, theirs.id)
            assert await shop.try_lock("prune", "a", timedelta(minutes=1))
            assert await notes.try_lock("prune", "b", timedelta(minutes=1))
            async with RedisStore(f"{redis_url}?prefix=notes") as other:
                await other.end_user_sessions(ADA)
            assert await listening.next() == Announcement(ADA)  # and nothing of the shop's before it

    async def test_two_databases_of_one_server_do_not_see_each_other(self, redis_url: str) -> None:
        async with RedisStore(redis_url) as zero, RedisStore(redis_url.replace("/0", "/1")) as one:
            session = await sign_in(zero)
            assert await one.read_session(session.id) is None
            await sign_in(one)
            async with RedisStore(redis_url) as other, Listening(other) as listening:
                await one.end_user_sessions(ADA)
                await zero.end_user_sessions(BOB)
                assert await listening.next() == Announcement(BOB)  # and nothing of the other one's before it


class TestAccessRules:
    @pytest.fixture
    def server(self, redis_server: RedisServer) -> RedisServer:
        redis_server.ask("ACL SETUSER", "sessions", "reset", "on", f">{PASSWORD}", "-@all", *LEAST)
        return redis_server

    def _url(self, server: RedisServer, query: str = "") -> str:
        return f"redis://sessions:{PASSWORD}@127.0.0.1:{server.port}/0{query}"

    async def test_the_documented_access_rules_are_enough(self, server: RedisServer) -> None:
        async with RedisStore(self._url(server)) as store, RedisStore(self._url(server)) as other:
            async with Listening(other) as listening:
                await register(store, ADA, scopes={"a", "b"})
                session = await insert(
                    store, new_session(scopes={"a"}, lifetime_us=10**9, expire_after_unused_for_us=10**9)
                )
                second = await insert(store, new_session(replaces=session.id))
                assert await listening.next() == Announcement(ADA, session.id)
            await store.touch_sessions([SessionUse(second.id, second.created_at_us + 1)])
            await store.rehash_sessions([Rehash(second.id, second.key, key_of("new"))])
            await store.set_session_scopes(second.id, frozenset({Scope("c")}))
            await store.set_user_scopes(ADA, frozenset({Scope("a")}))
            assert await stored_ids(store) == await stored_ids(store, ADA) == {second.id}
            assert [user.id for user in await store.list_users()] == [ADA]
            assert await store.count_by_pepper()
            await store.prune_expired(10)
            await store.prune_idle(None, 10)
            assert await store.try_lock("prune", "a", timedelta(minutes=1))
            await store.delete_sessions(SessionFilter(user_id=ADA))
            await store.update_user(ADA, blocked=True)
            await store.delete_user(ADA)

    @pytest.mark.parametrize("rule", sorted(set(LEAST) - {"+select", "+wait"}))
    async def test_each_documented_access_rule_is_needed(self, rule: str, server: RedisServer) -> None:
        """Without it the store does not open, or some call is an outage.

        Not here: other databases and ?replicas= are not used.
        """
        less = [each for each in LEAST if each != rule]
        server.ask("ACL SETUSER", "sessions", "reset", "on", f">{PASSWORD}", "-@all", *less)
        with pytest.raises((StoreUnavailable, ConfigurationError)):
            await self._do_everything(self._url(server))

    @pytest.mark.parametrize(
        "rule", ["&coatcheck:*", "+publish", "+role", "+info", "+wait", "+incr", "+hset", "+subscribe"]
    )
    async def test_opening_fails_without_the_rights_that_only_revocations_need(
        self, rule: str, server: RedisServer
    ) -> None:
        """A user has no channels by default: every sign-in would succeed, and every revocation fail."""
        less = [each for each in LEAST if each != rule]
        server.ask("ACL SETUSER", "sessions", "reset", "on", f">{PASSWORD}", "-@all", *less)
        with pytest.raises(ConfigurationError, match=r"may not run [A-Z]+; docs/how-to/redis\.md"):
            await RedisStore(self._url(server, "?replicas=1")).open()

    async def test_wait_need_not_be_allowed_where_no_replica_is_waited_for(self, server: RedisServer) -> None:
        server.ask("ACL SETUSER", "sessions", "-wait")
        async with RedisStore(self._url(server)) as store:
            await store.end_user_sessions(ADA)

    async def _do_everything(self, url: str) -> None:
        async with RedisStore(url) as store:
            await register(store, ADA, scopes={"a", "b"})
            session = await insert(store, new_session(lifetime_us=1, scopes={"a"}))
            await insert(store, new_session())  # looks after what has gone from the index
            await store.read_session(session.id)
            await store.touch_sessions([SessionUse(session.id, session.created_at_us + 1)])
            await store.set_session_scopes(session.id, frozenset())
            await store.set_user_scopes(ADA, frozenset())
            await store.list_users()
            assert len((await store.prune_expired(10)).ended) == 1
            await store.delete_sessions(SessionFilter(user_id=ADA))
            await store.end_user_sessions(ADA)

    async def test_keys_of_others_are_out_of_reach(self, server: RedisServer) -> None:
        server.ask("ACL SETUSER", "sessions", "&shop:*")
        with pytest.raises(ConfigurationError, match=r"may not run EVALSHA and EVAL; .*~shop:"):
            await RedisStore(self._url(server, "?prefix=shop")).open()
        server.ask("ACL SETUSER", "sessions", "~shop:*")
        async with RedisStore(self._url(server, "?prefix=shop")) as store:
            server.ask("ACL SETUSER", "sessions", "resetkeys")
            with pytest.raises(StoreUnavailable, match=r"NoPermissionError|NOPERM"):
                await store.read_session(new_session().id)
            with pytest.raises(StoreUnavailable) as caught:
                await store.end_user_sessions(ADA)
            assert not isinstance(caught.value, RevocationIndeterminate)

    async def test_the_guarantee_assumes_no_setting_where_config_get_is_not_allowed(self, server: RedisServer) -> None:
        server.ask("CONFIG SET", "maxmemory-policy", "allkeys-lru")  # this is told with INFO
        async with RedisStore(self._url(server)) as store:
            guarantee = await store.guarantee()
        assert guarantee.level == GuaranteeLevel.BEST_EFFORT
        assert ["allkeys-lru" in reason for reason in guarantee.reasons] == [True, False]
        assert "CONFIG GET" in guarantee.reasons[1]

    async def test_the_guarantee_has_the_settings_where_config_get_is_allowed(self, server: RedisServer) -> None:
        server.ask("ACL SETUSER", "sessions", "+config|get")
        async with RedisStore(self._url(server)) as store:
            guarantee = await store.guarantee()
        assert guarantee.settings["appendonly"] == guarantee.settings["no-appendfsync-on-rewrite"] == "no"

    @pytest.mark.parametrize("given", [f"sessions:{PASSWORD}-wrong@", f"nobody:{PASSWORD}@"])
    async def test_a_wrong_user_or_password_at_the_start_is_no_outage_and_is_not_repeated(
        self, server: RedisServer, given: str
    ) -> None:
        store = RedisStore(self._url(server).replace(f"sessions:{PASSWORD}@", given))
        with pytest.raises(ConfigurationError, match="check user name and password of the store URL") as caught:
            await store.open()
        assert repr(store) in str(caught.value)
        assert PASSWORD not in _chain(caught.value)

    async def test_a_database_that_the_server_does_not_have_is_no_outage(self, redis_server: RedisServer) -> None:
        store = RedisStore(f"redis://127.0.0.1:{redis_server.port}/99")
        with pytest.raises(ConfigurationError, match="check that it has a database 99"):
            await store.open()

    async def test_a_password_that_is_changed_while_the_store_is_open_is_an_outage(self, server: RedisServer) -> None:
        async with RedisStore(self._url(server)) as store:
            server.ask("ACL SETUSER", "sessions", "resetpass", ">another")
            server.ask("CLIENT KILL", "USER", "sessions")
            with pytest.raises(StoreUnavailable, match=r"\(AuthenticationError\)$"):
                await store.read_user(ADA)

    async def test_a_cluster_needs_two_more_access_rules(self, shared_redis_cluster: RedisCluster) -> None:
        cluster = shared_redis_cluster
        more = ("+cluster|info", "+cluster|slots")
        url = cluster.url.replace("://", f"://sessions:{PASSWORD}@")
        for node in cluster.nodes:
            node.ask("ACL SETUSER", "sessions", "reset", "on", f">{PASSWORD}", "-@all", *LEAST, *more)
        await self._do_everything(url)
        for rule in more:
            for node in cluster.nodes:
                node.ask("ACL SETUSER", "sessions", rule.replace("+", "-"))
            with pytest.raises(ConfigurationError, match="may not run CLUSTER INFO and CLUSTER SLOTS"):
                await self._do_everything(url)
            for node in cluster.nodes:
                node.ask("ACL SETUSER", "sessions", rule)


class TestEncryption:
    AUTHORITY = trustme.CA()

    @pytest.fixture
    def ca_certs(self, tmp_path: Path) -> str:
        path = tmp_path / "ca.pem"
        self.AUTHORITY.cert_pem.write_to_path(path)
        return str(path)

    @pytest.fixture
    def tls_port(self, tls_server: RedisServer) -> int:
        return int(tls_server.ask("CONFIG GET", "tls-port")["tls-port"])

    @pytest.fixture
    def tls_server(self, tmp_path: Path, ca_certs: str) -> Iterator[RedisServer]:
        """A server whose certificate is for the name localhost."""
        certificate, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
        issued = self.AUTHORITY.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        with RedisServer(
            tls_port=str(port),
            tls_cert_file=str(certificate),
            tls_key_file=str(key),
            tls_ca_cert_file=ca_certs,
            tls_auth_clients="no",
        ) as server:
            yield server

    async def test_an_encrypted_server_is_a_store_like_any_other(self, tls_port: int, ca_certs: str) -> None:
        async with RedisStore(f"rediss://localhost:{tls_port}?ca_certs={ca_certs}") as store:
            session = await sign_in(store)
            await read_present(store, session.id)
            async with (
                RedisStore(f"rediss://localhost:{tls_port}?ca_certs={ca_certs}") as other,
                Listening(other) as heard,
            ):
                assert len((await store.end_user_sessions(ADA)).ended) == 1
                assert await heard.next() == Announcement(ADA)

    async def test_the_certificates_of_the_system_do_not_count_beside_those_of_the_url(
        self, tls_port: int, ca_certs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        monkeypatch.setenv("SSL_CERT_FILE", ca_certs)  # where the system's are
        async with RedisStore(f"rediss://localhost:{tls_port}"):
            pass
        with pytest.raises(ConfigurationError, match="certificate is not trusted"):
            await RedisStore(f"rediss://localhost:{tls_port}?ca_certs={other}").open()

    async def test_the_name_in_the_certificate_need_not_be_checked_where_the_url_names_its_file(
        self, tls_port: int, ca_certs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As for a hoster whose certificates are signed by one of its own, and have other names."""
        url = f"rediss://127.0.0.1:{tls_port}?ssl_check_hostname=false&ssl_ca_certs="
        async with RedisStore(f"{url}{ca_certs}") as store:
            await read_present(store, (await sign_in(store)).id)
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        monkeypatch.setenv("SSL_CERT_FILE", ca_certs)
        with pytest.raises(ConfigurationError, match="certificate is not trusted"):
            await RedisStore(f"{url}{other}").open()

    @pytest.fixture
    def client_files(self, tmp_path: Path) -> tuple[Path, Path, Path]:
        """A client's certificate, its key, and the key once more, encrypted."""
        issued = self.AUTHORITY.issue_cert("client")
        files = tmp_path / "client.pem", tmp_path / "client.key", tmp_path / "encrypted.key"
        issued.cert_chain_pems[0].write_to_path(files[0])
        issued.private_key_pem.write_to_path(files[1])
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        encryption = BestAvailableEncryption(PASSWORD.encode())
        files[2].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return files

    async def test_a_client_certificate_is_shown_where_the_server_wants_one(
        self, tls_server: RedisServer, tls_port: int, ca_certs: str, client_files: tuple[Path, Path, Path]
    ) -> None:
        tls_server.ask("CONFIG SET", "tls-auth-clients", "yes")
        certificate, key, encrypted = client_files
        url = f"rediss://localhost:{tls_port}?ca_certs={ca_certs}"
        with pytest.raises(ConfigurationError, match="wants a client certificate"):
            await RedisStore(url).open()
        for key_options in (f"ssl_keyfile={key}", f"ssl_keyfile={encrypted}&ssl_password={PASSWORD}"):
            async with RedisStore(f"{url}&ssl_certfile={certificate}&{key_options}") as store, Listening(store):
                await read_present(store, (await sign_in(store)).id)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ("ca_certs=/no/such.pem", "ca_certs .* cannot be read"),
            ("ssl_certfile=/no/such.pem", "ssl_certfile .* cannot be read"),
            ("ssl_certfile={certificate}&ssl_keyfile=/no/such.key", "ssl_keyfile .* cannot be read"),
            ("ca_certs={key}", "without what belongs there"),
            ("ssl_certfile={certificate}", "without what belongs there"),
            ("ssl_certfile={certificate}&ssl_keyfile={encrypted}&ssl_password=wrong", "ssl_password is not the key's"),
            ("ssl_certfile={certificate}&ssl_keyfile={encrypted}", "ssl_password is not the key's"),
        ],
    )
    async def test_a_file_that_cannot_be_used_is_named_before_anything_is_connected(
        self, options: str, said: str, client_files: tuple[Path, Path, Path]
    ) -> None:
        certificate, key, encrypted = client_files
        given = options.format(certificate=certificate, key=key, encrypted=encrypted)
        with pytest.raises(ConfigurationError, match=said) as caught:
            await RedisStore(f"rediss://localhost:{free_port()}?{given}").open()
        assert "wrong" not in _chain(caught.value)

    async def test_a_file_that_goes_later_is_an_outage_also_for_listeners(self, tls_port: int, ca_certs: str) -> None:
        """Certificates that are renewed may be away for a moment."""
        async with RedisStore(f"rediss://localhost:{tls_port}?ca_certs={ca_certs}") as store:
            _move(ca_certs, f"{ca_certs}.away")
            async with asyncio.timeout(30):
                listening = asyncio.ensure_future(anext(store.announcements()))
                with pytest.raises(StoreUnavailable):
                    await store.end_user_sessions(ADA)  # by a connection that is not made yet
                _move(f"{ca_certs}.away", ca_certs)
                assert await listening is None  # it has begun
                await store.end_user_sessions(ADA)


class TestSockets:
    async def test_a_store_is_reached_through_a_unix_socket(self) -> None:
        with (
            tempfile.TemporaryDirectory(prefix="coatcheck-") as folder,  # a socket's path must be short
            RedisServer(unixsocket=f"{folder}/redis.sock", requirepass=PASSWORD),
        ):
            for url in (
                f"unix://:{PASSWORD}@{folder}/redis.sock?db=2",
                f"redis+socket://{folder}/redis.sock?password={PASSWORD}&virtual_host=2",
            ):
                async with RedisStore(url) as store, RedisStore(url) as other, Listening(other) as listening:
                    session = await sign_in(store)
                    await read_present(other, session.id)
                    await store.end_user_sessions(ADA)
                    assert await listening.next() == Announcement(ADA)
                assert repr(store) == f"RedisStore({folder}/redis.sock/2)"

    async def test_a_socket_that_is_not_there_is_an_outage(self) -> None:
        with pytest.raises(StoreUnavailable):
            await RedisStore("unix:///no/such/redis.sock").open()


class TestSecrets:
    SECRET = b"a-secret-hash-that-nobody-sees"

    @pytest.fixture
    def records(self, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
        caplog.set_level(logging.DEBUG)
        for name in ("asyncio", "redis", "coatcheck", "push_response"):
            caplog.set_level(logging.DEBUG, logger=name)
        return caplog

    async def test_no_hash_is_in_a_log_of_the_debug_mode(
        self, redis_server: RedisServer, records: pytest.LogCaptureFixture
    ) -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0  # everything is slow, and told of
        try:
            url = f"redis://:{PASSWORD}@127.0.0.1:{redis_server.port}/0"
            redis_server.ask("CONFIG SET", "requirepass", PASSWORD)
            async with RedisStore(url) as store:
                session = await sign_in(store, key=key_of(self.SECRET.decode()))
                await store.read_session(session.id)
                await store.list_sessions(SessionFilter())
                await store.rehash_sessions([Rehash(session.id, session.key, key_of("new " + self.SECRET.decode()))])
                await store.set_session_scopes(session.id, frozenset({Scope("a")}))
                redis_server.kill()
                for call in (store.read_session(session.id), store.end_user_sessions(ADA)):
                    with pytest.raises(StoreUnavailable):
                        await call
        finally:
            loop.set_debug(False)
        assert records.records, "the debug mode has told of nothing"
        assert self.SECRET.decode() not in records.text
        assert PASSWORD not in records.text

    async def test_no_error_repeats_what_was_sent_whatever_the_server_says(self) -> None:
        """Some errors of Redis quote the command that they refuse."""

        def quoting(command: list[bytes]) -> bytes:
            return (
                b"-ERR unknown command, with args beginning with: " + b" ".join(command).replace(b"\r\n", b"") + b"\r\n"
            )

        answers = dict.fromkeys(("EVALSHA", "EVAL", "MGET", "HMGET"), quoting)
        async with ScriptedRedis(**answers) as server, RedisStore(server.url) as store:
            session = new_session(key=key_of(self.SECRET.decode()))
            for call in (
                store.insert_session(session, expected_revocations=0, expected_rescopes=None),
                store.rehash_sessions([Rehash(session.id, session.key, key_of("new"))]),
                store.read_session(session.id),
                store.end_user_sessions(ADA),
            ):
                with pytest.raises(StoreUnavailable) as caught:
                    await call
                said = _chain(caught.value)
                assert self.SECRET.decode() not in said
                assert str(session.id) not in said


@pytest.mark.parametrize("hook", ["on_session_created", "before_user_created", "after_user_created"])
def test_a_hook_that_would_run_inside_a_transaction_is_refused_by_its_name(hook: str) -> None:
    async def anything(*_: object) -> None:
        """Never called."""

    pod = Pod("redis://127.0.0.1:1/0", environ={}, config_dir="none", prune_interval=None)
    of_sessions = {hook: anything} if hook == "on_session_created" else {}
    of_users = {hook: anything} if hook != "on_session_created" else {}
    with pytest.raises(ConfigurationError, match=hook):
        pod.initialize_auth_services(
            token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER, **of_sessions)],  # type: ignore[arg-type]
            **of_users,  # type: ignore[arg-type]
        )


def _move(before: str, after: str) -> None:
    Path(before).rename(after)


def _chain(error: BaseException | None) -> str:
    """Everything that a log with tracebacks would show of an error."""
    said = ""
    while error is not None:
        said += f"{error!r} {error}"
        error = error.__cause__ or error.__context__
    return said
