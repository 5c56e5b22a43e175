"""The bags that `train uda` compares: the source's folds as they are, normalised, or trained; and how each is judged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from microseg.core.domains.domain import STATED, load_domain
from microseg.core.evaluation.baseline import MAX_OTSU_PHASES, best_assignment, otsu_classes
from microseg.core.evaluation.metrics import confusion_matrix, mean_iou
from microseg.core.evaluation.scoring import Prediction, evaluation, score_fields
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.run import Candidate, RunRecord, read_run
from microseg.models.network import Network
from microseg.train.common.curves import plot_adaptation
from microseg.train.common.data import TrainingData
from microseg.train.common.datasets import LabelledField, phase_frequencies, with_labels
from microseg.train.common.parallel import train_folds
from microseg.train.common.prediction import predict_field
from microseg.train.common.recipe import Recipe
from microseg.train.supervised.loop import Report, score
from microseg.train.uda.criteria import agreement, fold_agreement, observe, views
from microseg.train.uda.loop import AdaptJob, load_network, predict_map, predict_mean
from microseg.train.uda.normalise import with_target_statistics
from microseg.train.uda.recipe import Normalise, UdaRecipe
from microseg.train.uda.self_consistency import drifted, trust
from microseg.train.uda.target import CURVES, Target
from microseg.train.uda.texture_shift import texture, texture_shift
from microseg.train.uda.verdict import Likeness, fields_to_label

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
        others = [field for field, k in zip(self.data.fields, self.data.folds, strict=True) if k != fold]
        return with_labels(others, self.source.label_share, self.source.seed)

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


def source_bag(at: Adapting) -> Bag:
    """The source run's folds as they are."""
    networks = [load_network(at.source, len(at.record.phases), at.weights(fold)) for fold in at.folds]
    summary = read_run(at.source_run)[1]
    return Bag(networks, None, [0] * len(at.folds), 0.0, [], float(np.mean([summary.folds[k].miou for k in at.folds])))


def bag_of(at: Adapting, name: str, recipe: UdaRecipe, on_fold: OnFold, workers: int, after: str | None = None) -> Bag:
    """The folds of one method: statistics folded in, or trained. after: the method whose folds they begin with and whose
    bag teaches them, instead of the source's and their own averages.
    """
    if isinstance(recipe.method, Normalise):
        return _normalised(at, recipe.method, at.folds)
    earlier = {fold: at.out / "methods" / after / f"fold{fold}" for fold in at.folds if after}
    before = {fold: folder / "model.safetensors" for fold, folder in earlier.items()}
    jobs = []
    for fold in at.folds:
        folder = at.out / "methods" / name / f"fold{fold}"
        unadapted = _read_json(earlier[fold] / "fold.json")["start"]["fractions"] if after else None
        job = AdaptJob(
            recipe,
            at.source,
            at.record.phases,
            at.seen(fold),
            at.unseen(fold),
            at.target.fields,
            before.get(fold, at.weights(fold)),
            fold,
            folder,
            tuple(before.values()),
            unadapted,
        )
        if not (folder / "fold.json").is_file():
            jobs.append(job)
    train_folds(jobs, workers, on_fold, at.folds)
    folders = [at.out / "methods" / name / f"fold{fold}" for fold in at.folds]
    plot_adaptation(at.out / "methods" / name / "history.png", folders, [phase.name for phase in at.record.phases])
    found = [_read_json(folder / "fold.json") for folder in folders]
    return Bag(
        [load_network(at.source, len(at.record.phases), folder / "model.safetensors") for folder in folders],
        None,
        [item["chosen"]["step"] for item in found],
        sum(item["seconds"] for item in found),
        [f"fold {k}: {text}" for k, item in zip(at.folds, found, strict=True) for text in item["warnings"]],
        float(np.mean([item["chosen"]["source_miou"] for item in found])),
    )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _tone(at: Adapting, method: Normalise) -> tuple[int, ...] | None:
    if method.intensity == "none":
        return None
    images = [[field.image for field in fields] for fields in (at.data.fields, at.target.fields)]
    return tuple(CURVES[method.intensity](*images))


def _toned(cuts: Sequence[NDArray[np.uint8]], tone: tuple[int, ...] | None) -> list[NDArray[np.uint8]]:
    return list(cuts) if tone is None else [np.array(tone, np.uint8)[cut] for cut in cuts]


def _normalised(at: Adapting, method: Normalise, folds: Sequence[int]) -> Bag:
    begun = time.monotonic()
    tone = _tone(at, method)
    networks = [load_network(at.source, len(at.record.phases), at.weights(fold)) for fold in folds]
    for network in networks:
        with_target_statistics(network, _toned(at.cuts, tone), method.statistics)
    kept = [
        mean_iou(score(network, at.unseen(fold), at.source, len(at.record.phases)).confusion)
        for network, fold in zip(networks, folds, strict=True)
    ]
    return Bag(networks, tone, [0] * len(folds), time.monotonic() - begun, [], float(np.mean(kept)))


def best_cheap(at: Adapting, drift: float) -> Normalise:
    """The normalisation whose first fold agrees with itself most, of those whose phase fractions have not drifted.

    drift: factor by which they may leave those of the source and of the network as it is.
    """
    phases, found = len(at.record.phases), []
    for method in (Normalise(statistics=0.0), *CHEAP):
        tone = _tone(at, method)
        cuts = _toned(at.cuts, tone)
        network = load_network(at.source, phases, at.weights(at.folds[0]))
        with_target_statistics(network, cuts, method.statistics)
        found.append(observe(_one(network), cuts, phases, _upright(at)))
    references = [phase_frequencies(at.data.fields, phases).tolist(), found[0].fractions]
    scores = [trust(asdict(seen)) - drifted(seen.fractions, references, drift) for seen in found[1:]]
    return CHEAP[int(np.argmax(scores))]


def title_of(method: Normalise) -> str:
    """A normalisation in words."""
    return f"intensity {method.intensity} with {100 * method.statistics:.0f} % of the target's statistics"


def _upright(at: Adapting) -> bool:
    return bool(getattr(at.source.augmentation, "upright", False))


def _one(network: Network) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    return lambda view: predict_map(network, view)


def _mean(networks: Sequence[Network]) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    return lambda view: predict_mean(networks, view)


def judged(at: Adapting, bags: dict[str, Bag]) -> list[Candidate]:
    """Every bag by what needs no label of the target; the source's comes first, the others are compared with it."""
    phases = len(at.record.phases)
    candidates: list[Candidate] = []
    before: list[NDArray[np.uint8]] = []
    for name, bag in bags.items():
        cuts = _toned(at.cuts, bag.tone)
        each = [[predict_map(network, cut) for cut in cuts] for network in bag.networks]
        maps = [np.asarray(np.mean(folds, axis=0), np.float32) for folds in zip(*each, strict=True)]
        votes = [[soft.argmax(0).astype(np.uint8) for soft in fold] for fold in each]
        labels = [soft.argmax(0).astype(np.uint8) for soft in maps]
        before = before or labels
        same = agreement([confusion_matrix(a, b, phases) for a, b in zip(labels, before, strict=True)])
        values = asdict(observe(_mean(bag.networks), cuts, phases, _upright(at), maps))
        fractions = values.pop("fractions")
        candidates.append(
            Candidate(
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
        )
    return candidates


def likeness_of(at: Adapting, bag: Bag) -> Likeness:
    """How like its own fields the target is to the source's bag."""
    phases, found = len(at.record.phases), []
    for network, fold in zip(bag.networks, at.folds, strict=True):
        home = views([field.image for field in at.unseen(fold)], at.record.stride)
        found.append([trust(asdict(observe(_one(network), cuts, phases, _upright(at)))) for cuts in (home, at.cuts)])
    at_home, abroad = np.mean(found, axis=0)
    home = views([field.image for field in at.data.fields], at.record.stride)
    votes = [[predict_map(network, cut).argmax(0).astype(np.uint8) for cut in home] for network in bag.networks]

    def seen(field: LabelledField, network: Network) -> NDArray[np.float64]:
        (cut,) = views([field.image], at.record.stride)
        return texture(cut, predict_map(network, cut).argmax(0).astype(np.uint8), phases)

    # Each field by one network, which has not seen it.
    ours = [
        seen(field, network) for network, fold in zip(bag.networks, at.folds, strict=True) for field in at.unseen(fold)
    ]
    theirs = [seen(field, bag.networks[i % len(bag.networks)]) for i, field in enumerate(at.target.fields)]
    return Likeness(float(at_home), float(abroad), fold_agreement(votes, phases), texture_shift(ours, theirs))


def otsu_fractions(at: Adapting) -> dict[str, float] | None:
    """Phase fractions, 0-1, of the target by Otsu's threshold; grey classes are called as suits the source's labels best.

    None for more phases than multi-Otsu can do.
    """
    phases = len(at.record.phases)
    if phases > MAX_OTSU_PHASES:
        return None
    known = [confusion_matrix(field.labels, otsu_classes(field.image, phases), phases) for field in at.data.fields]
    order = best_assignment(np.sum(known, axis=0))
    found = [np.bincount(otsu_classes(field.image, phases).ravel(), minlength=phases) for field in at.target.fields]
    counts = np.sum(found, axis=0)
    return {at.record.phases[phase].name: float(counts[grey] / counts.sum()) for grey, phase in enumerate(order)}


def worth_labelling(at: Adapting, bag: Bag) -> list[str]:
    """Names of the target fields whose labels would teach most."""
    uncertainty, features = [], []
    for field in at.target.fields:
        (cut,) = _toned(views([field.image], at.record.stride), bag.tone)
        soft = _mean(bag.networks)(cut)
        uncertainty.append(float(-(soft * np.log(np.maximum(soft, 1e-8))).sum(0).mean()))
        with torch.inference_mode():
            features.append(bag.networks[0](torch.tensor(cut)[None, None]).features[0].numpy())
    chosen = fields_to_label(np.array(uncertainty), np.array(features, np.float64))
    return [at.target.fields[place].field.name for place in chosen]


def chosen_by_labels(at: Adapting, bags: dict[str, Bag], target_path: Path, record: RunRecord) -> str:
    """For studies: the candidate with the highest mIoU on the target's labels."""
    assert record.adaptation is not None
    scores = {}
    for name, bag in bags.items():

        def predict(prepared: PreparedField, sha256: str, bag: Bag = bag) -> Prediction:
            image = prepared.whole()
            soft, _ = predict_field(bag.networks, image, record.stride, record.halo_px)
            return Prediction(soft.mean(0).argmax(0).astype(np.uint8), {}, seen=False)

        entry = record.adaptation.target
        entry = entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"tone": bag.tone})})
        # As it was adapted to: what the command line said, or `auto` found, wins over domain.yaml here.
        domain = replace(load_domain(target_path), preparation=entry.preparation, explicit=frozenset(STATED))
        found = score_fields(domain, entry, record.grid, record.phases, predict)
        scores[name] = evaluation(found, record.phases)["miou"]
    return max(scores, key=lambda name: scores[name])


def features_on(at: Adapting, bag: Bag, network: Network) -> NDArray[np.float32]:
    """Pooled features (views, D) of the target."""
    with torch.inference_mode():
        return np.stack(
            [network(torch.tensor(cut)[None, None]).features[0].numpy() for cut in _toned(at.cuts, bag.tone)]
        )
