"""Why fields are suggested, and what to do with them, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from microseg.core.images.folders import readable
from microseg.core.images.pixel_size import PixelSize
from microseg.core.images.scale.statement import TOLERANCE
from microseg.core.labelling.candidates import Candidates
from microseg.core.labelling.choice import FAR, NEAR, Chosen
from microseg.core.labelling.committee import Committee, known_features

_LISTED = 5


def reason_of(choice: Chosen, disagreement: float | None, found: Candidates) -> str:
    """Why a field was chosen.

    Args:
        choice: the choice.
        disagreement: share of its pixels, 0-1, on which the folds do not all agree, or None.
        found: all candidates.
    """
    parts = []
    if disagreement is not None:
        shares = [each.disagreement for each in found.candidates if each.disagreement is not None]
        parts.append(
            f"the folds disagree on {100 * disagreement:.1f} % of its pixels (median of all candidates "
            f"{100 * float(np.median(shares)):.1f} %)"
        )
    if choice.relative_distance is not None and len(found.candidates) > 1:
        times = f"{choice.relative_distance:.2g} times the median distance"
        if choice.relative_distance >= FAR:
            parts.append(f"far from the labelled fields ({times})")
        elif choice.relative_distance <= NEAR:
            parts.append(f"near to the labelled fields ({times})")
        else:
            parts.append("as far from the labelled fields as most")
    others = choice.represents - 1
    if others:
        parts.append(f"it stands for {others} other{'s' * (others > 1)} of the {len(found.candidates)} candidates")
    text = "; ".join(parts) or "there is no choice"
    return f"{text[0].upper()}{text[1:]}."


def nothing_found(folder: Path, found: Candidates) -> str:
    """The message where no field can be suggested."""
    reasons = [f"{item.field}: {item.reason}" for item in (*found.unreadable, *found.left_out)]
    listed = "; ".join(text.removesuffix(".") for text in reasons[:_LISTED])
    more = f"; and {len(reasons) - _LISTED} more" if len(reasons) > _LISTED else ""
    return f"{folder}: holds no field that could be labelled next ({listed}{more}). Remedy: a folder with new fields."


def notices_of(
    found: Candidates, committee: Committee, asked: int, chosen: int, sizes: Mapping[str, PixelSize | None]
) -> list[str]:
    """What the user should know.

    Args:
        found: the candidates, and what was left out.
        committee: the run or engine.
        asked: number of fields that were asked for.
        chosen: number of fields that were chosen.
        sizes: pixel size of each picture, by its stem.
    """
    notices = []
    kinds = Counter(item.kind for item in found.left_out)
    if kinds:
        notices.append(f"Left out: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}.")
    if chosen < asked:
        notices.append(f"{chosen} of the {asked} that were asked for: the folder holds no more new fields.")
    if committee.folds == 1:
        notices.append("There is one network, and none that could disagree: features alone decide.")
    if known_features(committee) is None:
        notices.append(
            "The features of the labelled fields are unknown (networks adapted without labels, or an engine without "
            "fingerprints): disagreement, and differences between the candidates, decide."
        )
    edges = [size.width_um for size in sizes.values() if size is not None]
    if edges and max(edges) / min(edges) > 1 + TOLERANCE:
        notices.append(
            f"The pictures have pixels of {min(edges):.4g} to {max(edges):.4g} um, and training takes one magnification for a "
            "domain. Remedy: move the others into a folder of their own."
        )
    if assumed := [stem for stem, size in sizes.items() if size is not None and size.is_assumed]:
        notices.append(
            f"Nothing states the pixel size of {', '.join(assumed[:_LISTED])}{' ...' if assumed[_LISTED:] else ''}: "
            "domain.yaml assumes that of the training images. Remedy: correct it there where it is another."
        )
    return notices


def instructions(committee: Committee, out: Path, init: str) -> str:
    """What to do with the folder, as lines of a comment.

    Args:
        committee: the run or engine that predicted the masks.
        out: the folder.
        init: the run to continue.
    """
    name, folder, run = (readable(text) for text in (committee.name, str(out), init))
    return (
        f"Written by `microseg suggest`. The masks are predictions of {name}: correct them, then\n"
        f"  microseg train supervised {folder} --init {run}\n"
        "Or correct the outlines in qupath/ with QuPath, save them under the same names, and train on qupath.yaml.\n"
        f"Mask values are those of `phases`; 255 is not labelled."
    )
