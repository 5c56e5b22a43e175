"""The whole of `microseg train uda`: a source run and an unlabelled target to a run folder, with a verdict."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import cuda

from microseg.core.domains.domain import load_domain
from microseg.core.errors import InputError
from microseg.core.preparation.wording import domain_pixel_size_text
from microseg.core.schemas.preparation import PixelSizeRange
from microseg.core.schemas.run import Adaptation, AdaptationRecord, RunRecord, RunSummary, read_run, refuse_student
from microseg.core.system.files import replacing, write_json, write_yaml
from microseg.core.system.processor_count import usable_processors
from microseg.train.common import checkpoint
from microseg.train.common.data import reload_training_data, seen_pixel_sizes
from microseg.train.common.datasets import ImagesOf, phase_frequencies
from microseg.train.common.fields.cross_validation import write_cross_validation
from microseg.train.common.parallel.folds import default_workers
from microseg.train.common.prediction import predict_view
from microseg.train.common.progress import FoldCallback, NoticeCallback, no_fold_progress, no_notice
from microseg.train.common.recipe import Recipe
from microseg.train.common.run_folder import (
    FoldResult,
    claim_run,
    fingerprint_of,
    finished_summary,
    fold_info,
    load_network,
    provenance,
    read_fold,
    recorded_field,
    refuse_existing,
    save_parity_tiles,
    summary_of,
    with_tone,
    write_fold,
)
from microseg.train.common.score import score_network
from microseg.train.uda.bags import (
    Bag,
    bag_of,
    chosen_by_labels,
    features_on,
    likeness_of,
    otsu_fractions,
    source_bag,
    worth_labelling,
)
from microseg.train.uda.context import AdaptationContext
from microseg.train.uda.normalise import most_consistent_normalisation, title_of
from microseg.train.uda.recipe import SECOND, Normalise, SourceOnly, UdaRecipe, longer_source, rounds
from microseg.train.uda.scoring.candidates import score_candidates
from microseg.train.uda.target import read_target
from microseg.train.uda.tiles import tile_augmentations
from microseg.train.uda.verdict import UNADAPTED, Likeness, decide


@dataclass(frozen=True)
class AdaptationOptions:
    """The options of `train uda`.

    auto: Compare normalisations and the recipe, and train nothing where the target is like the source. Otherwise the recipe
        alone is compared with the unadapted source.
    invert: Whether grey values are inverted; None to find out.
    pixel_size_um: Native pixel size in um, instead of the files' and domain.yaml's.
    source_data: The source run's labelled domain, where it has moved.
    folds: The first folds of the source to adapt; None for all.
    oracle: For studies: target labels choose the candidate, and the run records it.
    always: For studies: take the recipe's method whatever the verdict.
    control: Train equally long on the source alone as well, for comparison.
    workers: Processes that train; None for one for each GPU, or without a GPU one for each fold or processor.
    """

    auto: bool = False
    invert: bool | None = None
    pixel_size_um: float | None = None
    source_data: Path | None = None
    folds: int | None = None
    oracle: bool = False
    always: bool = False
    control: bool = True
    workers: int | None = None


def run_uda(
    target_path: Path,
    source_run: Path,
    recipe_name: str,
    recipe: UdaRecipe,
    out: Path,
    options: AdaptationOptions = AdaptationOptions(),
    *,
    resume: bool = False,
    on_fold: FoldCallback = no_fold_progress,
    notice: NoticeCallback = no_notice,
) -> RunSummary:
    """Adapt the folds of a source run to a target, choose a candidate without labels, and write a run folder.

    Args:
        target_path: The unlabelled domain.
        source_run: A finished supervised run.
        recipe_name: Name of the recipe, for the record.
        recipe: The recipe of the adaptation.
        out: The run folder to write.
        options: What is compared, and how.
        resume: Continue the run that is in `out`.
        on_fold: Gives the progress callback of a fold.
        notice: Receives sentences for the user.

    Returns:
        The summary, with candidates and verdict. A finished run is left as it is.

    Raises:
        InputError: No finished source run, its fields are gone, the target cannot be used, or `out` is in use.
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    # A study copies the folder `methods` of another row into a new run, before there is a run.yaml.
    is_lent = out.is_dir() and all(entry.name == "methods" for entry in out.iterdir())
    if not (is_lent and resume):
        refuse_existing(out, resume)
    _refuse_options(target_path, recipe_name, recipe, options)
    if (finished := finished_summary(out)) is not None:
        adaptation = read_run(out)[0].adaptation
        if adaptation is None:
            raise InputError(f"{out}: holds a finished run of another command than `train uda`. Remedy: another --out.")
        notice(f"{out} is already finished; its target is {adaptation.target_source}")
        return finished
    context = _context(target_path, source_run, out, options)
    notice(f"pixel size of the target: {domain_pixel_size_text(context.target.entry)}")
    for text in context.target.notices:
        notice(text)
    record = _record(context, recipe_name, recipe, options, target_path)
    claim_run(out, record, Recipe)
    bags = {UNADAPTED: source_bag(context)}
    likeness = likeness_of(context, bags[UNADAPTED])
    for name, chosen, after in _methods(context, recipe, options, likeness, notice):
        bags[name] = bag_of(context, name, chosen, on_fold, _workers(context, options), after)
    decision = _decision(context, bags, recipe, options, likeness, target_path, record)
    sizes = _seen_pixel_sizes(context, recipe, decision.chosen)
    return _finish(context, record.model_copy(update={"trained_pixel_sizes": sizes}), bags, decision)


def _refuse_options(target_path: Path, recipe_name: str, recipe: UdaRecipe, options: AdaptationOptions) -> None:
    if options.auto and isinstance(recipe.method, Normalise | SourceOnly):
        raise InputError(
            f"--recipe {recipe_name}: `auto` needs a recipe that adapts; it compares the normalisations and the source in "
            f"any case. Remedy: --method {recipe.method.kind}, or another recipe."
        )
    if options.oracle and not any(field.mask for field in load_domain(target_path).training_fields):
        raise InputError(f"{target_path}: holds no labels for --oracle to choose by. Remedy: a folder with masks/.")


def _context(target_path: Path, source_run: Path, out: Path, options: AdaptationOptions) -> AdaptationContext:
    """Read the source run, its fields and the target. Raises InputError."""
    record, _ = read_run(source_run)
    if options.source_data is not None:
        record = record.model_copy(update={"domain_source": str(options.source_data.resolve())})
    refuse_student(source_run, record)
    if record.adaptation is not None:
        raise InputError(f"{source_run}: is an adapted run. Remedy: the supervised one, as --source.")
    source = Recipe.model_validate(record.recipe)
    data = reload_training_data(
        source_run,
        record,
        source,
        missing="--source-data with where they are now",
        changed="--source-data with those fields, or train the source again",
    )
    wanted = tuple(range(record.folds if options.folds is None else min(options.folds, record.folds)))
    if any(not data.unseen(fold) for fold in wanted):
        before = f"the run that it continues, {record.continued_from}" if record.continued_from else "a run by groups"
        raise InputError(f"{source_run}: a fold held out none of its labelled fields. Remedy: {before}, as --source.")
    network = load_network(source, len(record.phases), source_run / "fold0" / "model.safetensors")
    target = read_target(
        target_path,
        record,
        invert=options.invert,
        pixel_size_um=options.pixel_size_um,
        apply_findings=options.auto,
        source_images=ImagesOf(data.fields),
        predict=lambda view: predict_view(network, view),
    )
    return AdaptationContext(record, source, data, target, source_run, out, wanted)


def _record(
    context: AdaptationContext, recipe_name: str, recipe: UdaRecipe, options: AdaptationOptions, target_path: Path
) -> RunRecord:
    """The source's record with what the adaptation adds."""
    # The held-out fields of a fold that is left out have been seen by every other fold.
    fields = [
        item if item.fold in context.folds else item.model_copy(update={"fold": -1}) for item in context.record.fields
    ]
    adaptation = AdaptationRecord(
        target=context.target.entry,
        target_source=str(target_path.resolve()),
        fields=[recorded_field(item, -1) for item in context.target.fields],
        method="auto" if options.auto else recipe.method.kind,
        recipe=recipe.model_dump(mode="json"),
        source_run=str(context.source_run.resolve()),
        oracle=options.oracle,
    )
    changed = {"fields": fields, "recipe_name": recipe_name, "seed": recipe.seed, "folds": len(context.folds)}
    return context.record.model_copy(update=changed | provenance() | {"adaptation": adaptation})


def _methods(
    context: AdaptationContext,
    recipe: UdaRecipe,
    options: AdaptationOptions,
    likeness: Likeness,
    notice: NoticeCallback,
) -> list[tuple[str, UdaRecipe, str | None]]:
    """Name, recipe and (for a second round) predecessor of every candidate beside the unadapted source."""
    kind = recipe.method.kind
    if options.auto and likeness.is_familiar:
        notice("the target is like the source's own fields, in self-consistency and texture: nothing is trained")
        return []
    methods: list[tuple[str, UdaRecipe, str | None]] = []
    if options.auto:
        best = most_consistent_normalisation(context, recipe.fraction_drift)
        notice(f"the most self-consistent normalisation is {title_of(best)}")
        normalise = recipe.model_copy(update={"method": best, "mic": None, "second_round": 0})
        methods.append(("normalise", normalise, None))
    if options.control and not isinstance(recipe.method, Normalise | SourceOnly):
        longer = longer_source(recipe)
        methods.append((longer.method.kind, longer, None))
    for suffix, step in zip(("", SECOND), rounds(recipe), strict=False):
        methods.append((kind + suffix, step, kind if suffix else None))
    return methods


def _workers(context: AdaptationContext, options: AdaptationOptions) -> int:
    """Processes that train. On a CPU, a second fold gains more from a processor than a small network from a thread."""
    beside = default_workers() if cuda.is_available() else min(len(context.folds), usable_processors())
    return options.workers or beside


def _decision(
    context: AdaptationContext,
    bags: dict[str, Bag],
    recipe: UdaRecipe,
    options: AdaptationOptions,
    likeness: Likeness,
    target_path: Path,
    record: RunRecord,
) -> Adaptation:
    """Verdict, candidate, Otsu's fractions, and the fields to label where the verdict asks for labels."""
    candidates = score_candidates(context, bags)
    shares = phase_frequencies(context.data.fields, context.phases)
    known = {phase.name: float(share) for phase, share in zip(record.phases, shares, strict=True)}
    forced = chosen_by_labels(context, bags, target_path, record) if options.oracle else None
    taken = candidates[-1].name if options.always else None
    decision = decide(candidates, known, likeness, drift=recipe.fraction_drift, forced=forced, taken=taken)
    decision = decision.model_copy(update={"otsu": otsu_fractions(context)})
    if decision.verdict == "label a few fields":
        decision = decision.model_copy(update={"to_label": worth_labelling(context, bags[decision.chosen])})
    return decision


def _seen_pixel_sizes(context: AdaptationContext, recipe: UdaRecipe, chosen: str) -> PixelSizeRange | None:
    """The native pixel sizes that the chosen networks saw in training. Normalising trains nothing."""
    ranges = [context.record.known_pixel_sizes]
    if chosen not in (UNADAPTED, "normalise"):
        of_source, of_target = tile_augmentations(recipe, context.source)
        ranges.append(context.data.pixel_sizes(of_source))
        if chosen != "source" and context.target.edges_um is not None:
            ranges.append(seen_pixel_sizes(context.target.edges_um, of_target))
    return PixelSizeRange.over(ranges)


def _finish(context: AdaptationContext, record: RunRecord, bags: dict[str, Bag], decision: Adaptation) -> RunSummary:
    """Write the chosen folds as a run's, with their scores on the source, and the summary."""
    bag, out, phases = bags[decision.chosen], context.out, record.phases
    # The time of a second round includes the first one.
    first = bags.get(decision.chosen.removesuffix(SECOND)) if decision.chosen.endswith(SECOND) else None
    seconds = bag.seconds + (first.seconds if first else 0.0)
    write_yaml(out / "run.yaml", with_tone(record, bag.tone).model_dump(mode="json"))
    for place, (fold, network) in enumerate(zip(context.folds, bag.networks, strict=True)):
        folder, method = out / f"fold{place}", context.method_folder(decision.chosen, fold)
        checkpoint.save_model(folder / "model.safetensors", network.state_dict())
        source = context.source_run / f"fold{fold}"
        history = (method if (method / "history.csv").is_file() else source) / "history.csv"
        with replacing(folder / "history.csv") as part:
            shutil.copyfile(history, part)
        target_field = context.target.fields[place % len(context.target.fields)]
        save_parity_tiles(folder / "parity", [target_field, *context.unseen(fold)], record.stride)
        scored = score_network(network, context.unseen(fold), context.source.halo_px)
        result = FoldResult(
            fold_info(place, scored.confusion, phases, folder / "model.safetensors"),
            fingerprint_of(place, features_on(context, bag, network)),
            seconds / len(context.folds),
        )
        write_fold(folder, result)
    results = [read_fold(out / f"fold{place}") for place in range(len(context.folds))]
    summary = summary_of(results).model_copy(update={"adaptation": decision})
    write_cross_validation(out, record, summary, bag.networks, Path(record.domain_source))
    write_json(out / "summary.json", summary.model_dump(mode="json"))
    return summary
