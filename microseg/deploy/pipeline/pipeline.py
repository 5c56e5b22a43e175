"""The streaming pipeline: read and prepare | infer | stitch and write, at the same time, with bounded queues.

The engine runs in the calling thread, or in one for each of its streams. What waits between the threads is bounded by tiles
and by the pixels of the fields under way, so memory depends neither on how many fields there are nor on how large one is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.folders import readable
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.preparation.tiling import Tile, extract, plan_tiles
from microseg.core.schemas.manifest import Manifest
from microseg.core.system.files import file_identity, sha256_of
from microseg.deploy.pipeline.calls import Calls
from microseg.deploy.pipeline.channel import Budget, Channel, Stop, Stopped
from microseg.deploy.pipeline.inputs import InputField, SegmentInput
from microseg.deploy.pipeline.job import End, Flush, Job, Labels, Pixels
from microseg.deploy.pipeline.measuring import field_record, measuring, write_overlay
from microseg.deploy.report.records import FailedField, FieldRecord, discard, find_record, write_record
from microseg.runtime import Engine

_QUEUED_TILES = 4
_BYTES_UNDER_WAY = 256 << 20
# A decoded 16-bit field, its 8-bit rows, labels, overlay: bytes that a native pixel costs between reading and writing.
_BYTES_PER_NATIVE_PIXEL = 8

Outcome = FieldRecord | FailedField


@dataclass
class Pipeline:
    """What the three stages share.

    streams: calls of the engine under way at once. batch: tiles under way at once, but one in each call at least.
    open_engine: called once, when the first tile is there. on_advance: gets fractions of a field, 1.0 in all for each.
    """

    report: Path
    given: SegmentInput
    manifest: Manifest
    pixel_size_um: float | None
    max_tile_pixels: int
    batch: int
    streams: int
    open_engine: Callable[[], Engine]
    on_advance: Callable[[float], None]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    resumed: int = 0
    _outdated: list[str] = field(init=False, default_factory=list)

    def run(self) -> dict[str, Outcome]:
        """Measure every field. Returns outcomes by field name.

        Raises InputError where the report cannot be written or the engine not be loaded, KeyboardInterrupt; what is
        finished by then is complete.
        """
        cv2.setNumThreads(1)  # the engine has the processors; OpenCV's own threads would only take turns with it
        stop = Stop()
        tiles: Channel[Pixels | End | Flush] = Channel(_QUEUED_TILES, stop)
        results: Channel[Labels | End] = Channel(_QUEUED_TILES, stop)
        budget = Budget(_BYTES_UNDER_WAY, stop)
        threads = [
            _thread(stop, tiles, lambda: self._read(tiles, budget)),
            _thread(stop, None, lambda: self._write(results, budget)),
        ]
        for thread in threads:
            thread.start()
        try:
            self._infer(tiles, results, stop)
            results.close()
            threads[1].join()
        except Stopped:
            pass
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if stop.error is not None:
            raise stop.error
        # Not before the engine has opened, for then the report may be refused.
        for name in self._outdated:
            discard(self.report, name)
        return self.outcomes

    def _read(self, tiles: Channel[Pixels | End | Flush], budget: Budget) -> None:
        for source in self.given.fields:
            try:
                job = self._open(source)
            except (FieldError, OSError) as error:
                # What cannot be read now may be the same again later: its earlier result stays.
                if isinstance(error, FieldError):
                    self._outdated.append(source.name)
                self._conclude(_failed(source, error), 1.0)
                continue
            if isinstance(job, FieldRecord):
                self.resumed += 1
                self._conclude(job, 1.0)
                continue
            if not budget.has_room(job.cost):
                tiles.put(Flush())
            budget.take(job.cost)
            try:
                for tile, pixels in _cut(job):
                    tiles.put(Pixels(job, tile, pixels))
                    if job.error:
                        break
            except (FieldError, OSError) as error:
                job.error = job.error or _reason(source, error)
            tiles.put(End(job))

    def _open(self, source: InputField) -> Job | FieldRecord:
        """The field ready to be cut, or what an earlier run found. Raises FieldError, OSError."""
        identity = file_identity(source.path)
        sha256 = sha256_of(source.path)
        if record := find_record(self.report, source.name, sha256):
            return record
        prepared = open_prepared(
            source.path,
            self.given.preparation,
            self.manifest.grid,
            self.pixel_size_um,
            fallback_pixel_size_um=self.given.fallback_pixel_size_um,
        )
        try:
            manifest = self.manifest
            plan = plan_tiles(
                *prepared.shape, manifest.stride, manifest.halo_px, self.max_tile_pixels, manifest.max_side_px
            )
        except BaseException:
            prepared.close()
            raise
        native_px = prepared.full_shape[0] * prepared.full_shape[1]
        return Job(source, identity, sha256, prepared, plan, native_px * _BYTES_PER_NATIVE_PIXEL)

    def _infer(self, tiles: Channel[Pixels | End | Flush], results: Channel[Labels | End], stop: Stop) -> None:
        engine: Engine | None = None
        waiting: list[Pixels | End] = []
        with Calls(self.streams, results, stop) as calls:
            for item in tiles.each(calls.is_first_over, calls.pass_on):
                first = next((other for other in waiting if isinstance(other, Pixels)), None)
                is_other_shape = first and isinstance(item, Pixels) and item.pixels.shape != first.pixels.shape
                if is_other_shape or isinstance(item, Flush):
                    calls.begin(engine, waiting)
                    waiting = []
                if isinstance(item, Flush):
                    calls.end()
                    continue
                waiting.append(item)
                if isinstance(item, Pixels) and engine is None:
                    engine = self.open_engine()
                count = sum(isinstance(other, Pixels) for other in waiting)
                if count == 0 or count >= self._batch_for(waiting):
                    calls.begin(engine, waiting)
                    waiting = []
            calls.begin(engine, waiting)
            calls.end()

    def _batch_for(self, waiting: list[Pixels | End]) -> int:
        """Tiles of this shape that run together in a call, within the memory limit of a stream."""
        size = next(item.pixels.size for item in waiting if isinstance(item, Pixels))
        return max(1, min(self.batch // self.streams, self.max_tile_pixels // size))

    def _write(self, results: Channel[Labels | End], budget: Budget) -> None:
        items = iter(results)
        for first in items:
            job = first.job
            try:
                with ExitStack() as stack:
                    stack.callback(budget.give_back, job.cost)
                    stack.callback(job.prepared.close)
                    outcome: Outcome = self._measure(first, items)
            except FieldError as error:
                outcome = _failed(job.source, error)
            self._conclude(outcome, 0.0)

    def _measure(self, first: Labels | End, items: Iterator[Labels | End]) -> FieldRecord:
        """Take the results of one field, up to its end, to the report. Raises FieldError."""
        job, name = first.job, first.job.source.name
        # What an earlier content left; not before the engine has opened, for then the report may be refused.
        discard(self.report, name)
        advanced = 0
        item = first
        try:
            with measuring(
                self.report, name, job.prepared, job.reading, self.manifest.phases, len(self.manifest.folds)
            ) as measurement:
                while isinstance(item, Labels):
                    measurement.add(item.tile, item.labels, item.votes)
                    advanced += 1
                    self.on_advance(1 / len(job.tiles))
                    item = next(items)
                if job.error:
                    raise FieldError(job.error)
                counts, picture, notices = measurement.finish()
                job.require_unchanged()
            thumbnail = write_overlay(self.report, name, picture)
            record = field_record(name, job.sha256, job.prepared, counts, notices)
            write_record(self.report, record, thumbnail)
        except FieldError as error:
            job.error = job.error or str(error)
            while isinstance(item, Labels):
                item = next(items)
            self.on_advance(1 - advanced / len(job.tiles))
            raise
        return record

    def _conclude(self, outcome: Outcome, advance: float) -> None:
        self.outcomes[outcome.name] = outcome
        if advance:
            self.on_advance(advance)


def _cut(job: Job) -> Iterator[tuple[Tile, NDArray[np.uint8]]]:
    """The tiles of a field with their pixels. Tiles side by side share rows, so a row is prepared once a band."""
    height, width = job.prepared.shape
    window = (0, 0)
    block: NDArray[np.uint8] = np.empty((0, width), np.uint8)

    def rows(start: int, stop: int) -> NDArray[np.uint8]:
        nonlocal window, block
        if not (window[0] <= start and stop <= window[1]):
            block = np.empty((0, width), np.uint8)  # never two windows at once
            with job.reading:
                window, block = (start, stop), job.prepared.rows(start, stop)
        return block[start - window[0] : stop - window[0]]

    for tile in job.tiles:
        yield tile, extract(rows, tile, height, width)


def _failed(source: InputField, error: Exception) -> FailedField:
    return FailedField(name=source.name, reason=_reason(source, error))


def _reason(source: InputField, error: Exception) -> str:
    if isinstance(error, OSError):
        return readable(
            f"{source.path}: cannot be read ({error.strerror or error}). Remedy: check the file and its rights."
        )
    return readable(str(error))


def _thread(stop: Stop, output: Channel[Pixels | End | Flush] | None, work: Callable[[], None]) -> threading.Thread:
    """A thread whose end closes `output` and whose error ends the pipeline."""

    def run() -> None:
        try:
            work()
            if output is not None:
                output.close()
        except Stopped:
            pass
        except BaseException as error:
            stop.set(error)

    return threading.Thread(target=run, daemon=True)
