"""The whole of `train uda`: a source run and an unlabelled target to a run folder, with a verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from torch import cuda

from microseg.core.domains.domain import load_domain
from microseg.core.errors import InputError
from microseg.core.schemas.bag import Fingerprint, TrainingField
from microseg.core.schemas.run import (
    Adaptation,
    AdaptationRecord,
    RunRecord,
    RunSummary,
    read_record,
    read_run,
    refuse_student,
)
from microseg.core.system.files import replacing, write_json, write_text, write_yaml
from microseg.core.system.processor_count import usable_processors
from microseg.train.common import checkpoint
from microseg.train.common.data import load_training_data
from microseg.train.common.datasets import phase_frequencies
from microseg.train.common.parallel import default_workers
from microseg.train.common.recipe import Recipe
from microseg.train.common.run_folder import (
    VERSIONS,
    git_commit,
    package_version,
    read_fold,
    refuse_existing,
    save_parity_tiles,
    summary_of,
)
from microseg.train.supervised.continued import continued_preparation
from microseg.train.supervised.loop import fold_info, score
from microseg.train.uda.bags import (
    Adapting,
    Bag,
    OnFold,
    bag_of,
    best_cheap,
    chosen_by_labels,
    features_on,
    judged,
    likeness_of,
    otsu_fractions,
    source_bag,
    title_of,
    worth_labelling,
)
from microseg.train.uda.loop import load_network, predict_map
from microseg.train.uda.recipe import SECOND, Normalise, SourceOnly, UdaRecipe, longer_source, rounds
from microseg.train.uda.target import read_target
from microseg.train.uda.verdict import SOURCE, decide


def run_uda(
    target_path: Path,
    source_run: Path,
    recipe_name: str,
    recipe: UdaRecipe,
    out: Path,
    *,
    resume: bool,
    auto: bool = False,
    invert: bool | None = None,
    pixel_size_um: float | None = None,
    source_data: Path | None = None,
    folds: int | None = None,
    oracle: bool = False,
    always: bool = False,
    control: bool = True,
    on_fold: OnFold = lambda fold: lambda step, steps, text: None,
    notice: Callable[[str], None] = lambda text: None,
    workers: int | None = None,
) -> RunSummary:
    """Adapt every fold of `source_run` to the target, choose without labels, and leave a run like any other in `out`.

    auto: the cheap normalisations and `recipe`; otherwise `recipe` alone; always beside the source as it is, and with
    `control` beside equally long training on the source alone, where anything is trained. folds: of the source's, the
    first ones. workers: processes that train, by default one for each GPU; without any, folds side by side, one for each
    processor. For studies, and the run says so: with `oracle` target labels choose, with `always` the method is taken
    whatever the verdict. Raises InputError: no finished source run or its data, a target that cannot be used, `out` in use.
    """
    # Before run.yaml there is nothing but what a study lent.
    is_lent = out.is_dir() and all(entry.name == "methods" for entry in out.iterdir())
    if not (is_lent and resume):
        refuse_existing(out, resume)
    if auto and isinstance(recipe.method, Normalise | SourceOnly):
        raise InputError(
            f"--recipe {recipe_name}: `auto` tries normalisations and the source by itself, and needs a recipe that adapts. "
            f"Remedy: --method {recipe.method.kind}, or another recipe."
        )
    if (out / "summary.json").is_file():
        record, summary = read_run(out)
        if record.adaptation is None:
            raise InputError(f"{out}: is a finished run, and none of `train uda`. Remedy: another --out.")
        notice(f"{out} is finished already; its target is {record.adaptation.target_source}")
        return summary
    if oracle and not any(field.mask for field in load_domain(target_path).training_fields):
        raise InputError(f"{target_path}: holds no labels for --oracle to choose by. Remedy: a folder with masks/.")
    at = _settle(target_path, source_run, out, source_data, invert, pixel_size_um, folds, auto)
    for text in at.target.notices:
        notice(text)
    record = _claim(at, recipe_name, recipe, auto, oracle, target_path)
    bags = {SOURCE: source_bag(at)}
    likeness = likeness_of(at, bags[SOURCE])
    kind = recipe.method.kind
    methods = [(kind + suffix, step) for suffix, step in zip(("", SECOND), rounds(recipe), strict=False)]
    if auto and likeness.is_familiar:
        notice("the target looks like the source's own fields, to its networks and in texture: nothing is trained")
        methods = []
    else:
        beside = []
        if auto:
            cheap = best_cheap(at, recipe.fraction_drift)
            notice(f"of the normalisations, {title_of(cheap)} agrees with itself most")
            beside.append(("normalise", recipe.model_copy(update={"method": cheap, "mic": None, "second_round": 0})))
        if control and not isinstance(recipe.method, Normalise | SourceOnly):
            longer = longer_source(recipe)
            beside.append((longer.method.kind, longer))
        methods = [*beside, *methods]
    # A second thread is worth less to small networks than to a second fold.
    side_by_side = default_workers() if cuda.is_available() else min(len(at.folds), usable_processors())
    for name, chosen in methods:
        after = kind if name == kind + SECOND else None
        bags[name] = bag_of(at, name, chosen, on_fold, workers or side_by_side, after)
    candidates = judged(at, bags)
    shares = phase_frequencies(at.data.fields, len(record.phases))
    known = {phase.name: float(share) for phase, share in zip(record.phases, shares, strict=True)}
    forced = chosen_by_labels(at, bags, target_path, record) if oracle else None
    taken = candidates[-1].name if always else None
    decision = decide(candidates, known, likeness, drift=recipe.fraction_drift, forced=forced, taken=taken)
    decision = decision.model_copy(update={"otsu": otsu_fractions(at)})
    if decision.verdict == "label a few fields":
        decision = decision.model_copy(update={"to_label": worth_labelling(at, bags[decision.chosen])})
    # A second round goes on from the first.
    first = bags[kind].seconds if decision.chosen == kind + SECOND else 0.0
    return _finish(at, record, bags[decision.chosen], decision, bags[decision.chosen].seconds + first)


def _settle(
    target_path: Path,
    source_run: Path,
    out: Path,
    source_data: Path | None,
    invert: bool | None,
    pixel_size_um: float | None,
    folds: int | None,
    auto: bool,
) -> Adapting:
    record, _ = read_run(source_run)
    if source_data is not None:
        record = record.model_copy(update={"domain_source": str(source_data.resolve())})
    refuse_student(source_run, record)
    if record.adaptation is not None:
        raise InputError(f"{source_run}: is an adapted run. Remedy: the supervised one, as --source.")
    where = Path(record.domain_source)
    if not where.exists():
        raise InputError(
            f"{source_run}: its labelled data are not at {where} any more. Remedy: --source-data with where they are now."
        )
    source = Recipe.model_validate(record.recipe)
    data = load_training_data(
        where, source.scale, source.folds, record.grid, phases=record.phases, base=continued_preparation(record)
    )
    if data.sha256 != record.dataset_sha256:
        raise InputError(
            f"{where}: not the fields or labels that {source_run} was trained on. Remedy: --source-data with those, or "
            "train the source again."
        )
    wanted = tuple(range(record.folds if folds is None else min(folds, record.folds)))
    network = load_network(source, len(record.phases), source_run / "fold0" / "model.safetensors")
    target = read_target(
        target_path,
        record,
        invert=invert,
        pixel_size_um=pixel_size_um,
        apply_findings=auto,
        source_images=[field.image for field in data.fields],
        predict=lambda view: predict_map(network, view),
    )
    return Adapting(record, source, data, target, source_run, out, wanted)


def _claim(at: Adapting, recipe_name: str, recipe: UdaRecipe, auto: bool, oracle: bool, target_path: Path) -> RunRecord:
    """run.yaml of a new folder, or proof that an existing one is this very run."""
    # A fold that is not taken over held out fields that every other fold has seen.
    fields = [item if item.fold in at.folds else item.model_copy(update={"fold": -1}) for item in at.record.fields]
    record = at.record.model_copy(
        update={
            "fields": fields,
            "recipe_name": recipe_name,
            "seed": recipe.seed,
            "folds": len(at.folds),
            "git_commit": git_commit(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: package_version(name) for name in VERSIONS},
            "adaptation": AdaptationRecord(
                target=at.target.entry,
                target_source=str(target_path.resolve()),
                fields=[
                    TrainingField(name=item.field.name, sha256=item.sha256, group=item.field.group, fold=-1)
                    for item in at.target.fields
                ],
                method="auto" if auto else recipe.method.kind,
                recipe=recipe.model_dump(mode="json"),
                source_run=str(at.source_run.resolve()),
                oracle=oracle,
            ),
        }
    )
    if (at.out / "run.yaml").is_file():
        # A run that was cut off at its very end has the chosen grey curve already.
        before = _toned(read_record(at.out), None)
        for key in ("recipe", "phases", "domain", "grid", "fields", "dataset_sha256", "adaptation", "folds"):
            if getattr(before, key) != getattr(record, key):
                raise InputError(
                    f"{at.out}: holds a run with another {key}. Remedy: the same command as before, or another --out."
                )
    else:
        write_yaml(at.out / "run.yaml", record.model_dump(mode="json"))
        write_text(at.out / ".gitignore", "*\n")
    return record


def _toned(record: RunRecord, tone: tuple[int, ...] | None) -> RunRecord:
    """The record with the grey curve of the target's preparation."""
    if record.adaptation is None:
        return record
    entry = record.adaptation.target
    entry = entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"tone": tone})})
    return record.model_copy(update={"adaptation": record.adaptation.model_copy(update={"target": entry})})


def _finish(at: Adapting, record: RunRecord, bag: Bag, decision: Adaptation, seconds: float) -> RunSummary:
    """Write the chosen folds as a run's, with their scores on the source, and the summary."""
    write_yaml(at.out / "run.yaml", _toned(record, bag.tone).model_dump(mode="json"))
    phases = record.phases
    for place, (fold, network) in enumerate(zip(at.folds, bag.networks, strict=True)):
        folder, method = at.out / f"fold{place}", at.out / "methods" / decision.chosen / f"fold{fold}"
        checkpoint.save_model(folder / "model.safetensors", network.state_dict())
        history = (method if (method / "history.csv").is_file() else at.source_run / f"fold{fold}") / "history.csv"
        with replacing(folder / "history.csv") as part:
            shutil.copyfile(history, part)
        save_parity_tiles(
            folder / "parity", [at.target.fields[place % len(at.target.fields)], *at.unseen(fold)], record.stride
        )
        scored = score(network, at.unseen(fold), at.source, len(phases))
        info = fold_info(place, scored.confusion, phases, folder / "model.safetensors")
        features = features_on(at, bag, network)
        fingerprint = Fingerprint(fold=place, mean=features.mean(0).tolist(), std=features.std(0).tolist())
        written = {
            "info": info.model_dump(),
            "fingerprint": fingerprint.model_dump(),
            "seconds": seconds / len(at.folds),
        }
        write_json(folder / "fold.json", written)
    results = [read_fold(at.out / f"fold{place}") for place in range(len(at.folds))]
    summary = summary_of(results).model_copy(update={"adaptation": decision})
    write_json(at.out / "summary.json", summary.model_dump(mode="json"))
    return summary
