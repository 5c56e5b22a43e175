"""The bags that `train uda` compares: the source's folds unadapted, normalised, or adapted by a method."""

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
from microseg.core.labelling.choice import Candidate as LabelCandidate
from microseg.core.labelling.choice import LabelledFeatures, choose, thumbnail_of
from microseg.core.labelling.committee import Opinion
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.run import RunRecord, read_run
from microseg.models.network import Network, NetworkOutput
from microseg.train.common.curves import plot_adaptation
from microseg.train.common.datasets import ImagesOf, LabelledField
from microseg.train.common.parallel.folds import train_folds
from microseg.train.common.prediction import predict_field, predict_view
from microseg.train.common.progress import FoldCallback
from microseg.train.common.run_folder import load_network
from microseg.train.common.score import score_network
from microseg.train.uda.context import AdaptationContext
from microseg.train.uda.criteria import (
    fold_agreement,
    observe,
    self_consistency,
    texture,
    texture_shift,
    views,
)
from microseg.train.uda.loop import AdaptationFold
from microseg.train.uda.normalise import tone_of, toned, with_target_statistics
from microseg.train.uda.recipe import Normalise, UdaRecipe
from microseg.train.uda.verdict import FEW_FIELDS, Likeness

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Bag:
    """The folds of one candidate.

    networks: In evaluation mode, on the CPU.
    tone: Grey curve (256) of the target's preparation, or None.
    steps: Steps at the snapshot of each fold.
    seconds: Time of training, all folds.
    warnings: What went wrong in training.
    source_miou: Mean mIoU, 0-1, of the folds on held-out source fields.
    """

    networks: list[Network]
    tone: tuple[int, ...] | None
    steps: list[int]
    seconds: float
    warnings: list[str]
    source_miou: float


def source_bag(context: AdaptationContext) -> Bag:
    """The source run's folds, unadapted."""
    networks = [load_network(context.source, context.phases, context.weights(fold)) for fold in context.folds]
    folds = read_run(context.source_run)[1].folds
    miou = float(np.mean([folds[k].miou for k in context.folds]))
    return Bag(networks, None, [0] * len(context.folds), 0.0, [], miou)


def bag_of(
    context: AdaptationContext,
    name: str,
    recipe: UdaRecipe,
    on_fold: FoldCallback,
    workers: int,
    after: str | None = None,
) -> Bag:
    """The folds of one method: normalised, or trained where they are not finished yet.

    Args:
        context: The adaptation context.
        name: Name of the candidate, and of its folder.
        recipe: The recipe.
        on_fold: Gives the progress callback of a fold.
        workers: Processes that train.
        after: The candidate whose folds this one begins with and whose bag makes the pseudo-labels: a second round. By
            default folds begin with the source's, and their own averages make the pseudo-labels.
    """
    if isinstance(recipe.method, Normalise):
        return _normalised(context, recipe.method)
    jobs = [_fold_of(context, name, recipe, fold, after) for fold in context.folds]
    unfinished = [job for job in jobs if not (job.folder / "fold.json").is_file()]
    train_folds(unfinished, workers, on_fold, context.folds)
    folders = [job.folder for job in jobs]
    plot_adaptation(folders[0].parent / "history.png", folders, [phase.name for phase in context.record.phases])
    found = [_read_json(folder / "fold.json") for folder in folders]
    return Bag(
        [load_network(context.source, context.phases, folder / "model.safetensors") for folder in folders],
        None,
        [item["chosen"]["step"] for item in found],
        sum(item["seconds"] for item in found),
        [f"fold {k}: {text}" for k, item in zip(context.folds, found, strict=True) for text in item["warnings"]],
        float(np.mean([item["chosen"]["source_miou"] for item in found])),
    )


def _fold_of(context: AdaptationContext, name: str, recipe: UdaRecipe, fold: int, after: str | None) -> AdaptationFold:
    """The training of one fold of a method."""
    earlier = {k: context.method_folder(after, k) for k in context.folds} if after else {}
    before = {k: folder / "model.safetensors" for k, folder in earlier.items()}
    return AdaptationFold(
        recipe=recipe,
        source=context.source,
        phases=context.record.phases,
        fields=context.seen(fold),
        held_out=context.unseen(fold),
        target=context.target.fields,
        start=before.get(fold, context.weights(fold)),
        fold=fold,
        folder=context.method_folder(name, fold),
        teachers=tuple(before.values()),
        unadapted=_read_json(earlier[fold] / "fold.json")["start"]["fractions"] if after else None,
    )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _normalised(context: AdaptationContext, method: Normalise) -> Bag:
    begun = time.monotonic()
    tone = tone_of(context, method)
    networks = [load_network(context.source, context.phases, context.weights(fold)) for fold in context.folds]
    for network in networks:
        with_target_statistics(network, toned(context.target_views, tone), method.statistics)
    kept = [
        mean_iou(score_network(network, context.unseen(fold), context.source.halo_px).confusion)
        for network, fold in zip(networks, context.folds, strict=True)
    ]
    return Bag(networks, tone, [0] * len(context.folds), time.monotonic() - begun, [], float(np.mean(kept)))


def likeness_of(context: AdaptationContext, bag: Bag) -> Likeness:
    """How similar the target is to the source, by the source's bag: its consistency, fold agreement and textures."""
    phases, stride, found = context.phases, context.record.stride, []
    for network, fold in zip(bag.networks, context.folds, strict=True):
        own = views(ImagesOf(context.unseen(fold)), stride)
        seen = [observe(_one(network), cuts, phases, context.is_upright) for cuts in (own, context.target_views)]
        found.append([self_consistency(asdict(item)) for item in seen])
    source_consistency, target_consistency = np.mean(found, axis=0)
    own = views(ImagesOf(context.data.fields), stride)
    votes = [[predict_view(network, cut).argmax(0).astype(np.uint8) for cut in own] for network in bag.networks]

    def texture_of(field: LabelledField, network: Network) -> NDArray[np.float64]:
        (cut,) = views([field.image], stride)
        return texture(cut, predict_view(network, cut).argmax(0).astype(np.uint8), phases)

    # One network predicts each field. Of the source's fields it is the one that did not learn from it.
    ours = [
        texture_of(field, network)
        for network, fold in zip(bag.networks, context.folds, strict=True)
        for field in context.unseen(fold)
    ]
    theirs = [texture_of(field, bag.networks[i % len(bag.networks)]) for i, field in enumerate(context.target.fields)]
    return Likeness(
        float(source_consistency), float(target_consistency), fold_agreement(votes, phases), texture_shift(ours, theirs)
    )


def otsu_fractions(context: AdaptationContext) -> dict[str, float] | None:
    """Phase fractions, 0-1, of the target by Otsu's threshold, with the grey classes assigned by the source's labels.

    Returns:
        None for more phases than multi-Otsu computes.
    """
    phases = context.phases
    if phases > MAX_OTSU_PHASES:
        return None
    fields = context.data.fields
    known = [confusion_matrix(field.labels, otsu_classes(field.image, phases), phases) for field in fields]
    order = best_assignment(np.sum(known, axis=0))
    found = [
        np.bincount(otsu_classes(field.image, phases).ravel(), minlength=phases) for field in context.target.fields
    ]
    counts = np.sum(found, axis=0)
    return {context.record.phases[phase].name: float(counts[grey] / counts.sum()) for grey, phase in enumerate(order)}


def worth_labelling(context: AdaptationContext, bag: Bag) -> list[str]:
    """Names of three to five target fields whose labels would help most, by the choice of `microseg suggest`.

    Args:
        context: The adaptation context.
        bag: The chosen bag.
    """
    candidates = []
    for field in context.target.fields:
        (cut,) = toned(views([field.image], context.record.stride), bag.tone)
        outs = _outputs(bag.networks, cut)
        votes = np.stack([out.logits[0].argmax(0).numpy().astype(np.uint8) for out in outs])
        opinion = Opinion(votes[0], votes, np.stack([out.features[0].numpy() for out in outs]))
        share = float(opinion.disagrees.mean()) if len(votes) > 1 else None
        candidates.append(LabelCandidate(field.field.name, share, opinion.features, thumbnail_of(field.image)))
    cuts = views([field.image for field in context.data.fields], context.record.stride)
    known = np.array([[out.features[0].numpy() for out in _outputs(bag.networks, cut)] for cut in cuts], np.float64)
    count = int(np.clip(round(len(candidates) / 4), *FEW_FIELDS))
    chosen, _ = choose(candidates, count, LabelledFeatures(known.mean(axis=0), known.std(axis=0)))
    return [candidates[each.place].name for each in chosen]


def _outputs(networks: Sequence[Network], view: Image) -> list[NetworkOutput]:
    """What each network says of a view uint8 (h, w)."""
    with torch.inference_mode():
        return [network(torch.tensor(view)[None, None]) for network in networks]


def chosen_by_labels(context: AdaptationContext, bags: dict[str, Bag], target_path: Path, record: RunRecord) -> str:
    """The candidate with the highest mIoU on the target's labels. For studies."""
    assert record.adaptation is not None
    scores = {}
    for name, bag in bags.items():

        def predict(prepared: PreparedField, sha256: str, bag: Bag = bag) -> Prediction:
            soft, _ = predict_field(bag.networks, prepared.whole(), record.stride, record.halo_px)
            return Prediction(soft.mean(0).argmax(0).astype(np.uint8), {}, seen=False)

        entry = record.adaptation.target
        entry = entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"tone": bag.tone})})
        # The preparation of the adaptation applies, with what options say and `auto` found, also where domain.yaml differs.
        domain = replace(load_domain(target_path), preparation=entry.preparation, explicit=frozenset(STATED))
        found = score_fields(domain, entry, record.grid, record.phases, predict)
        scores[name] = evaluation(found, record.phases)["miou"]
    return max(scores, key=lambda name: scores[name])


def features_on(context: AdaptationContext, bag: Bag, network: Network) -> NDArray[np.float32]:
    """Bottleneck features float32 (views, D) of the target."""
    with torch.inference_mode():
        return np.stack(
            [
                network(torch.tensor(cut)[None, None]).features[0].numpy()
                for cut in toned(context.target_views, bag.tone)
            ]
        )


def _one(network: Network) -> Callable[[Image], NDArray[np.float32]]:
    return lambda view: predict_view(network, view)
