"""An engine that stays open and measures files and arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from microseg.core.argument_names import naming_arguments
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.field_scale import ScaleRules, assumed_size, refuse_contradicting_options
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import Crop
from microseg.core.system.files import Closing
from microseg.deploy.inference.array_sink import ArraySink, FieldPreparation, FieldSource
from microseg.deploy.inference.result import FieldResult
from microseg.deploy.inference.shared_engine import SharedEngine
from microseg.deploy.pipeline.channel import Channel, Stop, Stopped
from microseg.deploy.pipeline.field_pipeline import FieldPipeline
from microseg.deploy.pipeline.inputs import domain_preparation
from microseg.deploy.pipeline.tile_memory import TileLimits

if TYPE_CHECKING:
    from microseg.runtime import Engine

Input = str | PathLike[str] | NDArray[Any]
_QUEUED_RESULTS = 2


class LoadedEngine(Closing):
    """An open engine. `microseg.load_engine` makes one of a file, `microseg.connect` one of a model that a server computes; a
    `with` block or `close` gives its memory or connection back.

    Several threads may use it at a time: their calls share its streams. Several engines may be open in one process.

    Attributes:
        path: the engine's file; the address of a served model.
        engine_bytes: size of the engine's file.
        manifest: what the engine says about itself: phases, domains, folds and their scores, precision, provenance.
        limits: tiles under way at once and their size.
        shared: the engine protocol for several threads.
    """

    def __init__(self, path: Path | str, engine: Engine, limits: TileLimits, engine_bytes: int) -> None:
        """Args:
        path: the engine's file, or the address of a served model.
        engine: the open engine, from now on closed by this object.
        limits: tiles under way at once and their size.
        engine_bytes: size of the engine's file.
        """
        self.path = path
        self.engine_bytes = engine_bytes
        self.manifest: Manifest = engine.manifest
        self.limits = limits
        self.shared = SharedEngine(path, engine)

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases; a label is an index into them."""
        return tuple(phase.name for phase in self.manifest.phases)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains that `predict` can measure as; the first use of `domain=None` takes the default one."""
        return tuple(entry.name for entry in self.manifest.domains)

    @property
    def closed(self) -> bool:
        """Whether the engine is closed."""
        return self.shared.is_closed

    @naming_arguments(**{"as": "domain"})
    def predict(
        self,
        source: Input,
        *,
        pixel_size_um: float | None = None,
        domain: str | None = None,
        invert: bool | None = None,
        crop: Crop | Mapping[str, int] | None = None,
        keep_data_bar: bool | None = None,
        keep_padding: bool | None = None,
        assume_engine_scale: bool = False,
        require_scale: bool = False,
        force_scale: bool = False,
    ) -> FieldResult:
        """Measure one field, exactly as `microseg segment` measures it.

        Args:
            source: the path of an image file, or an array: uint8, uint16, int16 without negative values, float16, float32
                or float64, of the shape (H, W), or (H, W, 3) with three equal channels. What a further channel, alpha, hides
                is not measured.
            pixel_size_um: native pixel size in micrometres, instead of what the file or the engine says.
            domain: name of the engine's domain to measure as; None for its default.
            invert: whether grey values are inverted (bright field); None for what the domain says.
            crop: native pixels to leave out, for instance {"bottom_px": 60}; None for what the domain says.
            keep_data_bar: whether the microscope's data bar is measured; None for what the domain says, which is no by default.
            keep_padding: whether one-valued margins of stitched or turned pictures are measured as material; None for what
                the domain says, which is no by default.
            assume_engine_scale: accept, without a notice, the pixel size of the training images where nothing states one.
            require_scale: fail where nothing states the pixel size.
            force_scale: measure also where the pixel size is more than 6 times beyond those of the training.

        Returns:
            Labels, votes and fractions on the native grid.

        Raises:
            FieldError: the file or array cannot be measured; the message says why.
            InputError: unknown domain, a wrong crop or pixel size, or the engine is closed, also while it computes.
            TypeError: `source` is neither a path nor an array.
        """
        scale = self._scale(pixel_size_um, assume_engine_scale, require_scale, force_scale)
        prepared_as = self._prepared_as(
            scale, domain, invert=invert, crop=crop, keep_data_bar=keep_data_bar, keep_padding=keep_padding
        )
        name = "array" if isinstance(source, np.ndarray) else None
        (result,) = self._results([_field_source(source, name)], prepared_as)
        if result.error is not None:
            raise FieldError(result.error)
        return result

    @naming_arguments(**{"as": "domain"})
    def predict_many(
        self,
        sources: Iterable[Input],
        *,
        pixel_size_um: float | None = None,
        domain: str | None = None,
        invert: bool | None = None,
        crop: Crop | Mapping[str, int] | None = None,
        keep_data_bar: bool | None = None,
        keep_padding: bool | None = None,
        assume_engine_scale: bool = False,
        require_scale: bool = False,
        force_scale: bool = False,
    ) -> Iterator[FieldResult]:
        """Measure fields one after another, reading and computing at the same time, as `microseg segment` does.

        Results come in the order of `sources`. A field that fails does not end the iteration: its result has `error`, and
        raises it where anything else of it is used. Memory is bounded: `sources` is read a few fields ahead, in another
        thread, and stops while results wait to be taken. An iteration that is left early stops the work.

        Args:
            sources: paths and arrays, as `predict` takes them.
            pixel_size_um: as in `predict`, for all fields.
            domain: as in `predict`.
            invert: as in `predict`.
            crop: as in `predict`.
            keep_data_bar: as in `predict`.
            keep_padding: as in `predict`.
            assume_engine_scale: as in `predict`.
            require_scale: as in `predict`.
            force_scale: as in `predict`.

        Returns:
            An iterator over one result for each source.

        Raises:
            InputError: unknown domain, a wrong crop or pixel size, or the engine is closed, also while it computes.
            TypeError: `sources` is a single path, or one of them is neither a path nor an array. Results before such an item
                come first, also before any error that `sources` raises.
        """
        if isinstance(sources, str | PathLike):
            raise TypeError(
                "predict_many takes several paths or arrays, not one path; for a folder: microseg.segment_folder"
            )
        scale = self._scale(pixel_size_um, assume_engine_scale, require_scale, force_scale)
        prepared_as = self._prepared_as(
            scale, domain, invert=invert, crop=crop, keep_data_bar=keep_data_bar, keep_padding=keep_padding
        )
        named = (
            _field_source(source, f"array {index}" if isinstance(source, np.ndarray) else None)
            for index, source in enumerate(sources)
        )
        return self._results(named, prepared_as)

    def close(self) -> None:
        """Give back memory and device, once the calls under way are over. A `predict` under way raises InputError."""
        self.shared.close()

    def _scale(self, pixel_size_um: float | None, assume: bool, require: bool, force: bool) -> ScaleRules:
        """What decides the scale beside the domain and the file. Raises InputError."""
        if pixel_size_um is not None and not 1e-6 <= pixel_size_um <= 1e6:
            raise InputError(
                f"pixel_size_um={pixel_size_um!r}: must lie between 1e-06 and 1e+06 µm. Remedy: check the unit."
            )
        refuse_contradicting_options(assume, require)
        return ScaleRules(
            command_line_um=pixel_size_um,
            trained=self.manifest.known_pixel_sizes,
            accepts_assumption=assume,
            requires_statement=require,
            refuses_far=not force,
        )

    def _prepared_as(
        self,
        scale: ScaleRules,
        domain: str | None,
        *,
        crop: Crop | Mapping[str, int] | None,
        **stated: bool | None,
    ) -> FieldPreparation:
        """How fields are prepared; `stated` are other keys of the preparation, None where the domain decides."""
        self.shared.require_open()
        values: dict[str, object] = {key: value for key, value in stated.items() if value is not None}
        if crop is not None:
            values["crop"] = checked_crop(crop)
        entry, preparation = domain_preparation(self.manifest, domain, values)
        return FieldPreparation(preparation, replace(scale, assumed=assumed_size(entry, self.manifest.grid)))

    def _results(self, sources: Iterable[FieldSource], prepared_as: FieldPreparation) -> Iterator[FieldResult]:
        """The results of a pipeline that runs in threads of its own, until the iteration ends."""
        work, waiting = Stop(), Stop()
        results: Channel[FieldResult] = Channel(_QUEUED_RESULTS, waiting)
        sink = ArraySink(self.shared, self.limits.max_tile_pixels, prepared_as, results.put)
        failed: list[BaseException] = []

        def taken() -> Iterator[FieldSource]:
            try:
                yield from sources
            except Exception as error:  # the fields before it are measured, then the caller gets it
                failed.append(error)

        pipeline = FieldPipeline(taken(), sink, self.limits, lambda: self.shared, stop=work)
        thread = threading.Thread(target=_run, args=(pipeline.run, results, failed), daemon=True)
        thread.start()
        try:
            yield from results
            if failed:
                raise failed[0]
        finally:
            waiting.set()
            work.set()
            thread.join()


def checked_crop(crop: Crop | Mapping[str, int]) -> Crop:
    """A crop as a caller states it. Raises InputError where it is none."""
    try:
        return crop if isinstance(crop, Crop) else Crop.model_validate(dict(crop))
    except (ValidationError, TypeError, ValueError) as error:
        raise InputError(
            f"crop={crop!r}: is no crop. Remedy: native pixels by side, for instance {{'bottom_px': 60}} "
            "(top_px, bottom_px, left_px, right_px)."
        ) from error


def _run(run: Callable[[], None], results: Channel[FieldResult], failed: list[BaseException]) -> None:
    try:
        run()
    except Stopped:
        pass
    except BaseException as error:
        failed.append(error)
    results.close()


def _field_source(source: Input, name: str | None) -> FieldSource:
    if isinstance(source, np.ndarray):
        return FieldSource(name or "array", source)
    if not isinstance(source, str | PathLike):
        raise TypeError(f"a field is a path or a NumPy array, not {type(source).__name__}")
    path = Path(source)
    return FieldSource(str(path), path)
