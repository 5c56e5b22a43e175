"""The verdict: adapt, do not adapt, or label a few fields. It needs no label of the target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from microseg.core.schemas.run import Adaptation, Candidate, ConsistencyGain
from microseg.train.uda.criteria import drifted, snapshot_score
from microseg.train.uda.recipe import SECOND

# Names of the candidates that no target is needed for: the source unadapted, and trained on equally long.
UNADAPTED, LONGER_SOURCE = "unadapted", "source"
# A smaller gain in self-consistency is within the spread of seeds. Below the floor a network is not consistent.
GAIN, FLOOR = 0.02, 0.6
# A gain is more than chance where such a gain, or a larger one, has this probability at most if there is none: one-sided 95 %.
CHANCE = 0.05
# Folds that agree on the target by this much less than on the source need labels (query by committee, Seung et al. 1992).
# Networks may each be consistent on another material, but their labels differ there.
DISAGREE = 0.1
# Where nothing helps, the source's self-consistency on the target may be lower than on its own fields by this much.
UNSURE = 0.1
# Limits of a target that is like the source: loss of self-consistency, and difference of the textures in standard deviations
# over the source's fields.
CLOSE, SHIFTED = 0.01, 2.5
# A phase is lost where less than this share of its fraction in the source is found.
LOST = 0.02
# A network has forgotten the source where it has less than this share of the unadapted one's mIoU on source fields.
FORGOT = 0.5
# As many fields are named for labelling: a quarter of the target's, within these limits.
FEW_FIELDS = (3, 5)


class Likeness(NamedTuple):
    """How similar a target is to the source.

    source_consistency, target_consistency: Mean self-consistency of the source's folds on source fields that they held out,
        and on the target.
    source_fold_agreement: Agreement of the folds on source fields.
    shift: Difference of the phases' textures, in standard deviations over source fields (`criteria.texture_shift`).
    """

    source_consistency: float
    target_consistency: float
    source_fold_agreement: float
    shift: float

    @property
    def is_familiar(self) -> bool:
        """Whether there is nothing to adapt to: as self-consistent as on the source, with textures like the source's."""
        return self.target_consistency >= self.source_consistency - CLOSE and self.shift < SHIFTED

    @property
    def texture_sentence(self) -> str:
        """The shift in words."""
        if not math.isfinite(self.shift):
            return "textures not compared (too few source fields, or no phase that both have)"
        return f"textures of the phases differ by {self.shift:.1f} standard deviations of the source's fields"


def decide(
    candidates: Sequence[Candidate],
    source_fractions: dict[str, float],
    likeness: Likeness,
    *,
    drift: float,
    forced: str | None = None,
    taken: str | None = None,
) -> Adaptation:
    """Choose a candidate, and decide whether to adapt, not to adapt, or to label a few fields.

    The unadapted bag stays, unless another one gains more than chance over it on the same target fields (`paired_gain`).
    An adapted one must gain over equally long source training as well, and by more than `GAIN`: of several, the most consistent
    is taken, which this margin pays for.

    Args:
        candidates: The candidates, the unadapted source first.
        source_fractions: Phase fractions, 0-1, of the source's labels.
        likeness: How similar the target is to the source.
        drift: Factor by which phase fractions may leave those of the source and of the unadapted bag.
        forced: For studies: the name that target labels chose.
        taken: For studies: the name to take whatever the verdict.
    """
    source = candidates[0]
    usable = [source] + [item for item in candidates[1:] if not _has_collapsed(item, source, source_fractions, drift)]
    # A gain is one over the better of what needs no target: the source unadapted, or trained equally long.
    rivals = [item for item in usable if item.name in (UNADAPTED, LONGER_SOURCE)]
    reference = _reference(rivals)
    bar = max(item.self_consistency for item in rivals)
    promising = [item for item in usable if item not in rivals and item.self_consistency > bar + GAIN]
    proven = [item for item in promising if all(_is_more_than_chance(item, rival) for rival in rivals)]
    others = proven or promising or [item for item in usable if item not in rivals]
    best = max([reference, *others], key=lambda item: item.self_consistency)
    chosen = best if best in proven and not likeness.is_familiar else reference
    evidence = _evidence(candidates, usable, likeness, best, is_best_reference=best is reference)
    if chosen not in rivals and not any(item.name == LONGER_SOURCE for item in candidates):
        evidence += "; no equally long source training was run, so the gain is over the start (--control runs it)"
    if told := fractions_sentence(chosen):
        evidence += f"; {told}"
    is_better, agreement = chosen is not reference, _independent_agreement(chosen, candidates)
    unproven = best if best in promising and best not in proven else None
    if forced is not None:
        chosen = next(item for item in candidates if item.name == forced)
        verdict = "adapt" if chosen not in rivals else "do not adapt"
    elif doubt := _doubt(chosen, source_fractions, likeness, drift, agreement, is_better=is_better, unproven=unproven):
        verdict = "label a few fields"
        evidence += f"; {doubt}"
    else:
        verdict = "adapt" if is_better else "do not adapt"
    if taken is not None and taken != chosen.name:
        evidence += f"; for a study, the run holds {taken} nevertheless"
    return Adaptation(
        verdict=verdict, evidence=evidence, chosen=taken or chosen.name, candidates=list(candidates),
        oracle=forced is not None, source_consistency=likeness.source_consistency,
        target_consistency=likeness.target_consistency, source_fold_agreement=likeness.source_fold_agreement,
        shift=likeness.shift if math.isfinite(likeness.shift) else None,
    )  # fmt: skip


def _evidence(
    candidates: Sequence[Candidate],
    usable: Sequence[Candidate],
    likeness: Likeness,
    best: Candidate,
    *,
    is_best_reference: bool,
) -> str:
    """The figures that the verdict rests on, in words. usable: the candidates that have not collapsed."""
    source = candidates[0]
    longer = next((item for item in usable if item.name == LONGER_SOURCE), None)
    compared = f", {longer.self_consistency:.3f} after equally long source training" if longer is not None else ""
    compared += "" if is_best_reference else f", {best.self_consistency:.3f} with {best.name}"
    evidence = (
        f"self-consistency of the source's folds {likeness.source_consistency:.3f} on their own held-out fields and "
        f"{likeness.target_consistency:.3f} on the target; {likeness.texture_sentence}; self-consistency of the candidates "
        f"on the target {source.self_consistency:.3f} unadapted{compared}"
    )
    if len(source.steps) > 1:
        evidence += f"; agreement of the folds {likeness.source_fold_agreement:.3f} on the source, on the target "
        evidence += f"{source.fold_agreement:.3f} unadapted"
        evidence += "" if best is source else f" and {best.fold_agreement:.3f} with {best.name}"
    if best is not source:
        evidence += f"; {100 * best.label_change:.1f} % of the labels (1 - mIoU) change with {best.name}"
    tested = [longer] if longer is not None and _scores_higher(longer, source) else []
    tested += [best] if not is_best_reference else []
    evidence += "".join(f"; {_gain_sentence(item, gain)}" for item in tested for gain in item.gains)
    if dropped := [item.name for item in candidates if item not in usable]:
        evidence += f"; excluded, for lost or drifted phases or a forgotten source: {', '.join(dropped)}"
    return evidence


def _reference(rivals: Sequence[Candidate]) -> Candidate:
    """The unadapted source, or the one trained further where it scores higher and agrees with its flips more than by chance."""
    source, longer = rivals[0], rivals[-1]
    return longer if _scores_higher(longer, source) and _is_more_than_chance(longer, source) else source


def _scores_higher(item: Candidate, other: Candidate) -> bool:
    return snapshot_score(item.model_dump()) > snapshot_score(other.model_dump())


def _is_more_than_chance(item: Candidate, rival: Candidate) -> bool:
    """Whether a candidate gains over a rival, by the test on the same fields. Without a test, nothing is more than chance."""
    return any(gain.over == rival.name and gain.p is not None and gain.p <= CHANCE for gain in item.gains)


def _gain_sentence(item: Candidate, gain: ConsistencyGain) -> str:
    """A gain and its test in words."""
    told = f"on the same fields {item.name} gains {gain.mean:+.3f} in {gain.criterion} over {gain.over}"
    if gain.p is None:
        return f"{told}, on one field, which tells nothing of others"
    counts = f"{gain.fields} fields and {gain.folds} fold{'s' * (gain.folds != 1)}"
    is_chance = "" if gain.p <= CHANCE else ": not more than chance"
    return f"{told}, disagreement {gain.ratio:.2f} times as large ({counts}, p = {gain.p:.2g}{is_chance})"


def fractions_sentence(item: Candidate) -> str | None:
    """The estimates of a candidate's fractions in words; None where there are none."""
    if item.estimates is None:
        return None
    found = item.estimates
    return (
        f"fractions with {item.name}: counted {_listed(item.fractions)}; corrected by the source's held-out fields "
        f"{_listed(found.corrected)}; EMQ {_listed(found.emq)}; at most {100 * found.disagreement:.1f} points apart (limit "
        f"{100 * found.limit:.1f})"
    )


def chosen_sentence(name: str) -> str:
    """What a run holds where the candidate of this name was chosen, in words."""
    known = {
        UNADAPTED: "the source run's networks, unadapted",
        LONGER_SOURCE: "the source's networks, trained further without the target",
    }
    return known.get(name, f"networks adapted by {name}")


def _independent_agreement(item: Candidate, candidates: Sequence[Candidate]) -> float:
    """Agreement, 0-1, of a candidate's folds on the target before they learned from each other.

    After a second round, which teaches all folds the bag's labels, that of the first round counts if it is lower. Of the
    unadapted source and the source trained further, the higher one counts: longer training lets folds diverge on fields
    that they do not learn from.
    """
    rivals = (UNADAPTED, LONGER_SOURCE)
    if item.name in rivals:
        return max(other.fold_agreement for other in candidates if other.name in rivals)
    names = (item.name, item.name.removesuffix(SECOND))
    return min(other.fold_agreement for other in candidates if other.name in names)


def _has_collapsed(item: Candidate, source: Candidate, known: dict[str, float], drift: float) -> bool:
    """Whether a bag has lost a phase, drifted in its fractions or forgotten the source. Such a bag is consistent in vain."""
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
    unproven: Candidate | None,
) -> str | None:
    """Why a candidate cannot be used without labels, or None.

    Args:
        item: The chosen candidate.
        source_fractions: Phase fractions, 0-1, of the source's labels.
        likeness: How similar the target is to the source.
        drift: Factor by which phase fractions may leave those of the source.
        fold_agreement: Agreement of the candidate's folds on the target.
        is_better: Whether the candidate is better than the source, unadapted or trained further.
        unproven: An adapted candidate whose gain would be enough and may be chance, if there is one.
    """
    if lost := _lost_phase(item, source_fractions):
        return f"the phase {lost} is not found"
    if not likeness.is_familiar and _has_left(item, [source_fractions], drift):
        return (
            f"{item.name} finds {_listed(item.fractions)} where the source has {_listed(source_fractions)}: only labels "
            "can tell another composition from a collapse"
        )
    if item.self_consistency < FLOOR:
        return f"the self-consistency of {item.name} is below {FLOOR:g}"
    if not is_better and item.self_consistency < likeness.source_consistency - UNSURE:
        return f"nothing helped, and the self-consistency of {item.name} is lower by more than {UNSURE:g} than on the source"
    if fold_agreement < likeness.source_fold_agreement - DISAGREE:
        return f"the folds of {item.name.removesuffix(SECOND)} agree by more than {DISAGREE:g} less than on the source"
    if unproven is not None and not is_better and not likeness.is_familiar:
        return f"the gain of {unproven.name} may be chance: labels or more fields can tell"
    if item.estimates is not None and item.estimates.disagreement > item.estimates.limit:
        return (
            f"the estimates of the fractions with {item.name} differ by {100 * item.estimates.disagreement:.1f} points, on the "
            f"source's held-out fields by no more than {100 * item.estimates.limit:.1f}: only labels can tell which holds"
        )
    return None


def _listed(fractions: dict[str, float]) -> str:
    return ", ".join(f"{100 * share:.1f} % {name}" for name, share in fractions.items())


def _lost_phase(item: Candidate, source_fractions: dict[str, float]) -> str | None:
    for name, known in source_fractions.items():
        if item.fractions[name] < LOST * known:
            return name
    return None
