"""A field list on a Ray cluster of two nodes of this machine, with killed workers and a killed node."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

_STORE_BYTES = 128 << 20


@contextmanager
def ray_cluster(processors: int) -> Iterator[tuple[Any, Any]]:
    """A cluster of two nodes that share the processors: the cluster, and the node that may be killed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    each = max(1, processors // 2)
    node: dict[str, Any] = {"num_cpus": each, "object_store_memory": _STORE_BYTES}
    cluster: Any = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        yield cluster, cluster.add_node(**node)
    finally:
        cluster.shutdown()


def disturb(
    process: subprocess.Popen[bytes], cluster: tuple[Any, Any], kills: int, seconds: float, rng: random.Random
) -> int:
    """Kill actors at random moments while a command runs, and half-way a node; returns the number of killed actors.

    Args:
        process: the command.
        cluster: the cluster, and the node that is killed with all its processes.
        kills: how many actors.
        seconds: about how long the command runs when it is left alone.
        rng: draws moments and actors.
    """
    done = 0
    for number in range(kills + 1):
        time.sleep(rng.uniform(0, 2 * seconds / (kills + 1)))
        if process.poll() is not None:
            break
        if number == kills // 2:
            cluster[0].remove_node(cluster[1], allow_graceful=False)
        elif victims := actors():
            os.kill(rng.choice(victims), signal.SIGKILL)
            done += 1
    return done


def actors() -> list[int]:
    """The processes of the actors that measure. Ray names a process by what it runs."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or [""]
        if line[0].startswith("ray::") and "MapWorker" in line[0]:
            found.append(process.pid)
    return found
