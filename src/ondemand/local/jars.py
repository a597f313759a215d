"""The jars that a local Kafka runs on: pinned by SHA-256, cached, fetched once.

``jars.toml`` beside this file names each by its Maven coordinate, size and checksum. Every start
hashes all of them (46 MB, about 0.1 s): what differs is never run. Once all are in the cache,
neither the network nor ``jgo`` is touched.
"""

import contextlib
import errno
import hashlib
import shutil
import tempfile
import threading
import tomllib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ondemand.errors import ConfigurationError
from ondemand.local.cache import cache_folder
from ondemand.local.repositories import remote_repositories

OnProgress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and the name of the file that is being fetched."""

PINNED = Path(__file__).with_name("jars.toml")
_DOWNLOADS_AT_ONCE = 4
_REPOSITORY_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned jar; ``coordinate`` is ``group:artifact:version``."""

    coordinate: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Its name in the cache, as in a Maven repository."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def pinned(lock: Path = PINNED) -> tuple[Jar, ...]:
    """All jars that *lock* lists; by default those of a local Kafka."""
    document = tomllib.loads(lock.read_text(encoding="utf-8"))
    return tuple(Jar(jar["coordinate"], jar["bytes"], jar["sha256"]) for jar in document["jar"])


def jar_paths(
    jars: Sequence[Jar], folder: Path | None = None, *, on_progress: OnProgress | None = None
) -> list[Path]:
    """The paths of the jars, every one present and with the pinned checksum.

    Raises ``ConfigurationError`` if one differs, or is missing and cannot be fetched or stored.
    """
    folder = folder or cache_folder() / "jars"
    missing = [jar for jar in jars if not (folder / jar.file_name).exists()]
    if missing:
        _fetch_missing(missing, folder, on_progress or (lambda *_: None))
    paths = [folder / jar.file_name for jar in jars]
    for jar, path in zip(jars, paths, strict=True):
        _require_checksum(jar, path)
    return paths


def fetch(*, on_progress: OnProgress | None = None) -> list[Path]:
    """Have all jars of a local Kafka in the cache; their paths. Raises as ``jar_paths`` does."""
    return jar_paths(pinned(), on_progress=on_progress)


def pin(folder: Path, lock: Path = PINNED) -> None:
    """Write *lock* anew: what its ``roots`` need now, resolved in the empty ``folder``.

    For who maintains this package (``make lock-jars``); a start never resolves anything.
    """
    from jgo import env, maven  # noqa: PLC0415 - only installed with the extra `local`

    head, _, _ = lock.read_text(encoding="utf-8").partition("[[jar]]")
    roots = tomllib.loads(head)["roots"]
    context = maven.MavenContext(repo_cache=folder / "m2", remote_repos=remote_repositories())
    builder = env.EnvironmentBuilder(context, cache_dir=folder / "environment")
    environment = builder.from_endpoint("+".join(roots))
    paths = {path.name: path for path in environment.all_jars}
    found = tomllib.loads((environment.path / "jgo.lock.toml").read_text(encoding="utf-8"))
    jars = [
        Jar(coordinate, paths[Jar(coordinate, 0, "").file_name].stat().st_size, entry["sha256"])
        for entry in found["dependencies"]
        for coordinate in [f"{entry['groupId']}:{entry['artifactId']}:{entry['version']}"]
    ]
    entries = (
        f'[[jar]]\ncoordinate = "{jar.coordinate}"\nbytes = {jar.size_bytes}\n'
        f'sha256 = "{jar.sha256}"\n'
        for jar in sorted(jars, key=lambda jar: jar.coordinate)
    )
    lock.write_text(head + "\n".join(entries), encoding="utf-8")


def _require_checksum(jar: Jar, path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != jar.sha256:
        raise ConfigurationError(
            f"{path} is not the jar that is pinned, and was not run: its SHA-256 is {found} "
            f"instead of {jar.sha256}. Delete the file (`rm '{path}'`) and start again to fetch it "
            "anew; if it differs again, what is served to you is not what was released"
        )


def _fetch_missing(jars: Sequence[Jar], folder: Path, on_progress: OnProgress) -> None:
    """Fetch into a folder beside, check, then move into place: the cache holds whole jars only."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_space(folder, sum(jar.size_bytes for jar in jars))
        with tempfile.TemporaryDirectory(
            prefix=".fetch-",
            dir=folder,
            ignore_cleanup_errors=True,  # an interrupted download may still write there
        ) as scratch:
            for jar, path in zip(jars, _downloaded(jars, Path(scratch), on_progress), strict=True):
                _require_checksum(jar, path)
                path.replace(folder / jar.file_name)
    except OSError as error:
        raise ConfigurationError(_why_not_fetched(error, folder)) from error


def _downloaded(jars: Sequence[Jar], scratch: Path, on_progress: OnProgress) -> list[Path]:
    """Download the jars by their coordinates, a few at once."""
    from jgo import maven  # noqa: PLC0415 - only installed with the extra `local`

    progress = _Progress(sum(jar.size_bytes for jar in jars), on_progress)
    context = maven.MavenContext(
        resolver=maven.PythonResolver(progress_callback=progress.of_file),
        repo_cache=scratch,
        remote_repos=remote_repositories(),
        timeout=_REPOSITORY_TIMEOUT_SECONDS,
    )

    def download(jar: Jar) -> Path:
        group, artifact, version = jar.coordinate.split(":")
        component = context.project(group, artifact).at_version(version)
        try:
            return Path(component.artifact().resolve())
        except RuntimeError as error:  # jgo's, where no repository has the jar or it arrived broken
            raise OSError(f"{jar.coordinate} is not there, or arrived broken") from error

    return _in_daemons(download, jars)


def _in_daemons(download: Callable[[Jar], Path], jars: Sequence[Jar]) -> list[Path]:
    """*download* for each of *jars*, a few at once; raises what the first that failed raised.

    Not a ThreadPoolExecutor: Ctrl-C would wait there for a server that does not answer.
    """
    waiting = deque(jars)
    paths: dict[Jar, Path] = {}
    failures: list[Exception] = []

    def work() -> None:
        with contextlib.suppress(IndexError):  # nothing is waiting any more
            while not failures:
                jar = waiting.popleft()
                try:
                    paths[jar] = download(jar)
                except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
                    failures.append(error)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(_DOWNLOADS_AT_ONCE)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        waiting.clear()
    if failures:
        del failures[1:]
        raise failures.pop()  # popped: a frame that kept it would keep its sockets too
    return [paths[jar] for jar in jars]


class _Progress:
    """Adds up what several downloads report, in jgo's form, and passes on the sum."""

    def __init__(self, total_bytes: int, on_progress: OnProgress) -> None:
        self._total_bytes = total_bytes
        self._on_progress = on_progress
        self._done_bytes = 0
        self._lock = threading.Lock()

    @contextmanager
    def of_file(self, name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        """What jgo asks for per file: yields a function that takes the bytes just received."""

        def received(count: int) -> None:
            with self._lock:
                self._done_bytes += count
                self._on_progress(self._done_bytes, self._total_bytes, name)

        yield received


def _require_space(folder: Path, needed_bytes: int) -> None:
    if shutil.disk_usage(folder).free < needed_bytes:
        raise OSError(errno.ENOSPC, f"{needed_bytes // 1_000_000} MB are needed")


def _why_not_fetched(error: OSError, folder: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return (
            f"no space for Kafka's jars in {folder} ({error.strerror}): make room, or set "
            "ONDEMAND_CACHE to a folder on another disk"
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}:
        return (
            f"Kafka's jars cannot be stored in {folder} ({error.strerror}): make it writable, or "
            "set ONDEMAND_CACHE to another folder"
        )
    return (
        f"Kafka's jars are not in the cache ({folder}) and cannot be fetched "
        f"({type(error).__name__}): connect to the network once, or name a mirror in your Maven "
        "settings (~/.m2/settings.xml); or use a broker that is there, with --kafka HOST:PORT"
    )
