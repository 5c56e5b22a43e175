"""A U-Net as a tutorial trains one: weights of ImageNet, random crops with flips, Adam, cross-entropy, native pixels.

The network is `Unet` of segmentation-models-pytorch with its default decoder and the encoder EfficientNet-Lite0, whose weights
install without a hub. It trains for a given time, and its last weights count: no held-out field chooses them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.preparation.tiling import mirror
from microseg.models.network import Network
from microseg.models.unet import UNet
from microseg.train.common.prediction import predict_field

ENCODER, DECODER = "tf_efficientnet_lite0", (256, 128, 64, 32, 16)
CROP_PX, BATCH, LEARNING_RATE = 256, 8, 1e-3
HALO_PX = 64

Plane = NDArray[np.uint8]


class PlainUNet:
    """A trained network. It labels fields of any size."""

    def __init__(self, network: Network, steps: int) -> None:
        """network: In evaluation mode. steps: Steps that it was trained for."""
        self._network = network
        self.steps = steps

    def __call__(self, image: Plane) -> NDArray[np.float32]:
        """Probabilities float32 (P, h, w) of a field uint8 (h, w)."""
        probability, _ = predict_field([self._network], image, self._network.stride, HALO_PX)
        return np.asarray(probability[0])


def train_plain(
    fields: Sequence[tuple[Plane, Plane]],
    phases: int,
    seconds: float,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
) -> PlainUNet:
    """Train a network.

    Args:
        fields: Images and labels (255: unlabelled), each uint8 (h, w).
        phases: Number of phases.
        seconds: Time to train; one step at least.
        seed: Seed of what is drawn.
        clock: Gives the time in seconds.
    """
    end = clock() + seconds
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = UNet(ENCODER, phases, "imagenet", DECODER).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    # Fields that are smaller than a crop are mirrored once.
    padded = [(_at_least_a_crop(image), _at_least_a_crop(labels)) for image, labels in fields]
    steps = 0
    while not steps or clock() < end:
        crops = [_crop(*padded[int(rng.integers(len(padded)))], rng) for _ in range(BATCH)]
        images, labels = (torch.from_numpy(np.stack(planes)) for planes in zip(*crops, strict=True))
        steps += 1
        if not bool((labels != UNLABELLED).any()):
            continue
        optimiser.zero_grad()
        logits = network(images[:, None]).logits
        F.cross_entropy(logits, labels.long(), ignore_index=UNLABELLED).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return PlainUNet(network.eval(), steps)


def _at_least_a_crop(plane: Plane) -> Plane:
    while min(plane.shape) < CROP_PX:
        down, right = (min(max(CROP_PX - side, 0), max(side - 1, 1)) for side in plane.shape)
        plane = mirror(plane, 0, down, 0, right)
    return plane


def _crop(image: Plane, labels: Plane, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """A random crop, flipped left and right, and up and down, half of the times."""
    top, left = (int(rng.integers(side - CROP_PX + 1)) for side in image.shape)
    window = np.s_[top : top + CROP_PX, left : left + CROP_PX]
    flips = tuple(np.s_[::-1] if rng.random() < 0.5 else np.s_[:] for _ in range(2))
    return image[window][flips].copy(), labels[window][flips].copy()
