"""The candidates of `train uda`, scored without labels, each beside what needs no target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microseg.core.evaluation.metrics import confusion_matrix
from microseg.core.schemas.run import Candidate, ConsistencyGain
from microseg.core.statistics.unlabelled.paired_gain import paired_gain
from microseg.models.network import Network
from microseg.train.common.datasets import ImagesOf
from microseg.train.common.prediction import predict_view
from microseg.train.uda import criteria
from microseg.train.uda.bags import Bag
from microseg.train.uda.context import AdaptationContext
from microseg.train.uda.criteria import (
    SeenView,
    agreement,
    copies,
    fold_agreement,
    observed,
    seen_view,
    self_consistency,
    views,
)
from microseg.train.uda.normalise import toned
from microseg.train.uda.scoring.fractions import HeldOut, estimated_fractions, held_out_fields, target_view
from microseg.train.uda.verdict import LONGER_SOURCE, UNADAPTED

Image = NDArray[np.uint8]
# Agreement of a bag's folds with themselves, 0-1, float64 (fields, folds), by its kind: `flips` and `photometric`.
Table = Mapping[str, NDArray[np.float64]]

# As many target fields decide. Each takes five predictions by every fold of every candidate. Of fewer fields larger views are
# taken, up to this factor of the side: a gain that is measured on more of a field scatters less.
MOST_FIELDS, MOST_ENLARGED = 12, 1.5
# A smaller disagreement is that of single pixels.
_LEAST_DISAGREEMENT = 0.001


@dataclass(frozen=True)
class _View:
    """One target field by a bag: by the bag as a whole, and by each fold."""

    bag: SeenView
    folds: list[SeenView]


def score_candidates(context: AdaptationContext, bags: Mapping[str, Bag]) -> list[Candidate]:
    """Score every bag by label-free criteria on the same views of the target.

    Args:
        context: The adaptation context.
        bags: Bags by name, the unadapted one first: the others' label changes are against it.

    Returns:
        The candidates, with their gains over the unadapted bag and over the source trained equally long, where there is one.
    """
    images = ImagesOf(context.target.fields)
    enlarged = min(MOST_ENLARGED, max(1.0, math.sqrt(MOST_FIELDS / len(images))))
    cuts = views(images, context.record.stride, MOST_FIELDS, round(criteria.VIEW_PX * enlarged))
    candidates: list[Candidate] = []
    tables: dict[str, Table] = {}
    before: list[Image] = []
    for name, bag in bags.items():
        seen = [_seen(context, bag.networks, cut) for cut in toned(cuts, bag.tone)]
        labels = [_labels(view.bag) for view in seen]
        before = before or labels
        tables[name] = {
            "flips": np.array([[fold.flips for fold in view.folds] for view in seen]),
            "photometric": np.array([[fold.photometric for fold in view.folds] for view in seen]),
        }
        same = agreement([confusion_matrix(a, b, context.phases) for a, b in zip(labels, before, strict=True)])
        candidates.append(_candidate(context, name, bag, seen, same))
    return [item.model_copy(update={"gains": consistency_gains(item.name, tables)}) for item in candidates]


def _seen(context: AdaptationContext, networks: Sequence[Network], cut: Image) -> _View:
    """Predict a view and its copies with every fold."""

    def predict(view: Image) -> NDArray[np.float32]:
        return np.stack([predict_view(network, view) for network in networks])

    soft, phases = predict(cut), context.phases
    others = [(predict(other), axis) for other, axis in copies(cut, context.is_upright)]
    folds = [
        seen_view(soft[fold], [(other[fold], axis) for other, axis in others], phases) for fold in range(len(networks))
    ]
    return _View(seen_view(soft.mean(0), [(other.mean(0), axis) for other, axis in others], phases), folds)


def _candidate(context: AdaptationContext, name: str, bag: Bag, seen: Sequence[_View], unchanged: float) -> Candidate:
    """unchanged: mIoU of the bag's labels with those of the unadapted one."""
    names = [phase.name for phase in context.record.phases]
    values = asdict(observed([view.bag for view in seen], context.phases))
    counted = values.pop("fractions")
    votes = [[_labels(view.folds[fold]) for view in seen] for fold in range(len(bag.networks))]
    known: list[HeldOut] = held_out_fields(context, bag)
    target = [target_view([fold.soft for fold in view.folds]) for view in seen]
    return Candidate(
        name=name,
        self_consistency=self_consistency(values),
        **values,
        fold_agreement=fold_agreement(votes, context.phases),
        label_change=1 - unchanged,
        fractions=dict(zip(names, counted, strict=True)),
        estimates=estimated_fractions(names, np.array(counted), target, known),
        source_miou=bag.source_miou,
        minutes=bag.seconds / 60,
        steps=bag.steps,
        warnings=bag.warnings,
    )


def consistency_gains(name: str, tables: Mapping[str, Table]) -> list[ConsistencyGain]:
    """What a candidate gains over each bag that needs no target, on the same fields, fold by fold.

    Disagreement lies at boundaries, so that fields of fine structure have more of it than coarse ones. Its logarithm is tested:
    the share that a candidate removes is alike on both, the difference is not.

    The criterion of longer training on the source is the agreement under flips: training on relit source fields raises the
    agreement under another light by itself. That of the other candidates is self-consistency.

    Args:
        name: Name of the candidate.
        tables: Agreements of every bag, by its name.
    """
    if name == UNADAPTED:
        return []
    criterion: Literal["flips", "self-consistency"] = "flips" if name == LONGER_SOURCE else "self-consistency"
    found = []
    for rival in (UNADAPTED, LONGER_SOURCE):
        if rival == name or rival not in tables:
            continue
        own, other = (_criterion(tables[bag], criterion) for bag in (name, rival))
        removed = np.log(np.maximum(1 - other, _LEAST_DISAGREEMENT) / np.maximum(1 - own, _LEAST_DISAGREEMENT))
        test = paired_gain(removed)
        found.append(
            ConsistencyGain(
                over=rival, criterion=criterion, mean=float((own - other).mean()), ratio=float(np.exp(-removed.mean())),
                p=None if test is None else test.p, fields=own.shape[0], folds=own.shape[1],
            )
        )  # fmt: skip
    return found


def _criterion(table: Table, criterion: str) -> NDArray[np.float64]:
    return table["flips"] if criterion == "flips" else (table["flips"] + table["photometric"]) / 2


def _labels(seen: SeenView) -> Image:
    return np.asarray(seen.soft.argmax(0), np.uint8)
