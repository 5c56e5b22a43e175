"""U-Net (Ronneberger et al. 2015) with any encoder of segmentation-models-pytorch or timm."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from microseg.models.network import Network, NetworkOutput, fix_same_padding
from microseg.models.weights import cannot_build, from_hub, load_initial


class UNet(Network):
    """Decoder and head of segmentation-models-pytorch, with one decoder width for each encoder stage that is used."""

    def __init__(
        self, encoder: str, phases: int, weights: str, decoder_channels: tuple[int, ...], heads: int = 1
    ) -> None:
        """Build the network.

        Args:
            encoder: Name in segmentation-models-pytorch or timm.
            phases: Number of phases.
            weights: `imagenet`, `none`, a file, or the folder of a pre-training run.
            decoder_channels: Channels of the decoder, one number for each encoder stage that is used.
            heads: Number of heads.

        Raises:
            InputError: The encoder or its weights do not exist.
        """
        name = encoder_name(encoder)
        depth = len(decoder_channels)
        super().__init__(name, phases, 2**depth, heads)
        try:
            net = smp.Unet(
                name,
                encoder_depth=depth,
                encoder_weights="imagenet" if from_hub(encoder, weights) else None,
                decoder_channels=decoder_channels,
                classes=heads * phases,
            )
        except (KeyError, RuntimeError, ValueError, OSError) as error:
            raise cannot_build(encoder, weights, error) from error
        self.encoder, self.decoder = net.encoder, net.decoder
        self.head: nn.Module = net.segmentation_head
        load_initial(self.encoder, encoder, weights)
        _drop_unused_stages(self.encoder)
        fix_same_padding(self.encoder)

    @property
    def last(self) -> nn.Module:
        """The head."""
        return self.head

    def forward(self, tiles: Tensor) -> NetworkOutput:
        """Logits and features of tiles whose sides `stride` divides."""
        stages = self.encoder(self.normalised(tiles))
        return NetworkOutput(self.head(self.decoder(stages)), stages[-1].mean((2, 3)))


def _drop_unused_stages(encoder: nn.Module) -> None:
    """Remove the stages behind the last feature that the U-Net takes. timm's EfficientNets compute them otherwise."""
    model = getattr(encoder, "model", None)
    if model is not None and hasattr(model, "_stage_out_idx") and isinstance(model.blocks, nn.Sequential):
        model.blocks = model.blocks[: max(model._stage_out_idx)]


def encoder_name(encoder: str) -> str:
    """The name of an encoder in segmentation-models-pytorch; timm's names get its prefix `tu-`."""
    if encoder in smp.encoders.encoders or encoder.startswith("tu-"):
        return encoder
    return f"tu-{encoder}"
