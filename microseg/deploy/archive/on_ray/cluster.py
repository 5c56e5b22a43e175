"""The extra `ray`: a connection to a cluster, and how many actors it has room for."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from types import ModuleType

from microseg.core.errors import InputError, MissingExtraError
from microseg.deploy.segment_options import RayOptions

# CPU threads of an actor, where the user names no number and a node has as many.
_CPUS = 4
_ANSWERS_S = 10


@dataclass(frozen=True)
class Room:
    """What an actor takes, and how many there are.

    Attributes:
        cpus: processors of an actor, which are the threads of its engine.
        gpus: cards of an actor, or a share of one.
        now: actors that fit on the nodes that are there.
        most: actors that may run at once, where nodes come later.
    """

    cpus: int
    gpus: float
    now: int
    most: int


def check_ray(options: RayOptions) -> None:
    """Make sure that what the user asks of Ray is possible, before anything starts.

    Raises:
        InputError: an address that Ray Data cannot use, or numbers that make no sense.
        MissingExtraError: Ray is not installed.
    """
    if options.address is not None and options.address.startswith("ray://"):
        raise InputError(
            f"--address {options.address}: is a Ray Client's, and the run would end with the connection. Remedy: start the "
            "command on a node of the cluster (ray job submit), with --address auto."
        )
    for name, value, least in (
        ("--actors", options.actors, 1),
        ("--cpus-per-actor", options.cpus_per_actor, 1),
        ("--gpus-per-actor", options.gpus_per_actor, 0),
    ):
        if value is not None and not least <= value < 1_000_000:
            raise InputError(f"{name} {value}: is out of range. Remedy: {least} or more.")
    gpus = options.gpus_per_actor
    if gpus > 1 and not float(gpus).is_integer():
        raise InputError(f"--gpus-per-actor {gpus}: Ray gives whole cards above 1. Remedy: {int(gpus)}.")
    _ray()


@contextmanager
def connected(address: str | None) -> Iterator[ModuleType]:
    """A connection to a cluster, or to one on this machine that ends with the block.

    Args:
        address: the cluster's; None for the one that RAY_ADDRESS names, else a new one on this machine.

    Raises:
        InputError: no such cluster, or one of another version of Ray or Python.
        MissingExtraError: Ray is not installed.
    """
    ray = _ray()
    if ray.is_initialized():  # the process that calls has its own connection, and keeps it
        yield ray
        return
    _require_reachable(address or os.environ.get("RAY_ADDRESS"))
    # Its C++ part writes to standard error, of which one line says that the next variable is set, and others are false alarms.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _silent():
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        named = "--on ray" if address is None else f"--address {address}"
        lines = " ".join(str(error).split())
        raise InputError(
            f"{named}: Ray does not connect ({lines}). Remedy: the address of a running cluster with the same versions of Ray "
            "and Python, or no --address for this machine alone."
        ) from error
    # It prints what befalls its workers, some of it when the connection ends.
    with redirect_stdout(sys.stderr):
        try:
            yield ray
        finally:
            ray.shutdown()


def room_for(options: RayOptions, nodes: Sequence[Mapping[str, float]]) -> Room:
    """How many actors a cluster has room for.

    Args:
        options: what the user asks for.
        nodes: resources of each node, by Ray's names `CPU` and `GPU`.

    Raises:
        InputError: no node has what one actor needs.
    """
    gpus = options.gpus_per_actor
    fitting = [node for node in nodes if node.get("GPU", 0) >= gpus]
    largest = int(max((node.get("CPU", 0) for node in fitting), default=0))
    cpus = min(_CPUS, largest) if options.cpus_per_actor is None else options.cpus_per_actor
    if not 1 <= cpus <= largest:
        cards = f" and {gpus:g} GPU" if gpus else ""
        raise InputError(
            f"--cpus-per-actor {max(cpus, 1)}: no node of the cluster has {max(cpus, 1)} CPU{cards} (the largest that fits has "
            f"{largest} CPU). Remedy: fewer for each actor, or nodes that have them."
        )
    counts = [
        min(int(node.get("CPU", 0) // cpus), int(node.get("GPU", 0) / gpus + 1e-9) if gpus else 1 << 30)
        for node in fitting
    ]
    now = max(1, sum(counts))
    most = now if options.actors is None else options.actors
    return Room(cpus, gpus, min(now, most), most)


def _require_reachable(address: str | None) -> None:
    """Raise InputError where nothing answers: Ray itself tries for minutes."""
    if address in (None, "auto", "local"):
        return
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address {address}: is no address of a cluster. Remedy: HOST:PORT, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--address {address}: no cluster answers ({error}). Remedy: the address that `ray start --head` printed."
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing comes to standard error, of whatever language it is."""
    try:
        kept = os.dup(2)
    except OSError:  # a service may have closed it
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _ray() -> ModuleType:
    """Ray, without its usage statistics and its messages. Raises MissingExtraError."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("--on ray", "ray") from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    found: ModuleType = ray
    return found
