"""What a local broker is told to be: Kafka's ``server.properties``, for one broker or three."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ondemand.local.ports import HOST


@dataclass(frozen=True, slots=True)
class Node:
    """One broker's place: it serves on ``port``, and votes on ``controller_port``; a secured one
    serves on ``secured_ports`` too, one for each listener."""

    id: int
    port: int
    controller_port: int
    secured_ports: tuple[int, ...] = ()

    @property
    def address(self) -> str:
        """Where clients reach it, ``HOST:PORT``."""
        return f"{HOST}:{self.port}"


def server_properties(
    node: Node, cluster: Sequence[Node], data: Path, extra: Mapping[str, str]
) -> dict[str, str]:
    """The properties of one node of a cluster (itself included), by Kafka's names.

    ``data`` is the node's own folder; ``extra`` goes last and wins.
    """
    copies = str(min(3, len(cluster)))
    # Two of three copies must have a record: one broker may die and nothing is lost.
    copies_min = "2" if len(cluster) > 2 else "1"
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.id),
        "log.dirs": str(data),
        "listeners": f"PLAINTEXT://{node.address},CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.address}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": ",".join(
            f"{voter.id}@{HOST}:{voter.controller_port}" for voter in cluster
        ),
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "default.replication.factor": copies,
        "min.insync.replicas": copies_min,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": copies_min,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": copies_min,
        # 50 partitions each by default: files and start-up time that one computer does not need.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "4",
        # A group of one worker starts at once instead of waiting 3 s for company.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # 128 MB by default, of the heap: the collector went over it without end.
        "log.cleaner.dedupe.buffer.size": "8388608",
        # A mistyped topic is an error, here as in production.
        "auto.create.topics.enable": "false",
        # A killed broker is missed, and comes back, within seconds.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        **extra,
    }


def rendered(properties: Mapping[str, str]) -> str:
    """The text of a properties file. Backslashes are doubled, as Java reads them as escapes."""
    return "".join(
        f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in properties.items()
    )
