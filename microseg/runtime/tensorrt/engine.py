"""Engines run by TensorRT: two batches are under way at once, and copies overlap with computing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError, InputError
from microseg.core.system.files import Closing, write_bytes
from microseg.runtime.engine import EngineOutput
from microseg.runtime.runtime_config import RuntimeConfig
from microseg.runtime.signature import wanted_outputs
from microseg.runtime.tensorrt.cuda_buffers import CapturedGraph, Lanes, Slot
from microseg.runtime.tensorrt.device import CudaError

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest

_DTYPES: dict[str, type[np.generic]] = {
    "tiles": np.uint8,
    "labels": np.uint8,
    "votes": np.uint8,
    "features": np.float32,
    "probability": np.float32,
}
_SLOTS = 2


class TensorRTEngine(Closing):
    """The engine protocol over a deserialised plan. One thread at a time may call it.

    More tiles than the plan's best batch are run batch after batch. The kernels of a shape that returns are launched as one
    CUDA graph.
    """

    def __init__(
        self, *, path: Path, manifest: Manifest, config: RuntimeConfig, version: str, provider: str, library: Any,
        runtime: Any, engine: Any, logger: Any, cuda: Any,
    ) -> None:  # fmt: skip
        """Take over an engine. Raises CudaError where the device has not enough memory."""
        assert manifest.plan is not None
        self.path = path
        self.manifest = manifest
        self.config = config
        self.version = version
        self.provider = provider
        self.runs = 0
        self._plan = manifest.plan
        self._cuda = cuda
        self._logger = logger
        # An engine lives no longer than its runtime.
        self._runtime = runtime
        self._engine = engine
        self._features = int(engine.get_tensor_shape("features")[-1])
        self._cache_path = path.with_name(f"{path.name}.kernels")
        self._cache: Any = None
        self._kernels = b""
        self._slots: list[Slot] = []
        self._shape: tuple[int, ...] = ()
        self._warm: set[Slot] = set()
        self._graphs: dict[Slot, CapturedGraph] = {}
        # TensorRT for RTX captures graphs itself.
        self._captures = self._plan.flavour == "tensorrt"
        self._lanes = Lanes(cuda)
        self._context = self._new_context(library)
        try:
            if self._context is None:
                raise CudaError(logger.last())
            side, batch = self._plan.tile_px.max, self._plan.batch.opt
            sizes = {
                name: int(np.prod(self._shape_of(name, batch, side, side))) * np.dtype(_DTYPES[name]).itemsize
                for name in ("tiles", *self._plan.outputs)
            }
            for _ in range(_SLOTS):
                self._slots.append(Slot(cuda, sizes))
        except CudaError:
            self._release()
            raise

    def _new_context(self, library: Any) -> Any:
        if self._plan.flavour == "tensorrt":
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        config.cuda_graph_strategy = library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # By default a shape begins with general kernels and changes to its own once they are compiled: one tile could then
        # have two results in one report.
        config.dynamic_shapes_kernel_specialization_strategy = library.DynamicShapesKernelSpecializationStrategy.EAGER
        self._cache = config.create_runtime_cache()
        # Without it TensorRT compiles again. It ignores a cache of another card or version.
        with suppress(OSError):
            self._kernels = self._cache_path.read_bytes()
            self._cache.deserialize(self._kernels)
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)

    def run(self, tiles: NDArray[np.uint8], *, features: bool = False, probability: bool = False) -> EngineOutput:
        """Segment tiles.

        Args:
            tiles: uint8 (N, 1, H, W); H and W are multiples of the stride and within the plan's `tile_px`.
            features: whether to compute the features.
            probability: whether to compute the probability.

        Raises:
            FieldError: a tile is too large or too small for the plan, or the device fails.
            InputError: the plan is built without `probability`.
        """
        wanted = wanted_outputs(features, probability)
        self._require(tiles, wanted)
        self.runs += 1
        count, _, height, width = tiles.shape
        found = {name: np.empty(self._shape_of(name, count, height, width), _DTYPES[name]) for name in wanted}
        step = self._plan.batch.opt
        starts = range(0, count, step)
        try:
            for number, start in enumerate(starts):
                slot = self._slots[number % _SLOTS]
                if number >= _SLOTS:
                    self._collect(slot, starts[number - _SLOTS], found)
                self._submit(slot, tiles[start : start + step], wanted)
            for number in range(max(0, len(starts) - _SLOTS), len(starts)):
                self._collect(self._slots[number % _SLOTS], starts[number], found)
        except CudaError as error:
            raise FieldError(
                f"{self.path}: {self.provider} failed on {count} tiles of {width} x {height} px ({error}). "
                "Remedy: run again; if it fails again, restart the machine or use the .onnx file on the CPU."
            ) from error
        return EngineOutput(**found)

    def _require(self, tiles: NDArray[np.uint8], wanted: list[str]) -> None:
        size = self._plan.tile_px
        height, width = tiles.shape[2:]
        if not (size.min <= min(height, width) and max(height, width) <= size.max):
            raise FieldError(
                f"{self.path}: runs tiles of {size.min} to {size.max} px a side; this one is {width} x {height} px. "
                "Remedy: the .onnx file, or a plan built for such tiles (--profile)."
            )
        if missing := set(wanted) - set(self._plan.outputs):
            raise InputError(
                f"{self.path}: was built without {', '.join(missing)}. "
                "Remedy: build it by a profile with keep_probability: true, or use the .onnx file."
            )

    def _submit(self, slot: Slot, tiles: NDArray[np.uint8], wanted: list[str]) -> None:
        """Queue one batch: upload, compute, download."""
        if (short := self._plan.batch.min - len(tiles)) > 0:
            tiles = np.concatenate([tiles, np.repeat(tiles[-1:], short, 0)])
        slot.upload("tiles", tiles, self._lanes)
        self._compute(slot, tiles.shape)
        count, _, height, width = tiles.shape
        sizes = {
            name: int(np.prod(self._shape_of(name, count, height, width))) * np.dtype(_DTYPES[name]).itemsize
            for name in wanted
        }
        slot.download(sizes, self._lanes)

    def _compute(self, slot: Slot, shape: tuple[int, ...]) -> None:
        if shape != self._shape:
            self._drop_graphs()
            if not self._context.set_input_shape("tiles", shape):
                raise CudaError(self._logger.last())
            self._shape = shape
        if slot not in self._graphs:
            for name, address in slot.device.items():
                if not self._context.set_tensor_address(name, address):
                    raise CudaError(self._logger.last())
            # The first run of a shape allocates, which a graph must not contain.
            if not self._captures or slot not in self._warm:
                self._warm.add(slot)
                self._execute()
                return
            try:
                self._graphs[slot] = CapturedGraph(self._cuda, self._lanes.compute, self._execute)
            except CudaError:
                # Not every network can be captured. Its kernels are then launched one by one, with the same results. A broken
                # device fails here too.
                self._captures = False
                self._execute()
                return
        self._graphs[slot].launch(self._lanes.compute)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(int(self._lanes.compute)):
            raise CudaError(self._logger.last())

    def _collect(self, slot: Slot, start: int, found: dict[str, NDArray[Any]]) -> None:
        """Wait for the slot's batch, whose first tile is number `start`, and copy its results."""
        slot.wait()
        for name, result in found.items():
            part = result[start : start + self._plan.batch.opt]
            part[...] = slot.host(name, part.shape, _DTYPES[name])

    def _shape_of(self, name: str, count: int, height: int, width: int) -> tuple[int, ...]:
        folds, phases = len(self.manifest.folds), len(self.manifest.phases)
        match name:
            case "tiles":
                return count, 1, height, width
            case "labels":
                return count, height, width
            case "votes":
                return count, folds, height, width
            case "features":
                return count, folds, self._features
            case _:
                return count, phases, height, width

    def _drop_graphs(self) -> None:
        # A graph belongs to the shape of its capture, and may still run.
        if self._graphs:
            self._cuda.cudaStreamSynchronize(self._lanes.compute)
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._warm.clear()

    def close(self) -> None:
        """Release device memory. Compiled kernels are kept for the next start."""
        if self._context is None:
            return
        if self._cache is not None:
            kernels = self._cache.serialize()
            if kernels is not None and bytes(kernels) != self._kernels:
                # Read-only folders are common; the next start then compiles again.
                with suppress(OSError):
                    write_bytes(self._cache_path, bytes(kernels))
        self._release()

    def _release(self) -> None:
        # Work of an interrupted run is still under way, and needs its memory.
        self._lanes.wait()
        self._drop_graphs()
        for slot in self._slots:
            slot.close()
        self._lanes.close()
        # In this order: each lives in the next.
        self._context = None
        self._cache = None
        self._engine = None
