"""Graphs in memory, ready to run on the CPU: in ONNX Runtime and in OpenVINO."""

from __future__ import annotations

from textwrap import shorten
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from microseg.core.errors import GateError
from microseg.core.system.processor_count import compute_threads
from microseg.runtime import RuntimeConfig
from microseg.runtime.onnxruntime_library import onnxruntime_library


def onnxruntime_session(model: onnx.ModelProto) -> Any:
    """An ONNX Runtime session of a graph, on the CPU."""
    onnxruntime = onnxruntime_library()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def openvino_session(model: onnx.ModelProto) -> Any:
    """The same in OpenVINO, compiled as `segment` compiles it.

    Args:
        model: a graph with the inputs and outputs of an engine.

    Returns:
        An object with the `run(outputs, feeds)` of an ONNX Runtime session.

    Raises:
        GateError: OpenVINO cannot load the graph.
    """
    from microseg.runtime.openvino.engine import compile_model

    try:
        network = compile_model(model.SerializeToString(), RuntimeConfig("openvino", "cpu", compute_threads()))
    except Exception as error:  # OpenVINO raises bare RuntimeErrors
        raise GateError(
            "OpenVINO cannot load the engine, and `segment` uses OpenVINO for INT8 where it is installed "
            f"({shorten(str(error), 300)}). Nothing was written. Remedy: --precision fp16, or pip uninstall openvino."
        ) from error
    request = network.create_infer_request()

    def run(outputs: list[str], feeds: dict[str, NDArray[np.uint8]]) -> list[NDArray[Any]]:
        found = request.infer(feeds)
        return [np.array(found[name]) for name in outputs]

    return SimpleNamespace(run=run)
