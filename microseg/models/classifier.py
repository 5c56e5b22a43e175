"""A network that classifies whole micrographs, to pre-train an encoder."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import ClassificationHead
from torch import Tensor

from microseg.models.network import Network, NetworkOutput, fix_same_padding
from microseg.models.unet import encoder_name
from microseg.models.weights import cannot_build, from_hub, load_initial

_DEPTH = 5


class Classifier(Network):
    """An encoder with the head of Goetz et al. (2022): global average pooling, dropout, linear layer, a sigmoid for each class.

    The encoder has the names and shapes of U-Net's encoder. DeepLabv2's are the same.
    """

    def __init__(self, encoder: str, classes: int, weights: str, dropout: float) -> None:
        """Build the network.

        Args:
            encoder: Name in segmentation-models-pytorch or timm.
            classes: Number of classes.
            weights: `imagenet`, `none`, a file, or the folder of a pre-training run.
            dropout: Dropout before the linear layer, 0-1.

        Raises:
            InputError: The encoder or its weights do not exist.
        """
        name = encoder_name(encoder)
        super().__init__(name, classes, 2**_DEPTH)
        try:
            hub = "imagenet" if from_hub(encoder, weights) else None
            backbone: Any = smp.encoders.get_encoder(name, in_channels=3, depth=_DEPTH, weights=hub)
        except (KeyError, RuntimeError, ValueError, OSError) as error:
            raise cannot_build(encoder, weights, error) from error
        self.encoder, channels = backbone, backbone.out_channels[-1]
        load_initial(self.encoder, encoder, weights)
        fix_same_padding(self.encoder)
        self.head = ClassificationHead(channels, classes, pooling="avg", dropout=dropout)

    def forward(self, tiles: Tensor) -> NetworkOutput:
        """Logits (N, classes), before the sigmoid, and features (N, D)."""
        bottleneck = self.encoder(self.normalised(tiles))[-1]
        return NetworkOutput(self.head(bottleneck), bottleneck.mean((2, 3)))
