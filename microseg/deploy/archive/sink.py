"""From the pipeline to the tables of an archive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.folders import readable
from microseg.core.images.scale.sidecars import sidecar_paths
from microseg.core.images.scale.texts import MOST_BYTES
from microseg.core.pictures.overlay import jpeg, thumbnail
from microseg.core.storage.objects import file_system, patiently, read_object
from microseg.core.storage.storage import Storage
from microseg.core.system.files import file_identity, sha256_of
from microseg.deploy.archive.lists.field_list import ListedField, local_path, name_hash
from microseg.deploy.archive.parts import PartWriter
from microseg.deploy.archive.results import failed_row, listed_row, measured_row, result_key, settings_sha256
from microseg.deploy.pipeline.field_task import FailedSource, FieldTask, reason
from microseg.deploy.pipeline.inputs import InputField
from microseg.deploy.report.names import distinct_path, report_path
from microseg.deploy.report.records import FailedField, FieldRecord, mask_path, overlay_path
from microseg.deploy.report.report_sink import MaskAndOverlay, MaskRows, ReportSink, mask_writer
from microseg.deploy.report.summary import LARGE_SPREAD

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest
    from microseg.deploy.pipeline.inputs import SegmentInput
    from microseg.deploy.pipeline.region import Regions
    from microseg.deploy.report.region_marks import RegionMarks
    from microseg.deploy.report.settings_file import ReportSettings

Masks = Literal["none", "all", "flagged"]
MASKS: tuple[Masks, ...] = ("none", "all", "flagged")
# About so many fields of an archive, drawn by their hashes, keep a small picture for the page beside the flagged ones.
_SAMPLE = 400
_HASHES = 1 << 64
# Where all fields are foreign, their pictures would be larger than all tables.
_MOST_FLAGGED = 200
_MOST_STEM_BYTES = 200


@dataclass(frozen=True)
class ArchivePlace:
    """Where and how the results of a shard are kept.

    Attributes:
        storage: where they lie.
        parts: takes the rows.
        masks: which masks and overlays are written.
        fields: number of fields of the list.
        alike: hashes of names that differ only in case from another one, uint64, sorted.
        measures_changed: whether files that changed since they were listed are measured.
    """

    storage: Storage
    parts: PartWriter
    masks: Masks
    fields: int
    alike: NDArray[np.uint64]
    measures_changed: bool


@dataclass
class Counts:
    """What a run did: fields by outcome, and the reasons of the first failed ones."""

    measured: int = 0
    resumed: int = 0
    failed: int = 0


class ArchiveSink(ReportSink):
    """A report's sink whose records are rows of a table.

    Attributes:
        counts: what this run did.
        failures: the failed fields.
    """

    def __init__(
        self,
        place: ArchivePlace,
        given: SegmentInput,
        manifest: Manifest,
        settings: ReportSettings,
        regions: Regions | None,
        *,
        places: bool,
    ) -> None:
        """Args:
        place: where and how the results are kept.
        given: the preparation of the fields; the fields come one by one.
        manifest: the engine's manifest.
        settings: the report's settings.
        regions: the region of interest, or None.
        places: whether records keep what tells fields apart that show one place.
        """
        super().__init__(Path(), given, manifest, settings, regions, places=places)
        self.counts = Counts()
        self.failures: list[FailedField] = []
        self._at = place
        self._flagged = 0
        self._folder: TemporaryDirectory[str] | None = None
        self._phases = [phase.name for phase in manifest.phases]
        self._fields: dict[str, ListedField] = {}
        self._changed: set[str] = set()
        self._hashes: dict[str, str] = {}
        self._parts: dict[str, tuple[ExitStack, Path]] = {}
        self._settings_sha256 = settings_sha256(settings)
        self._engine_sha256 = settings.engine_sha256

    def open(self, source: InputField) -> FieldTask | FailedSource | None:
        """The field ready to be cut, why it fails, or None where a shard measured it."""
        assert isinstance(source, ListedField)
        if source.has_result and not self._at.measures_changed:
            self.counts.resumed += 1
            return None
        self._fields[source.name] = source
        if source.problem:
            return FailedSource(source.name, source.problem)
        try:
            return self._listed_task(source)
        except (FieldError, OSError) as error:
            return FailedSource(source.name, reason(source.path, error))

    def _listed_task(self, source: ListedField) -> FieldTask | None:
        """The task of a field that is as it was listed, or may have changed. Raises FieldError or OSError."""
        if local_path(source.url) is None:
            return self._fetched_task(source)
        identity = file_identity(source.path)
        is_other = source.size is not None and identity[0] != source.size
        is_later = source.mtime_ns is not None and identity[1] != source.mtime_ns
        if source.has_result and not is_other and not is_later:
            del self._fields[source.name]
            self.counts.resumed += 1
            return None
        sha256 = sha256_of(source.path)
        # A copy has another time; where the list knows the content, that decides.
        is_changed = is_other or (is_later if source.sha256 is None else sha256 != source.sha256)
        if is_changed and not self._at.measures_changed:
            what = f"size {source.size}, now {identity[0]} bytes" if is_other else "time of change or content"
            raise FieldError(
                f"{source.path}: changed since it was listed ({what}). Remedy: --measure-changed, or microseg list again."
            )
        if is_changed:
            self._changed.add(source.name)
        return self._task(source, identity, sha256)

    def _fetched_task(self, source: ListedField) -> FieldTask:
        """The task of an object, whose content is fetched to a file of its own. Raises FieldError or OSError."""
        files, at = file_system(source.url)
        entry = patiently(lambda: files.info(at, refresh=True))
        etag = entry.get("ETag") or entry.get("etag")
        is_changed = source.size not in (None, entry["size"]) or source.etag not in (None, etag)
        if is_changed and not self._at.measures_changed:
            raise FieldError(
                f"{source.url}: changed since it was listed (size or ETag). Remedy: --measure-changed, or microseg list again."
            )
        folder = self._spool / str(source.row)
        folder.mkdir()
        stem = Path(at).stem
        # Keys may be longer than file systems allow.
        kept = stem if len(stem.encode()) <= _MOST_STEM_BYTES else "field"
        path = folder / f"{kept}{Path(source.name).suffix}"
        self._fields[source.name] = replace(source, path=path)
        path.write_bytes(read_object(files, at, entry["size"]))
        listed = (source.beside or "").split("/")
        # Other programs write lists, too: no other names than those that are looked for.
        for name in (each.name for each in sidecar_paths(Path(at)) if each.name in listed):
            text_at = f"{at.rpartition('/')[0]}/{name}"
            size = patiently(lambda text_at=text_at: files.info(text_at, refresh=True))["size"]  # type: ignore[misc]
            text = read_object(files, text_at, min(size, MOST_BYTES))
            (folder / f"{kept}{name.removeprefix(stem)}").write_bytes(text)
        if is_changed:
            self._changed.add(source.name)
        return self._task(self._fields[source.name], file_identity(path), sha256_of(path))

    def _place(self, name: str) -> str:
        """Path of a field in the results, whatever the other fields of its shard are called."""
        alike = self._at.alike
        if not len(alike):
            return report_path(name)
        hashed = name_hash(name)
        index = int(np.searchsorted(alike, hashed))
        is_alike = index < len(alike) and alike[index] == hashed
        return distinct_path(name) if is_alike else report_path(name)

    @contextmanager
    def _pictures(self, task: FieldTask, marks: RegionMarks | None) -> Iterator[MaskAndOverlay]:
        """Rows whose mask is a temporary file until the field is kept."""
        colors = [phase.color for phase in self._manifest.phases]
        with ExitStack() as stack:
            mask: MaskRows | None = None
            if self._at.masks != "none":
                path = stack.enter_context(self._at.storage.temporary())
                stream = stack.enter_context(path.open("wb"))
                mask = mask_writer(stream, task, colors)
            hashed = _HashedMask(mask)
            yield MaskAndOverlay(task, hashed, colors, marks)
            if self._at.masks != "none":
                stream.close()
                self._parts[task.name] = stack.pop_all(), path
            self._hashes[task.name] = hashed.hexdigest()

    def _keep(self, record: FieldRecord, overlay: NDArray[np.uint8], plain: NDArray[np.uint8]) -> None:
        """Take mask, overlay and row of a measured field."""
        field = self._done(record.name)
        flagged = is_flagged(record)
        wants = self._at.masks == "all" or (self._at.masks == "flagged" and flagged)
        stack, path = self._parts.pop(record.name, (ExitStack(), None))
        with stack:
            place = self._place(record.name)
            changes = {"mask": mask_path(place) if wants else "", "overlay": overlay_path(place) if wants else ""}
            # The page of an archive shows small pictures of few fields, which the table holds.
            record = record.model_copy(update={**changes, "plain": "", "preview": ""})
            if wants and path is not None:
                self._at.storage.put(record.mask, path)
                self._at.storage.write(record.overlay, jpeg(overlay))
        is_sample = field.digest < _HASHES * min(1.0, _SAMPLE / self._at.fields)
        has_thumbnail = is_sample or (flagged and self._flagged < _MOST_FLAGGED)
        self._flagged += flagged
        self._at.parts.add(
            listed_row(field)
            | measured_row(record, self._phases)
            | self._tie()
            | {
                "key": result_key(record, self._settings_sha256),
                "mask_sha256": self._hashes.pop(record.name),
                "changed": record.name in self._changed,
                "thumbnail": thumbnail(overlay) if has_thumbnail else None,
            }
        )
        self._changed.discard(record.name)
        self.counts.measured += 1

    def close(self) -> None:
        """Remove what was fetched."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def _spool(self) -> Path:
        """Folder of what is fetched: bounded, as the fields under way are."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="microseg-")
        return Path(self._folder.name)

    def fail(self, name: str, reason: str) -> None:
        """Keep the reason why a field fails."""
        field = self._done(name)
        self._hashes.pop(name, None)
        failed = FailedField(name=name, reason=reason.replace(readable(str(field.path)), field.shown))
        self.failures.append(failed)
        self._at.parts.add(listed_row(field) | failed_row(failed) | self._tie())
        self.counts.failed += 1

    def _done(self, name: str) -> ListedField:
        """A field that is measured or fails, whose fetched file is removed."""
        field = self._fields.pop(name)
        if self._folder is not None and field.path.parent.parent == self._spool:
            rmtree(field.path.parent, ignore_errors=True)
        return field

    def _tie(self) -> dict[str, Any]:
        return {"engine_sha256": self._engine_sha256, "settings_sha256": self._settings_sha256, "changed": False}


class _HashedMask:
    """Hashes the labels of a mask, and hands them on where the mask is kept."""

    def __init__(self, mask: MaskRows | None) -> None:
        self._mask = mask
        self._hash = hashlib.sha256()

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Append rows, uint8 (n, width)."""
        self._hash.update(np.ascontiguousarray(rows).data)
        if self._mask is not None:
            self._mask.write(rows)

    def finish(self) -> None:
        """Complete the mask."""
        if self._mask is not None:
            self._mask.finish()

    def hexdigest(self) -> str:
        """SHA-256 of all labels, row by row."""
        return self._hash.hexdigest()


def is_flagged(record: FieldRecord) -> bool:
    """Whether a person should look at a field: its alarm is raised, or the networks of the bag differ on it."""
    is_raised = record.alarm is not None and record.alarm.level != "known"
    return is_raised or max((std or 0.0 for std in record.fold_std), default=0.0) > LARGE_SPREAD
