"""DeepLabv2 (Chen et al. 2018) with an optional second head, as in AdaptSegNet (Tsai et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch.nn.functional as F
from torch import Tensor, nn

from microseg.models.network import Network, NetworkOutput, fix_same_padding
from microseg.models.weights import cannot_build, from_hub, load_initial

OUTPUT_STRIDE = 8
RATES = (6, 12, 18, 24)
# ResNet's layers that have a dilation instead of a stride.
_DILATIONS = {"layer3": 2, "layer4": 4}


class DeepLabV2(Network):
    """A dilated encoder of output stride 8, summed dilated 3 x 3 classifiers, and bilinear upsampling to the tile.

    Encoders are timm's ResNets (18, 50, 101, ...) and, for small machines, `tf_efficientnet_lite0`.
    """

    def __init__(
        self,
        encoder: str,
        phases: int,
        weights: str,
        aspp_branches: int = 4,
        auxiliary: bool = False,
        heads: int = 1,
    ) -> None:
        """Build the network.

        Args:
            encoder: Name in timm.
            phases: Number of phases.
            weights: `imagenet`, `none`, a file, or the folder of a pre-training run.
            aspp_branches: Dilated branches. 2 repeats the published code of AdaptSegNet, whose classifier returns after its
                second dilation.
            auxiliary: Add a head on the stage before the last (ResNet's layer 3).
            heads: Number of heads.

        Raises:
            InputError: The encoder or its weights do not exist.
        """
        super().__init__(encoder, phases, OUTPUT_STRIDE, heads)
        try:
            backbone: Any = timm.create_model(
                encoder.removeprefix("tu-"),
                pretrained=from_hub(encoder, weights),
                features_only=True,
                out_indices=(3, 4),
                output_stride=OUTPUT_STRIDE,
            )
        except Exception as error:  # timm and its hub pass on the errors of their backends
            raise cannot_build(encoder, weights, error) from error
        before_last, last = backbone.feature_info.channels()
        self.encoder = backbone
        load_initial(self.encoder, encoder, weights)
        _dilate(self.encoder)
        fix_same_padding(self.encoder)
        self.classifier = DilatedClassifier(last, heads * phases, RATES[:aspp_branches])
        self.auxiliary = DilatedClassifier(before_last, phases, RATES[:aspp_branches]) if auxiliary else None

    @property
    def last(self) -> nn.Module:
        """The dilated classifiers."""
        return self.classifier

    def forward(self, tiles: Tensor) -> NetworkOutput:
        """Logits, features and, with an auxiliary head, its logits, of tiles whose sides `stride` divides."""
        before_last, last = self.encoder(self.normalised(tiles))
        size = (tiles.shape[-2], tiles.shape[-1])
        auxiliary = None if self.auxiliary is None else _upsampled(self.auxiliary(before_last), size)
        return NetworkOutput(_upsampled(self.classifier(last), size), last.mean((2, 3)), auxiliary)


class DilatedClassifier(nn.Module):
    """The sum of 3 x 3 convolutions of several dilations (ASPP-L): features (N, C, h, w) to logits (N, P, h, w)."""

    def __init__(self, channels: int, phases: int, rates: Sequence[int]) -> None:
        """Initialise all weights from a normal distribution of standard deviation 0.01, as published."""
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(channels, phases, 3, padding=r, dilation=r) for r in rates)
        for branch in self.branches:
            nn.init.normal_(branch.weight, 0, 0.01)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """The sum over all branches."""
        total: Tensor = self.branches[0](features)
        for branch in self.branches[1:]:
            total = total + branch(features)
        return total


def _upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _dilate(encoder: nn.Module) -> None:
    """Dilate all 3 x 3 convolutions of a layer, as AdaptSegNet does. timm leaves out the one of the first block."""
    for name, dilation in _DILATIONS.items():
        for module in getattr(encoder, name, nn.Module()).modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
