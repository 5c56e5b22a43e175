"""The recipe of `microseg distill`: the student's network and training, frozen, strict and typed."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.train.common.recipe import (
    AugmentationConfig,
    DeepLabV2Config,
    Encoder,
    Fraction,
    Optimiser,
    Recipe,
    Schedule,
    TileConfig,
    UNetConfig,
    with_kinds,
)

# Runtimes compute sixteen channels at once.
_CHANNELS = 16


class DistillRecipe(FrozenModel):
    """A recipe of `microseg distill`. A key that is null takes the bag's value."""

    task: Literal["distill"] = Field(description="The command that the recipe is for.")
    encoder: Encoder | None = Field(None, description="The student's encoder; null is the bag's.")
    network: Annotated[UNetConfig | DeepLabV2Config, Field(discriminator="kind")] | None = Field(
        None, description="The student's architecture; null is the bag's, narrowed by `narrow`."
    )
    narrow: float = Field(
        1.0, gt=0, le=1, description="Width of the last two decoder stages of the bag's U-Net, rounded up to sixteens."
    )
    start_fold: int | None = Field(
        0,
        ge=0,
        description="Fold whose weights the student begins with; null, or another encoder than the bag's, for the encoder's "
        "own weights.",
    )
    tile: TileConfig | None = Field(
        None, description="Training tiles; null is the bag's. The loss counts on all of a tile."
    )
    augmentation: AugmentationConfig | None = Field(None, description="The pipeline of the tiles; null is the bag's.")
    rare_phase_share: Fraction | None = Field(
        None, description="Share of the tiles that are centred on a pixel of a phase drawn evenly; null is the bag's."
    )
    bag_weight: float = Field(
        1.0, ge=0, description="Weight of the loss of the heads' mean, beside the loss of each head."
    )
    optimiser: Optimiser = Field(Optimiser(), description="Learning rates and weight decay.")
    schedule: Schedule = Field(Schedule(kind="cosine"), description="The learning rate over the steps.")
    ema_decay: float = Field(0.98, ge=0, lt=1, description="Decay of the averaged weights, which are the result.")
    batch: int = Field(6, ge=1, description="Tiles of a step.")
    steps: int = Field(300, ge=1, description="Steps of the optimiser.")
    validate_every: int = Field(100, ge=1, description="Steps between two comparisons with the bag.")
    compared_fields: int = Field(
        2, ge=1, description="Fields of each domain, a third at most, that are kept to compare student and bag."
    )
    max_fields: int = Field(60, ge=1, description="Fields of each domain that are read, drawn by seed.")
    mixed_precision: bool = Field(
        True, description="bf16 on a GPU that has it, else fp16 with a scaled loss; a CPU computes in fp32."
    )
    seed: int = Field(0, ge=0, description="Seed of everything that is drawn.")

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, tree: Any) -> Any:
        """`--set network.decoder_channels=[64,32,16]` needs no `kind` for the default kind."""
        return with_kinds(tree, {"network": "unet", "augmentation": "basic"})


def settled(recipe: DistillRecipe, bag: Recipe) -> DistillRecipe:
    """The recipe with the bag's values in place of every null."""
    encoder = recipe.encoder or bag.encoder
    network = recipe.network or _narrowed(bag.network, recipe.narrow)
    starts = recipe.start_fold is not None and encoder.name == bag.encoder.name
    return recipe.model_copy(
        update={
            "encoder": encoder,
            "network": network,
            "start_fold": recipe.start_fold if starts else None,
            "tile": recipe.tile or bag.tile,
            "augmentation": recipe.augmentation or bag.augmentation,
            "rare_phase_share": bag.rare_phase_share if recipe.rare_phase_share is None else recipe.rare_phase_share,
        }
    )


def _narrowed(network: UNetConfig | DeepLabV2Config, share: float) -> UNetConfig | DeepLabV2Config:
    """The bag's network with narrower last decoder stages, and without an auxiliary head, which inference does not use."""
    if isinstance(network, DeepLabV2Config):
        return network.model_copy(update={"auxiliary_loss": 0.0})
    widths = network.decoder_channels
    last = [min(width, _CHANNELS * math.ceil(share * width / _CHANNELS)) for width in widths[-2:]]
    return network.model_copy(update={"decoder_channels": (*widths[:-2], *last)})
