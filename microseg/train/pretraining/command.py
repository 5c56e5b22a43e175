"""The whole of `microseg train pretrain`: a folder of classified micrographs to a run folder with an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.preparation import Crop, Grid, Preparation
from microseg.core.schemas.run import PretrainSummary
from microseg.core.system.yaml_file import read_yaml
from microseg.train.common.progress import NoticeCallback, ProgressCallback, no_notice, no_progress
from microseg.train.common.run_folder import claim_folder, refuse_existing
from microseg.train.pretraining.classified_data import (
    NATIVE,
    ClassifiedFile,
    ClassifiedImages,
    find_classes,
    is_annotated,
)
from microseg.train.pretraining.loop import EncoderTraining, train_encoder
from microseg.train.pretraining.recipe import PretrainRecipe

AnnotationRule = Literal["list", "refuse"]


@dataclass(frozen=True)
class Pretrained:
    """The result of a pre-training.

    summary: What the run holds.
    annotated: Files that seem to carry burned-in annotations, relative to the folder.
    """

    summary: PretrainSummary
    annotated: list[str]


def run_pretrain(
    folder: Path,
    recipe_name: str,
    recipe: PretrainRecipe,
    out: Path,
    *,
    resume: bool,
    crop_bottom_px: int = 0,
    annotated: AnnotationRule | None = None,
    progress: ProgressCallback = no_progress,
    notice: NoticeCallback = no_notice,
) -> Pretrained:
    """Train an encoder on classified micrographs. A finished run is left as it is.

    Args:
        folder: Holds one folder of images for each class.
        recipe_name: Name of the recipe, for the record.
        recipe: The recipe of the pre-training.
        out: The run folder to write.
        resume: Continue the run that is in `out`.
        crop_bottom_px: Native rows of data bar to cut off every image.
        annotated: Look for burned-in text: `list` such images, or `refuse` them as well. None does not look.
        progress: Called after every step.
        notice: Receives sentences for the user.

    Raises:
        InputError: No classes, an unreadable image, or `out` is in use.
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    refuse_existing(out, resume)
    names, files = find_classes(folder, recipe.validation_share, recipe.seed)
    preparation = Preparation(crop=Crop(bottom_px=crop_bottom_px))
    found = _annotated(files, preparation, notice) if annotated else set()
    if annotated == "refuse":
        names, files = find_classes(folder, recipe.validation_share, recipe.seed, found)
    listed = [path.relative_to(folder).as_posix() for path in sorted(found)]
    record: dict[str, Any] = {
        "task": "pretrain",
        "recipe_name": recipe_name,
        "recipe": recipe.model_dump(mode="json"),
        "classes": names,
        "crop_bottom_px": crop_bottom_px,
        "annotated": {"treated": annotated or "not looked for", "files": listed},
        "source": str(folder.resolve()),
        "dataset_sha256": _dataset_sha256(files, folder),
    }

    def difference() -> str | None:
        before = read_yaml(out / "run.yaml")
        before = before if isinstance(before, dict) else {}
        return next((key for key in record if before.get(key) != record[key]), None)

    claim_folder(out, record, difference)
    if (out / "summary.json").is_file():
        text = (out / "summary.json").read_text(encoding="utf-8")
        return Pretrained(PretrainSummary.model_validate_json(text), listed)
    images = ClassifiedImages(preparation, recipe.scale)
    return Pretrained(train_encoder(EncoderTraining(recipe, names, files, images, out), progress), listed)


def _annotated(files: Sequence[ClassifiedFile], preparation: Preparation, notice: NoticeCallback) -> set[Path]:
    """Files whose native image seems to carry burned-in text, the crop left out."""
    found = set()
    for file in files:
        notice(f"looking for burned-in text: {file.path.name}")
        with open_prepared(file.path, preparation, Grid(), NATIVE) as prepared:
            if is_annotated(prepared.native_rows(0, prepared.native_shape[0])):
                found.add(file.path)
    return found


def _dataset_sha256(files: Sequence[ClassifiedFile], folder: Path) -> str:
    """SHA-256 of names and sizes, so that a resumed run reads the same files."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.path.relative_to(folder).as_posix()}:{file.path.stat().st_size}\n".encode())
    return digest.hexdigest()
