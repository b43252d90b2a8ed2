"""The ways in which a start on Redis can fail."""

from __future__ import annotations

import asyncio
import os
import pwd
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trustme

from coatcheck import GuaranteeLevel, StoreUnavailable
from coatcheck.identifiers import SHARDS
from coatcheck.stores.redis.store import RedisStore
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer
from tests.servers.redis_sentinel import SERVICE
from tests.servers.scripted_redis import ScriptedRedis
from tests.starts.ways import OF_SENTINELS, SECRET, WRONG, Certified, Places, Ways
from tests.stores.redis.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from coatcheck.stores.store import Store

REDIS = Ways()
SENTINEL = Ways()

_QUICK_SECONDS = 1.0
_RIGHTS = ("~coatcheck:*", "&coatcheck:*", "+@all")


@contextmanager
def _server(**settings: str) -> Iterator[RedisServer]:
    with RedisServer(requirepass=SECRET, **settings) as server:
        yield server


@contextmanager
def _server_with_tls(files: Certified, *, wants_client: bool = False, versions: str = '""') -> Iterator[str]:
    """The place of a server that speaks TLS, as it stands in a URL."""
    port = free_port()
    with _server(
        tls_port=str(port),
        tls_cert_file=str(files.cert),
        tls_key_file=str(files.key),
        tls_ca_cert_file=str(files.ca),
        tls_auth_clients="yes" if wants_client else "no",
        tls_protocols=versions,
    ):
        yield f":{SECRET}@localhost:{port}"


# --- outages: waiting may help ---


@REDIS.fail("cannot be opened", "127.0.0.1:", "ConnectionError", error=StoreUnavailable)
async def nothing_listens_there(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"redis://:{SECRET}@127.0.0.1:{free_port()}"


@REDIS.fail("cannot be opened", "no-such-host.invalid:6379", error=StoreUnavailable)
async def the_host_is_not_known(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"redis://:{SECRET}@no-such-host.invalid:6379"


@REDIS.fail("cannot be opened", "/no/such/redis.sock", error=StoreUnavailable)
async def the_socket_is_not_there(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield "unix:///no/such/redis.sock"


@REDIS.fail("cannot be opened", "127.0.0.1:", "TimeoutError", error=StoreUnavailable)
async def the_server_is_silent(places: Places) -> AsyncIterator[Store]:  # noqa: ARG001
    with _server() as server:
        server.pause()
        yield RedisStore(server.url, timeout_seconds=_QUICK_SECONDS)


@REDIS.fail("cannot be opened", "127.0.0.1:", "LOADING", error=StoreUnavailable)
async def the_server_is_reading_its_data(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    async with ScriptedRedis(INFO=b"-LOADING Redis is loading the dataset in memory\r\n") as server:
        yield server.url


@REDIS.fail("cannot be opened", "127.0.0.1:", "ResponseError", error=StoreUnavailable)
async def the_server_is_busy_with_a_script(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    busy = b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
    async with ScriptedRedis(SELECT=busy, PING=busy, INFO=busy) as server:
        yield server.url.replace("/0", "/9")


@REDIS.fail("is a replica", "store URL must name the primary", error=StoreUnavailable)
async def the_server_is_a_replica(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as primary, _server(replicaof=f"127.0.0.1 {primary.port}", masterauth=SECRET) as replica:
        until(lambda: replica.ask("INFO", "replication")["master_link_status"] == "up")
        yield replica.url


# --- user, password, rights ---


@REDIS.fail("user name and password of the store URL")
async def the_password_is_wrong(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        yield server.url.replace(SECRET, WRONG)


@REDIS.fail("user name and password of the store URL")
async def the_user_is_unknown(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        yield server.url.replace(f":{SECRET}", f"nobody:{SECRET}")


@REDIS.fail("user name and password of the store URL")
async def the_password_is_missing(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        yield server.url.replace(f":{SECRET}@", "")


@REDIS.fail("user name and password of the store URL")
async def the_server_has_no_password(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with RedisServer() as server:
        yield server.url.replace("//", f"//:{WRONG}@")


@REDIS.fail("user name and password of the store URL")
async def the_members_of_a_cluster_want_another_password(places: Places) -> AsyncIterator[str]:
    yield places.shared.cluster.url.replace(SECRET, WRONG)


@REDIS.fail("may not run INCR, HSET;", "docs/how-to/redis.md", "ACL SETUSER")
async def the_user_may_not_run_a_command_of_the_scripts(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        server.ask("ACL SETUSER", "app", "on", f">{SECRET}", *_RIGHTS, "-incr", "-hset")
        yield server.url.replace(":hunter", "app:hunter")


@REDIS.fail("may not run ROLE;", "docs/how-to/redis.md", "ACL SETUSER")
async def the_user_may_not_run_a_command(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        server.ask("ACL SETUSER", "app", "on", f">{SECRET}", *_RIGHTS, "-role")
        yield server.url.replace(":hunter", "app:hunter")


@REDIS.fail("may not run EVALSHA and EVAL;", "ACL SETUSER ... ~notes:*")
async def the_user_may_not_use_the_keys(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        server.ask("ACL SETUSER", "app", "on", f">{SECRET}", *_RIGHTS, "&notes:*")
        yield f"{server.url.replace(':hunter', 'app:hunter')}?prefix=notes"


@REDIS.fail("may not run PUBLISH;", "&coatcheck:*")
async def the_user_may_not_use_the_channel(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        server.ask("ACL SETUSER", "app", "on", f">{SECRET}", "~coatcheck:*", "+@all")
        yield server.url.replace(":hunter", "app:hunter")


@REDIS.fail("may not run CLUSTER INFO and CLUSTER SLOTS;", "docs/how-to/redis.md", "+cluster|info +cluster|slots")
async def the_user_may_not_ask_for_the_members_of_a_cluster(places: Places) -> AsyncIterator[str]:
    cluster = places.shared.cluster
    for node in cluster.nodes:
        node.ask("ACL SETUSER", "app", "on", f">{SECRET}", *_RIGHTS, "-cluster")
    yield cluster.url.replace(":hunter", "app:hunter")


@REDIS.fail("protected mode", "requirepass")
async def the_server_is_in_protected_mode(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    """A server on loopback never says so to us: these are its words to other machines."""
    refusal = b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n"

    async def deny(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(refusal)
        writer.close()

    async with await asyncio.start_server(deny, "127.0.0.1", free_port()) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@REDIS.fail("may not use the socket", "unixsocketperm")
async def the_socket_is_another_accounts(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    account = os.geteuid()
    with (
        tempfile.TemporaryDirectory(prefix="coatcheck-") as folder,  # a socket's path must be short
        _server(unixsocket=f"{folder}/redis.sock", unixsocketperm="000"),
    ):
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 (another account is to come as far as the socket)
        try:
            if account == 0:  # who may use every socket
                os.seteuid(pwd.getpwnam("nobody").pw_uid)
            yield f"unix://{folder}/redis.sock"
        finally:
            os.seteuid(account)


# --- the wrong server, or the wrong kind of URL ---


@REDIS.fail("has a database 99", "`databases`")
async def the_database_is_missing(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        yield server.url.replace("/0", "/99")


@REDIS.fail("Redis 6.2.14; 7.0 or newer", "127.0.0.1:")
async def the_server_is_too_old(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    info = b"redis_version:6.2.14\r\nrole:master\r\ncluster_enabled:0\r\n"
    async with ScriptedRedis(INFO=b"$%d\r\n%s\r\n" % (len(info), info)) as server:
        yield server.url


@REDIS.fail("a member of a Cluster", "store URL must begin with redis+cluster://")
async def the_server_is_a_member_of_a_cluster(places: Places) -> AsyncIterator[str]:
    yield places.shared.cluster.nodes[0].url


@REDIS.fail("no member of a Cluster", "store URL must begin with redis://")
async def the_server_is_no_member_of_a_cluster(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        yield server.url.replace("redis:", "redis+cluster:")


@REDIS.fail("no server of Redis", "host and port of the store URL")
async def the_port_is_another_programs(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with suppress(OSError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", free_port()) as server:
        yield f"redis://:{SECRET}@127.0.0.1:{server.sockets[0].getsockname()[1]}"


@REDIS.fail("newer Coatcheck", "docs/how-to/upgrade.md")
async def the_data_are_those_of_a_newer_version(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server() as server:
        server.ask("HSET", f"coatcheck:{{{SHARDS[0]}}}:format", "version", 99, "lowest_code", 99)
        yield server.url


@REDIS.fail("promises", "maxmemory-policy", require=GuaranteeLevel.STRICT)
async def the_server_promises_less_than_is_required(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    with _server(maxmemory="100mb", maxmemory_policy="allkeys-lru", appendonly="yes") as server:
        yield server.url


@REDIS.fail("socket_timeout in the store URL is refused", "RedisStore(url, timeout_seconds=...)")
async def the_url_has_an_option_of_another_client(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"redis://:{SECRET}@127.0.0.1/0?socket_timeout=5"


# --- TLS ---


@REDIS.fail("speaks no TLS on this port", "tls-port", "store URL")
async def the_server_has_no_tls(places: Places) -> AsyncIterator[Store]:  # noqa: ARG001
    with _server() as server:
        yield RedisStore(server.url.replace("redis:", "rediss:"), timeout_seconds=10 * _QUICK_SECONDS)


@REDIS.fail("speaks TLS on this port", "store URL must begin with rediss://")
async def the_server_has_tls(places: Places) -> AsyncIterator[str]:
    with _server_with_tls(places.certified()) as place:
        yield f"redis://{place}"


@REDIS.fail("speaks TLS on this port", "store URL must begin with rediss://")
async def the_server_has_tls_and_wants_a_certificate(places: Places) -> AsyncIterator[str]:
    with _server_with_tls(places.certified(), wants_client=True) as place:
        yield f"redis://{place}"


@REDIS.fail("certificate is not trusted", "ca_certs in the store URL must name")
async def the_authority_is_not_the_systems(places: Places) -> AsyncIterator[str]:
    with _server_with_tls(places.certified()) as place:
        yield f"rediss://{place}"


@REDIS.fail("certificate is not trusted", "ca_certs in the store URL must name")
async def the_authority_is_not_that_of_the_url(places: Places) -> AsyncIterator[str]:
    with _server_with_tls(places.certified()) as place:
        yield f"rediss://{place}?ca_certs={places.another_ca()}"


@REDIS.fail("certificate is not trusted", "127.0.0.1", "write the host in the store URL")
async def the_certificate_is_for_another_name(places: Places) -> AsyncIterator[str]:
    files = places.certified()
    with _server_with_tls(files) as place:
        yield f"rediss://{place.replace('localhost', '127.0.0.1')}?ca_certs={files.ca}"


@REDIS.fail("certificate is not trusted", "expired", "renew it on the server")
async def the_certificate_has_expired(places: Places) -> AsyncIterator[str]:
    files = places.certified(is_expired=True)
    with _server_with_tls(files) as place:
        yield f"rediss://{place}?ca_certs={files.ca}"


@REDIS.fail("wants a client certificate", "ssl_certfile and ssl_keyfile")
async def the_clients_certificate_is_missing(places: Places) -> AsyncIterator[str]:
    files = places.certified()
    with _server_with_tls(files, wants_client=True) as place:
        yield f"rediss://{place}?ca_certs={files.ca}"


@REDIS.fail("refuses the TLS handshake", "client certificate", "ssl_certfile and ssl_keyfile")
async def the_clients_certificate_is_missing_in_an_older_version_of_tls(places: Places) -> AsyncIterator[str]:
    files = places.certified()
    with _server_with_tls(files, wants_client=True, versions="TLSv1.2") as place:
        yield f"rediss://{place}?ca_certs={files.ca}"


@REDIS.fail("refuses the client certificate", "UNKNOWN_CA", "ssl_certfile")
async def the_clients_certificate_is_refused(places: Places) -> AsyncIterator[str]:
    files = places.certified(clients_of=trustme.CA())
    with _server_with_tls(files, wants_client=True) as place:
        certificate = f"ssl_certfile={files.client_cert}&ssl_keyfile={files.client_key}"
        yield f"rediss://{place}?ca_certs={files.ca}&{certificate}"


@REDIS.fail("ssl_certfile in the store URL names a file that cannot be read", "/no/such.pem")
async def the_file_of_a_certificate_is_missing(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"rediss://:{SECRET}@localhost:{free_port()}?ssl_certfile=/no/such.pem&ssl_password={WRONG}"


# --- sentinels ---


@SENTINEL.fail("is a sentinel", "store URL must begin with redis+sentinel://")
async def the_server_is_a_sentinel(places: Places) -> AsyncIterator[str]:
    (sentinel,) = places.shared.sentinels.sentinels
    yield sentinel.url


@SENTINEL.fail("one of sentinels, and the server at 127.0.0.1:")
async def the_sentinel_is_none(places: Places) -> AsyncIterator[str]:
    yield f"redis+sentinel://127.0.0.1:{places.shared.sentinels.primary.port}/{SERVICE}?sentinel_password={SECRET}"


@SENTINEL.fail("do not know the service another", "127.0.0.1:")
async def the_sentinels_know_no_such_service(places: Places) -> AsyncIterator[str]:
    yield places.shared.sentinels.url.replace(f"/{SERVICE}", "/another")


@SENTINEL.fail("no sentinel of the service", "127.0.0.1:", error=StoreUnavailable)
async def no_sentinel_answers(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"redis+sentinel://:{SECRET}@127.0.0.1:{free_port()}/{SERVICE}?sentinel_password={OF_SENTINELS}"


@SENTINEL.fail("sentinel_username and sentinel_password in the store URL")
async def the_password_of_the_sentinels_is_wrong(places: Places) -> AsyncIterator[str]:
    yield places.shared.sentinels.url.replace(OF_SENTINELS, WRONG)


@SENTINEL.fail("user name and password of the store URL")
async def the_password_of_the_watched_servers_is_wrong(places: Places) -> AsyncIterator[str]:
    yield places.shared.sentinels.url.replace(SECRET, WRONG)


@SENTINEL.fail("speaks no TLS on this port", "store URL")
async def the_sentinels_have_no_tls(places: Places) -> AsyncIterator[str]:
    yield places.shared.sentinels.url.replace("redis+", "rediss+")


@SENTINEL.fail("it does not answer, or is a replica", "127.0.0.1:", error=StoreUnavailable)
async def the_primary_does_not_answer(places: Places) -> AsyncIterator[str]:
    watched = places.shared.sentinels
    primary = watched.primary
    primary.pause()
    try:
        yield watched.url
    finally:
        primary.resume()
