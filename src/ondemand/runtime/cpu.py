"""How many processors this process may really use: the container's quota, not the host's count.

A container with a quota of two processors on a host with 64 sees 64. A thread pool of that size
spends its quota in the first milliseconds of a period and is then stopped until the next one.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS = Path("sys/fs/cgroup")
MEMBERSHIP = Path("proc/self/cgroup")


def usable_threads(root: Path = Path("/")) -> int:
    """The threads that may run at once: at least 1, and never more than there are processors.

    A quota is rounded down: a pool with a thread too many waits, in every run, for a thread that
    the kernel has stopped.
    """
    available = _affinity()
    quota = cpu_quota(root)
    return available if quota is None else max(1, min(available, math.floor(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The tightest quota of this process's control groups, in processors; None if there is none.

    *root* stands for ``/``. Version 2 is one hierarchy with ``cpu.max``, version 1 one for each
    controller with ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``. A limit on any ancestor counts.
    """
    try:
        membership = (root / MEMBERSHIP).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None  # not Linux
    quotas = []
    for controllers, path in _groups(membership):
        unified = not controllers
        mounts = [""] if unified else [",".join(controllers), "cpu"]
        read = _quota_v2 if unified else _quota_v1
        for mount in mounts:
            quotas += [read(folder) for folder in _ancestors(root / CGROUPS / mount, path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _affinity() -> int:
    """Processors that the scheduler may put this process on; all of them where it cannot say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(membership: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The lines ``ID:controllers:path`` that can bound processor time (cgroups(7))."""
    for line in membership.splitlines():
        parts = line.split(":", maxsplit=2)
        if len(parts) != 3:
            continue
        controllers = tuple(parts[1].split(",")) if parts[1] else ()
        if not controllers or "cpu" in controllers:
            yield controllers, parts[2]


def _ancestors(mount: Path, path: str) -> Iterator[Path]:
    """The group's folder and all above it, up to the mount point.

    Inside a container the path is often the host's and not there: then only the mount point is,
    and it is the container's own group.
    """
    group = PurePosixPath("/") / path
    for folder in (group, *group.parents):
        if ".." not in folder.parts:
            yield mount / folder.relative_to("/")


def _quota_v2(folder: Path) -> float | None:
    """``cpu.max`` holds ``$MAX $PERIOD`` in microseconds, or ``max $PERIOD`` for no limit."""
    words = _read(folder / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    """A quota of -1 microseconds means no limit."""
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return _ratio(quota.strip(), period.strip())


def _ratio(quota: str, period: str) -> float | None:
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
