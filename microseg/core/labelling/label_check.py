"""`microseg check DOMAIN --run RUN`: the labelled fields of a domain against folds that did not learn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import Domain, native_labels, preparation_as
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import MicrosegError
from microseg.core.evaluation.scoring import phase_table
from microseg.core.labelling.doubts import DoubtfulRegion, doubtful_regions
from microseg.core.labelling.page import Card, Page, page_html
from microseg.core.labelling.pictures import marked_picture, phase_picture, plain_picture
from microseg.core.preparation.field_scale import ScaleRules, assumed_size
from microseg.core.preparation.prepared_field import PreparedField, labels_to_grid
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid
from microseg.core.system.files import sha256_of

MOST_PICTURES = 100
# Around a region a picture shows as much again on each side, and at least this much.
_MARGIN_PX = 24

Unseen = Callable[[PreparedField, str], NDArray[np.float32] | None]
"""`unseen(prepared, sha256)`: probabilities float32 (F, P, h, w) of the folds that did not learn a field; None: all did."""


@dataclass(frozen=True)
class Doubt:
    """A region whose label all folds contradict that did not learn from it.

    Attributes:
        field: name of the field.
        label: name of the phase that the label states.
        folds_say: name of the phase that the folds agree on.
        folds: number of these folds.
        top_px, left_px, height_px, width_px: the box around it, native pixels of the file.
        area_px: its area in native pixels.
        confidence: mean of the least probability that a fold gives its phase, 0-1.
        strength: area in native pixels, weighted by how much more probable the folds find their phase.
        pictures: caption and address (a data URL) of pictures of it; none of weak ones.
    """

    field: str
    label: str
    folds_say: str
    folds: int
    top_px: int
    left_px: int
    height_px: int
    width_px: int
    area_px: int
    confidence: float
    strength: float
    pictures: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All but the pictures, ready for JSON."""
        return {key: value for key, value in self.__dict__.items() if key != "pictures"}


@dataclass(frozen=True)
class LabelCheck:
    """What the folds say of the labels of a domain.

    Attributes:
        checked: number of fields.
        doubts: the regions, the strongest first.
        not_checked: name and reason of fields that no fold could check.
    """

    checked: int
    doubts: tuple[Doubt, ...]
    not_checked: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "checked": self.checked,
            "doubtful": [each.as_json() for each in self.doubts],
            "not_checked": [{"field": name, "reason": reason} for name, reason in self.not_checked],
        }


def check_labels(
    domain: Domain,
    entry: DomainEntry,
    grid: Grid,
    phases: Sequence[PhaseInfo],
    unseen: Unseen,
    progress: Callable[[str], None] = lambda name: None,
) -> LabelCheck:
    """Compare the labels of every field with the folds that did not learn from it.

    Args:
        domain: a labelled domain.
        entry: the domain of the run that the fields are prepared as.
        grid: the network's pixel grid.
        phases: the phases of the run.
        unseen: gives the probabilities of these folds.
        progress: gets the name of each field before it is read.

    Raises:
        InputError: no labels, or phases that the run does not know.
    """
    if domain.phases_inferred:
        domain = domain.with_phases(phases)
    to_run = phase_table(domain, phases)
    preparation = preparation_as(domain, entry)
    prepared_as = replace(domain, preparation=preparation)
    scale = ScaleRules(assumed=assumed_size(entry, grid))
    doubts: list[Doubt] = []
    not_checked = []
    for field in domain.fields:
        progress(field.name)
        try:
            with open_field(field, preparation, grid, scale) as prepared:
                truth = labels_to_grid(to_run[native_labels(field, prepared_as, prepared)], prepared.shape)
                probability = unseen(prepared, sha256_of(field.image))
                if probability is None:
                    not_checked.append((field.name, "every fold has learned from it"))
                    continue
                doubts += _doubts(field.name, prepared, truth, probability, phases)
        except (MicrosegError, OSError) as error:
            not_checked.append((field.name, str(error)))
        doubts.sort(key=lambda each: -each.strength)
        # Of many fields, the pictures of weak regions would fill the memory.
        doubts[MOST_PICTURES:] = [replace(each, pictures=()) for each in doubts[MOST_PICTURES:]]
    return LabelCheck(len(domain.fields) - len(not_checked), tuple(doubts), tuple(not_checked))


def _doubts(
    name: str,
    prepared: PreparedField,
    truth: NDArray[np.uint8],
    probability: NDArray[np.float32],
    phases: Sequence[PhaseInfo],
) -> list[Doubt]:
    """The doubtful regions of a field, in native pixels, with pictures of the strongest."""
    down, across = (native / side for native, side in zip(prepared.native_shape, prepared.shape, strict=True))
    image = prepared.whole()
    grey = 255 - image if prepared.invert else image  # the picture that a person knows
    said = probability.mean(axis=0).argmax(axis=0).astype(np.uint8)
    found = []
    for number, region in enumerate(doubtful_regions(truth, probability)):
        height, width = region.inside.shape
        found.append(
            Doubt(
                field=name,
                label=phases[region.label].name,
                folds_say=phases[region.folds_say].name,
                folds=len(probability),
                top_px=prepared.crop.top_px + round(region.top * down),
                left_px=prepared.crop.left_px + round(region.left * across),
                height_px=round(height * down),
                width_px=round(width * across),
                area_px=round(region.area_px * down * across),
                confidence=region.confidence,
                strength=region.strength * down * across,
                pictures=_pictures(region, grey, truth, said, phases) if number < MOST_PICTURES else (),
            )
        )
    return found


def _pictures(
    region: DoubtfulRegion,
    grey: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    said: NDArray[np.uint8],
    phases: Sequence[PhaseInfo],
) -> tuple[tuple[str, str], ...]:
    """The surroundings of a region: grey values with its place, labels and predictions."""
    height, width = region.inside.shape
    margin = max(_MARGIN_PX, height, width)
    top, left = max(0, region.top - margin), max(0, region.left - margin)
    place = np.s_[top : region.top + height + margin, left : region.left + width + margin]
    marks = np.zeros(grey.shape, np.bool_)
    marks[region.top : region.top + height, region.left : region.left + width] = region.inside
    cut = _enlarged(grey[place])
    factor = len(cut) // len(grey[place])
    return (
        ("the field", plain_picture(cut)),
        ("the label", phase_picture(cut, _repeated(truth[place], factor), phases)),
        ("the folds", phase_picture(cut, _repeated(said[place], factor), phases)),
        ("red: the doubtful region", marked_picture(cut, _repeated(marks[place], factor))),
    )


def _enlarged(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Small pictures as multiples of their pixels, which browsers would blur."""
    factor = max(1, 300 // max(grey.shape))
    size = (grey.shape[1] * factor, grey.shape[0] * factor)
    return np.asarray(cv2.resize(np.ascontiguousarray(grey), size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _repeated(values: NDArray[Any], factor: int) -> NDArray[Any]:
    return np.ascontiguousarray(values.repeat(factor, axis=0).repeat(factor, axis=1))


def doubts_page(found: LabelCheck, domain: str, run: str, phases: Sequence[PhaseInfo]) -> str:
    """A page with pictures of the strongest doubtful regions.

    Args:
        found: what `check_labels` found.
        domain: name of the domain.
        run: the run.
        phases: its phases.
    """
    shown = [each for each in found.doubts if each.pictures]
    cards = [
        Card(
            f"{each.field} at x {each.left_px}, y {each.top_px}",
            [
                f"The label says {each.label}, {told_folds(each.folds)} {each.folds_say}: {each.area_px} px, "
                f"{100 * each.confidence:.0f} % sure."
            ],
            each.pictures,
        )
        for each in shown
    ]
    notices = [f"{name}: not checked: {reason}" for name, reason in found.not_checked]
    if len(shown) < len(found.doubts):
        notices.append(f"The {len(shown)} strongest of {len(found.doubts)} regions are shown.")
    return page_html(
        Page(
            kind="Doubtful labels",
            title=domain,
            sub=f"{len(found.doubts)} regions in {found.checked} fields, by folds of {run} that did not learn from them",
            notices=notices,
            phases=phases,
            cards=cards,
            footer="The strongest come first: area, weighted by how much more probable the folds find their phase. Networks "
            "err, too: where a label is right as it is, leave it.",
        )
    )


def told_folds(count: int) -> str:
    """So many folds as the subject of a sentence."""
    if count == 1:
        return "the fold that did not learn from it says"
    return f"{'both' if count == 2 else f'all {count}'} folds that did not learn from it say"
