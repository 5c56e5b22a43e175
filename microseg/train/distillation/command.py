"""The whole of `microseg distill`: a bag and fields, labelled or not, to the run folder of a student."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from microseg.core.errors import InputError
from microseg.core.schemas.bag import Distillation, Fingerprint, FoldInfo
from microseg.core.schemas.preparation import PixelSizeRange
from microseg.core.schemas.run import (
    STUDENT_FOLDER,
    DistillationRecord,
    DistilledDomain,
    RunRecord,
    RunSummary,
    read_run,
    refuse_student,
)
from microseg.core.system.files import sha256_of, write_json
from microseg.models.network import Network
from microseg.train.common.checkpoint import save_model
from microseg.train.common.curves import plot_histories
from microseg.train.common.data import seen_pixel_sizes
from microseg.train.common.datasets import LabelledField
from microseg.train.common.fields.cross_validation import hand_on_cross_validation
from microseg.train.common.prediction import predict_field
from microseg.train.common.progress import NoticeCallback, ProgressCallback, no_notice, no_progress
from microseg.train.common.recipe import RandomisedAugmentation, Recipe
from microseg.train.common.run_folder import (
    FoldResult,
    claim_run,
    finished_summary,
    load_networks,
    provenance,
    recorded_field,
    refuse_existing,
    save_parity_tiles,
    summary_of,
)
from microseg.train.distillation.calibration import set_fractions, set_heads_apart
from microseg.train.distillation.loop import StudentComparison, StudentTraining, compare, train_student
from microseg.train.distillation.recipe import DistillRecipe, settled
from microseg.train.distillation.teacher import (
    DistillationSet,
    TeacherPrediction,
    balanced,
    predict_fields,
    read_distillation_set,
)

# The least number of fields of each domain that spread and fractions of the heads are calibrated on.
CALIBRATED = 8
# A student whose phase fractions differ by more points than this does not reproduce its bag.
FAR_POINTS = 0.5


def run_distill(
    run: Path,
    domains: Sequence[Path],
    recipe_name: str,
    recipe: DistillRecipe,
    out: Path,
    *,
    resume: bool,
    names: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
    notice: NoticeCallback = no_notice,
) -> RunSummary:
    """Train a student of a bag. A finished student is left as it is.

    Args:
        run: The bag: a finished run.
        domains: Domains with fields to learn on. Their masks are not opened.
        recipe_name: Name of the recipe, for the record.
        recipe: The recipe of the distillation.
        out: The run folder to write.
        resume: Continue the run that is in `out`.
        names: The bag's domain that each of `domains` belongs to; one for all, or none to find out.
        progress: Called after every step.
        notice: Receives sentences for the user.

    Raises:
        InputError: No finished bag, fields that cannot be used, or `out` is in use.
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    refuse_existing(out, resume)
    record, summary = read_run(run)
    refuse_student(run, record)
    recipe = settled(recipe, Recipe.model_validate(record.recipe))
    start = _start_weights(run, record, recipe.start_fold)
    sets = _read_sets(domains, names, record, recipe, notice)
    student = _record(run, record, summary, sets, recipe_name, recipe)
    bag = load_networks(run, record, summary)
    claim_run(out, student, DistillRecipe)
    if (finished := finished_summary(out)) is not None:
        return finished

    def predicting(name: str) -> None:
        progress(0, recipe.steps, f"the bag predicts {name}")

    learned = [item.learned for item in sets]
    # Tiles that are drawn or changed by phase need labels. The bag's are good enough for that.
    by_phase = bool(recipe.rare_phase_share) or isinstance(recipe.augmentation, RandomisedAugmentation)
    each = [predict_fields(bag, fields[: None if by_phase else CALIBRATED], record, predicting) for fields in learned]
    if by_phase:
        learned = [[item.field for item in predicted] for predicted in each]
    kept = [item.compared or item.learned for item in sets]
    compared = predict_fields(bag, [field for fields in kept for field in fields], record, predicting)
    folder = out / STUDENT_FOLDER
    save_parity_tiles(folder / "parity", _in_turn(kept), student.stride)
    job = StudentTraining(
        recipe=recipe,
        phases=len(record.phases),
        bag=bag,
        fields=balanced(learned),
        compared=compared,
        start=start,
        halo_px=record.halo_px,
        folder=folder,
    )
    network, seconds = train_student(job, progress)
    _calibrate(network, [item for predicted in each for item in predicted], record.halo_px)
    save_model(folder / "model.safetensors", network.state_dict())
    measured = _measured(student, compare(network, compared, len(record.phases), record.halo_px), sets)
    # The features are those of the domain that the student is for: its last one, where fields of it were given.
    newest = [item for item in sets if item.entry == student.domains[-1]] or sets
    fields = [field for item in newest for field in item.learned]
    results = _results(student, summary, network, fields, folder, seconds)
    written = summary_of(results).model_copy(update={"adaptation": summary.adaptation, "distillation": measured})
    plot_histories(out / "history.png", [folder], "mIoU with the bag, fields not learned from")
    hand_on_cross_validation(run, out, [item.entry.name for item in sets])
    write_json(out / "summary.json", written.model_dump(mode="json"))
    return written


def _start_weights(run: Path, record: RunRecord, fold: int | None) -> Path | None:
    """Weights of the bag's fold that the student starts from. Raises InputError for a fold that the bag does not have."""
    if fold is None:
        return None
    if fold >= record.folds:
        raise InputError(
            f"start_fold = {fold}: {run} has the folds 0 to {record.folds - 1}. Remedy: one of them, or null."
        )
    return run / f"fold{fold}" / "model.safetensors"


def is_far(found: Distillation) -> bool:
    """Whether a phase fraction of the student differs from the bag's by more than `FAR_POINTS` on a field."""
    return max(found.points.values()) > FAR_POINTS


def _calibrate(network: Network, predicted: Sequence[TeacherPrediction], halo_px: int) -> None:
    set_heads_apart(network, predicted, halo_px)
    set_fractions(network, predicted, halo_px)


def _read_sets(
    domains: Sequence[Path],
    names: Sequence[str],
    record: RunRecord,
    recipe: DistillRecipe,
    notice: NoticeCallback,
) -> list[DistillationSet]:
    """The fields of every domain. Raises InputError."""
    if len(names) not in (0, 1, len(domains)):
        raise InputError(f"--as: {len(names)} names for {len(domains)} domains. Remedy: one for each, or one for all.")
    wanted: list[str | None] = [*names] if len(names) == len(domains) else [next(iter(names), None)] * len(domains)
    sets = []
    for path, name in zip(domains, wanted, strict=True):
        item, why = read_distillation_set(
            path, record, name, compared=recipe.compared_fields, most=recipe.max_fields, seed=recipe.seed
        )
        sets.append(item)
        counts = f"{len(item.learned)} fields to learn from, {len(item.compared)} to compare on"
        notice(f"{path}: prepared as {item.entry.name!r} ({why}); {counts}")
    return sets


def _record(
    run: Path,
    record: RunRecord,
    summary: RunSummary,
    sets: Sequence[DistillationSet],
    recipe_name: str,
    recipe: DistillRecipe,
) -> RunRecord:
    """The student's record: the bag's, with all fields that bag or student have seen, held out by no fold (-1)."""
    assert recipe.network and recipe.tile
    domains = [
        DistilledDomain(
            source=str(item.source.resolve()),
            prepared_as=item.entry.name,
            fields=[recorded_field(field, -1) for field in item.learned],
        )
        for item in sets
    ]
    seen = [
        *(field.model_copy(update={"fold": -1}) for field in record.fields),
        *(field for domain in domains for field in domain.fields),
    ]
    # The student learns the prepared fields, and the predictions of these weights.
    digest = hashlib.sha256("".join(fold.weights_sha256 for fold in summary.folds).encode())
    for item in sets:
        for field in [*item.learned, *item.compared]:
            digest.update(field.sha256.encode())
            digest.update(field.image.tobytes())
    return record.model_copy(
        update={
            "recipe_name": recipe_name,
            "recipe": recipe.model_dump(mode="json"),
            "seed": recipe.seed,
            "tile_core_px": recipe.tile.core_px,
            "stride": recipe.network.stride,
            "blocks": [],
            "fields": list({field.sha256: field for field in reversed(seen)}.values())[::-1],
            "dataset_sha256": digest.hexdigest(),
            "trained_pixel_sizes": _seen_pixel_sizes(sets, recipe),
            "distillation": DistillationRecord(
                run=str(run.resolve()),
                weights_sha256=[fold.weights_sha256 for fold in summary.folds],
                domains=domains,
                compared=[field.sha256 for item in sets for field in item.compared],
            ),
        }
        | provenance()
    )


def _seen_pixel_sizes(sets: Sequence[DistillationSet], recipe: DistillRecipe) -> PixelSizeRange | None:
    """The native pixel sizes that the student sees; None where its fields have none."""
    assert recipe.augmentation
    edges = [edge for item in sets for edge in item.edges_um]
    return seen_pixel_sizes(edges, recipe.augmentation) if edges else None


def _in_turn(fields: Sequence[Sequence[LabelledField]]) -> list[LabelledField]:
    """Fields of several domains in turn: the first of each, the second of each, and so on."""
    longest = max(map(len, fields))
    return [each[index] for index in range(longest) for each in fields if index < len(each)]


def _measured(student: RunRecord, found: StudentComparison, sets: Sequence[DistillationSet]) -> Distillation:
    """The comparison with the bag as the summary and the manifest hold it."""
    assert student.distillation is not None
    names = [phase.name for phase in student.phases]
    worst = 100 * np.abs(found.differences).max(0)
    spreads, bag_spreads = (100 * values.mean(0) for values in (found.spreads, found.bag_spreads))
    return Distillation(
        run=Path(student.distillation.run).name,
        weights_sha256=student.distillation.weights_sha256,
        learned=sum(len(item.learned) for item in sets),
        compared=[field.field.name for item in sets for field in item.compared],
        agreement=found.agreement,
        heads=found.heads,
        points=dict(zip(names, worst.tolist(), strict=True)),
        spread_points=dict(zip(names, spreads.tolist(), strict=True)),
        bag_spread_points=dict(zip(names, bag_spreads.tolist(), strict=True)),
    )


def _results(
    student: RunRecord,
    bag: RunSummary,
    network: Network,
    fields: Sequence[LabelledField],
    folder: Path,
    seconds: float,
) -> list[FoldResult]:
    """A result for each fold: the bag's scores, the student's hash, and the features on `fields`, which all heads share."""
    sha256 = sha256_of(folder / "model.safetensors")
    features = [predict_field([network], field.image, student.stride, student.halo_px)[1][0] for field in fields]
    mean, std = np.mean(features, axis=0).tolist(), np.std(features, axis=0).tolist()
    return [
        FoldResult(
            FoldInfo(index=fold.index, miou=fold.miou, iou=fold.iou, weights_sha256=sha256),
            Fingerprint(fold=fold.index, mean=mean, std=std),
            seconds / len(bag.folds),
        )
        for fold in bag.folds
    ]
