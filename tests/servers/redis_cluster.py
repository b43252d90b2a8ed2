"""A private Redis or Valkey Cluster on free loopback ports, whose nodes are stopped, paused and promoted one by one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from redis.crc import key_slot

from tests.servers.ports import free_ports
from tests.servers.redis import Program, RedisServer, credentials, scheme
from tests.servers.removable import Removable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SLOTS = 16_384
_SETTLE_SECONDS = 30
# While a cluster is made. A node tells another of its new role with its next ping, which is due after half of this.
_QUICK_TIMEOUT = 500


class ClusterNode(RedisServer):
    """One node, which knows what it takes itself for."""

    def __init__(self, program: Program, settings: dict[str, str]) -> None:
        # The port for the other nodes, of our own choosing: the usual one, 10 000 above, is in the range of outgoing
        # connections, where a node that comes back may find it taken.
        port, self.bus_port = free_ports(2)
        mine = {"port": str(port), "cluster_port": str(self.bus_port), "cluster_enabled": "yes"}
        super().__init__(program, **mine, **settings)
        self.id: str = self.ask("CLUSTER MYID")

    @property
    def view(self) -> dict[str, dict[str, Any]]:
        """The nodes as this one sees them, by their id; each as redis-py parses it (`flags`, `slots`, ...)."""
        return {seen["node_id"]: seen for seen in self.ask("CLUSTER NODES").values()}

    @property
    def is_primary(self) -> bool:
        """Whether it takes itself for one."""
        return _is_primary(self.view[self.id])


class RedisCluster(Removable):
    """Primaries and their replicas. Every call blocks until it is done, also within an event loop."""

    def __init__(
        self,
        program: Program = "redis-server",
        /,
        *,
        primaries: int = 3,
        replicas_of_each: int = 1,
        node_timeout: int = 15_000,
        **settings: str,
    ) -> None:
        """Start the nodes and make them one cluster, in about three seconds: a primary waits two before it serves.

        After `node_timeout` milliseconds without an answer a node counts as failed, and a replica takes over by itself.
        It is long, so that nothing happens but by the test's own hand. `settings` are every node's;
        with a password (`requirepass`) they know it of each other too.
        """
        self._program = program
        self._password = settings.get("requirepass")
        if self._password is not None:
            settings = {"masterauth": self._password, **settings}
        common = {
            "cluster_node_timeout": str(node_timeout),
            "cluster_replica_validity_factor": "0",  # a replica takes over however long it has heard nothing
            "cluster_allow_replica_migration": "no",  # each stays where the test expects it
            "repl_diskless_sync_delay": "0",
            **settings,
        }
        self.nodes: list[ClusterNode] = []
        try:
            for _ in range(primaries * (1 + replicas_of_each)):
                self.nodes.append(ClusterNode(program, common))
            self._join(primaries)
            self._set_node_timeout(node_timeout)
        except BaseException:
            self.remove()
            raise

    @property
    def url(self) -> str:
        """The addresses of all nodes for a client, the primaries of the beginning first, and the password if any."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"{scheme(self._program)}+cluster://{credentials(self._password)}{hosts}"

    @property
    def answering(self) -> list[ClusterNode]:
        """The nodes that are neither stopped nor paused."""
        return [node for node in self.nodes if node.is_answering]

    @property
    def primaries(self) -> list[ClusterNode]:
        """The answering nodes that take themselves for one."""
        return [node for node in self.answering if node.is_primary]

    def primary_of(self, key: str) -> ClusterNode:
        """The answering primary that keeps `key`. Raises `LookupError` if there is none."""
        slot = key_slot(key.encode())
        claims = {node: node.view[node.id] for node in self.primaries}
        owners = [node for node, seen in claims.items() if _has_slot(seen, slot)]
        # One that was frozen while another was promoted may still claim it; the later promotion is right.
        return max(_some(owners, f"primary for slot {slot}"), key=lambda node: int(claims[node]["epoch"]))

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """An answering replica of `primary`, which itself may have ended. Raises `LookupError` if there is none."""
        replicas = [node for node in self.answering if node.view[node.id]["master_id"] == primary.id]
        return _some(replicas, f"replica of the node on port {primary.port}")[0]

    def cut_off(self, replica: ClusterNode) -> None:
        """Pause `replica` so that it misses whatever is written from now on, also what is on its way when it resumes.

        A replica that is only paused finds in its socket, when it goes on, what its primary sent meanwhile.
        """
        primary_id = replica.view[replica.id]["master_id"]
        replica.pause()
        for node in self.answering:
            if node.id == primary_id:
                node.ask("CLIENT KILL", "TYPE", "replica")  # the others of this primary come back by themselves

    def promote(self, replica: ClusterNode, how: Literal["FORCE", "TAKEOVER"] | None = "FORCE") -> None:
        """Make `replica` the primary of its slots, and wait until every answering node knows.

        Without `how` its primary takes part, and nothing is lost; with FORCE the other primaries vote; with TAKEOVER
        the replica decides alone.
        """
        replica.ask("CLUSTER FAILOVER", *([how] if how else []))
        self.wait_for_promotion(replica)

    def wait_for_promotion(self, replica: ClusterNode) -> None:
        """Wait until every answering node takes `replica` for a primary, itself included."""
        nodes = self.answering
        _wait_until(
            lambda: all(_is_primary(node.view[replica.id]) for node in nodes),
            f"the promotion of the node on port {replica.port}",
            nodes,
        )

    def wait_until_settled(self) -> None:
        """Wait until the answering nodes agree, serve, and have the data of their primaries."""
        nodes = self.answering
        _wait_until(lambda: _is_settled(nodes), "the cluster", nodes)

    def flush(self) -> None:
        """Forget all keys and all scripts, on the replicas too."""
        for node in self.answering:
            if node.is_primary:
                node.ask("FLUSHALL")
                node.ask("FUNCTION FLUSH")
            node.ask("SCRIPT FLUSH")

    def remove(self) -> None:
        """Stop the nodes and remove their data."""
        for node in self.nodes:
            node.remove()

    def _join(self, primaries: int) -> None:
        self._set_node_timeout(_QUICK_TIMEOUT)
        for number, node in enumerate(self.nodes[:primaries]):
            first, after = (_SLOTS * i // primaries for i in (number, number + 1))
            node.ask("CLUSTER ADDSLOTSRANGE", first, after - 1)
            node.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)  # else they would first settle who is older
        for number, node in enumerate(self.nodes):
            for other in self.nodes[:number]:  # each to each: hearsay would take seconds
                node.ask("CLUSTER MEET", "127.0.0.1", other.port, other.bus_port)
        _wait_until(lambda: all(_knows(node, self.nodes) for node in self.nodes), "the nodes' meeting", self.nodes)
        for number, node in enumerate(self.nodes[primaries:]):
            node.ask("CLUSTER REPLICATE", self.nodes[number % primaries].id)
        self.wait_until_settled()

    def _set_node_timeout(self, milliseconds: int) -> None:
        for node in self.nodes:
            node.ask("CONFIG SET", "cluster-node-timeout", milliseconds)


def _knows(node: ClusterNode, others: Iterable[ClusterNode]) -> bool:
    seen = node.view
    return all(other.id in seen and "handshake" not in seen[other.id]["flags"] for other in others)


def _is_settled(nodes: list[ClusterNode]) -> bool:
    if not all(node.ask("CLUSTER INFO")["cluster_state"] == "ok" for node in nodes) or not _are_linked(nodes):
        return False
    shapes = [_shape(node, nodes) for node in nodes]
    return all(shape == shapes[0] for shape in shapes)


def _are_linked(nodes: list[ClusterNode]) -> bool:
    """Whether both replica and primary say so, for each replica: one of them notices a lost link first."""
    replication = {node.port: node.ask("INFO", "replication") for node in nodes}
    entries = [entry for said in replication.values() for entry in said.values()]
    served = {entry["port"] for entry in entries if isinstance(entry, dict) and entry.get("state") == "online"}
    replicas = {port: said for port, said in replication.items() if said["role"] == "slave"}
    return served.issuperset(replicas) and all(said["master_link_status"] == "up" for said in replicas.values())


def _is_primary(seen: dict[str, Any]) -> bool:
    return "master" in seen["flags"].split(",")


def _shape(node: ClusterNode, nodes: list[ClusterNode]) -> list[tuple[object, ...]]:
    """Who is what in the eyes of `node`."""
    view = node.view
    seen = [view[other.id] for other in nodes]
    return [(each["flags"].replace("myself,", ""), each["master_id"], each["slots"]) for each in seen]


def _has_slot(seen: dict[str, Any], slot: int) -> bool:
    return any(int(bounds[0]) <= slot <= int(bounds[-1]) for bounds in seen["slots"])


def _some(found: list[ClusterNode], what: str) -> list[ClusterNode]:
    if not found:
        raise LookupError(f"no node that answers is the {what}")
    return found


def _wait_until(is_so: Callable[[], bool], what: str, nodes: Iterable[ClusterNode]) -> None:
    give_up = time.monotonic() + _SETTLE_SECONDS
    while not is_so():
        if time.monotonic() > give_up:
            logs = "\n".join(f"--- port {node.port}\n{node.log[-2000:]}" for node in nodes)
            raise RuntimeError(f"waited in vain for {what}:\n{logs}")
        time.sleep(0.02)
