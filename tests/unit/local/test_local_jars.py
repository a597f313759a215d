"""Pinned jars: nothing runs that differs, and nothing is fetched twice."""

import builtins
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ondemand.errors import ConfigurationError
from ondemand.local.jars import Jar, jar_paths, pinned

CONTENT = b"not really a jar, but with a checksum " * 1_000
JAR = Jar("org.example:thing:1.0", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "jars"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own, so that a person's Maven settings play no part."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".m2").mkdir()
    return tmp_path


@pytest.fixture
def mirror(home: Path) -> Iterator[dict[str, bytes]]:
    """A Maven mirror named in the settings: serves the paths that the test puts into the dict."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/m"
        (home / ".m2" / "settings.xml").write_text(
            "<settings xmlns='http://maven.apache.org/SETTINGS/1.2.0'><mirrors><mirror>"
            f"<id>near</id><url>{address}</url><mirrorOf>central</mirrorOf>"
            "</mirror></mirrors></settings>"
        )
        yield files
        server.shutdown()


def served(files: dict[str, bytes], content: bytes) -> None:
    """Put a jar where a Maven repository has it, with the checksum that repositories keep."""
    path = "/m/org/example/thing/1.0/thing-1.0.jar"
    files[path] = content
    files[f"{path}.sha1"] = hashlib.sha1(content).hexdigest().encode()  # noqa: S324 - Maven's


def test_a_jar_that_differs_is_refused(cache: Path) -> None:
    """A changed file is never run; the message names it, both sums, and how to delete it."""
    path = cache / JAR.file_name
    path.write_bytes(CONTENT[:-1] + b"!")

    with pytest.raises(ConfigurationError, match="was not run") as refused:
        jar_paths([JAR], cache)

    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(part in str(refused.value) for part in (f"rm '{path}'", found, JAR.sha256))


def test_a_full_cache_needs_neither_network_nor_jgo(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When every jar is there, what could fetch one is not even imported."""
    (cache / JAR.file_name).write_bytes(CONTENT)
    real_import = builtins.__import__

    def refuse_jgo(name: str, *arguments: object) -> object:
        assert not name.startswith("jgo"), "jgo was imported"
        return real_import(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse_jgo)

    assert jar_paths([JAR], cache) == [cache / JAR.file_name]


def test_a_missing_jar_is_fetched_from_the_mirror(mirror: dict[str, bytes], cache: Path) -> None:
    """The person's own Maven settings say where from; progress is told up to the last byte."""
    served(mirror, CONTENT)
    progress: list[tuple[int, int, str]] = []

    paths = jar_paths([JAR], cache, on_progress=lambda *step: progress.append(step))

    assert paths[0].read_bytes() == CONTENT
    assert progress[-1] == (len(CONTENT), len(CONTENT), JAR.file_name)
    assert [path.name for path in cache.iterdir()] == [JAR.file_name], "nothing else is left there"


def test_a_fetched_jar_that_differs_is_not_kept(mirror: dict[str, bytes], cache: Path) -> None:
    """A repository that serves something else under the same name does not reach the cache."""
    served(mirror, CONTENT + b"more")

    with pytest.raises(ConfigurationError, match="was not run"):
        jar_paths([JAR], cache)

    assert list(cache.iterdir()) == []


def test_a_jar_that_no_repository_has(mirror: dict[str, bytes], cache: Path) -> None:
    """What cannot be fetched says where it was looked for, and what to do."""
    with pytest.raises(ConfigurationError, match="connect to the network once"):
        jar_paths([JAR], cache)


def test_no_network_at_first_use(home: Path, cache: Path) -> None:
    """A repository that cannot be reached is one line about the network, not a traceback."""
    (home / ".m2" / "settings.xml").write_text(
        "<settings><mirrors><mirror><url>http://127.0.0.1:9/m</url>"
        "<mirrorOf>*</mirrorOf></mirror></mirrors></settings>"
    )

    with pytest.raises(ConfigurationError, match="--kafka HOST:PORT"):
        jar_paths([JAR], cache)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """The message names the folder and the variable that chooses another one."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="ONDEMAND_CACHE"):
        jar_paths([JAR], tmp_path / "file" / "jars")


def test_too_little_disk_space(cache: Path, home: Path) -> None:
    """Asked before the download, not after it."""
    huge = Jar("org.example:huge:1.0", 10**18, "0" * 64)

    with pytest.raises(ConfigurationError, match="no space"):
        jar_paths([huge], cache)


def test_what_is_pinned_is_complete() -> None:
    """Each jar has an exact version and a whole SHA-256, and no name comes twice."""
    jars = pinned()

    assert len({jar.file_name for jar in jars}) == len(jars) > 40
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert all(re.fullmatch(r"[\w.-]+:[\w.-]+:\d[\w.-]*", jar.coordinate) for jar in jars)
    assert sum(jar.size_bytes for jar in jars) < 60_000_000
