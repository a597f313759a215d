"""The folders of a local Kafka: chosen, checked, and formatted once.

``FOLDER/broker-N/`` holds ``server.properties``, ``broker.log`` and the broker's ``data``.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ondemand.errors import ConfigurationError
from ondemand.local.broker import last_words
from ondemand.local.properties import Node, rendered, server_properties
from ondemand.local.security import BrokerSecurity

DISK_BYTES = 500_000_000
FORMAT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Home:
    """One broker's folder."""

    path: Path

    @property
    def properties(self) -> Path:
        """What the broker is told to be."""
        return self.path / "server.properties"

    @property
    def log(self) -> Path:
        """What the broker says."""
        return self.path / "broker.log"

    @property
    def data(self) -> Path:
        """What the broker keeps."""
        return self.path / "data"

    @property
    def is_formatted(self) -> bool:
        """Whether it belongs to a cluster already."""
        return (self.data / "meta.properties").exists()


def home_of(folder: Path, node: Node) -> Home:
    """The folder of one broker in that of its cluster."""
    return Home(folder / f"broker-{node.id}")


def prepared_folder(named: Path | None, count: int) -> Path:
    """The folder for a cluster of ``count`` brokers: the named one, or a new temporary one.

    Raises ``ConfigurationError`` if it cannot be written, has too little space, or was made for
    another number of brokers.
    """
    try:
        if named is None:
            folder = Path(tempfile.mkdtemp(prefix="ondemand-kafka-"))
        else:
            folder = named.expanduser().absolute()
            folder.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise ConfigurationError(
            f"the folder {named or tempfile.gettempdir()} cannot be used for Kafka's data "
            f"({error.strerror}): name another"
        ) from error
    if free_bytes < DISK_BYTES:
        raise ConfigurationError(
            f"a local Kafka needs {DISK_BYTES // 1_000_000} MB of disk, and {folder} has "
            f"{free_bytes // 1_000_000} MB: make room, or name a folder on another disk"
        )
    found = len(list(folder.glob("broker-*/data/meta.properties")))
    if found not in {0, count}:
        raise ConfigurationError(
            f"{folder} holds the data of {found} broker(s), not of {count}: start as many, or name "
            "another folder"
        )
    return folder


def lock(folder: Path) -> BinaryIO:
    """Be the only one who runs on ``folder``; close what is returned to leave it to others.

    Kafka's own lock comes too late: a second broker writes into the first one's metadata before it
    is refused. The kernel frees this one with its process. Raises ``ConfigurationError`` if another
    runs here.
    """
    file = (folder / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConfigurationError(
            f"another local Kafka runs on {folder}: stop it, or name another folder"
        ) from error
    return file


def write_properties(
    folder: Path,
    nodes: Sequence[Node],
    extra: Mapping[str, str],
    security: BrokerSecurity | None = None,
) -> None:
    """Tell every broker what to be; ``extra`` are Kafka's own properties and win."""
    for node in nodes:
        home = home_of(folder, node)
        home.data.mkdir(parents=True, exist_ok=True)
        properties = server_properties(node, nodes, home.data, {})
        if security is not None:
            properties = security.joined(properties, node.secured_ports)
        home.properties.touch(mode=0o600)  # it may hold passwords
        home.properties.write_text(rendered({**properties, **extra}), encoding="utf-8")


def new_cluster_id() -> str:
    """16 random bytes in URL-safe base 64, as Kafka wants them."""
    while True:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):  # Kafka's tool would read an option
            return cluster_id


def format_new(
    homes: Sequence[Home],
    java_line: Sequence[str],
    jars: Sequence[Path],
    options: Sequence[str] = (),
) -> None:
    """Give all data folders that have none the ID of one new cluster.

    ``java_line`` starts a JVM; ``options`` are the tool's own. Raises ``ConfigurationError`` with
    Kafka's own last words.
    """
    tool_line = [*java_line, "kafka.tools.StorageTool", "format"]
    command = [*tool_line, "--cluster-id", new_cluster_id(), *options]
    environment = {**os.environ, "CLASSPATH": os.pathsep.join(map(str, jars))}
    running = [
        (
            home,
            subprocess.Popen(  # noqa: S603 - our own Java and jars
                [*command, "--config", str(home.properties)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ),
        )
        for home in homes
        if not home.is_formatted
    ]
    for home, tool in running:
        with tool:
            said, _ = tool.communicate(timeout=FORMAT_SECONDS)
        if tool.returncode != 0:
            last = "\n    ".join(last_words(said, 5))
            raise ConfigurationError(
                f"Kafka could not format its data folder {home.data}; it said:\n    {last}\n"
                "If a property is named there, correct it; otherwise name another folder"
            )
