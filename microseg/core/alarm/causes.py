"""Why a field is unlike the labelled ones, in words, and what helps."""

from __future__ import annotations

from collections.abc import Mapping

from microseg.core.alarm.schema import Group

# Standard deviations from which a difference is named.
_CLEAR = 3.0
_FINE, _COARSE = ("band_0", "band_1"), ("band_2", "band_3")

RECAPTURE, SCALE = "capture it again as the labelled fields were", "check --pixel-size-um"
ADAPT, AUDIT = "microseg train uda --target", "label or count a few fields of this lot (audit)"


def causes_of(deviations: Mapping[str, float], scores: Mapping[Group, float]) -> tuple[list[str], str]:
    """What differs from the labelled fields, and the cure.

    Args:
        deviations: of each measure, in standard deviations with sign.
        scores: distance of each group of measures, in standard deviations of labelled fields.

    Returns:
        The causes, those of the picture first, and the cure. Both may be empty: then nothing stands out.
    """
    found: list[tuple[str, str]] = []
    grey, spread = deviations.get("grey_mean", 0.0), deviations.get("grey_std", 0.0)
    if abs(grey) > _CLEAR:
        found.append(("darker" if grey < 0 else "brighter", RECAPTURE))
    if abs(spread) > _CLEAR:
        found.append(("less contrast" if spread < 0 else "more contrast", RECAPTURE))
    if deviations.get("shading", 0.0) > _CLEAR:
        found.append(("uneven brightness", RECAPTURE))
    found += _sharpness(deviations)
    if not found and max(scores.get("phases", 0.0), scores.get("features", 0.0)) > _CLEAR:
        found.append(("other texture", ADAPT))
    if max(scores.get("folds", 0.0), deviations.get("pairwise_dice", 0.0)) > _CLEAR:
        found.append(("folds disagree", AUDIT))
    if deviations.get("borders", 0.0) > _CLEAR:
        found.append(("longer borders of phases", AUDIT))
    cures = dict.fromkeys(cure for _, cure in found)
    return [cause for cause, _ in found], "; ".join(cures)


def _sharpness(deviations: Mapping[str, float]) -> list[tuple[str, str]]:
    """Blur, noise or another scale, by what happens to fine and coarse structure relative to the contrast."""
    noise = deviations.get("noise", 0.0)
    fine = sum(deviations.get(name, 0.0) for name in _FINE) / len(_FINE)
    coarse = sum(deviations.get(name, 0.0) for name in _COARSE) / len(_COARSE)
    if noise > _CLEAR and fine > coarse:
        return [("noisier", RECAPTURE)]
    if fine < -_CLEAR and fine < coarse - _CLEAR:
        # A blur leaves coarse structure as it is; a larger scale adds to it.
        return [("other scale", SCALE)] if coarse > _CLEAR / 2 else [("blurred", RECAPTURE)]
    if abs(fine - coarse) > _CLEAR:
        return [("other scale", SCALE)]
    # Resampling takes noise away and leaves the bands; so does an average of frames.
    return [("smoother: other scale or averaged", SCALE)] if noise < -_CLEAR else []
