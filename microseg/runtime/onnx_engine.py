"""Engines run by ONNX Runtime."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError, InputError, MissingExtraError
from microseg.core.system.files import Closing, sha256_of
from microseg.runtime.driver import gpu_absence
from microseg.runtime.engine import EngineOutput
from microseg.runtime.external import refuse_external_data
from microseg.runtime.onnxruntime_library import onnxruntime_library
from microseg.runtime.runtime_config import Device, RuntimeConfig
from microseg.runtime.signature import check_counts, check_signature, wanted_outputs

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest

try:
    onnxruntime = onnxruntime_library()
except ImportError as error:
    raise MissingExtraError("Running an engine", "cpu") from error

# Float32 as exported: by default the provider multiplies in TF32, which has the precision of FP16.
_CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})
_ERRORS_ONLY = 3


class OnnxEngine(Closing):
    """The engine protocol over one inference session. Any number of threads may call it."""

    def __init__(self, path: Path, manifest: Manifest, config: RuntimeConfig, session: Any) -> None:
        self.path = path
        self.manifest = manifest
        self.config = config
        self.version: str = onnxruntime.__version__
        self.runs = 0
        self._counting = Lock()
        self.provider: str = session.get_providers()[0]
        self._session = session
        inputs = {node.name: (node.type, node.shape) for node in session.get_inputs()}
        outputs = {node.name: node.shape for node in session.get_outputs()}
        check_signature(path, inputs, outputs, "tensor(uint8)")
        check_counts(path, manifest, outputs)

    def run(self, tiles: NDArray[np.uint8], *, features: bool = False, probability: bool = False) -> EngineOutput:
        """Segment tiles uint8 (N, 1, H, W). Raises FieldError where ONNX Runtime fails."""
        wanted = wanted_outputs(features, probability)
        with self._counting:
            self.runs += 1
        try:
            found = dict(zip(wanted, self._session.run(wanted, {"tiles": tiles}), strict=True))
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise FieldError(
                f"{self.path}: ONNX Runtime failed on {tiles.shape[0]} tiles of {tiles.shape[3]} x {tiles.shape[2]} px "
                f"({error}). Remedy: a smaller --memory-mb or --batch."
            ) from error
        return EngineOutput(**found)

    def close(self) -> None:
        """Release the session's memory."""
        self._session = None


def _providers(path: Path, device: Device) -> list[tuple[str, dict[str, str]]]:
    """The provider asked for, then CUDA for what TensorRT's provider cannot compute."""
    match device:
        case "cpu":
            return [("CPUExecutionProvider", {})]
        case "cuda":
            return [_CUDA]
    options = {}
    if os.access(path.parent, os.W_OK):
        # It builds for minutes for each shape, and without a cache again at every start. It finds its files by the names in a
        # graph, which another bag of the same network has too: the engine's hash in the folder's name tells them apart.
        cache = f"{path}.{sha256_of(path)[:16]}.tensorrt"
        options = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": cache}
    return [("TensorrtExecutionProvider", options), _CUDA]


def open_session(path: Path, config: RuntimeConfig) -> Any:
    """An ONNX Runtime session.

    Args:
        path: the engine's file.
        config: device, threads and streams.

    Raises:
        InputError: the file does not load, or not on this device.
    """
    refuse_external_data(path)
    providers = _providers(path, config.device)
    wanted = providers[0][0]
    if wanted not in onnxruntime.get_available_providers():
        raise InputError(
            f"--device {config.device}: this ONNX Runtime has no {wanted}. "
            "Remedy: pip uninstall onnxruntime; pip install 'microseg[gpu]'; or use --device cpu."
        )
    if config.device != "cpu":
        # Without a device TensorRT ends the process.
        if (reason := gpu_absence()) is not None:
            raise InputError(
                f"--device {config.device}: no NVIDIA GPU can be used here ({reason}). Remedy: use --device cpu."
            )
        with redirect_stdout(io.StringIO()):  # it prints libraries that it does not find, which may be elsewhere
            onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # A memory pattern takes twice the memory and saves no time: the memory of the first run of a shape is kept beside it.
    options.enable_mem_pattern = False
    # Smaller blocks of work: the others wait less for a thread that reading or writing interrupts.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    # Between two tiles the reader and the writer need the processors; threads must not spin on them.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if config.threads is not None:
        # All calls share these threads, and each call brings its own thread.
        options.intra_op_num_threads = config.threads - config.streams + 1
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    try:
        # Without the fall-back to the CPU, which prints a line to standard output.
        session = onnxruntime.InferenceSession(
            os.fspath(path), sess_options=options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # as above
        raise InputError(
            f"{path}: ONNX Runtime cannot load it ({error}). Remedy: copy or export the engine again."
        ) from error
    if session.get_providers()[0] != wanted:
        raise InputError(
            f"{path}: ONNX Runtime fell back from {wanted} to {session.get_providers()[0]}. "
            "Remedy: check the driver and CUDA libraries, or use --device cpu."
        )
    return session
