"""Whole-field prediction with torch networks: the overlap-tile plan of the station, for validation and `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from microseg.core.preparation.stitching import predict_tiled
from microseg.core.preparation.tiling import plan_tiles
from microseg.models.network import Network

# A whole 1024 x 1024 field in one pass; larger ones in tiles.
MAX_PIXELS = 1_200_000


def predict_field(
    networks: Sequence[Network], image: NDArray[np.uint8], stride: int, halo_px: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities float32 (F, P, h, w) and features (F, D) of a field uint8 (h, w), one row per network, or per head."""
    height, width = image.shape
    features = []
    device = next(networks[0].parameters()).device

    def predict(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32]]:
        batch = torch.tensor(pixels)[None, None].to(device)
        with torch.inference_mode():
            outs = [out for network in networks for out in network.of_heads(batch)]
        features.append(torch.stack([out.features[0] for out in outs]).cpu().numpy())
        return (torch.stack([out.logits[0].softmax(0) for out in outs]).cpu().numpy(),)

    (probability,) = predict_tiled(image, plan_tiles(height, width, stride, halo_px, MAX_PIXELS), predict)
    return probability, np.mean(features, axis=0)
