"""ONNX Runtime's Python module, imported such that it reports to nobody."""

from __future__ import annotations

from typing import Any

from microseg.core.system.environment import variable_if_unset


def onnxruntime_library() -> Any:
    """The module `onnxruntime`.

    ONNX Runtime 1.32 writes an identifier into the user's home and reports its use to its maker. The variable that
    forbids it is read once, while the module is imported.

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: ONNX Runtime is not installed.
    """
    with variable_if_unset("ORT_DISABLE_TELEMETRY", "1"):
        import onnxruntime
    return onnxruntime
