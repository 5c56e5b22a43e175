"""From the pipeline to the report folder: mask, overlay and record of every field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.schema import FieldAlarm
from microseg.core.errors import FieldError
from microseg.core.images.exclusion import NOT_MEASURED
from microseg.core.images.pixel_size import source_of
from microseg.core.notices import Notice
from microseg.core.pictures.overlay import Overlay, Plain, jpeg, thumbnail
from microseg.core.pictures.png import MaskWriter
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.preparation.stitching import core_of
from microseg.core.schemas.manifest import Manifest
from microseg.core.system.files import file_identity, replacing, sha256_of, write_bytes, writing
from microseg.deploy.pipeline.field_measurement import FieldMeasurement
from microseg.deploy.pipeline.field_task import FailedSource, FieldTask, TileLabels, field_task, reason
from microseg.deploy.pipeline.inputs import InputField, SegmentInput
from microseg.deploy.report.names import report_paths
from microseg.deploy.report.records import (
    FailedField,
    FieldRecord,
    discard,
    find_record,
    mask_path,
    overlay_path,
    plain_path,
    preview_path,
    write_record,
)
from microseg.deploy.report.settings_file import ReportSettings

if TYPE_CHECKING:
    from microseg.core.alarm.measures import FieldProbe
    from microseg.core.alarm.predict import FieldJudge
    from microseg.deploy.pipeline.region import Regions
    from microseg.deploy.report.region_marks import RegionMarks

Outcome = FieldRecord | FailedField
# Native pixels of a field that are read at a time for its marks.
_MARKED_PX = 4 << 20


class ReportSink:
    """The pipeline's sink that writes a report.

    Attributes:
        outcomes: results by name of the field.
        resumed: how many of them existed already.
        places: path of each field in the report, by its name.
        is_judged: whether the engine's alarm looks at the fields.
    """

    def __init__(
        self,
        report: Path,
        given: SegmentInput,
        manifest: Manifest,
        settings: ReportSettings,
        regions: Regions | None = None,
        *,
        places: bool = False,
    ) -> None:
        """Args:
        report: the report's folder.
        given: the micrographs and their preparation.
        manifest: the engine's manifest.
        settings: the report's settings.
        regions: the regions of interest, or None.
        places: whether records keep what tells fields apart that show one place.
        """
        self.outcomes: dict[str, Outcome] = {}
        self.resumed = 0
        self._report = report
        self._given = given
        self._manifest = manifest
        self._scale = ScaleRules(
            command_line_um=settings.pixel_size_um,
            assumed=given.assumed,
            trained=manifest.known_pixel_sizes,
            accepts_assumption=settings.assume_engine_scale,
            requires_statement=settings.require_scale,
            refuses_far=not settings.force_scale,
        )
        self._max_tile_pixels = settings.max_tile_pixels
        self._outdated: list[str] = []
        self._regions = regions
        self._keeps_places = places
        self._stages: dict[str, tuple[float, float] | None] = {}
        self.is_judged = manifest.alarm is not None and manifest.alarm.domain == settings.domain
        self._judge: FieldJudge | None = None
        self._told: dict[str, tuple[Notice, ...]] = {}
        self.places = report_paths(field.name for field in given.fields)

    def open(self, source: InputField) -> FieldTask | FailedSource | None:
        """The field ready to be cut, why it fails, or None where an earlier run measured it."""
        if source.problem:
            self._outdated.append(source.name)
            return FailedSource(source.name, source.problem)
        try:
            identity = file_identity(source.path)
            sha256 = sha256_of(source.path)
            if record := find_record(self._report, source.name, source.path, sha256, self.places[source.name]):
                self.resumed += 1
                self.outcomes[source.name] = self._with_places(source, record)
                return None
            return self._task(source, identity, sha256)
        except FieldError as error:
            self._outdated.append(source.name)
            return FailedSource(source.name, reason(source.path, error))
        except OSError as error:
            # The file may be readable and unchanged later: its earlier result stays.
            return FailedSource(source.name, reason(source.path, error))

    def _task(self, source: InputField, identity: tuple[int, int], sha256: str) -> FieldTask:
        """The field ready to be cut. Raises FieldError or OSError."""
        prepared = open_prepared(source.path, self._given.preparation_of(source), self._manifest.grid, self._scale)
        if self._regions is not None:
            prepared = self._regions.applied(source.name, prepared)
        self._told[source.name] = self._given.notices_of(source)
        if self._keeps_places:
            from microseg.core.images.scale.stage import stage_position

            self._stages[source.name] = stage_position(source.path)
        return field_task(
            source.name, prepared, self._manifest, self._max_tile_pixels, identity=identity, sha256=sha256
        )

    def measure(self, task: FieldTask, tiles: Iterator[TileLabels]) -> None:
        """Take the results of one field to the report. Raises FieldError."""
        marks = self._marks()
        with self._pictures(task, marks) as rows:
            phases, folds = [phase.name for phase in self._manifest.phases], len(self._manifest.folds)
            measurement = FieldMeasurement(task.prepared, task.reading, phases, folds, rows)
            probe = self._probe()
            for item in tiles:
                measurement.add(item.tile, item.labels, item.votes)
                if probe is not None and item.pixels is not None:
                    cut = core_of(item.tile)
                    probe.add(item.pixels[cut], item.labels[cut], item.votes[:, *cut], item.features)
            if task.error:
                raise FieldError(task.error)
            counts, notices = measurement.finish()
            overlay, plain = rows.finish()
            task.require_unchanged()
            measures = None if probe is None else probe.measures()
            alarm = None if self._judge is None or measures is None else self._judge.judge(measures)
        told = (*self._told.pop(task.name), *task.prepared.notices, *notices, *_alarm_notice(alarm))
        record = _record(task, self._place(task.name), counts, measurement.not_measured, told, alarm)
        if marks is not None:
            changes = {"marks": marks.text(), "stage_um": self._stages.pop(task.name, None)}
            record = record.model_copy(update=changes)
        self._keep(record, overlay, plain)

    def _place(self, name: str) -> str:
        """Path of a field in the report."""
        return self.places[name]

    @contextmanager
    def _pictures(self, task: FieldTask, marks: RegionMarks | None) -> Iterator[MaskAndOverlay]:
        """Rows whose mask appears in the report if the block ends well; otherwise nothing of them stays."""
        # An earlier result is removed only once the engine is open; until then the report may be refused.
        place = self._place(task.name)
        discard(self._report, task.name, place)
        mask, colors = self._report / mask_path(place), [phase.color for phase in self._manifest.phases]
        # The order matters: Windows renames closed files only.
        with writing(mask), replacing(mask) as part, part.open("wb") as stream:
            yield MaskAndOverlay(task, mask_writer(stream, task, colors), colors, marks)

    def _keep(self, record: FieldRecord, overlay: NDArray[np.uint8], plain: NDArray[np.uint8]) -> None:
        """Write the pictures and the record of a measured field, whose mask is written."""
        _write_pictures(self._report, record, overlay, plain)
        write_record(self._report, record)
        self.outcomes[record.name] = record

    def _with_places(self, source: InputField, record: FieldRecord) -> FieldRecord:
        """A record of a run without evidence with what tells apart fields that show one place. Raises OSError."""
        marks = self._marks()
        if marks is None or record.marks:
            return record
        try:
            prepared = open_prepared(source.path, self._given.preparation_of(source), self._manifest.grid, self._scale)
        except FieldError:
            # It was measured with these settings; a file that cannot be read again has no marks.
            return record
        with closing(prepared):
            height, width = prepared.native_shape
            rows = max(1, _MARKED_PX // width)
            for start in range(0, height, rows):
                marks.add(prepared.native_rows(start, min(start + rows, height)))
        from microseg.core.images.scale.stage import stage_position

        marked = record.model_copy(update={"marks": marks.text(), "stage_um": stage_position(source.path)})
        write_record(self._report, marked)
        return marked

    def _marks(self) -> RegionMarks | None:
        """What finds the pixels of a field again. Imported here: without evidence nothing needs it."""
        if not self._keeps_places:
            return None
        from microseg.deploy.report.region_marks import RegionMarks

        return RegionMarks()

    def _probe(self) -> FieldProbe | None:
        """What collects the measures of a field for the alarm. Imported here: most engines of earlier versions hold none."""
        if not self.is_judged:
            return None
        from microseg.core.alarm.measures import FieldProbe
        from microseg.core.alarm.predict import FieldJudge

        assert self._manifest.alarm is not None
        if self._judge is None:
            self._judge = FieldJudge(self._manifest.alarm)
        return FieldProbe(len(self._manifest.phases), len(self._manifest.folds))

    def fail(self, name: str, reason: str) -> None:
        """Keep the reason why a field fails."""
        self.outcomes[name] = FailedField(name=name, reason=reason)

    def places_taken(self) -> list[str]:
        """Where results of the input's fields are or would be, by their paths in the report."""
        return [
            outcome.place if isinstance(outcome, FieldRecord) else self.places[name]
            for name, outcome in self.outcomes.items()
        ]

    def finish(self) -> None:
        """Remove earlier results of files that are unusable now. Call it after the run: the engine may refuse the report."""
        for name in self._outdated:
            discard(self._report, name, self.places[name])


class MaskRows(Protocol):
    """Takes the rows of a mask from top to bottom."""

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Append rows, uint8 (n, width)."""
        ...

    def finish(self) -> None:
        """Complete the mask."""
        ...


class MaskAndOverlay:
    """Native rows to the mask's file, to the overlay, in which data bars are pale, and to the same picture without colours."""

    def __init__(
        self, task: FieldTask, mask: MaskRows, colors: Sequence[str], marks: RegionMarks | None = None
    ) -> None:
        """Args:
        task: the field.
        mask: takes the rows of the mask.
        colors: colour of each phase, #rrggbb.
        marks: what finds the pixels again; None where nothing asks for it.
        """
        self._task = task
        self._marks = marks
        self._field = task.prepared
        self._mask = mask
        height, width = self._field.native_shape
        bars = self._field.data_bars
        self._overlay = Overlay(bars.top_px + height + bars.bottom_px, width, colors)
        self._plain = Plain(bars.top_px + height + bars.bottom_px, width)
        self._blank(self._field.crop.top_px)
        self._draw_bar(bars.top_px, at_top=True)

    def add(self, grey: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Append measured rows."""
        if self._marks is not None:
            self._marks.add(grey)
        self._overlay.add(grey, labels)
        self._plain.add(grey)
        crop = self._field.crop
        if crop.left_px or crop.right_px:
            labels = np.pad(labels, ((0, 0), (crop.left_px, crop.right_px)), constant_values=NOT_MEASURED)
        self._mask.write(labels)

    def add_vote(self, fold: int, labels: NDArray[np.uint8]) -> None:
        """A report keeps no labels of single folds."""

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Complete the mask; returns the overlay, uint8 (h, w, 3) BGR, and the same picture without colours, uint8 (h, w)."""
        self._draw_bar(self._field.data_bars.bottom_px, at_top=False)
        self._blank(self._field.crop.bottom_px)
        self._mask.finish()
        return self._overlay.finish(), self._plain.finish()

    def _draw_bar(self, rows: int, *, at_top: bool) -> None:
        if rows:
            with self._task.reading:
                grey = self._field.data_bar_rows(at_top=at_top)
            self._overlay.add(grey, np.full(grey.shape, NOT_MEASURED, np.uint8))
            self._plain.add(grey)

    def _blank(self, rows: int) -> None:
        self._mask.write(np.full((rows, self._field.full_shape[1]), NOT_MEASURED, np.uint8))


def _alarm_notice(alarm: FieldAlarm | None) -> tuple[Notice, ...]:
    """What the reader must know about a field that is not like the labelled ones."""
    if alarm is None or alarm.level == "known":
        return ()
    return (Notice("alarm", f"{alarm.level} ({', '.join(alarm.causes)}). Remedy: {alarm.cure}"),)


def mask_writer(stream: BinaryIO, task: FieldTask, colors: Sequence[str]) -> MaskWriter:
    """What writes the mask of a field.

    Args:
        stream: the open file.
        task: the field.
        colors: colour of each phase, #rrggbb.
    """
    return MaskWriter(stream, *task.prepared.full_shape, colors, task.prepared.orientation)


def _write_pictures(report: Path, record: FieldRecord, overlay: NDArray[np.uint8], plain: NDArray[np.uint8]) -> None:
    """Write the overlay of a field (BGR), the same small, and the micrograph without colours."""
    pictures = {record.overlay: jpeg(overlay), record.plain: jpeg(plain), record.preview: thumbnail(overlay)}
    for place, data in pictures.items():
        with writing(report / place):
            write_bytes(report / place, data)


def _record(
    task: FieldTask,
    place: str,
    counts: NDArray[np.int64],
    not_measured: dict[str, int],
    notices: tuple[Notice, ...],
    alarm: FieldAlarm | None,
) -> FieldRecord:
    """The record of a measured field at `place` in the report; `counts` is (1 + F, P): the bag, then the folds."""
    field, size = task.prepared, task.prepared.pixel_size
    own = None if size is None or size.is_assumed else size
    return FieldRecord(
        name=task.name,
        sha256=task.sha256,
        sidecar_sha256=field.sidecar_sha256,
        width_px=field.full_shape[1],
        height_px=field.full_shape[0],
        measured_width_px=field.native_shape[1],
        measured_height_px=field.native_shape[0],
        pixel_size_um=None if own is None else own.width_um,
        pixel_height_um=None if own is None or own.height_um == own.width_um else own.height_um,
        pixel_size_source=source_of(size),
        counts=counts[0].tolist(),
        fold_counts=counts[1:].tolist(),
        not_measured=not_measured,
        notices=list(notices),
        notice_kinds=[notice.kind for notice in notices],
        mask=mask_path(place),
        overlay=overlay_path(place),
        plain=plain_path(place),
        preview=preview_path(place),
        alarm=alarm,
    )
