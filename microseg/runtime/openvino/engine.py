"""Engines run by OpenVINO on the CPU, where it is the fastest for INT8."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError, InputError, MissingExtraError
from microseg.core.system.files import Closing
from microseg.runtime.engine import EngineOutput
from microseg.runtime.external import refuse_external_data
from microseg.runtime.openvino.cache import Compiled, compiled
from microseg.runtime.runtime_config import RuntimeConfig
from microseg.runtime.signature import check_counts, check_signature, wanted_outputs

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest

# OpenVINO reports its import to its maker through this package. Where that is missing, it has a stand-in that sends nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# Converters of other formats take a quarter of its import, which goes on without them: `openvino.convert_model` is then missing
# in this process, unless it was there before; openvino.tools.ovc can still be imported.
_CONVERTERS = "openvino.tools.ovc"
_are_loaded = _CONVERTERS in sys.modules
sys.modules.setdefault(_CONVERTERS, None)  # type: ignore[arg-type]
try:
    import openvino
except ImportError as error:
    raise MissingExtraError("Running an engine with OpenVINO", "openvino") from error
finally:
    if not _are_loaded:
        del sys.modules[_CONVERTERS]

_DEVICE = "CPU"
# OpenVINO's bindings look up NumPy at their first array. Two threads that do so at once wait for each other forever: one holds
# the interpreter's lock and waits for that of the look-up, the other the reverse.
_BINDINGS = Lock()


class OpenVinoEngine(Closing):
    """The engine protocol over one compiled network, with a request for each stream. Any number of threads may call it.

    N, H and W stay dynamic: a new shape compiles its kernels, and not the network.
    """

    def __init__(self, path: Path, manifest: Manifest, config: RuntimeConfig, loaded: Compiled) -> None:
        network = loaded.network
        self.path = path
        self.manifest = manifest
        self.config = config
        self.version: str = openvino.get_version().partition("-")[0]
        self.runs = 0
        shape = network.output("votes").get_partial_shape()
        check_counts(path, manifest, {"votes": [dim.get_length() if dim.is_static else None for dim in shape]})
        self._idle: list[Any] | None = _requests(network, config)
        self._change = Condition()
        self.provider = ", ".join(network.get_property("EXECUTION_DEVICES"))
        self._outputs: tuple[str, ...] = ("labels", "votes")
        with suppress(OSError, RuntimeError):
            loaded.keep()  # only here: a file that is refused must leave nothing

    def run(self, tiles: NDArray[np.uint8], *, features: bool = False, probability: bool = False) -> EngineOutput:
        """Segment tiles uint8 (N, 1, H, W). Raises FieldError where OpenVINO fails."""
        wanted = wanted_outputs(features, probability)
        try:
            if not set(wanted) <= set(self._outputs):
                # Features and probability are rarely asked for, and a network that has them computes them for every tile.
                with self._taken(self.config.streams) as requests:
                    outputs = list(dict.fromkeys((*self._outputs, *wanted)))
                    requests[:] = _requests(_compile(self.path, self.config, outputs), self.config)
                    self._outputs = tuple(outputs)
            with self._change:
                self.runs += 1
            with self._taken(min(len(tiles), self.config.streams)) as requests:
                found = _infer(requests, np.ascontiguousarray(tiles))
                # The next call overwrites a request's memory.
                return EngineOutput(**{name: np.concatenate([part[name] for part in found]) for name in wanted})
        except Exception as error:  # OpenVINO raises bare RuntimeErrors
            raise FieldError(
                f"{self.path}: OpenVINO failed on {tiles.shape[0]} tiles of {tiles.shape[3]} x {tiles.shape[2]} px "
                f"({error}). Remedy: a smaller --memory-mb or --batch."
            ) from error

    @contextmanager
    def _taken(self, count: int) -> Iterator[list[Any]]:
        """So many requests, once they are idle. At the end of the block those in the list are idle again."""
        with self._change:
            self._change.wait_for(lambda: self._idle is None or len(self._idle) >= count)
            if self._idle is None:
                raise RuntimeError("the engine is closed")
            taken = [self._idle.pop() for _ in range(count)]
        try:
            yield taken
        finally:
            with self._change:
                if self._idle is not None:
                    self._idle += taken
                self._change.notify_all()

    def close(self) -> None:
        """Release the network's memory."""
        with self._change:
            self._idle = None
            self._change.notify_all()


def _infer(requests: list[Any], tiles: NDArray[np.uint8]) -> list[Any]:
    """The results of the requests for their parts of the tiles, in order. Raises what OpenVINO raises."""
    parts = np.array_split(tiles, len(requests))
    errors = []
    for begin in (True, False):
        # All of them, also after an error: otherwise the next call finds busy requests.
        for request, part in zip(requests, parts, strict=True):
            try:
                if begin:
                    with _BINDINGS:
                        # Every call shares its array: a request that shared one before copies the next one into it.
                        request.start_async({"tiles": part}, share_inputs=True)
                else:
                    request.wait()
            except Exception as error:
                errors.append(error)
    if errors:
        raise errors[0]
    with _BINDINGS:
        return [request.results for request in requests]


def _requests(network: Any, config: RuntimeConfig) -> list[Any]:
    return [network.create_infer_request() for _ in range(config.streams)]


def compile_network(path: Path, config: RuntimeConfig, keep: bool = False) -> Compiled:
    """The compiled network with labels and votes as its outputs.

    Args:
        path: the engine's file.
        config: threads and streams.
        keep: whether the engine leaves it beside its file for later starts, where that saves time.

    Raises:
        InputError: OpenVINO cannot load the file.
    """
    refuse_external_data(path)
    outputs = wanted_outputs(features=False, probability=False)
    made_by = [openvino.get_version(), *outputs]
    try:
        return compiled(
            path,
            openvino.Core(),
            _DEVICE,
            _settings(config),
            made_by,
            lambda: _compile(path, config, outputs),
            keep=keep,
        )
    except InputError:
        raise
    except Exception as error:  # as above
        raise InputError(
            f"{path}: OpenVINO cannot load it ({error}). Remedy: copy or export the engine again, or use "
            "--runtime onnxruntime."
        ) from error


def _compile(path: Path, config: RuntimeConfig, outputs: list[str]) -> Any:
    network = openvino.Core().read_model(os.fspath(path))
    inputs = {
        node.get_any_name(): (
            node.get_element_type().get_type_name(),
            [dim.get_length() if dim.is_static else str(dim) for dim in node.get_partial_shape()],
        )
        for node in network.inputs
    }
    check_signature(path, inputs, {name for node in network.outputs for name in node.get_names()}, "u8")
    # A runtime computes every output that the network has, so the others are removed.
    network = openvino.Model([network.output(name).get_node() for name in outputs], network.get_parameters())
    return compile_model(network, config)


def compile_model(network: Any, config: RuntimeConfig) -> Any:
    """A network compiled as an engine runs it. Raises OpenVINO's RuntimeError.

    Args:
        network: a network of OpenVINO, or the bytes of an ONNX file.
        config: threads and streams.
    """
    core = openvino.Core()
    network = core.read_model(network) if isinstance(network, bytes) else network
    return core.compile_model(network, _DEVICE, _settings(config))


def _settings(config: RuntimeConfig) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY" if config.streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": config.streams,
        # On processors with bfloat16 OpenVINO rounds float32 networks to it by default.
        "INFERENCE_PRECISION_HINT": "f32",
        # A thread that is bound to a core stands still while the reader or the writer runs there.
        "ENABLE_CPU_PINNING": False,
    }
    if config.threads is not None:
        settings["INFERENCE_NUM_THREADS"] = config.threads
    return settings
