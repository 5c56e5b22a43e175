"""U-Net (Ronneberger et al. 2015) on any segmentation-models-pytorch or timm encoder, with its normalisation inside."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from microseg.core.errors import InputError
from microseg.models.weights import LITE0, lite0_file, load_encoder_file, normalisation


class NetworkOutput(NamedTuple):
    """`logits` float (N, P, H, W) of the tile's size, `features` float (N, D): the bottleneck, averaged over the tile."""

    logits: Tensor
    features: Tensor


class UNet(nn.Module):
    """Grey tiles (N, 1, H, W), uint8 or float in 0-255, to logits and pooled features.

    H and W must be multiples of `stride`; `forward_any_size` pads and crops for training.
    """

    def __init__(self, encoder: str, phases: int, weights: str, decoder_channels: tuple[int, ...]) -> None:
        """Build with `weights` imagenet, none, or a file's path. Raises InputError for what does not exist."""
        super().__init__()
        name = encoder_name(encoder)
        depth = len(decoder_channels)
        # The hub's weights are asked for only where neither a package nor a file holds them.
        from_hub = weights == "imagenet" and name != f"tu-{LITE0}"
        try:
            self.net = smp.Unet(
                name,
                encoder_depth=depth,
                encoder_weights="imagenet" if from_hub else None,
                decoder_channels=decoder_channels,
                classes=phases,
            )
        except (KeyError, RuntimeError, ValueError, OSError) as error:
            remedy = "network.weights: none or a local file" if from_hub else "another network.encoder or depth"
            raise InputError(
                f"network.encoder {encoder!r} with network.weights {weights!r} could not be built "
                f"({str(error).splitlines()[0] if str(error) else type(error).__name__}). Remedy: {remedy}."
            ) from error
        if weights == "imagenet" and not from_hub:
            load_encoder_file(self.net.encoder, lite0_file())
        elif weights not in ("imagenet", "none"):
            load_encoder_file(self.net.encoder, Path(weights))
        _drop_unused_stages(self.net.encoder)
        _fix_same_padding(self.net.encoder)
        self.stride = 2**depth
        self.phases = phases
        mean, std = normalisation(name)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, tiles: Tensor) -> NetworkOutput:
        """Logits and features of tiles whose sides are multiples of `stride`."""
        x = (tiles.float() - self.mean) / self.std
        stages = self.net.encoder(x)
        logits = self.net.segmentation_head(self.net.decoder(stages))
        return NetworkOutput(logits, stages[-1].mean((2, 3)))

    def forward_any_size(self, tiles: Tensor) -> NetworkOutput:
        """The same for any size: mirrored at the bottom and right to the stride grid, and cropped back."""
        height, width = tiles.shape[-2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        out = self(F.pad(tiles.float(), pad, mode="reflect") if any(pad) else tiles)
        return NetworkOutput(out.logits[..., :height, :width], out.features)

    def parameter_groups(self, encoder_rate: float, rate: float) -> list[dict[str, object]]:
        """Adam's groups: the encoder at its own rate (fine-tuning), everything else at `rate`."""
        return [
            {"params": list(self.net.encoder.parameters()), "lr": encoder_rate},
            {
                "params": [*self.net.decoder.parameters(), *self.net.segmentation_head.parameters()],
                "lr": rate,
            },
        ]


class FixedSameConv(nn.Module):
    """TensorFlow's SAME convolution for inputs that the stride divides: its padding is then the same for every size.

    timm computes that padding from the input at run time, which a graph with dynamic shapes cannot hold.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Take over the weights of timm's Conv2dSame."""
        super().__init__()
        self.conv = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, 0, conv.dilation, conv.groups,  # type: ignore[arg-type]
            conv.bias is not None,
        )  # fmt: skip
        self.conv.weight, self.conv.bias = conv.weight, conv.bias
        pads = []
        for kernel, step, dilation in zip(conv.kernel_size[::-1], conv.stride[::-1], conv.dilation[::-1], strict=True):
            total = max(dilation * (kernel - 1) + 1 - step, 0)
            pads += [total // 2, total - total // 2]
        self.pads = pads

    def forward(self, x: Tensor) -> Tensor:
        """Pad with zeros, more at the bottom and right, and convolve."""
        out: Tensor = self.conv(F.pad(x, self.pads))
        return out


def _drop_unused_stages(encoder: nn.Module) -> None:
    """EfficientNets of timm compute all stages, also those behind the last feature that a shallow U-Net takes."""
    model = getattr(encoder, "model", None)
    if model is not None and hasattr(model, "_stage_out_idx") and isinstance(model.blocks, nn.Sequential):
        model.blocks = model.blocks[: max(model._stage_out_idx)]


def _fix_same_padding(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame):
            setattr(module, name, FixedSameConv(child))
        else:
            _fix_same_padding(child)


def encoder_name(encoder: str) -> str:
    """The name by which segmentation-models-pytorch knows an encoder; timm's names get its `tu-` prefix."""
    if encoder in smp.encoders.encoders or encoder.startswith("tu-"):
        return encoder
    return f"tu-{encoder}"
