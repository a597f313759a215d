"""Is there enough memory to start: said before the start, not by the kernel's killer after it."""

import platform
import re
import subprocess
from pathlib import Path

from ondemand.errors import ConfigurationError

MEGABYTE = 1_000_000


def require_memory(needed_bytes: int, *, what: str) -> None:
    """Raise ``ConfigurationError`` if less is available than is needed; unknown is enough."""
    available = available_bytes()
    if available is not None and available < needed_bytes:
        raise ConfigurationError(
            f"{what} needs {needed_bytes // MEGABYTE} MB of memory, and {available // MEGABYTE} MB "
            "are available: close other programs, or use a broker on another computer"
        )


def available_bytes() -> int | None:
    """What programs can still take without swapping, or None where it cannot be told."""
    system = platform.system()
    if system == "Linux":
        limits = [_of_meminfo(Path("/proc/meminfo").read_text(encoding="ascii")), _of_cgroup()]
        return min((limit for limit in limits if limit is not None), default=None)
    if system == "Darwin":
        return _of_vm_stat(_output("vm_stat"))
    return None


def _of_meminfo(text: str) -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _of_cgroup(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit (cgroup v2) leaves; its file cache does not count as used."""
    try:
        limit = (root / "memory.max").read_text(encoding="ascii").strip()
        used = int((root / "memory.current").read_text(encoding="ascii"))
        statistics = (root / "memory.stat").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    if not limit.isdecimal():  # `max`: no limit
        return None
    cache = re.search(r"^inactive_file (\d+)$", statistics, re.MULTILINE)
    return int(limit) - used + (int(cache[1]) if cache else 0)


def _of_vm_stat(text: str) -> int | None:
    """Free, inactive, speculative and purgeable pages: what macOS gives to who asks."""
    page = re.search(r"page size of (\d+) bytes", text)
    counts = re.findall(
        r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)\.$", text, re.MULTILINE
    )
    return int(page[1]) * sum(map(int, counts)) if page and counts else None


def _output(*command: str) -> str:
    try:
        return subprocess.run(  # noqa: S603 - fixed commands of the system
            command, capture_output=True, text=True, timeout=5, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def resident_bytes(pid: int) -> int | None:
    """What a process holds in memory, or None where it cannot be told."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    if found := re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE):
        return int(found[1]) * 1024
    kilobytes = _output("ps", "-o", "rss=", "-p", str(pid)).strip()
    return int(kilobytes) * 1024 if kilobytes.isdecimal() else None
