"""Prediction of whole fields with torch networks, by the tile plan of the station: for validation and `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from microseg.core.preparation.stitching import predict_tiled
from microseg.core.preparation.tiling import plan_tiles
from microseg.models.network import Network

# Fields of up to 1024 x 1024 px take one pass, larger ones several tiles.
MAX_TILE_PIXELS = 1_200_000


def predict_field(
    networks: Sequence[Network], image: NDArray[np.uint8], stride: int, halo_px: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predict a whole field.

    Args:
        networks: In evaluation mode, on one device.
        image: The field on the network's grid, uint8 (h, w).
        stride: The networks' stride, px.
        halo_px: Halo of the tiles.

    Returns:
        Probabilities float32 (F, P, h, w) and bottleneck features float32 (F, D), for each network, or each head of one.
    """
    height, width = image.shape
    features = []
    device = next(networks[0].parameters()).device

    def predict(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32]]:
        batch = torch.tensor(pixels)[None, None].to(device)
        with torch.inference_mode():
            outs = [out for network in networks for out in network.of_heads(batch)]
        features.append(torch.stack([out.features[0] for out in outs]).cpu().numpy())
        return (torch.stack([out.logits[0].softmax(0) for out in outs]).cpu().numpy(),)

    (probability,) = predict_tiled(image, plan_tiles(height, width, stride, halo_px, MAX_TILE_PIXELS), predict)
    return probability, np.mean(features, axis=0)


def predict_view(network: Network, view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities float32 (P, h, w) of a view uint8 (h, w) whose sides the network's stride divides."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        soft = network(torch.tensor(view)[None, None].to(device)).logits[0].float().softmax(0)
    array: NDArray[np.float32] = soft.cpu().numpy()
    return array
