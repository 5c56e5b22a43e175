"""Affinity, control groups of either version, and cores that two processors share, on files made up for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from microseg.core.system.processor_count import compute_threads, usable_processors

EIGHT = range(8)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "10000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "6400000 100000"}, 8),
        # The tightest group above the process counts.
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "500000 100000",
            },
            3,
        ),
        # Version 1, as a container without a namespace of its own sees it.
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            8,
        ),
        ({"proc/self/cgroup": "3:cpuset:/x", "sys/fs/cgroup/cpu.max": "garbage"}, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "garbage"}, 8),
    ],
)
def test_quotas(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert usable_processors(write(tmp_path, files), EIGHT) == expected


def topology(*siblings: str) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": text for i, text in enumerate(siblings)}


def test_threads_are_physical_cores(tmp_path: Path) -> None:
    root = write(tmp_path, topology("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"))
    assert compute_threads(root, EIGHT) == 4
    assert compute_threads(root, {0, 4}) == 1
    assert compute_threads(root, {0, 1, 4}) == 2
    write(root, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "300000 100000"})
    assert compute_threads(root, EIGHT) == 3


def test_a_system_without_topology(tmp_path: Path) -> None:
    assert compute_threads(tmp_path, EIGHT) is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is set on Linux alone")
def test_affinity_of_this_process() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_processors() == 1
        assert compute_threads() in (1, None)
    finally:
        os.sched_setaffinity(0, before)
