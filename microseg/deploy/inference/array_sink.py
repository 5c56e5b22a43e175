"""The pipeline's sink that gives results in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from microseg.core.argument_names import in_arguments
from microseg.core.errors import FieldError, InputError
from microseg.core.images.array import array_micrograph
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.preparation.prepared_field import PreparedField, open_prepared
from microseg.core.preparation.resampling import nearest_indices
from microseg.core.preparation.stitching import predict_tiled
from microseg.core.preparation.tiling import plan_tiles
from microseg.core.schemas.preparation import Grid, Preparation
from microseg.core.system.files import file_identity
from microseg.deploy.inference.result import FieldResult, Measured, NativeArrays
from microseg.deploy.pipeline.field_measurement import FieldMeasurement
from microseg.deploy.pipeline.field_task import FailedSource, FieldTask, TileLabels, field_task, reason
from microseg.runtime import Engine

# What a reason may name: options that `LoadedEngine.predict` has as arguments.
_ARGUMENTS = {
    name.replace("_", "-"): name for name in ("pixel_size_um", "invert", "crop", "keep_data_bar", "keep_padding")
}


@dataclass(frozen=True)
class FieldPreparation:
    """How fields are prepared: the domain's preparation, and what decides the scale beside it and the file."""

    preparation: Preparation
    scale: ScaleRules


@dataclass(frozen=True)
class FieldSource:
    """A field to measure: a file or an array, and what messages call it."""

    name: str
    content: Path | NDArray[Any]

    def state(self) -> object:
        """What changes where the content changes: size and time of a file, a checksum of an array. Raises OSError."""
        if isinstance(self.content, Path):
            return file_identity(self.content)
        return zlib_ng.crc32(np.ascontiguousarray(self.content).view(np.uint8).data)

    def open(self, prepared_as: FieldPreparation, grid: Grid) -> PreparedField:
        """The field on the network's grid. Raises FieldError, OSError."""
        content = self.content
        return open_prepared(
            content if isinstance(content, Path) else array_micrograph(content, self.name),
            prepared_as.preparation,
            grid,
            prepared_as.scale,
        )


class ArraySink:
    """Opens files and arrays, and hands on a `FieldResult` for each, in order."""

    def __init__(
        self,
        engine: Engine,
        max_tile_pixels: int,
        prepared_as: FieldPreparation,
        hand_on: Callable[[FieldResult], None],
    ) -> None:
        """Args:
        engine: the open engine.
        max_tile_pixels: the largest tile in pixels.
        prepared_as: how fields are prepared.
        hand_on: gets each result.
        """
        self._engine = engine
        self._max_tile_pixels = max_tile_pixels
        self._prepared_as = prepared_as
        self._hand_on = hand_on
        self._sources: dict[int, FieldSource] = {}

    def open(self, source: FieldSource) -> FieldTask | FailedSource:
        """The field ready to be cut, or why it fails."""
        manifest = self._engine.manifest
        try:
            identity = file_identity(source.content) if isinstance(source.content, Path) else None
            prepared = source.open(self._prepared_as, manifest.grid)
            task = field_task(source.name, prepared, manifest, self._max_tile_pixels, identity=identity)
        except (FieldError, OSError) as error:
            return FailedSource(source.name, reason(Path(source.name), error))
        self._sources[id(task)] = source
        return task

    def measure(self, task: FieldTask, tiles: Iterator[TileLabels]) -> None:
        """Take the tiles of one field to a result. Raises FieldError."""
        source = self._sources.pop(id(task))
        manifest = self._engine.manifest
        phases, folds = [phase.name for phase in manifest.phases], len(manifest.folds)
        arrays = NativeArrays(task.prepared, folds)
        measurement = FieldMeasurement(task.prepared, task.reading, phases, folds, arrays)
        for item in tiles:
            measurement.add(item.tile, item.labels, item.votes)
        if task.error:
            raise FieldError(task.error)
        counts, notices = measurement.finish()
        task.require_unchanged()
        state = task.identity or source.state()
        found = Measured(
            arrays=arrays,
            counts=counts,
            pixel_size=task.prepared.pixel_size,
            notices=task.prepared.notices + notices,
            probability=partial(self._probability, source, state),
        )
        self._hand_on(FieldResult(task.name, tuple(manifest.phases), found))

    def fail(self, name: str, reason: str) -> None:
        """Hand on a result that holds the reason why its field fails."""
        self._hand_on(FieldResult(name, tuple(self._engine.manifest.phases), in_arguments(reason, _ARGUMENTS)))

    def _probability(self, source: FieldSource, state: object) -> NDArray[np.float32]:
        """Mean probability of each phase on the native grid, float32 (P, H, W), NaN where nothing is measured."""
        manifest = self._engine.manifest
        if not manifest.gives_probability:
            raise InputError(
                f"{source.name}: the engine is a plan without the output `probability`. Remedy: load the .onnx file, or "
                "build the plan with a profile that keeps it."
            )

        def predict(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32]]:
            found = self._engine.run(pixels[None, None], probability=True).probability
            assert found is not None
            return (found[0],)

        try:
            is_same = source.state() == state
            with source.open(self._prepared_as, manifest.grid) as field:
                height, width = field.shape
                plan = plan_tiles(
                    height, width, manifest.stride, manifest.halo_px, self._max_tile_pixels, manifest.max_side_px
                )
                (found,) = predict_tiled(field.whole(), plan, predict)
                excluded = field.excluded_rows(0, field.native_shape[0])
        except OSError as error:
            raise FieldError(reason(Path(source.name), error)) from error
        if not is_same:
            raise FieldError(f"{source.name}: changed since it was measured. Remedy: measure it again.")
        crop, (native_height, native_width) = field.crop, field.native_shape
        rows = nearest_indices(height, native_height)
        columns = nearest_indices(width, native_width)
        native = np.full((len(found), *field.full_shape), np.nan, np.float32)
        inside = np.s_[crop.top_px : crop.top_px + native_height, crop.left_px : crop.left_px + native_width]
        for whole, phase in zip(native, found, strict=True):
            whole[inside] = phase[rows[:, None], columns]
        for outside in excluded:
            native[:, *inside][:, outside] = np.nan
        return native
