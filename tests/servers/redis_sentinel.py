"""A primary, its replicas and the sentinels that watch over them, on free loopback ports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from tests.servers.ports import free_port
from tests.servers.redis import Program, RedisServer, credentials, scheme
from tests.servers.removable import Removable

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE = "sessions"
_SETTLE_SECONDS = 40


class Sentinel(RedisServer):
    """One sentinel."""

    arguments = ("--sentinel",)

    @property
    def primary_port(self) -> int:
        """Where it says that the primary is."""
        _, port = self.ask("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port)

    @property
    def epoch(self) -> int:
        """Of the latest failover that it has seen."""
        return int(self.ask("SENTINEL MASTER", SERVICE)["config-epoch"])


class Watched(Removable):
    """Servers and their sentinels. Every call blocks until it is done, also within an event loop."""

    def __init__(
        self,
        program: Program = "redis-server",
        /,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        down_after_ms: int = 60_000,
        sentinel_settings: dict[str, str] | None = None,
        **settings: str,
    ) -> None:
        """Start all of them, in about three seconds.

        After `down_after_ms` without an answer a server counts as down, and a replica takes over by itself. It is
        long, so that nothing happens but by the test's own hand. `settings` are those of the servers with data;
        with a password (`requirepass`) they know it of each other too.
        """
        self._program = program
        self._password = settings.get("requirepass")
        self._password_of_sentinels = (sentinel_settings or {}).get("requirepass")
        if self._password is not None:
            settings = {"masterauth": self._password, **settings}
        self.servers: list[RedisServer] = []
        self.sentinels: list[Sentinel] = []
        try:
            primary = RedisServer(program, repl_diskless_sync_delay="0", **settings)
            self.servers.append(primary)
            for _ in range(replicas):
                follows = {"replicaof": f"127.0.0.1 {primary.port}", "repl_diskless_sync_delay": "0"}
                self.servers.append(RedisServer(program, port=str(free_port()), **follows, **settings))
            for _ in range(sentinels):
                sentinel = Sentinel(program, port=str(free_port()), **(sentinel_settings or {}))
                self.sentinels.append(sentinel)
                sentinel.ask("SENTINEL MONITOR", SERVICE, "127.0.0.1", primary.port, sentinels // 2 + 1)
                self._set(sentinel, "down-after-milliseconds", down_after_ms)
                # A failover that finds no replica is tried again after twice this time.
                self._set(sentinel, "failover-timeout", 2000)
                if self._password is not None:
                    sentinel.ask("SENTINEL SET", SERVICE, "auth-pass", self._password)
            self.wait_until_settled()
        except BaseException:
            self.remove()
            raise

    @property
    def url(self) -> str:
        """The addresses of all sentinels, the service, and the passwords if there are any, for a client."""
        return self.url_by(*self.sentinels)

    def url_by(self, *sentinels: Sentinel) -> str:
        """The same with the addresses of these."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in sentinels)
        of_sentinels = f"?sentinel_password={self._password_of_sentinels}" if self._password_of_sentinels else ""
        return f"{scheme(self._program)}+sentinel://{credentials(self._password)}{hosts}/{SERVICE}{of_sentinels}"

    @property
    def primary(self) -> RedisServer:
        """The server that the latest failover has made the primary, as the sentinels that answer say."""
        latest = max((one for one in self.sentinels if one.is_answering), key=lambda one: one.epoch)
        return self.server_at(latest.primary_port)

    @property
    def replica(self) -> RedisServer:
        """A server that is not the primary."""
        primary = self.primary
        return next(one for one in self.servers if one is not primary)

    def server_at(self, port: int) -> RedisServer:
        return next(one for one in self.servers if one.port == port)

    def set_down_after(self, milliseconds: int) -> None:
        """Let silent servers, and silent sentinels, count as down after this time."""
        for sentinel in self.sentinels:
            self._set(sentinel, "down-after-milliseconds", milliseconds)

    def fail_over(self) -> RedisServer:
        """Have a sentinel promote a replica by hand, wait until every sentinel knows, and give the new primary."""
        old = self.primary
        answering = [one for one in self.sentinels if one.is_answering]
        self._wait_until(lambda: _accepts_failover(answering[0]), "a sentinel's consent to a failover")
        return self.wait_for_failover(old)

    def wait_for_failover(self, old: RedisServer) -> RedisServer:
        """Wait until every sentinel that answers knows that `old` was replaced, and give the new primary."""
        answering = [one for one in self.sentinels if one.is_answering]
        self._wait_until(lambda: all(one.primary_port != old.port for one in answering), "the failover")
        return self.primary

    def cut_off(self, replica: RedisServer) -> None:
        """Pause `replica` so that it misses what is written from now on, also what is on its way when it resumes."""
        replica.pause()
        self.primary.ask("CLIENT KILL", "TYPE", "replica")  # others come back by themselves

    def wait_until_settled(self) -> None:
        """Start and resume everything, and wait until it is in order: all agree, replicate, and see each other."""
        for one in (*self.servers, *self.sentinels):
            one.resume()
            if not one.is_answering:
                one.start()
        self._wait_until(self._is_settled, "servers and sentinels")

    def wait_until_priority_is_known(self, replica: RedisServer, priority: int) -> None:
        """Wait until every sentinel has read the `replica-priority` of a replica. It looks every ten seconds."""
        self._wait_until(
            lambda: all(
                one["slave-priority"] == str(priority)
                for sentinel in self.sentinels
                for one in sentinel.ask("SENTINEL REPLICAS", SERVICE)
                if int(one["port"]) == replica.port
            ),
            "the sentinels' next look at a replica",
        )

    def flush(self) -> None:
        """Forget all keys and all scripts, on the replicas too."""
        self.primary.ask("FLUSHALL")
        for server in self.servers:
            server.ask("SCRIPT FLUSH")

    def remove(self) -> None:
        """Stop all of them and remove their data."""
        for one in (*self.sentinels, *self.servers):
            one.remove()

    def _is_settled(self) -> bool:
        views = [one.ask("SENTINEL MASTER", SERVICE) for one in self.sentinels]
        if len({(view["port"], view["config-epoch"], tuple(sorted(view["flags"].split(",")))) for view in views}) != 1:
            return False
        if views[0]["flags"] != "master" or any(one.primary_port != int(views[0]["port"]) for one in self.sentinels):
            return False
        for sentinel in self.sentinels:
            others = sentinel.ask("SENTINEL SENTINELS", SERVICE)
            replicas = sentinel.ask("SENTINEL REPLICAS", SERVICE)
            if [one["flags"] for one in others] != ["sentinel"] * (len(self.sentinels) - 1):
                return False
            if [one["flags"] for one in replicas] != ["slave"] * (len(self.servers) - 1):
                return False
        return self._is_replicating(self.server_at(int(views[0]["port"])))

    def _is_replicating(self, primary: RedisServer) -> bool:
        """Whether all others do. One that was replaced is told to: the sentinels wait ten seconds before they do."""
        for server in self.servers:
            if server is not primary and server.ask("ROLE")[0] == "master":
                server.ask("REPLICAOF", "127.0.0.1", primary.port)
        said = primary.ask("INFO", "replication")
        return said["role"] == "master" and all(
            said.get(f"slave{number}", {}).get("state") == "online" for number in range(len(self.servers) - 1)
        )

    def _set(self, sentinel: Sentinel, name: str, value: int) -> None:
        sentinel.ask("SENTINEL SET", SERVICE, name, value)

    def _wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + _SETTLE_SECONDS
        while not is_so():
            if time.monotonic() > give_up:
                logs = "\n".join(f"--- port {one.port}\n{one.log[-2000:]}" for one in (*self.servers, *self.sentinels))
                raise RuntimeError(f"waited in vain for {what}:\n{logs}")
            time.sleep(0.02)


def _accepts_failover(sentinel: Sentinel) -> bool:
    """Ask for one. A sentinel refuses while it takes no replica for good enough, or has one under way."""
    try:
        sentinel.ask("SENTINEL FAILOVER", SERVICE)
    except ResponseError:
        return False
    return True
