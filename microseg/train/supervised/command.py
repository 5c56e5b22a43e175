"""The whole of `microseg train supervised`: a labelled domain and a recipe to a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from microseg.core.domains.folds import Split
from microseg.core.errors import InputError
from microseg.core.labelling.suggestions import unchanged_predictions
from microseg.core.schemas.preparation import PixelSizeRange
from microseg.core.schemas.run import RunRecord, RunSummary, read_record
from microseg.core.system.files import write_json, write_yaml
from microseg.train.common.curves import plot_histories
from microseg.train.common.data import TrainingData, load_training_data
from microseg.train.common.datasets import with_labels
from microseg.train.common.fields.cross_validation import write_cross_validation
from microseg.train.common.fields.unlabelled import UnlabelledSet, read_unlabelled
from microseg.train.common.parallel.folds import default_workers, train_folds
from microseg.train.common.parallel.ranks import Ranks, ranks_of_torchrun
from microseg.train.common.progress import FoldCallback, NoticeCallback, no_fold_progress, no_notice
from microseg.train.common.recipe import Recipe, UnlabelledConfig
from microseg.train.common.run_folder import (
    claim_run,
    finished_summary,
    load_networks,
    provenance,
    read_fold,
    recorded_field,
    refuse_existing,
    save_parity_tiles,
    summary_of,
)
from microseg.train.supervised.continued import EarlierRun, read_earlier, refuse_other_phases
from microseg.train.supervised.loop import SupervisedFold
from microseg.train.supervised.unlabelled import UnlabelledFold, settled_gain, stage_folder

_LISTED = 5


@dataclass(frozen=True)
class _Training:
    """Everything that is known before the first fold begins."""

    recipe: Recipe
    data: TrainingData
    earlier: EarlierRun | None
    out: Path
    unlabelled: UnlabelledSet | None = None


def run_supervised(
    source: Path,
    recipe_name: str,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    only_folds: Sequence[int] | None = None,
    on_fold: FoldCallback = no_fold_progress,
    workers: int | None = None,
    init: Path | None = None,
    notice: NoticeCallback = no_notice,
    documents: Mapping[str, Any] = MappingProxyType({}),
    few: bool = False,
    unlabelled: Path | None = None,
) -> RunSummary | None:
    """Train every fold of a labelled domain. A finished run is left as it is.

    Args:
        source: The labelled domain.
        recipe_name: Name of the recipe, for the record.
        recipe: The training recipe.
        out: The run folder.
        resume: Continue the run that is in `out`.
        only_folds: Folds to train now; all by default.
        on_fold: Gives the progress callback of a fold.
        workers: Processes that train; one for each GPU by default. Under `torchrun` its ranks share every fold.
        init: A finished run. Its folds' weights are the start, and its labelled domain makes half of the tiles.
        notice: Receives sentences for the user.
        documents: Content of more files of a new run, by name (.json or .yaml).
        few: Where the domain has fewer groups than the recipe has folds, take fewer folds, or fields or blocks as folds. The
            record holds the recipe with these.
        unlabelled: Unlabelled fields of the same domain, for the recipe's `unlabelled` or its defaults.

    Returns:
        The summary; None while folds are missing, because of `only_folds`.

    Raises:
        InputError: `out` exists without `resume` or holds another run, or the domain cannot be trained on.
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    ranks = ranks_of_torchrun()
    if ranks.writes:
        refuse_existing(out, resume)
    earlier = read_earlier(init, recipe) if init is not None else None
    training = _training(source, recipe, earlier, out, few=few, unlabelled=unlabelled)
    recipe = training.recipe
    for text in (*training.data.notices, *_about_predictions(source, training.data)):
        notice(text)
    if ranks.writes:
        claim_run(out, _record(training, source, recipe_name), Recipe)
        for name, content in documents.items():
            (write_yaml if name.endswith(".yaml") else write_json)(out / name, content)
    ranks.wait()
    if (finished := finished_summary(out)) is not None:
        return finished
    wanted = list(only_folds if only_folds is not None else range(recipe.folds))
    jobs = [_job(training, fold, ranks) for fold in wanted if not (out / f"fold{fold}" / "fold.json").is_file()]
    if ranks.size > 1:
        for job in jobs:
            job.run(on_fold(job.fold), ranks)
    else:
        train_folds(jobs, workers or default_workers(), on_fold, wanted)
        train_folds(_second_jobs(training, wanted, ranks), workers or default_workers(), on_fold, wanted)
    summary = _summary(training, ranks, source)
    if summary is not None and summary.unlabelled is not None:
        notice(summary.unlabelled.sentence)
    return summary


def _about_predictions(source: Path, data: TrainingData) -> list[str]:
    """A notice where labels are still those that `microseg suggest` predicted. Raises InputError."""
    names = unchanged_predictions(source)
    if not names:
        return []
    listed = ", ".join(Path(name).name for name in names[:_LISTED]) + (" ..." if names[_LISTED:] else "")
    which = f"{len(names)} of {len(data.fields)} fields are labelled by unchanged predictions of `microseg suggest` ({listed})"
    return [f"{which}: they teach nothing new until they are corrected"]


def _training(
    source: Path, recipe: Recipe, earlier: EarlierRun | None, out: Path, *, few: bool, unlabelled: Path | None
) -> _Training:
    """Read the labelled domain and the unlabelled fields. The recipe gets what the domain settles. Raises InputError."""
    if earlier is not None and unlabelled is None:
        # A stage of the run before: its fields are not among the new ones.
        recipe = recipe.model_copy(update={"unlabelled": None})
    if recipe.unlabelled is not None and unlabelled is None:
        raise InputError("recipe: `unlabelled` needs fields. Remedy: --unlabelled FOLDER, or --set unlabelled=null.")
    if unlabelled is not None and ranks_of_torchrun().size > 1:
        raise InputError("--unlabelled: does not train under torchrun. Remedy: the same command with --workers.")
    split: Split | Literal["auto"] = "auto" if few and recipe.split == "groups" else recipe.split
    if earlier:
        data = earlier.read(source, recipe, split)
        refuse_other_phases(earlier, source, data.phases)
        earlier.require_held_out(source, data)
    else:
        data = load_training_data(source, recipe.scale, recipe.folds, split=split)
    recipe = recipe.model_copy(update={"folds": data.fold_count, "split": data.split})
    if unlabelled is None:
        return _Training(recipe, data, earlier, out)
    known = {item.sha256 for item in (*data.fields, *(earlier.data.fields if earlier else ()))}
    fields = read_unlabelled(unlabelled, data.entry, data.grid, data.phases, known)
    recipe = recipe.model_copy(update={"unlabelled": recipe.unlabelled or UnlabelledConfig()})
    return _Training(recipe, data, earlier, out, UnlabelledSet(unlabelled, fields))


def _record(training: _Training, source: Path, recipe_name: str) -> RunRecord:
    recipe, data, earlier = training.recipe, training.data, training.earlier
    return RunRecord(
        recipe_name=recipe_name,
        recipe=recipe.model_dump(mode="json"),
        seed=recipe.seed,
        folds=recipe.folds,
        phases=data.phases,
        domain=data.entry,
        domain_source=str(source.resolve()),
        grid=data.grid,
        tile_core_px=recipe.tile.core_px,
        halo_px=recipe.halo_px,
        stride=recipe.network.stride,
        fields=[recorded_field(item, fold) for item, fold in zip(data.fields, data.folds, strict=True)]
        + (earlier.held_out(recipe.folds) if earlier else []),
        blocks=[*data.blocks, *(earlier.held_out_blocks(recipe.folds) if earlier else [])],
        unlabelled=training.unlabelled.record() if training.unlabelled else None,
        continued_from=str(earlier.run.resolve()) if earlier else None,
        earlier_domains=earlier.domains_beside(data.entry.name) if earlier else [],
        dataset_sha256=data.sha256,
        trained_pixel_sizes=_pixel_sizes(training),
        **provenance(),
    )


def _pixel_sizes(training: _Training) -> PixelSizeRange | None:
    """The native pixel sizes that the networks see, also in the run that this one continues."""
    earlier = training.earlier
    ranges = [
        training.data.pixel_sizes(training.recipe.augmentation),
        earlier.record.known_pixel_sizes if earlier else None,
    ]
    return PixelSizeRange.over(ranges)


def _job(training: _Training, fold: int, ranks: Ranks) -> SupervisedFold:
    """The training of one fold; its folder gets parity tiles of the held-out fields."""
    recipe, data, earlier = training.recipe, training.data, training.earlier
    folder = training.out / f"fold{fold}"
    seen, unseen = with_labels(data.seen(fold), recipe.label_share, recipe.seed), data.unseen(fold)
    unseen = list(earlier.unseen(unseen, fold)) if earlier else unseen
    if ranks.writes:
        save_parity_tiles(folder / "parity", unseen, recipe.network.stride)
    if earlier is None:
        return SupervisedFold(recipe, data.phases, seen, unseen, fold, folder)
    return SupervisedFold(recipe, data.phases, earlier.mixed(seen, fold), unseen, fold, folder, earlier.weights(fold))


def _second_jobs(training: _Training, wanted: Sequence[int], ranks: Ranks) -> list[UnlabelledFold]:
    """The second stage of the folds that are through the first: they go on with unlabelled fields."""
    if training.unlabelled is None:
        return []
    jobs = []
    for fold in wanted:
        folder = stage_folder(training.out, fold)
        if (training.out / f"fold{fold}" / "fold.json").is_file() and not (folder / "fold.json").is_file():
            first = _job(training, fold, ranks)
            fields = training.unlabelled.fields
            jobs.append(
                UnlabelledFold(
                    first.recipe, first.phases, first.fields, first.held_out,
                    unlabelled=fields, fold=fold, folder=folder, first=first.folder,
                )
            )  # fmt: skip
    return jobs


def _summary(training: _Training, ranks: Ranks, source: Path) -> RunSummary | None:
    """Write summary.json and history.png once all folds are finished."""
    out, earlier = training.out, training.earlier
    folders = [out / f"fold{fold}" for fold in range(training.recipe.folds)]
    extra = training.unlabelled
    needed = [*folders, *(stage_folder(out, fold) for fold in range(training.recipe.folds) if extra)]
    if not all((folder / "fold.json").is_file() for folder in needed):
        return None
    gain = settled_gain(out, training.recipe.folds, len(extra.fields)) if extra else None
    summary = summary_of([read_fold(folder) for folder in folders])
    summary = summary.model_copy(update={"unlabelled": gain})
    if earlier:
        summary = summary.model_copy(update={"earlier_miou": earlier.score(folders)})
    if ranks.writes:
        plot_histories(out / "history.png", folders)
        record = read_record(out)
        write_cross_validation(out, record, summary, load_networks(out, record, summary), source)
        write_json(out / "summary.json", summary.model_dump(mode="json"))
    return summary
