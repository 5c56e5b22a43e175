"""Test bodies in a process of their own: what they do to signals, threads or the interpreter ends with it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_LIMIT_S = 300


def in_own_process(body: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Call a function of a test module in a new interpreter, in its main thread.

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
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(body, *arguments, **options).result(_LIMIT_S)
