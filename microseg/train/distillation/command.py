"""The whole of `distill`: a bag and fields, labelled or not, to the run folder of a student."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from microseg.core.errors import InputError
from microseg.core.schemas.bag import Distillation, Fingerprint, FoldInfo, TrainingField
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
from microseg.train.common.datasets import LabelledField
from microseg.train.common.prediction import predict_field
from microseg.train.common.recipe import RandomisedAugmentation, Recipe
from microseg.train.common.run_folder import (
    VERSIONS,
    claim,
    git_commit,
    load_networks,
    package_version,
    refuse_existing,
    save_parity_tiles,
    summary_of,
)
from microseg.train.distillation.calibration import set_fractions, set_heads_apart
from microseg.train.distillation.loop import Comparison, compare, train_student
from microseg.train.distillation.recipe import DistillRecipe, settled
from microseg.train.distillation.teacher import Lesson, answers, balanced, read_lesson
from microseg.train.supervised.loop import FoldResult, Report

# Fields of each domain whose spread and fractions the heads are given, at least.
ASKED = 8


def run_distill(
    run: Path,
    domains: Sequence[Path],
    recipe_name: str,
    recipe: DistillRecipe,
    out: Path,
    *,
    resume: bool,
    names: Sequence[str] = (),
    report: Report = lambda step, steps, text: None,
    notice: Callable[[str], None] = lambda text: None,
) -> RunSummary:
    """Train a student of the bag of `run` on the fields of `domains`, whose masks are not opened, into `out`.

    names: the bag's domain that each of `domains` belongs to; one for all, or none (`teacher.read_lesson` finds out). A
    finished student is left as it is. Raises InputError: no finished bag, fields that cannot be used, `out` in use.
    """
    refuse_existing(out, resume)
    record, summary = read_run(run)
    refuse_student(run, record)
    bag = Recipe.model_validate(record.recipe)
    recipe = settled(recipe, bag)
    if recipe.start_fold is not None and recipe.start_fold >= record.folds:
        raise InputError(f"start_fold = {recipe.start_fold}: {run} has the folds 0 to {record.folds - 1}.")
    lessons = _lessons(domains, names, record, recipe, notice)
    student = _record(run, record, summary, lessons, recipe_name, recipe)
    networks = load_networks(run, record, summary)

    def progress(name: str) -> None:
        report(0, recipe.steps, f"asking the bag about {name}")

    claim(out, student, DistillRecipe)
    if (out / "summary.json").is_file():
        return read_run(out)[1]
    learned = [lesson.learned for lesson in lessons]
    # Tiles that are drawn, or changed, by phase need labels; the bag's are good enough for that.
    by_phase = bool(recipe.rare_phase_share) or isinstance(recipe.augmentation, RandomisedAugmentation)
    told = [answers(networks, fields[: None if by_phase else ASKED], record, progress) for fields in learned]
    if by_phase:
        learned = [[answer.field for answer in of] for of in told]
    kept = [lesson.compared or lesson.learned for lesson in lessons]
    compared = answers(networks, [field for fields in kept for field in fields], record, progress)
    folder = out / STUDENT_FOLDER
    save_parity_tiles(folder / "parity", _in_turn(kept), student.stride)
    start = None if recipe.start_fold is None else run / f"fold{recipe.start_fold}" / "model.safetensors"
    network, seconds = train_student(
        recipe, len(record.phases), networks, balanced(learned), compared, start, record.halo_px, folder, report
    )
    asked = [answer for of in told for answer in of]
    set_heads_apart(network, asked, record.halo_px)
    set_fractions(network, asked, record.halo_px)
    save_model(folder / "model.safetensors", network.state_dict())
    found = compare(network, compared, len(record.phases), record.halo_px)
    # Engines are asked what they were made for last.
    newest = [lesson for lesson in lessons if lesson.entry == student.domains[-1]] or lessons
    fields = [field for lesson in newest for field in lesson.learned]
    written = _summary(student, summary, _measured(student, found, lessons), network, fields, folder, seconds)
    plot_histories(out / "history.png", [folder], "mIoU with the bag, fields not learned from")
    write_json(out / "summary.json", written.model_dump(mode="json"))
    return written


def _lessons(
    domains: Sequence[Path],
    names: Sequence[str],
    record: RunRecord,
    recipe: DistillRecipe,
    notice: Callable[[str], None],
) -> list[Lesson]:
    if len(names) not in (0, 1, len(domains)):
        raise InputError(f"--as: {len(names)} names for {len(domains)} domains. Remedy: one for each, or one for all.")
    wanted: list[str | None] = [*names] if len(names) == len(domains) else [next(iter(names), None)] * len(domains)
    lessons = []
    for path, name in zip(domains, wanted, strict=True):
        lesson, why = read_lesson(
            path, record, name, compared=recipe.compared_fields, most=recipe.max_fields, seed=recipe.seed
        )
        lessons.append(lesson)
        counts = f"{len(lesson.learned)} fields to learn from, {len(lesson.compared)} to compare on"
        notice(f"{path}: prepared as {lesson.entry.name!r} ({why}); {counts}")
    return lessons


def _record(
    run: Path,
    record: RunRecord,
    summary: RunSummary,
    lessons: Sequence[Lesson],
    recipe_name: str,
    recipe: DistillRecipe,
) -> RunRecord:
    """What decides the student: its bag's record, with every field that either has seen as held out by none (-1)."""
    assert recipe.network and recipe.tile
    domains = [
        DistilledDomain(
            source=str(lesson.source.resolve()), prepared_as=lesson.entry.name, fields=_seen(lesson.learned)
        )
        for lesson in lessons
    ]
    seen = [
        *(field.model_copy(update={"fold": -1}) for field in record.fields),
        *(field for domain in domains for field in domain.fields),
    ]
    # What the student learns: the fields as they are prepared, and what these weights say of them.
    digest = hashlib.sha256("".join(fold.weights_sha256 for fold in summary.folds).encode())
    for lesson in lessons:
        for field in [*lesson.learned, *lesson.compared]:
            digest.update(field.sha256.encode())
            digest.update(field.image.tobytes())
    return record.model_copy(
        update={
            "recipe_name": recipe_name,
            "recipe": recipe.model_dump(mode="json"),
            "seed": recipe.seed,
            "tile_core_px": recipe.tile.core_px,
            "stride": recipe.network.stride,
            "fields": list({field.sha256: field for field in reversed(seen)}.values())[::-1],
            "dataset_sha256": digest.hexdigest(),
            "git_commit": git_commit(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: package_version(name) for name in VERSIONS},
            "distillation": DistillationRecord(
                run=str(run.resolve()),
                weights_sha256=[fold.weights_sha256 for fold in summary.folds],
                domains=domains,
                compared=[field.sha256 for lesson in lessons for field in lesson.compared],
            ),
        }
    )


def _seen(fields: Sequence[LabelledField]) -> list[TrainingField]:
    return [TrainingField(name=item.field.name, sha256=item.sha256, group=item.field.group, fold=-1) for item in fields]


def _in_turn(fields: Sequence[Sequence[LabelledField]]) -> list[LabelledField]:
    """Fields of several domains, the first of each first."""
    longest = max(map(len, fields))
    return [each[index] for index in range(longest) for each in fields if index < len(each)]


def _measured(student: RunRecord, found: Comparison, lessons: Sequence[Lesson]) -> Distillation:
    assert student.distillation is not None
    names = [phase.name for phase in student.phases]
    worst = 100 * np.abs(found.differences).max(0)
    spreads, bag_spreads = (100 * values.mean(0) for values in (found.spreads, found.bag_spreads))
    return Distillation(
        run=Path(student.distillation.run).name,
        weights_sha256=student.distillation.weights_sha256,
        learned=sum(len(lesson.learned) for lesson in lessons),
        compared=[field.field.name for lesson in lessons for field in lesson.compared],
        agreement=found.agreement,
        heads=found.heads,
        points=dict(zip(names, worst.tolist(), strict=True)),
        spread_points=dict(zip(names, spreads.tolist(), strict=True)),
        bag_spread_points=dict(zip(names, bag_spreads.tolist(), strict=True)),
    )


def _summary(
    student: RunRecord,
    bag: RunSummary,
    measured: Distillation,
    network: Network,
    fields: Sequence[LabelledField],
    folder: Path,
    seconds: float,
) -> RunSummary:
    """The bag's scores, the student's hash, and the mean and spread of its features on `fields`, which its heads share."""
    sha256 = sha256_of(folder / "model.safetensors")
    features = [predict_field([network], field.image, student.stride, student.halo_px)[1][0] for field in fields]
    mean, std = np.mean(features, axis=0).tolist(), np.std(features, axis=0).tolist()
    results = [
        FoldResult(
            FoldInfo(index=fold.index, miou=fold.miou, iou=fold.iou, weights_sha256=sha256),
            Fingerprint(fold=fold.index, mean=mean, std=std),
            seconds / len(bag.folds),
        )
        for fold in bag.folds
    ]
    return summary_of(results).model_copy(update={"adaptation": bag.adaptation, "distillation": measured})
