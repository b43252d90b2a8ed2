"""The ways in which a start can fail, each with the words that its last line must have."""

from __future__ import annotations

import re
import traceback
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trustme

from coatcheck import ConfigurationError, Pod, ServerSideSessionsConfig
from tests.servers.postgres import PostgresServer
from tests.servers.redis_cluster import RedisCluster
from tests.servers.redis_sentinel import Watched
from tests.worlds import OTHER_PEPPER, PEPPER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from coatcheck import GuaranteeLevel, StoreUnavailable
    from coatcheck.stores.store import Store

    Provoking: TypeAlias = "Callable[[Places], AsyncIterator[Store | str]]"
    Error: TypeAlias = "type[ConfigurationError | StoreUnavailable]"

SECRET = "hunter2-the-password"
OF_SENTINELS = "hunter3-of-the-sentinels"
WRONG = "hunter4-which-is-wrong"
_SECRETS = (SECRET, OF_SENTINELS, WRONG, PEPPER, OTHER_PEPPER)

_INSTRUCTION = re.compile(
    r"`|/\w+"  # a command, a file, a page of the documentation
    r"|\b(GRANT|CREATE|ACL SETUSER)\b"  # a statement
    r"|\b(127\.0\.0\.1|localhost|[\w.-]+\.invalid)\b"  # an address
    r"|\b\w+=|\bstore URL\b"  # a setting
)
"""What each last line must have."""


class Shared:
    """Servers that several ways use, each started when it is first wanted. Redis has the password `SECRET`."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    @cached_property
    def cluster(self) -> RedisCluster:
        return self._stack.enter_context(RedisCluster(replicas_of_each=0, requirepass=SECRET))

    @cached_property
    def sentinels(self) -> Watched:
        return self._stack.enter_context(
            Watched(sentinels=1, requirepass=SECRET, sentinel_settings={"requirepass": OF_SENTINELS})
        )

    @cached_property
    def postgres(self) -> PostgresServer:
        server = PostgresServer(password=SECRET)
        self._stack.callback(server.remove)
        return server

    def close(self) -> None:
        self._stack.close()


@dataclass(frozen=True)
class Certified:
    """The files of a server that speaks TLS for `localhost`, and of clients."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


@dataclass
class Places:
    """The servers and files that a way may use."""

    folder: Path
    shared: Shared
    authority: trustme.CA = field(default_factory=trustme.CA)

    def certified(self, *, is_expired: bool = False, clients_of: trustme.CA | None = None) -> Certified:
        """Have certificates made. Those of clients are of the same authority, or of another."""
        files = Certified(*(self.folder / name for name in ("ca", "cert", "key", "client_cert", "client_key")))
        now = datetime.now(UTC)
        until = now - timedelta(days=1) if is_expired else now + timedelta(days=1)
        self.authority.cert_pem.write_to_path(str(files.ca))
        issued = self.authority.issue_cert("localhost", not_before=now - timedelta(days=9), not_after=until)
        issued.cert_chain_pems[0].write_to_path(str(files.cert))
        issued.private_key_pem.write_to_path(str(files.key))
        of_client = (clients_of or self.authority).issue_cert(common_name="app")
        of_client.cert_chain_pems[0].write_to_path(str(files.client_cert))
        of_client.private_key_pem.write_to_path(str(files.client_key))
        files.client_key.chmod(0o600)
        return files

    def another_ca(self) -> Path:
        path = self.folder / "another-ca"
        trustme.CA().cert_pem.write_to_path(str(path))
        return path


@dataclass(frozen=True)
class Way:
    """A way in which a start fails. `says` are words of the last line: the reason, and what to do or where."""

    name: str
    says: tuple[str, ...]
    error: Error
    require: GuaranteeLevel | None
    provoke: Callable[[Places], AbstractAsyncContextManager[Store | str]]


class Ways(list[Way]):
    """Those of one kind of store."""

    def fail(
        self, *says: str, error: Error = ConfigurationError, require: GuaranteeLevel | None = None
    ) -> Callable[[Provoking], Provoking]:
        """Note a way: a generator that gives a store, or its URL. Its name says what is wrong."""

        def note(provoke: Provoking) -> Provoking:
            name = provoke.__name__.replace("_", " ")
            self.append(Way(name, says, error, require, asynccontextmanager(provoke)))
            return provoke

        return note

    @property
    def tried(self) -> pytest.MarkDecorator:
        """The parameter `way` of a test."""
        return pytest.mark.parametrize("way", self, ids=[way.name for way in self])


async def check(way: Way, places: Places) -> None:
    """Check the last line that a program prints which ends because its pod does not start."""
    async with way.provoke(places) as store:
        with pytest.raises(way.error) as failed:
            pod = Pod(store, environ={}, config_dir="none", prune_interval=None, require=way.require)
            pod.initialize_auth_services(
                token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
            )
            async with pod:
                pass
    printed = "".join(traceback.format_exception(failed.value)).rstrip("\n")
    assert [secret for secret in _SECRETS if secret in printed] == []
    last_line = printed.rpartition("\n")[2]
    assert last_line.startswith(f"coatcheck.errors.{way.error.__name__}: ")
    message = last_line.partition(": ")[2]
    assert [words for words in way.says if words not in message] == [], message
    assert _INSTRUCTION.search(message), message
