"""DeepLabv2 (Chen et al. 2018) with a second head, as AdaptSegNet (Tsai et al. 2018) uses it."""

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
# ResNet's layers whose stride is traded for dilation.
_DILATIONS = {"layer3": 2, "layer4": 4}


class DeepLabV2(Network):
    """A dilated encoder of output stride 8, a sum of dilated 3 x 3 classifiers, bilinear upsampling to the tile.

    Encoders: timm's ResNets (18, 50, 101, ...) and, for small machines, `tf_efficientnet_lite0`.
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
        """Build with `weights` as for U-Net; `auxiliary` adds a head on the stage before the last (ResNet's layer 3).

        `aspp_branches` 2 repeats the published AdaptSegNet code, whose classifier returns after its second dilation.
        Raises InputError for what does not exist.
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
        except Exception as error:  # timm and its hub raise whatever their backends raise
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
        """Logits, features and, where there is such a head, auxiliary logits of tiles that `stride` divides."""
        before_last, last = self.encoder(self.normalised(tiles))
        size = (tiles.shape[-2], tiles.shape[-1])
        auxiliary = None if self.auxiliary is None else _upsampled(self.auxiliary(before_last), size)
        return NetworkOutput(_upsampled(self.classifier(last), size), last.mean((2, 3)), auxiliary)


class DilatedClassifier(nn.Module):
    """The sum of 3 x 3 convolutions of several dilations ("ASPP-L"), features (N, C, h, w) to logits (N, P, h, w)."""

    def __init__(self, channels: int, phases: int, rates: Sequence[int]) -> None:
        """Small normal weights, as published."""
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(channels, phases, 3, padding=r, dilation=r) for r in rates)
        for branch in self.branches:
            nn.init.normal_(branch.weight, 0, 0.01)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Sum over all branches."""
        total: Tensor = self.branches[0](features)
        for branch in self.branches[1:]:
            total = total + branch(features)
        return total


def _upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _dilate(encoder: nn.Module) -> None:
    """A dilated ResNet layer of timm leaves the first block's 3 x 3 at the dilation before; AdaptSegNet's does not."""
    for name, dilation in _DILATIONS.items():
        for module in getattr(encoder, name, nn.Module()).modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
