"""The folder of an audit: the drawn files, and what the engine found on them as labels to correct."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.images.orientation import shown
from microseg.core.images.scale.sidecars import sidecar_paths, states_scale
from microseg.core.labelling.outlines import geojson
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import Preparation
from microseg.deploy.audit.stored_report import StoredReport
from microseg.deploy.report.records import FieldRecord

IMAGES, MASKS, OUTLINES = "images", "masks", "qupath"
_STATED = ("invert", "intensity", "crop", "page", "channel", "keep_data_bar", "keep_padding")
_HEAD = """\
# Drawn by `microseg audit draw`. Correct the masks and keep their names, then
#   microseg audit apply REPORT --masks THIS_FOLDER
# {instead}
"""


def write_label_field(
    out: Path,
    record: FieldRecord,
    image: Path,
    mask: Path,
    stem: str,
    *,
    labels: NDArray[np.uint8],
    prepared: PreparedField,
    phases: Sequence[PhaseInfo],
) -> None:
    """Copy a drawn file and write what was found on it.

    Args:
        out: the folder.
        record: the field.
        image: its file.
        mask: its mask in the report.
        stem: path of its labels without suffix.
        labels: the same mask on the grid of the file, uint8 (H, W); 255 where nothing is measured.
        prepared: the open field.
        phases: the engine's phases.

    Raises:
        OSError: a file cannot be written.
    """
    place = PurePosixPath(record.name)
    target = out / IMAGES / place
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image, target)
    for beside in sidecar_paths(image):
        if beside.is_file() and states_scale(beside):
            shutil.copyfile(beside, target.with_name(target.stem + beside.name[len(image.stem) :]))
    copied = out / MASKS / f"{stem}.png"
    copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(mask, copied)
    outlines = out / OUTLINES / f"{stem}.geojson"
    outlines.parent.mkdir(parents=True, exist_ok=True)
    found = geojson(np.ascontiguousarray(shown(labels, prepared.orientation)), phases)
    outlines.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8", newline="\n")


def label_stems(names: Sequence[str]) -> dict[str, str]:
    """Path without suffix of each field's labels: that of the field, or its whole name where two fields have one stem."""
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    is_plain = len({stem.casefold() for stem in stems}) == len(stems)
    return dict(zip(names, stems if is_plain else names, strict=True))


def write_label_files(
    out: Path, records: Sequence[FieldRecord], report: StoredReport, phases: Sequence[PhaseInfo]
) -> None:
    """Write `domain.yaml`, which reads the masks, and `qupath.yaml`, which reads the outlines. Raises OSError."""
    shared = _preparation(records, report)
    by_index = [{"name": phase.name, "value": index, "color": phase.color} for index, phase in enumerate(phases)]
    masks = {"images": IMAGES, "masks": MASKS, "labels": "masks", "phases": by_index, "unlabelled": UNLABELLED}
    by_name = [{"name": phase.name, "color": phase.color} for phase in phases]
    outlines = {"images": IMAGES, "masks": OUTLINES, "labels": "qupath", "phases": by_name, "unlabelled": "other"}
    for name, content, instead in (
        ("domain.yaml", masks, "To correct outlines in QuPath instead: --masks THIS_FOLDER/qupath.yaml"),
        ("qupath.yaml", {"name": out.name} | outlines, "This file reads the outlines of QuPath: --masks THIS_FILE"),
    ):
        text = yaml.safe_dump(content | shared, sort_keys=False, allow_unicode=True)
        head = _HEAD.format(instead=instead)
        (out / name).write_text(head + text, encoding="utf-8", newline="\n")


def _preparation(records: Sequence[FieldRecord], report: StoredReport) -> dict[str, Any]:
    """How the files were prepared, where it is the same for all and not what is usual, and their pixel sizes."""
    first, usual = report.preparation_of(records[0]), Preparation()
    is_shared = all(
        getattr(report.preparation_of(record), key) == getattr(first, key) for record in records for key in _STATED
    )
    keys = [key for key in _STATED if is_shared and getattr(first, key) != getattr(usual, key)]
    values: dict[str, Any] = first.model_dump(mode="json", include=set(keys), exclude_none=True)
    sizes = {record.name: size for record in records if (size := report.preparation_of(record).pixel_size_um)}
    if report.settings.pixel_size_um:
        sizes = {record.name: report.settings.pixel_size_um for record in records}
    if sizes and len(sizes) == len(records) and len(set(sizes.values())) == 1:
        values["pixel_size_um"] = next(iter(sizes.values()))
    elif sizes:
        values["pixel_sizes"] = {PurePosixPath(name).with_suffix("").as_posix(): size for name, size in sizes.items()}
    return values
