"""The whole of `train uda`: a source run and an unlabelled target to a run folder, with a verdict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.files import replacing, sha256_of, write_json, write_text, write_yaml
from microseg.core.manifest import Fingerprint, FoldInfo, TrainingField
from microseg.core.metrics import confusion_matrix, iou, mean_iou
from microseg.core.runs import (
    Adaptation,
    AdaptationRecord,
    Candidate,
    RunRecord,
    RunSummary,
    read_record,
    read_run,
)
from microseg.models.network import Network
from microseg.train import checkpoint
from microseg.train.adapt import AdaptJob, load_network, predict_map
from microseg.train.criteria import agreement, fold_agreement, observe, views
from microseg.train.curves import plot_adaptation
from microseg.train.data import TrainingData, load_training_data
from microseg.train.datasets import LabelledField
from microseg.train.normalise import with_target_statistics
from microseg.train.parallel import default_workers, train_folds
from microseg.train.recipe import Recipe
from microseg.train.runs import VERSIONS, git_commit, package_version, read_fold, save_parity_tiles, summary_of
from microseg.train.supervised import Report, or_none, score
from microseg.train.target import CURVES, Target, read_target
from microseg.train.trust import trust
from microseg.train.uda_recipe import Normalise, UdaRecipe
from microseg.train.verdict import SOURCE, decide, fields_to_label

OnFold = Callable[[int], Report]
# What `auto` tries before it trains anything.
CHEAP = [
    Normalise(intensity=intensity, statistics=share)
    for intensity in ("none", "standardise", "histogram")
    for share in (0.0, 0.5, 1.0)
    if intensity != "none" or share
]


@dataclass(frozen=True)
class Adapting:
    """Everything that is settled before a method begins."""

    record: RunRecord
    source: Recipe
    data: TrainingData
    target: Target
    source_run: Path
    out: Path
    folds: tuple[int, ...]

    @property
    def cuts(self) -> list[NDArray[np.uint8]]:
        """Target views that candidates are judged on."""
        return views([field.image for field in self.target.fields], self.record.stride)

    def unseen(self, fold: int) -> list[LabelledField]:
        """Source fields that a fold holds out."""
        return [field for field, k in zip(self.data.fields, self.data.folds, strict=True) if k == fold]

    def seen(self, fold: int) -> list[LabelledField]:
        """Source fields that a fold learns from."""
        return [field for field, k in zip(self.data.fields, self.data.folds, strict=True) if k != fold]

    def weights(self, fold: int) -> Path:
        """The source run's."""
        return self.source_run / f"fold{fold}" / "model.safetensors"


@dataclass(frozen=True)
class Bag:
    """A candidate's folds: networks, the grey curve of the target's preparation, what training said of each."""

    networks: list[Network]
    tone: tuple[int, ...] | None
    steps: list[int]
    seconds: float
    warnings: list[str]
    source_miou: float


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
    on_fold: OnFold = lambda fold: lambda step, steps, text: None,
    notice: Callable[[str], None] = lambda text: None,
    workers: int | None = None,
) -> RunSummary:
    """Adapt every fold of `source_run` to the target, choose without labels, and leave a run like any other in `out`.

    auto: the cheap normalisations and then `recipe`, the best of them; otherwise `recipe` alone; always beside the source
    as it is. folds: of the source's, the first ones. oracle: target labels choose, for studies; the run says so. Raises
    InputError: no finished source run or its data, a target that cannot be used, `out` in use.
    """
    if out.exists() and any(out.iterdir()) and not resume:
        raise InputError(f"{out}: exists. Remedy: --resume to continue it, or another --out.")
    if (out / "summary.json").is_file():
        return read_run(out)[1]
    at = _settle(target_path, source_run, out, source_data, invert, pixel_size_um, folds, auto)
    for text in at.target.notices:
        notice(text)
    record = _claim(at, recipe_name, recipe, auto, oracle, target_path)
    methods: list[tuple[str, UdaRecipe]] = [(recipe.method.kind, recipe)]
    if auto:
        cheap = _best_cheap(at, recipe)
        notice(f"of the normalisations, {_title(cheap)} agrees with itself most")
        methods.insert(0, ("normalise", recipe.model_copy(update={"method": cheap})))
    bags = {SOURCE: _source_bag(at)}
    for name, chosen in methods:
        bags[name] = _bag(at, name, chosen, on_fold, workers or default_workers())
    candidates = [_judged(at, name, bag, bags[SOURCE]) for name, bag in bags.items()]
    known = {phase.name: share for phase, share in zip(record.phases, _source_fractions(at), strict=True)}
    forced = _chosen_by_labels(at, bags, target_path, record) if oracle else None
    decision = decide(candidates, known, forced)
    if decision.verdict == "label a few fields":
        decision = decision.model_copy(update={"to_label": _worth_labelling(at, bags[decision.chosen])})
    return _finish(at, record, bags[decision.chosen], decision)


def newest_supervised_run(runs: Path, trained_on: Path | None = None) -> Path:
    """The finished supervised run under `runs` that was written last, of one labelled domain if asked. Raises InputError."""
    found = []
    for path in sorted(runs.glob("*/run.yaml")) if runs.is_dir() else []:
        if (path.parent / "summary.json").is_file():
            try:
                record = read_record(path.parent)
            except InputError:
                continue
            if record.adaptation is None and (trained_on is None or trained_on.resolve() == Path(record.domain_source)):
                found.append(((path.parent / "summary.json").stat().st_mtime, path.parent))
    if not found:
        which = f" of {trained_on}" if trained_on else ""
        raise InputError(
            f"{runs}: holds no finished supervised run{which}. Remedy: `microseg train supervised "
            f"{trained_on or 'DOMAIN'}` first, or --source RUN."
        )
    return max(found)[1]


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
    if record.adaptation is not None:
        raise InputError(f"{source_run}: is an adapted run. Remedy: the supervised one, as --source.")
    where = source_data or Path(record.domain_source)
    if not where.exists():
        raise InputError(
            f"{source_run}: its labelled data are not at {where} any more. Remedy: --source-data with where they are now."
        )
    source = Recipe.model_validate(record.recipe)
    data = load_training_data(where, source.scale, source.folds)
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
        before = read_record(at.out)
        for key in ("recipe", "phases", "domain", "grid", "fields", "dataset_sha256", "adaptation", "folds"):
            if getattr(before, key) != getattr(record, key):
                raise InputError(
                    f"{at.out}: holds a run with another {key}. Remedy: the same command as before, or another --out."
                )
    else:
        write_yaml(at.out / "run.yaml", record.model_dump(mode="json"))
        write_text(at.out / ".gitignore", "*\n")
    return record


def _source_bag(at: Adapting) -> Bag:
    networks = [load_network(at.source, len(at.record.phases), at.weights(fold)) for fold in at.folds]
    summary = read_run(at.source_run)[1]
    return Bag(networks, None, [0] * len(at.folds), 0.0, [], float(np.mean([summary.folds[k].miou for k in at.folds])))


def _bag(at: Adapting, name: str, recipe: UdaRecipe, on_fold: OnFold, workers: int) -> Bag:
    """The folds of one method: statistics folded in, or trained."""
    if isinstance(recipe.method, Normalise):
        return _normalised(at, recipe.method, at.folds)
    jobs = []
    for fold in at.folds:
        folder = at.out / "methods" / name / f"fold{fold}"
        job = AdaptJob(
            recipe,
            at.source,
            at.record.phases,
            at.seen(fold),
            at.unseen(fold),
            at.target.fields,
            at.weights(fold),
            fold,
            folder,
        )
        if not (folder / "fold.json").is_file():
            jobs.append(job)
    train_folds(jobs, workers, on_fold)
    folders = [at.out / "methods" / name / f"fold{fold}" for fold in at.folds]
    plot_adaptation(at.out / "methods" / name / "history.png", folders, [phase.name for phase in at.record.phases])
    found = [json.loads((folder / "fold.json").read_text(encoding="utf-8")) for folder in folders]
    return Bag(
        [load_network(at.source, len(at.record.phases), folder / "model.safetensors") for folder in folders],
        None,
        [item["chosen"]["step"] for item in found],
        sum(item["seconds"] for item in found),
        [f"fold {k}: {text}" for k, item in zip(at.folds, found, strict=True) for text in item["warnings"]],
        float(np.mean([item["chosen"]["source_miou"] for item in found])),
    )


def _tone(at: Adapting, method: Normalise) -> tuple[int, ...] | None:
    if method.intensity == "none":
        return None
    images = [[field.image for field in fields] for fields in (at.data.fields, at.target.fields)]
    return tuple(CURVES[method.intensity](*images))


def _toned(cuts: Sequence[NDArray[np.uint8]], tone: tuple[int, ...] | None) -> list[NDArray[np.uint8]]:
    return list(cuts) if tone is None else [np.array(tone, np.uint8)[cut] for cut in cuts]


def _normalised(at: Adapting, method: Normalise, folds: Sequence[int]) -> Bag:
    tone = _tone(at, method)
    networks = [load_network(at.source, len(at.record.phases), at.weights(fold)) for fold in folds]
    for network in networks:
        with_target_statistics(network, _toned(at.cuts, tone), method.statistics)
    kept = [
        mean_iou(score(network, at.unseen(fold), at.source, len(at.record.phases)).confusion)
        for network, fold in zip(networks, folds, strict=True)
    ]
    return Bag(networks, tone, [0] * len(folds), 0.0, [], float(np.mean(kept)))


def _best_cheap(at: Adapting, recipe: UdaRecipe) -> Normalise:
    """The normalisation whose first fold agrees with itself most."""
    phases, scores = len(at.record.phases), []
    for method in CHEAP:
        tone = _tone(at, method)
        cuts = _toned(at.cuts, tone)
        network = load_network(at.source, phases, at.weights(at.folds[0]))
        with_target_statistics(network, cuts, method.statistics)
        scores.append(trust(asdict(observe(_one(network), cuts, phases, _upright(at)))))
    return CHEAP[int(np.argmax(scores))]


def _title(method: Normalise) -> str:
    return f"intensity {method.intensity} with {100 * method.statistics:.0f} % of the target's statistics"


def _upright(at: Adapting) -> bool:
    return bool(getattr(at.source.augmentation, "upright", False))


def _one(network: Network) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    return lambda view: predict_map(network, view)


def _mean(networks: Sequence[Network]) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    def predict(view: NDArray[np.uint8]) -> NDArray[np.float32]:
        total = np.sum([predict_map(network, view) for network in networks], axis=0)
        return np.asarray(total / len(networks), np.float32)

    return predict


def _judged(at: Adapting, name: str, bag: Bag, source: Bag) -> Candidate:
    phases = len(at.record.phases)
    cuts = _toned(at.cuts, bag.tone)
    seen = observe(_mean(bag.networks), cuts, phases, _upright(at))
    votes = [[_one(network)(cut).argmax(0).astype(np.uint8) for cut in cuts] for network in bag.networks]
    labels = [_mean(bag.networks)(cut).argmax(0).astype(np.uint8) for cut in cuts]
    before = [_mean(source.networks)(cut).argmax(0).astype(np.uint8) for cut in at.cuts]
    same = agreement([confusion_matrix(a, b, phases) for a, b in zip(labels, before, strict=True)])
    values = asdict(seen)
    fractions = values.pop("fractions")
    return Candidate(
        name=name,
        trust=trust(values),
        **values,
        fold_agreement=fold_agreement(votes, phases),
        moved=1 - same,
        fractions={phase.name: value for phase, value in zip(at.record.phases, fractions, strict=True)},
        source_miou=bag.source_miou,
        minutes=bag.seconds / 60,
        steps=bag.steps,
        warnings=bag.warnings,
    )


def _source_fractions(at: Adapting) -> list[float]:
    from microseg.train.datasets import phase_frequencies

    return [float(value) for value in phase_frequencies(at.data.fields, len(at.record.phases))]


def _worth_labelling(at: Adapting, bag: Bag) -> list[str]:
    """Names of the target fields whose labels would teach most."""
    import torch

    uncertainty, features = [], []
    for field in at.target.fields:
        (cut,) = _toned(views([field.image], at.record.stride), bag.tone)
        soft = _mean(bag.networks)(cut)
        uncertainty.append(float(-(soft * np.log(np.maximum(soft, 1e-8))).sum(0).mean()))
        with torch.inference_mode():
            features.append(bag.networks[0](torch.tensor(cut)[None, None]).features[0].numpy())
    chosen = fields_to_label(np.array(uncertainty), np.array(features, np.float64))
    return [at.target.fields[place].field.name for place in chosen]


def _chosen_by_labels(at: Adapting, bags: dict[str, Bag], target_path: Path, record: RunRecord) -> str:
    """For studies: the candidate with the highest mIoU on the target's labels."""
    from microseg.core.domain import load_domain
    from microseg.core.preparation import PreparedField
    from microseg.core.scoring import Prediction, evaluation, score_fields
    from microseg.train.predict import predict_field

    assert record.adaptation is not None
    scores = {}
    for name, bag in bags.items():

        def predict(prepared: PreparedField, sha256: str, bag: Bag = bag) -> Prediction:
            image = prepared.rows(0, prepared.shape[0])
            soft, _ = predict_field(bag.networks, image, record.stride, record.halo_px)
            return Prediction(soft.mean(0).argmax(0).astype(np.uint8), {}, seen=False)

        entry = record.adaptation.target
        entry = entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"tone": bag.tone})})
        found = score_fields(load_domain(target_path), entry, record.grid, record.phases, predict)
        scores[name] = evaluation(found, record.phases)["miou"]
    return max(scores, key=lambda name: scores[name])


def _finish(at: Adapting, record: RunRecord, bag: Bag, decision: Adaptation) -> RunSummary:
    """Write the chosen folds as a run's, with their scores on the source, and the summary."""
    assert record.adaptation is not None
    if bag.tone is not None:
        entry = record.adaptation.target
        entry = entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"tone": bag.tone})})
        record = record.model_copy(update={"adaptation": record.adaptation.model_copy(update={"target": entry})})
        write_yaml(at.out / "run.yaml", record.model_dump(mode="json"))
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
        values = iou(scored.confusion)
        info = FoldInfo(
            index=place,
            miou=mean_iou(scored.confusion),
            iou={p.name: or_none(v) for p, v in zip(phases, values, strict=True)},
            weights_sha256=sha256_of(folder / "model.safetensors"),
        )
        features = _features(network, _toned(at.cuts, bag.tone))
        fingerprint = Fingerprint(fold=place, mean=features.mean(0).tolist(), std=features.std(0).tolist())
        written = {
            "info": info.model_dump(),
            "fingerprint": fingerprint.model_dump(),
            "seconds": bag.seconds / len(at.folds),
        }
        write_json(folder / "fold.json", written)
    results = [read_fold(at.out / f"fold{place}") for place in range(len(at.folds))]
    summary = summary_of(results).model_copy(update={"adaptation": decision})
    write_json(at.out / "summary.json", summary.model_dump(mode="json"))
    return summary


def _features(network: Network, cuts: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Pooled features (views, D)."""
    import torch

    with torch.inference_mode():
        return np.stack([network(torch.tensor(cut)[None, None]).features[0].numpy() for cut in cuts])
