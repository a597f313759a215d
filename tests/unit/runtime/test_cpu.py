"""The container's processor quota, from files as the kernel writes them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.runtime import cpu
from ondemand.runtime.cpu import cpu_quota, usable_threads


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


V2 = {"proc/self/cgroup": "0::/\n"}
V1 = {"proc/self/cgroup": "4:memory:/pod\n3:cpu,cpuacct:/pod/box\n1:name=systemd:/\n0::/\n"}


def test_version_2_quota_is_quota_over_period(tmp_path):
    """``cpu.max`` of 250 ms in 100 ms is two processors and a half."""
    write(tmp_path, {**V2, "sys/fs/cgroup/cpu.max": "250000 100000\n"})
    assert cpu_quota(tmp_path) == 2.5


def test_version_2_max_is_no_quota(tmp_path):
    """The word ``max`` means that there is no limit."""
    write(tmp_path, {**V2, "sys/fs/cgroup/cpu.max": "max 100000\n"})
    assert cpu_quota(tmp_path) is None


def test_the_tightest_ancestor_counts(tmp_path):
    """A limit on the pod binds its containers also where theirs is wider."""
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/pod/box/cpu.max": "400000 100000\n",
        },
    )
    assert cpu_quota(tmp_path) == 1.0


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_version_1_quota_under_either_name_of_its_mount(tmp_path, mount):
    """Distributions mount the controller as ``cpu,cpuacct`` or as ``cpu``."""
    folder = f"sys/fs/cgroup/{mount}/pod/box"
    write(
        tmp_path,
        {**V1, f"{folder}/cpu.cfs_quota_us": "150000", f"{folder}/cpu.cfs_period_us": "100000"},
    )
    assert cpu_quota(tmp_path) == 1.5


def test_version_1_host_path_is_not_there_inside_the_container(tmp_path):
    """Then the mount point itself is the container's group."""
    folder = "sys/fs/cgroup/cpu,cpuacct"
    write(
        tmp_path,
        {**V1, f"{folder}/cpu.cfs_quota_us": "200000", f"{folder}/cpu.cfs_period_us": "100000"},
    )
    assert cpu_quota(tmp_path) == 2.0


def test_version_1_minus_one_is_no_quota(tmp_path):
    """A quota of -1 microseconds means that there is no limit."""
    folder = "sys/fs/cgroup/cpu"
    write(
        tmp_path,
        {**V1, f"{folder}/cpu.cfs_quota_us": "-1", f"{folder}/cpu.cfs_period_us": "100000"},
    )
    assert cpu_quota(tmp_path) is None


def test_no_control_groups_is_no_quota(tmp_path):
    """Systems other than Linux have none of these files."""
    assert cpu_quota(tmp_path) is None


@given(membership=st.text(max_size=80), limit=st.text(max_size=30))
def test_whatever_the_files_hold_it_never_raises(tmp_path_factory, membership, limit):
    """A file that cannot be understood is no limit; a start never fails of it."""
    root = tmp_path_factory.mktemp("root")
    for name, text in (("proc/self/cgroup", membership), ("sys/fs/cgroup/cpu.max", limit)):
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    quota = cpu_quota(root)
    assert quota is None or quota > 0


@pytest.mark.parametrize(
    ("quota", "available", "threads"),
    [
        ("50000 100000", 8, 1),
        ("150000 100000", 8, 1),
        ("290000 100000", 8, 2),
        ("800000 100000", 2, 2),
        ("max 100000", 5, 5),
    ],
)
def test_threads_are_the_quota_rounded_down_between_one_and_the_processors(
    tmp_path, monkeypatch, quota, available, threads
):
    """Half a processor still needs a thread; a quota above the affinity gives no more of them."""
    monkeypatch.setattr(cpu, "_affinity", lambda: available)
    write(tmp_path, {**V2, "sys/fs/cgroup/cpu.max": quota})
    assert usable_threads(tmp_path) == threads
