"""The processors that this process may use, by its affinity and by the CPU quota of its control groups (containers, slices)."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def usable_processors(root: Path = _ROOT, affinity: Collection[int] | None = None) -> int:
    """Number of logical processors that this process may use, at least 1. A quota of 1.5 counts as 2.

    Args:
        root: the folder that holds `/proc` and `/sys`.
        affinity: numbers of the allowed processors; None: those of this process.
    """
    allowed = _affinity() if affinity is None else affinity
    quota = min((math.ceil(share) for share in _quotas(root)), default=len(allowed))
    return max(1, min(len(allowed), quota))


def compute_threads(root: Path = _ROOT, affinity: Collection[int] | None = None) -> int | None:
    """Number of threads for a network: one for each physical core that this process may use.

    Args:
        root: the folder that holds `/proc` and `/sys`.
        affinity: numbers of the allowed processors; None: those of this process.

    Returns:
        None where the system does not say which processors share a core; a runtime then counts by itself.
    """
    allowed = _affinity() if affinity is None else affinity
    cores = set()
    for processor in allowed:
        path = root / f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"
        siblings = _text(path)
        if siblings is None:
            return None
        cores.add(siblings)
    return max(1, min(len(cores), usable_processors(root, allowed)))


def _affinity() -> Collection[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def _quotas(root: Path) -> Iterator[float]:
    """Processors that each control group above this process allows: cgroup version 2, version 1, or both."""
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            mounts = ["", "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [controllers, "cpu"]
        else:
            continue
        # A container may see its own group as the root of the mount while the path is still the host's.
        inner = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for group in (inner, *inner.parents):
                share = _share(root / "sys/fs/cgroup" / mount / group)
                if share is not None:
                    yield share


def _share(group: Path) -> float | None:
    """Quota over period of one control group; None without quota."""
    both = _text(group / "cpu.max")
    parts = both.split() if both else [_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")]
    try:
        quota, period = (float(part) if part is not None else math.nan for part in parts)
    except ValueError:  # `max`: no limit
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
