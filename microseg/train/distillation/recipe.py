"""The recipe of `distill`: the student's network and training, as frozen, strict, typed configuration."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.train.common.recipe import (
    Augmentation,
    DeepLabV2Config,
    Encoder,
    Optimiser,
    Recipe,
    Schedule,
    Share,
    Tile,
    UNetConfig,
    with_kinds,
)

# Runtimes compute sixteen channels at once.
_CHANNELS = 16


class DistillRecipe(FrozenModel):
    """A recipe of `distill`; null takes what the bag was trained with.

    encoder: null is the bag's. network: null is the bag's, the last two stages of a U-Net's decoder `narrow` times as
    wide, in sixteens rounded up: they cost as much as the encoder. start_fold: the fold whose weights the student begins
    with, null for the encoder's own; another encoder than the bag's begins with its own. tile: the loss counts on all of
    it, for bag and student see the same. bag_weight: of the loss on the mean of the heads, beside that of each head.
    batch: tiles of a step. compared_fields: of each domain, that are not learned from and show how well the student does;
    a third at most. max_fields: of each domain, drawn by seed.
    """

    task: Literal["distill"]
    encoder: Encoder | None = None
    network: Annotated[UNetConfig | DeepLabV2Config, Field(discriminator="kind")] | None = None
    narrow: float = Field(1.0, gt=0, le=1)
    start_fold: int | None = Field(0, ge=0)
    tile: Tile | None = None
    augmentation: Augmentation | None = None
    rare_phase_share: Share | None = None
    bag_weight: float = Field(1.0, ge=0)
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule(kind="cosine")
    ema_decay: float = Field(0.98, ge=0, lt=1)
    batch: int = Field(6, ge=1)
    steps: int = Field(300, ge=1)
    validate_every: int = Field(100, ge=1)
    compared_fields: int = Field(2, ge=1)
    max_fields: int = Field(60, ge=1)
    mixed_precision: bool = True
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, tree: Any) -> Any:
        """`--set network.decoder_channels=[64,32,16]` needs no `kind` where it means the default one."""
        return with_kinds(tree, {"network": "unet", "augmentation": "basic"})


def settled(recipe: DistillRecipe, bag: Recipe) -> DistillRecipe:
    """The recipe with the bag's settings in the place of every null."""
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
    """A student's network: a U-Net with thinner last stages; no auxiliary head, which inference does not need."""
    if isinstance(network, DeepLabV2Config):
        return network.model_copy(update={"auxiliary_loss": 0.0})
    widths = network.decoder_channels
    last = [min(width, _CHANNELS * math.ceil(share * width / _CHANNELS)) for width in widths[-2:]]
    return network.model_copy(update={"decoder_channels": (*widths[:-2], *last)})
