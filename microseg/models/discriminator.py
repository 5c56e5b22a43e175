"""The discriminator of AdaptSegNet (Tsai et al. 2018): it tells source from target by the output map of a head."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)


class Discriminator(nn.Sequential):
    """Five 4 x 4 convolutions of stride 2 with leaky ReLU 0.2 and no normalisation: maps (N, P, H, W) to logits (N, 1, h, w).

    Logits are low for the source (label 0) and high for the target (label 1). h and w are H / 32 and W / 32.
    """

    def __init__(self, phases: int) -> None:
        """Initialise as PyTorch does by default, as published."""
        layers: list[nn.Module] = []
        for channels, width in zip((phases, *WIDTHS[:-1]), WIDTHS, strict=True):
            layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(WIDTHS[-1], 1, 4, 2, 1))

    def __call__(self, maps: Tensor) -> Tensor:
        """Domain logits (N, 1, h, w) of output maps (N, P, H, W)."""
        logits: Tensor = super().__call__(maps)
        return logits
