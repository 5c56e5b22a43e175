"""Test bodies in a process of their own: what they do to signals, threads or the interpreter ends with it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_LIMIT_S = 300


def start_method() -> str:
    """How processes start: on Linux as copies of one that has imported the training once, which takes 8 s."""
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload(
        ["microseg.train.common.parallel.folds", "microseg.train.supervised.command"]
    )
    return "forkserver"


def _as_started() -> None:
    """Training starts the process that is copied here with SIGTERM ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def in_own_process(body: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Call a function of a test module in a new process, in its main thread.

    A process that has loaded TensorRT, OpenVINO and ONNX Runtime ends with a segmentation fault when it receives SIGTERM,
    also where Python handles the signal. A test that sends signals to itself therefore runs here.

    Args:
        body: A function at the top level of its module.
        arguments: Its arguments. They and the result must be picklable.
        options: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        BaseException: What the function raises.
        BrokenProcessPool: The process died.
        TimeoutError: The function takes more than five minutes.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context(start_method()), _as_started) as pool:
        return pool.submit(body, *arguments, **options).result(_LIMIT_S)
