"""The base of every segmentation network: grey tiles in, normalisation inside, logits and pooled features out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from microseg.models.weights import normalisation


class NetworkOutput(NamedTuple):
    """The output of a network.

    logits: Float (N, P, H, W), of the tile's size. Those of several heads follow each other: (N, heads * P, H, W).
    features: The bottleneck, averaged over the tile, float (N, D).
    auxiliary: Logits of a head on a shallower stage, or None.
    """

    logits: Tensor
    features: Tensor
    auxiliary: Tensor | None = None


class Network(nn.Module):
    """Grey tiles (N, 1, H, W), uint8 or float in 0-255, to logits and pooled features.

    H and W are multiples of `stride`; `forward_any_size` pads and crops for training. Pre-training fills the `encoder`, and
    fine-tuning trains it at a rate of its own. A student has one head for each fold of its bag; the heads share all other
    layers.
    """

    encoder: nn.Module

    def __init__(self, encoder_name: str, phases: int, stride: int, heads: int = 1) -> None:
        """Set up the normalisation that the encoder's weights expect.

        Args:
            encoder_name: Name in segmentation-models-pytorch or timm.
            phases: Number of phases.
            stride: The sides of a tile are multiples of it, px.
            heads: Number of heads.
        """
        super().__init__()
        self.phases = phases
        self.heads = heads
        self.stride = stride
        mean, std = normalisation(encoder_name)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, tiles: Tensor) -> NetworkOutput:
        """Logits and features of tiles whose sides are multiples of `stride`."""
        raise NotImplementedError

    @property
    def last(self) -> nn.Module:
        """The last layers: from the features that the heads share to logits."""
        raise NotImplementedError

    @torch.no_grad()
    def set_apart(self, factor: float) -> None:
        """Multiply the distance of every head's logits from the heads' mean by a factor. The mean stays."""
        for layer in self.last.modules():
            if isinstance(layer, nn.Conv2d):
                for values in layer.parameters():
                    each = values.reshape(self.heads, -1)
                    values.copy_(torch.lerp(each.mean(0), each, factor).reshape(values.shape))

    @torch.no_grad()
    def add_to_logits(self, values: Sequence[float]) -> None:
        """Add one value for each phase to the logits of every head."""
        bias = next(
            layer.bias for layer in self.last.modules() if isinstance(layer, nn.Conv2d) and layer.bias is not None
        )
        bias += torch.tensor(values).repeat(self.heads).to(bias)

    @torch.no_grad()
    def with_margins(self) -> Self:
        """A copy, for two phases: logits (N, heads, H, W), how far each head's second phase is above its first."""
        network = copy.deepcopy(self)
        for layer in network.last.modules():
            if isinstance(layer, nn.Conv2d):
                layer.out_channels = self.heads
                for name, values in list(layer.named_parameters()):
                    each = values.double().reshape(self.heads, 2, *values.shape[1:])
                    setattr(layer, name, nn.Parameter((each[:, 1] - each[:, 0]).to(values)))
        return network

    def of_heads(self, tiles: Tensor) -> list[NetworkOutput]:
        """The output of each head, logits (N, P, H, W) and the shared features, of tiles that `stride` divides."""
        out: NetworkOutput = self(tiles)
        if self.heads == 1:
            return [out]
        return [NetworkOutput(logits, out.features) for logits in out.logits.chunk(self.heads, 1)]

    def normalised(self, tiles: Tensor) -> Tensor:
        """Tiles (N, 1, H, W), normalised for the encoder's weights, float (N, 3, H, W)."""
        return (tiles.float() - self.mean) / self.std

    def forward_any_size(self, tiles: Tensor) -> NetworkOutput:
        """`forward` for any size: tiles are mirrored at the bottom and right to the stride grid, and the logits cropped."""
        height, width = tiles.shape[-2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        out: NetworkOutput = self(F.pad(tiles.float(), pad, mode="reflect") if any(pad) else tiles)
        auxiliary = None if out.auxiliary is None else out.auxiliary[..., :height, :width]
        return NetworkOutput(out.logits[..., :height, :width], out.features, auxiliary)

    def parameter_groups(self, encoder_rate: float, rate: float) -> list[dict[str, object]]:
        """The optimiser's parameter groups: the encoder at `encoder_rate`, everything else at `rate`."""
        encoder = list(self.encoder.parameters())
        inside = set(map(id, encoder))
        return [
            {"params": encoder, "lr": encoder_rate},
            {"params": [weight for weight in self.parameters() if id(weight) not in inside], "lr": rate},
        ]


class FixedSameConv(nn.Conv2d):
    """TensorFlow's SAME convolution for inputs that the stride divides, with the same padding for every size.

    timm computes this padding from the input at run time, which a graph with dynamic shapes cannot represent.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Take over the weights of timm's Conv2dSame."""
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, 0,  # type: ignore[arg-type]
            dilation=conv.dilation, groups=conv.groups, bias=conv.bias is not None,  # type: ignore[arg-type]
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        self.pads: list[int] = []
        for kernel, step, dilation in zip(conv.kernel_size[::-1], conv.stride[::-1], conv.dilation[::-1], strict=True):
            total = max(dilation * (kernel - 1) + 1 - step, 0)
            self.pads += [total // 2, total - total // 2]

    def forward(self, x: Tensor) -> Tensor:
        """Pad with zeros, more at the bottom and right, and convolve."""
        return super().forward(F.pad(x, self.pads))


def fix_same_padding(module: nn.Module) -> None:
    """Replace every Conv2dSame of timm inside `module`."""
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame):
            setattr(module, name, FixedSameConv(child))
        else:
            fix_same_padding(child)
