"""The recipe of `microseg train supervised`, and the parts that all recipes share: frozen, strict, typed configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from microseg.core.domains.folds import Split
from microseg.core.schemas.frozen_model import FrozenModel

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError("two positive numbers, the smaller first")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


def with_kinds(tree: Any, defaults: dict[str, str]) -> Any:
    """Add the default `kind` to mappings of a recipe that have none.

    Args:
        tree: The recipe as read from YAML. Anything but a mapping is returned unchanged.
        defaults: The default kind by key.
    """
    if not isinstance(tree, dict):
        return tree
    return tree | {key: {"kind": kind} | tree[key] for key, kind in defaults.items() if isinstance(tree.get(key), dict)}


class Encoder(FrozenModel):
    """The encoder: any of segmentation-models-pytorch or timm."""

    name: str = Field("tf_efficientnet_lite0", description="Name in segmentation-models-pytorch or timm.")
    weights: str = Field(
        "imagenet", description="First weights: `imagenet`, `none`, a local file, or the folder of a pre-training run."
    )


class UNetConfig(FrozenModel):
    """U-Net (Ronneberger et al. 2015) with the decoder of segmentation-models-pytorch."""

    kind: Literal["unet"] = Field("unet", description="The architecture.")
    decoder_channels: Annotated[tuple[int, ...], Field(min_length=3, max_length=5)] = Field(
        (256, 128, 64, 32, 16), description="Channels of the decoder, one number for each encoder stage that is used."
    )

    @property
    def stride(self) -> int:
        """The sides of a tile are multiples of this, px."""
        return int(2 ** len(self.decoder_channels))


class DeepLabV2Config(FrozenModel):
    """DeepLabv2 (Chen et al. 2018) as AdaptSegNet uses it."""

    kind: Literal["deeplabv2"] = Field("deeplabv2", description="The architecture.")
    aspp_branches: Literal[2, 4] = Field(
        4, description="Dilated branches that are summed; 2 repeats AdaptSegNet's published code."
    )
    auxiliary_loss: float = Field(
        0.0, ge=0, description="Weight of the loss of a second head on a shallower stage; 0 builds none."
    )

    @property
    def stride(self) -> int:
        """The sides of a tile are multiples of this, px."""
        return 8


class TileConfig(FrozenModel):
    """Training tiles. The loss counts on the core only; the halo is context."""

    core_px: int = Field(512, ge=32, description="Side of the core in network pixels (the paper: 512).")
    halo_px: int = Field(62, ge=0, description="Width of the halo on each side in network pixels (the paper: 62).")
    placement: Literal["random", "grid"] = Field(
        "random",
        description="`random`: cores anywhere. `grid`: the paper's fixed tiles of the mirrored field, each once an epoch.",
    )


class NoAugmentation(FrozenModel):
    """Tiles as they are."""

    kind: Literal["none"] = Field("none", description="The pipeline.")


class BasicAugmentation(FrozenModel):
    """The paper's basic pipeline: flips and 90-degree rotations, each with probability 0.5."""

    kind: Literal["basic"] = Field("basic", description="The pipeline.")
    upright: bool = Field(False, description="Flip left and right only, for sections whose layers have an order.")


class ExtendedAugmentation(FrozenModel):
    """The paper's extended pipeline: elastic and affine deformation, contrast, focus, noise.

    The paper does not give its parameters; these are ours.
    """

    kind: Literal["extended"] = Field("extended", description="The pipeline.")
    scale: Range = Field((0.8, 1.25), description="Range of the magnification, drawn log-uniformly.")
    rotation_deg: float = Field(180.0, ge=0, le=180, description="Largest rotation, degrees.")
    shear_deg: float = Field(5.0, ge=0, le=30, description="Largest shear, degrees.")
    elastic_px: float = Field(
        6.0, ge=0, description="Standard deviation of the displacement of grid nodes, px (Simard et al. 2003)."
    )
    elastic_grid_px: int = Field(64, ge=8, description="Spacing of these nodes, px.")
    strength: float = Field(1.0, ge=0, le=2, description="Factor on every photometric change.")
    upright: bool = Field(False, description="Flip left and right only, for sections whose layers have an order.")


class RandomisedAugmentation(FrozenModel):
    """Domain randomisation: changes by etching, detectors, optics and magnification, beyond those of one laboratory."""

    kind: Literal["randomised"] = Field("randomised", description="The pipeline.")
    scale: Range = Field((0.6, 1.7), description="Range of the magnification, drawn log-uniformly.")
    rotation_deg: float = Field(180.0, ge=0, le=180, description="Largest rotation, degrees.")
    strength: float = Field(1.0, ge=0, le=2, description="Factor on every photometric change.")
    phase_offset_grey: float = Field(
        14.0, ge=0, description="Standard deviation of the grey offset that each phase gets by its label, grey values."
    )
    share: Fraction = Field(
        1.0, description="Share of the tiles that are changed so; the others get the basic pipeline."
    )
    upright: bool = Field(False, description="No quarter turns and no vertical flips, for sections with layers.")


AugmentationConfig = Annotated[
    NoAugmentation | BasicAugmentation | ExtendedAugmentation | RandomisedAugmentation, Field(discriminator="kind")
]


def magnifications(augmentation: AugmentationConfig) -> tuple[float, float]:
    """The smallest and the largest magnification of the tiles that a pipeline draws; a tile as it is has 1."""
    if isinstance(augmentation, ExtendedAugmentation):
        return augmentation.scale
    if isinstance(augmentation, RandomisedAugmentation):
        low, high = augmentation.scale
        # Tiles that are not changed so keep their magnification.
        return (low, high) if augmentation.share == 1 else (min(low, 1.0), max(high, 1.0))
    return 1.0, 1.0


class CrossEntropy(FrozenModel):
    """Cross-entropy (with two phases the paper's BCE), optionally with soft Dice."""

    kind: Literal["cross_entropy"] = Field("cross_entropy", description="The loss.")
    dice: float = Field(0.0, ge=0, description="Weight of soft Dice beside the cross-entropy.")
    balance: Fraction = Field(0.0, description="Phases are weighted by frequency ** -balance.")


class Focal(FrozenModel):
    """Focal loss (Lin et al. 2017)."""

    kind: Literal["focal"] = Field("focal", description="The loss.")
    gamma: float = Field(2.0, ge=0, description="Focusing exponent.")


class Optimiser(FrozenModel):
    """Adam with decoupled weight decay."""

    learning_rate: Positive = Field(1e-3, description="Rate of the decoder and the heads.")
    encoder_factor: Positive = Field(0.1, description="Rate of the encoder over that of the decoder.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")


class Schedule(FrozenModel):
    """The learning rate over the steps."""

    kind: Literal["constant", "polynomial", "cosine"] = Field(
        "polynomial", description="Decay after the warm-up; polynomial is (1 - t) ** power."
    )
    power: Positive = Field(0.9, description="Exponent of the polynomial decay.")
    warmup: Fraction = Field(0.05, description="Share of the steps with a linear warm-up.")


class UnlabelledConfig(FrozenModel):
    """Learning from unlabelled fields of the same domain: a mean teacher with consistency (Tarvainen and Valpola 2017).

    The averaged network labels a tile as it is. The network learns these labels on the tile with changed grey values and
    hidden patches (Hoyer et al. 2023), beside labelled tiles.
    """

    weight: float = Field(1.0, ge=0, description="Weight of the loss on unlabelled tiles.")
    confidence: float = Field(
        0.968, gt=0.5, le=1, description="Probability of a pseudo-label from which its pixel counts in full."
    )
    steps_share: float = Field(0.5, gt=0, le=4, description="Further steps over those with labels alone.")
    rate_share: float = Field(0.3, gt=0, le=1, description="Learning rates of these steps over the recipe's.")
    batch_share: float = Field(0.5, gt=0, le=1, description="Unlabelled tiles of a step over labelled ones.")
    strength: float = Field(0.7, ge=0, le=2, description="Factor on the changes of grey values.")
    hidden_share: float = Field(0.3, ge=0, lt=1, description="Share of the patches of a tile that are hidden.")
    patch_px: int = Field(32, ge=4, description="Side of a hidden patch, network pixels.")


class TrainingLength(FrozenModel):
    """The keys that training from labelled fields and pre-training share."""

    steps: int | None = Field(None, ge=1, description="Steps of the optimiser; null where `epochs` is given.")
    epochs: int | None = Field(None, ge=1, description="Passes over the training data; null where `steps` is given.")
    validate_every: int = Field(50, ge=1, description="Steps between two validations.")
    micro_batch: int | None = Field(
        None, ge=1, description="Tiles of a batch that are on the device at once (gradients add up); null for all."
    )
    mixed_precision: bool = Field(
        True, description="bf16 on a GPU that has it, else fp16 with a scaled loss; a CPU computes in fp32."
    )
    seed: int = Field(0, ge=0, description="Seed of everything that is drawn.")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs, and null for the other")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, tree: Any) -> Any:
        """`--set loss.dice=0.5` needs no `loss.kind` for the default kind."""
        return with_kinds(tree, {"network": "unet", "augmentation": "basic", "loss": "cross_entropy"})


class Recipe(TrainingLength):
    """A recipe of `microseg train supervised`. An epoch is as many tiles as cover the training fields."""

    task: Literal["supervised"] = Field("supervised", description="The command that the recipe is for.")
    encoder: Encoder = Field(Encoder(), description="The encoder and its first weights.")
    network: Annotated[UNetConfig | DeepLabV2Config, Field(discriminator="kind")] = Field(
        UNetConfig(), description="The architecture: `kind: unet` or `kind: deeplabv2`."
    )
    scale: Positive = Field(0.5, description="Network pixels per native pixel (the paper: 0.5, by area averaging).")
    tile: TileConfig = Field(TileConfig(), description="Training tiles.")
    augmentation: AugmentationConfig = Field(
        BasicAugmentation(), description="The pipeline: `kind: none`, `basic`, `extended` or `randomised`."
    )
    loss: Annotated[CrossEntropy | Focal, Field(discriminator="kind")] = Field(
        CrossEntropy(), description="The loss: `kind: cross_entropy` or `kind: focal`."
    )
    optimiser: Optimiser = Field(Optimiser(), description="Learning rates and weight decay.")
    schedule: Schedule = Field(Schedule(), description="The learning rate over the steps.")
    rare_phase_share: Fraction = Field(
        0.0, description="Share of the tiles that are centred on a pixel of a phase drawn evenly."
    )
    label_share: float = Field(1.0, gt=0, le=1, description="Share of a fold's labelled fields that it learns from.")
    unlabelled: UnlabelledConfig | None = Field(
        None, description="How unlabelled fields are learned from; null: labels alone."
    )
    ema_decay: float = Field(
        0.98, ge=0, lt=1, description="Decay of the averaged weights that are scored and kept; 0 keeps the raw ones."
    )
    batch: int = Field(12, ge=1, description="Tiles of a step.")
    folds: int = Field(5, ge=2, description="Folds of the cross-validation, and networks of the bag.")
    split: Split = Field(
        "groups",
        description="What a fold holds out: `groups`; `fields`, also of one specimen; `blocks`, a part of each field.",
    )
    halo_px: int = Field(62, ge=0, description="Halo of the tiles at inference, network pixels.")
