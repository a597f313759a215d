"""What the peers run on: environments of their own, pinned by SHA-256, made once.

They lie in the user's cache folder, beside the broker's jars. A peer that cannot be had on this
computer raises ``NotRunError``, and the report says why.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from ondemand.errors import ConfigurationError
from ondemand.local import jars
from ondemand.local.cache import cache_folder
from ondemand.local.java import find_java

PEERS = Path(__file__).parent / "peers"
STREAMS = PEERS / "streams" / "Streams.java"
STREAMS_JARS = PEERS / "streams" / "jars.toml"
INSTALL_SECONDS = 900
JAVA = "17"  # not `--release`: a runtime without a JDK has no signatures of older releases


class NotRunError(Exception):
    """A peer cannot be measured here; the message says why."""


def python_of(name: str) -> Path:
    """The Python of an environment that holds exactly what ``peers/NAME/requirements.lock`` pins.

    Raises ``NotRunError`` if it cannot be made.
    """
    lock = PEERS / name / "requirements.lock"
    folder = _folder(name, lock.read_bytes(), sys.version.encode())
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"Setting up {name}, once.", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        _run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)])
        (folder / "ready").touch()
    return python


def streams_class_path() -> str:
    """The class path of the compiled Kafka Streams peer. Raises ``NotRunError``."""
    try:
        paths = jars.jar_paths(jars.pinned(STREAMS_JARS))
        java = find_java()
    except ConfigurationError as error:
        raise NotRunError(str(error)) from error
    class_path = ":".join(map(str, paths))
    folder = _folder("streams", STREAMS.read_bytes(), STREAMS_JARS.read_bytes())
    if not (folder / "Streams.class").exists():
        compiler = ["-cp", class_path, "org.eclipse.jdt.internal.compiler.batch.Main"]
        options = ["-source", JAVA, "-target", JAVA, "-nowarn", "-classpath", class_path]
        _run([str(java), *compiler, *options, "-d", str(folder), str(STREAMS)])
    return f"{folder}:{class_path}"


def _folder(name: str, *contents: bytes) -> Path:
    digest = hashlib.sha256(b"\0".join(contents)).hexdigest()[:12]
    return cache_folder() / "bench" / f"{name}-{digest}"


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout).decode("utf-8", "replace").strip().splitlines()
        raise NotRunError(f"`{command[0]} … {command[-1]}` failed: {lines[-1:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotRunError(str(error)) from error
