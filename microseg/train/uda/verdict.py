"""Adapt, do not adapt, or label a few fields: decided from what needs no label of the target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microseg.core.schemas.run import Adaptation, Candidate
from microseg.train.uda.recipe import SECOND
from microseg.train.uda.self_consistency import drifted, promise

SOURCE, LONGER = "unadapted", "source"
# A gain in trust below this is within what seeds do to it; below the floor a network does not agree with itself.
GAIN, FLOOR = 0.02, 0.6
# Folds that agree on the target by this much less than on the source: a committee that disagrees wants labels (Seung et al.
# 1992). Networks may be sure of themselves, and of each other's style, on another material; their labels differ there.
DISAGREE = 0.1
# What nothing helped must still be about as sure of itself on the target as its folds are at home.
UNSURE = 0.1
# A source network that trusts itself on the target to within this of what it does on its own held-out fields; and textures
# of the phases that differ by less than this many standard deviations of the source's fields.
CLOSE, SHIFTED = 0.01, 2.5
# A phase that the source training has, and less than this share of which is found, has been lost.
LOST = 0.02
# A network that scores less than this share of the unadapted one's mIoU on source fields has forgotten what it was taught.
FORGOT = 0.5
FEW_FIELDS = (3, 5)


class Likeness(NamedTuple):
    """How like the source a target is to the source's networks.

    at_home, abroad: mean trust of the folds on source fields that they held out, and on the target. folds_at_home: their
    agreement on source fields. shift: how far the textures of the phases differ, in standard deviations over source fields
    (shift.py).
    """

    at_home: float
    abroad: float
    folds_at_home: float
    shift: float

    @property
    def is_familiar(self) -> bool:
        """Whether there is nothing to adapt to: networks as sure as at home, on textures like those at home."""
        return self.abroad >= self.at_home - CLOSE and self.shift < SHIFTED

    @property
    def in_texture(self) -> str:
        """The shift in words."""
        if not math.isfinite(self.shift):
            return "textures not compared (too few source fields, or no phase that both have)"
        return f"textures of the phases {self.shift:.1f} standard deviations of the source's fields apart"


def decide(
    candidates: Sequence[Candidate],
    source_fractions: dict[str, float],
    likeness: Likeness,
    *,
    drift: float,
    forced: str | None = None,
    taken: str | None = None,
) -> Adaptation:
    """The candidate to take and the verdict. candidates: the unadapted source first.

    drift: factor by which phase fractions may leave those of the source and of the unadapted bag. For studies: `forced`,
    the name that target labels chose; `taken`, the one to take whatever the verdict.
    """
    source = candidates[0]
    usable = [source] + [item for item in candidates[1:] if not _has_collapsed(item, source, source_fractions, drift)]
    # What needs no target: the source as it is, or trained as much longer. A gain is one over the better of them.
    rivals = [item for item in usable if item.name in (SOURCE, LONGER)]
    reference = max(rivals, key=lambda item: promise(item.model_dump()))
    best = max([reference, *(item for item in usable if item not in rivals)], key=lambda item: item.trust)
    bar = max(item.trust for item in rivals)
    chosen = best if best.trust > bar + GAIN and not likeness.is_familiar else reference
    longer = next((item for item in rivals if item is not source), None)
    compared = f", {longer.trust:.3f} after equally long source training" if longer is not None else ""
    compared += f", {best.trust:.3f} with {best.name}" if best is not reference else ""
    evidence = (
        f"trust of the source's folds {likeness.at_home:.3f} on their own held-out fields and {likeness.abroad:.3f} on the "
        f"target; {likeness.in_texture}; "
        f"agreement with itself under flips and another light: {source.trust:.3f} unadapted{compared}"
    )
    if len(source.steps) > 1:
        evidence += (
            f"; agreement of the folds {likeness.folds_at_home:.3f} on the source and {source.fold_agreement:.3f}"
        )
        evidence += " unadapted" + ("" if best is source else f" and {best.fold_agreement:.3f} with {best.name}")
        evidence += " on the target"
    if best is not source:
        evidence += f"; {100 * best.moved:.1f} % of the labels (1 - mIoU) differ between the two"
    if dropped := [item.name for item in candidates if item not in usable]:
        evidence += f"; not to be trusted, for phases lost or grown or the source forgotten: {', '.join(dropped)}"
    if chosen not in rivals and not any(item.name == LONGER for item in candidates):
        evidence += "; no equally long source training was run, so the gain is one over the start (--control runs it)"
    if forced is not None:
        chosen = next(item for item in candidates if item.name == forced)
        verdict = "adapt" if chosen not in rivals else "do not adapt"
    elif doubt := _doubt(
        chosen, source_fractions, likeness, drift, _independent(chosen, candidates), is_better=chosen is not reference
    ):
        verdict = "label a few fields"
        evidence += f"; {doubt}"
    elif chosen is reference:
        verdict = "do not adapt"
    else:
        verdict = "adapt"
    if taken is not None and taken != chosen.name:
        evidence += f"; {taken} is taken all the same, for a study"
    return Adaptation(
        verdict=verdict, evidence=evidence, chosen=taken or chosen.name, candidates=list(candidates), oracle=forced is not None,
        at_home=likeness.at_home, abroad=likeness.abroad, folds_at_home=likeness.folds_at_home,
        shift=likeness.shift if math.isfinite(likeness.shift) else None,
    )  # fmt: skip


def told_choice(name: str) -> str:
    """What the run holds, where the candidate of that name was chosen, in words."""
    known = {
        SOURCE: "the source run's networks as they are",
        LONGER: "the source's networks, trained on without the target",
    }
    return known.get(name, f"networks adapted by {name}")


def _independent(item: Candidate, candidates: Sequence[Candidate]) -> float:
    """Agreement of an item's folds, or of the first round's where they have learned from each other since.

    Of the source's, whichever agree better: at home they are measured as they are, and longer training sets folds apart on
    whatever they have not learned from.
    """
    if item.name in (SOURCE, LONGER):
        return max(other.fold_agreement for other in candidates if other.name in (SOURCE, LONGER))
    names = (item.name, item.name.removesuffix(SECOND))
    return min(other.fold_agreement for other in candidates if other.name in names)


def _has_collapsed(item: Candidate, source: Candidate, known: dict[str, float], drift: float) -> bool:
    """Whether a bag may agree with itself because it says the same of everything: phases lost, grown or forgotten."""
    return (
        _lost_phase(item, known) is not None
        or _has_left(item, [known, source.fractions], drift)
        or item.source_miou < FORGOT * source.source_miou
    )


def _has_left(item: Candidate, references: Sequence[dict[str, float]], drift: float) -> bool:
    known = [[fractions[name] for name in item.fractions] for fractions in references]
    return drifted(list(item.fractions.values()), known, drift)


def _doubt(
    item: Candidate,
    source_fractions: dict[str, float],
    likeness: Likeness,
    drift: float,
    fold_agreement: float,
    *,
    is_better: bool,
) -> str | None:
    """Why a result is not to be used without labels. is_better: than the source, as it is or trained as long."""
    if lost := _lost_phase(item, source_fractions):
        return f"the phase {lost} is not found at all"
    if not likeness.is_familiar and _has_left(item, [source_fractions], drift):
        return (
            f"{item.name} finds {_listed(item.fractions)} where the source has {_listed(source_fractions)}: another "
            "composition, or a collapse, and only labels tell which"
        )
    if item.trust < FLOOR:
        return f"below {FLOOR:g} a network does not agree with itself"
    if not is_better and item.trust < likeness.at_home - UNSURE:
        return f"nothing helped, and {item.name} agrees with itself by more than {UNSURE:g} less than at home"
    if fold_agreement < likeness.folds_at_home - DISAGREE:
        return f"the folds of {item.name.removesuffix(SECOND)} agree by more than {DISAGREE:g} less than at home"
    return None


def _listed(fractions: dict[str, float]) -> str:
    return ", ".join(f"{100 * share:.1f} % {name}" for name, share in fractions.items())


def _lost_phase(item: Candidate, source_fractions: dict[str, float]) -> str | None:
    for name, known in source_fractions.items():
        if item.fractions[name] < LOST * known:
            return name
    return None


def fields_to_label(uncertainty: NDArray[np.float64], features: NDArray[np.float64]) -> list[int]:
    """Three to five fields whose labels would teach most: uncertain ones, far from each other (greedy, k-centre).

    uncertainty (n,): mean entropy of the bag. features (n, D): pooled, any scale. Returns places, most wanted first.
    """
    count = min(len(uncertainty), int(np.clip(round(len(uncertainty) / 4), *FEW_FIELDS)))
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    chosen = [int(np.argmax(uncertainty))]
    while len(chosen) < count:
        distance = np.min([np.linalg.norm(scaled - scaled[i], axis=1) for i in chosen], axis=0)
        worth = distance * (uncertainty + 1e-6)
        worth[chosen] = -1
        chosen.append(int(np.argmax(worth)))
    return chosen
