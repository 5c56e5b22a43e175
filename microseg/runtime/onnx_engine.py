"""Engines run by ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError, InputError, MissingExtraError
from microseg.runtime.engine import Device, EngineOutput

if TYPE_CHECKING:
    from microseg.core.manifest import Manifest

try:
    import onnxruntime
except ImportError as error:
    raise MissingExtraError("Running an engine", "cpu") from error

_PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_OUTPUTS = ("labels", "votes", "features", "probability")
_ERRORS_ONLY = 3


class OnnxEngine:
    """The engine protocol over one inference session. For one thread at a time."""

    def __init__(self, path: Path, manifest: Manifest, session: Any) -> None:
        self.path = path
        self.manifest = manifest
        self.runs = 0
        self.provider: str = session.get_providers()[0]
        self._session = session
        _check_signature(path, session)
        # Work that no wanted output needs (features, the stored probability) is left out.
        self._options = onnxruntime.RunOptions()
        self._options.only_execute_path_to_fetches = True

    def run(self, tiles: NDArray[np.uint8], *, features: bool = False, probability: bool = False) -> EngineOutput:
        """Segment `tiles`, uint8 (N, 1, H, W). Raises FieldError where ONNX Runtime fails."""
        wanted = ["labels", "votes", *(["features"] if features else []), *(["probability"] if probability else [])]
        self.runs += 1
        try:
            found = dict(zip(wanted, self._session.run(wanted, {"tiles": tiles}, self._options), strict=True))
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise FieldError(
                f"{self.path}: ONNX Runtime failed on {tiles.shape[0]} tiles of {tiles.shape[3]} x {tiles.shape[2]} px "
                f"({error}). Remedy: a smaller --memory-mb or --batch."
            ) from error
        return EngineOutput(**found)

    def close(self) -> None:
        """Give the session's memory back."""
        self._session = None


def open_session(path: Path, threads: int | None, device: Device) -> Any:
    """An ONNX Runtime session. Raises InputError: not to be loaded, or not on this device."""
    wanted = _PROVIDERS[device]
    if wanted not in onnxruntime.get_available_providers():
        raise InputError(
            f"--device {device}: this ONNX Runtime has no {wanted}. "
            "Remedy: pip uninstall onnxruntime; pip install 'microseg[gpu]'; or use --device cpu."
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # A memory pattern is planned for every shape beside the memory of the first run, which is kept: twice the memory
    # and no less time.
    options.enable_mem_pattern = False
    # Smaller blocks of work: a thread that reading or writing interrupts does not keep the others waiting.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    if threads is not None:
        options.intra_op_num_threads = threads
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), sess_options=options, providers=[wanted])
    except Exception as error:  # as above
        raise InputError(
            f"{path}: ONNX Runtime cannot load it ({error}). Remedy: copy or export the engine again."
        ) from error
    if session.get_providers()[0] != wanted:
        raise InputError(
            f"{path}: {wanted} was asked for, but ONNX Runtime fell back to {session.get_providers()[0]}. "
            "Remedy: check the driver and CUDA libraries, or use --device cpu."
        )
    return session


def _check_signature(path: Path, session: Any) -> None:
    inputs = {node.name: node.type for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    missing = [name for name in _OUTPUTS if name not in outputs]
    if inputs != {"tiles": "tensor(uint8)"} or missing:
        raise InputError(
            f"{path}: takes {inputs} and lacks the outputs {missing}, so it is no engine of this version. "
            "Remedy: export it again."
        )
