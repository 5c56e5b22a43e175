from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from microseg.core.domains.pairing import DomainField
from microseg.models.network import Network, NetworkOutput
from microseg.train.common.datasets import LabelledField
from microseg.train.common.recipe import BasicAugmentation, ExtendedAugmentation, RandomisedAugmentation
from microseg.train.uda.losses import decoded
from microseg.train.uda.tiles import (
    balanced_places,
    pseudo_label_fields,
    robust_augmentation,
    split_by_entropy,
)

Image = NDArray[np.uint8]


class _Bright(Network):
    """Bright is phase 1; the nearer to 128, the less sure."""

    def __init__(self) -> None:
        super().__init__("tf_efficientnet_lite0", 2, 16)
        self.grey = torch.nn.Parameter(torch.tensor(30.0))

    def forward(self, tiles: torch.Tensor) -> NetworkOutput:
        bright = (tiles.float() - 128) / self.grey
        return NetworkOutput(torch.cat([torch.zeros_like(bright), bright], 1), bright.mean((2, 3)))


BAG = [_Bright().eval()]


def _predict(image: Image) -> NDArray[np.float32]:
    """What that network says."""
    bright = 1 / (1 + np.exp(-(image.astype(np.float32) - 128) / 30))
    return np.stack([1 - bright, bright]).astype(np.float32)


def _field(image: Image, labels: Image | None = None) -> LabelledField:
    known = np.full_like(image, 255) if labels is None else labels
    return LabelledField(DomainField("a.tif", Path("a.tif"), None, "a"), "0" * 64, image, known)


def test_pseudo_labels_cover_a_field_of_any_size() -> None:
    image = np.random.default_rng(0).integers(0, 255, (70, 90)).astype(np.uint8)
    (told,) = pseudo_label_fields(BAG, [_field(image)], 16, None)
    labels, confidence = decoded(torch.from_numpy(told.labels), 2)
    assert np.array_equal(labels.numpy(), _predict(image).argmax(0))
    assert np.abs(confidence.numpy() - _predict(image).max(0)).max() < 0.005
    # Freed of a loss in which phase 1 counted three times, it must be surer than that.
    (freed,) = pseudo_label_fields(BAG, [_field(image)], 16, torch.tensor([1.0, 3.0]))
    labels, _ = decoded(torch.from_numpy(freed.labels), 2)
    assert np.array_equal(labels.numpy(), (_predict(image)[1] > 0.75).astype(int))


def test_the_sure_tiles_are_easy() -> None:
    image = np.full((64, 128), 250, np.uint8)
    image[:, 64:] = 130
    easy, hard = split_by_entropy(BAG, [_field(image)], 64, 0.5, 16, None)
    assert [int(cut.image[0, 0]) for cut in easy] == [250] and [int(cut.image[0, 0]) for cut in hard] == [130]
    assert (easy[0].labels == 1).all() and (hard[0].labels == 1).all()
    # Freed of a loss in which phase 1 counted three times, a slight preference for it is none.
    _, (freed,) = split_by_entropy(BAG, [_field(image)], 64, 0.5, 16, torch.tensor([1.0, 3.0]))
    assert (freed.labels == 0).all()


def test_balanced_places_have_the_source_s_fractions_on_average() -> None:
    image = np.full((256, 256), 20, np.uint8)
    image[:, 192:] = 240  # a quarter of the target is phase 1
    source = np.zeros((64, 64), np.uint8)
    source[:32] = 1  # half of the source
    places = balanced_places([(image > 128).astype(np.uint8)], [_field(source, source)], 2, 64)
    shares = [
        float((image[round(y - 31.5) : round(y + 32.5), round(x - 31.5) : round(x + 32.5)] > 128).mean())
        for _, (y, x) in places.centres
    ]
    assert abs(float(np.mean(shares)) - 0.25) < 0.1
    assert abs(float(np.dot(places.probabilities, shares)) - 0.5) < 0.02


def test_a_weak_pipeline_becomes_the_extended_one_and_stays_upright() -> None:
    randomised = RandomisedAugmentation()
    assert robust_augmentation(randomised) is randomised
    found = robust_augmentation(BasicAugmentation(upright=True))
    assert isinstance(found, ExtendedAugmentation) and found.upright and found.rotation_deg < 10
