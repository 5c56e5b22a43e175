"""Which snapshot to take, and when not to believe it: criteria without labels, and their guards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from microseg.train.uda.recipe import Method, SourceOnly

# Below these a discriminator's loss (about 90 % sure of both domains), or a map's entropy, says that there is nothing left to
# learn from.
_WON, _COLLAPSED = {"bce": 0.1, "least_squares": 0.01}, 0.01
# Shares this small come and go with single particles.
_SLACK = 0.002


def trust(row: dict[str, Any]) -> float:
    """How far a network agrees with itself: the mean agreement under flips and under another light, 0 to 1."""
    return float(row["flips"] + row["photometric"]) / 2


def promise(row: dict[str, Any]) -> float:
    """The label-free criterion that snapshots are chosen by: agreement under flips, twice, and mIoU on held-out source fields.

    A network that forgets the source on the way is not chosen for being sure. Agreement under another light has no say: it
    is what self-training is trained by, so it rises while labels get worse. Of the sums that benchmarks/uda.py compares
    this one has the least regret over targets.
    """
    return 2 * float(row["flips"]) + float(row["source_miou"])


def drifted(fractions: Sequence[float], references: Sequence[Sequence[float]], factor: float) -> bool:
    """Whether a phase's fraction has left the range of the references by more than `factor`: a collapse, however sure."""
    for found, *known in zip(fractions, *references, strict=True):
        low, high = min(known), max(known)
        # A share near one cannot grow by a factor: there, what is left of the others shrinks by it.
        if found > min(high * factor, 1 - (1 - high) / factor) + _SLACK or found < low / factor - _SLACK:
            return True
    return False


def is_lost(history: Sequence[dict[str, Any]]) -> bool:
    """Whether fractions have drifted in two snapshots running: what follows is not chosen, so training may end."""
    return len(history) > 2 and all(row["drifted"] for row in history[-2:])


def warnings_of(history: Sequence[dict[str, Any]], method: Method) -> list[str]:
    """What went wrong, and what to do about it."""
    found = []
    limit = _WON[getattr(method, "loss", "bce")]
    won = next((row for row in history if row["discriminator"] is not None and row["discriminator"] < limit), None)
    if won:
        found.append(
            f"the discriminator won by step {won['step']} (loss {won['discriminator']:.3f}): its gradients carry nothing. "
            "Remedy: --set method.discriminator_rate with a lower one, or another method."
        )
    drift = next((row for row in history if row["drifted"]), None)
    # Source training is not led astray by a target that it never sees, and chooses no snapshot.
    if drift and not isinstance(method, SourceOnly):
        ended = f", and training ended at step {history[-1]['step']}" if is_lost(history) else ""
        weighting = ", method.weighting=pixel" if getattr(method, "weighting", "pixel") != "pixel" else ""
        found.append(
            f"phase fractions drifted by step {drift['step']}; snapshots like it are not chosen{ended}. "
            f"Remedy: --set balanced_patches=true{weighting}, fewer steps, or another method."
        )
    last = history[-1]
    if 1 - last["certainty"] < _COLLAPSED and max(last["fractions"]) > 0.98:
        found.append("entropy collapsed to one phase. Remedy: a lower weight of the entropy, or another method.")
    return found
