"""The recipe of `microseg train pretrain`: frozen, strict, typed configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from microseg.train.common.recipe import (
    AugmentationConfig,
    BasicAugmentation,
    Encoder,
    Positive,
    TrainingLength,
)


class PretrainRecipe(TrainingLength):
    """A recipe of `microseg train pretrain`: an encoder learns to classify micrographs (the paper's second stage).

    The head is the paper's: global average pooling, dropout, a linear layer and a sigmoid for every class. An epoch is one
    pass over the training files.
    """

    task: Literal["pretrain"] = Field(description="The command that the recipe is for.")
    encoder: Encoder = Field(Encoder(), description="The encoder and its first weights.")
    scale: Positive = Field(0.5, description="Network pixels per native pixel.")
    tile_px: int = Field(256, ge=32, description="Side of the cuts that the network sees, network pixels.")
    augmentation: AugmentationConfig = Field(
        BasicAugmentation(), description="The pipeline: `kind: none`, `basic`, `extended` or `randomised`."
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout before the linear layer.")
    learning_rate: Positive = Field(1e-4, description="Rate of Adam.")
    batch: int = Field(32, ge=1, description="Cuts of a step.")
    validation_share: float = Field(0.2, gt=0, lt=1, description="Share of the files of each class that validate only.")
