"""The recipe: every choice that decides the weights, as frozen, strict, typed configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from microseg.core.schemas.frozen_model import FrozenModel

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError("two positive numbers, the smaller first")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


def with_kinds(tree: Any, defaults: dict[str, str]) -> Any:
    """A recipe's tree in which what `defaults` names has that `kind` where it says none; anything but a mapping as it is."""
    if not isinstance(tree, dict):
        return tree
    return tree | {key: {"kind": kind} | tree[key] for key, kind in defaults.items() if isinstance(tree.get(key), dict)}


class Encoder(FrozenModel):
    """Any segmentation-models-pytorch or timm encoder; weights: imagenet, none, a file, or a pre-training run."""

    name: str = "tf_efficientnet_lite0"
    weights: str = "imagenet"


class UNetConfig(FrozenModel):
    """U-Net; one decoder width per stage of the encoder that is used."""

    kind: Literal["unet"] = "unet"
    decoder_channels: Annotated[tuple[int, ...], Field(min_length=3, max_length=5)] = (256, 128, 64, 32, 16)

    @property
    def stride(self) -> int:
        """What the sides of a tile are multiples of."""
        return int(2 ** len(self.decoder_channels))


class DeepLabV2Config(FrozenModel):
    """DeepLabv2 as in AdaptSegNet. aspp_branches: 2 repeats its published code. auxiliary_loss: weight of a second head."""

    kind: Literal["deeplabv2"] = "deeplabv2"
    aspp_branches: Literal[2, 4] = 4
    auxiliary_loss: float = Field(0.0, ge=0)

    @property
    def stride(self) -> int:
        """What the sides of a tile are multiples of."""
        return 8


class Tile(FrozenModel):
    """Training tiles: the loss counts on the core alone, the halo is context (the paper: 512 and 62).

    placement: `grid`, the paper's fixed tiles of the mirrored field, each once an epoch; `random`, cores anywhere.
    """

    core_px: int = Field(512, ge=32)
    halo_px: int = Field(62, ge=0)
    placement: Literal["random", "grid"] = "random"


class NoAugmentation(FrozenModel):
    """Tiles as they are."""

    kind: Literal["none"] = "none"


class BasicAugmentation(FrozenModel):
    """The paper's basic pipeline: flips and 90-degree rotations, p 0.5. upright: left-right flips alone (layers)."""

    kind: Literal["basic"] = "basic"
    upright: bool = False


class ExtendedAugmentation(FrozenModel):
    """The paper's extended pipeline: elastic and affine deformation, what etching and detectors do to a micrograph.

    The paper does not give its parameters: these are ours. scale: range of magnification, log-uniform. rotation_deg and
    shear_deg: largest angles. elastic_px: standard deviation of the displacement of the nodes of a grid of
    `elastic_grid_px` spacing (Simard et al. 2003). strength: factor on every photometric change. upright: as above.
    """

    kind: Literal["extended"] = "extended"
    scale: Range = (0.8, 1.25)
    rotation_deg: float = Field(180.0, ge=0, le=180)
    shear_deg: float = Field(5.0, ge=0, le=30)
    elastic_px: float = Field(6.0, ge=0)
    elastic_grid_px: int = Field(64, ge=8)
    strength: float = Field(1.0, ge=0, le=2)
    upright: bool = False


class RandomisedAugmentation(FrozenModel):
    """Domain randomisation: what etching, detectors, optics and magnification do to a micrograph.

    scale: range of magnification, log-uniform. rotation_deg: largest angle. strength: factor on every photometric
    change. phase_offset_grey: standard deviation of the grey offset that each phase gets from its label. share: of the
    tiles that are changed so; the others get the basic pipeline, so that the source itself stays in view.
    upright: no quarter turns and no upside down, for cross-sections whose layers have an order.
    """

    kind: Literal["randomised"] = "randomised"
    scale: Range = (0.6, 1.7)
    rotation_deg: float = Field(180.0, ge=0, le=180)
    strength: float = Field(1.0, ge=0, le=2)
    phase_offset_grey: float = Field(14.0, ge=0)
    share: Share = 1.0
    upright: bool = False


Augmentation = Annotated[
    NoAugmentation | BasicAugmentation | ExtendedAugmentation | RandomisedAugmentation, Field(discriminator="kind")
]


class CrossEntropy(FrozenModel):
    """Cross-entropy (for two phases the paper's BCE) plus `dice` times soft Dice; weights by frequency ** -balance."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    dice: float = Field(0.0, ge=0)
    balance: Share = 0.0


class Focal(FrozenModel):
    """Focal loss (Lin et al. 2017)."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(2.0, ge=0)


class Optimiser(FrozenModel):
    """Adam with decoupled weight decay; the encoder's rate is `encoder_factor` times the decoder's."""

    learning_rate: Positive = 1e-3
    encoder_factor: Positive = 0.1
    weight_decay: float = Field(0.0, ge=0)


class Schedule(FrozenModel):
    """constant, polynomial (1 - t) ** power, or cosine; after a linear warm-up over `warmup` of all steps."""

    kind: Literal["constant", "polynomial", "cosine"] = "polynomial"
    power: Positive = 0.9
    warmup: Share = 0.05


class _Training(FrozenModel):
    """What both kinds of training share."""

    steps: int | None = Field(None, ge=1)
    epochs: int | None = Field(None, ge=1)
    validate_every: int = Field(50, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    mixed_precision: bool = True
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs, and null for the other")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, tree: Any) -> Any:
        """`--set loss.dice=0.5` needs no `loss.kind` where it means the default one."""
        return with_kinds(tree, {"network": "unet", "augmentation": "basic", "loss": "cross_entropy"})


class Recipe(_Training):
    """A training recipe, see train/README.md.

    scale: network pixels per native pixel (the paper: 0.5). steps or epochs: how long; an epoch is one pass over as many
    tiles as cover the training fields. micro_batch: tiles of a batch that are on the device at once (gradients add up).
    mixed_precision: bf16 on a GPU that has it, else fp16 with a scaled loss; on a CPU always fp32. rare_phase_share: share
    of the tiles that are centred on a pixel of a phase drawn evenly. label_share: of the labelled fields that a fold
    may learn from. ema_decay: of the averaged weights that are scored and kept; 0 keeps the raw ones. halo_px: halo of
    overlap tiles at inference.
    """

    task: Literal["supervised"] = "supervised"
    encoder: Encoder = Encoder()
    network: Annotated[UNetConfig | DeepLabV2Config, Field(discriminator="kind")] = UNetConfig()
    scale: Positive = 0.5
    tile: Tile = Tile()
    augmentation: Augmentation = BasicAugmentation()
    loss: Annotated[CrossEntropy | Focal, Field(discriminator="kind")] = CrossEntropy()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    rare_phase_share: Share = 0.0
    label_share: float = Field(1.0, gt=0, le=1)
    ema_decay: float = Field(0.98, ge=0, lt=1)
    batch: int = Field(12, ge=1)
    folds: int = Field(5, ge=2)
    halo_px: int = Field(62, ge=0)


class PretrainRecipe(_Training):
    """Encoder pre-training on classified micrographs (the paper's second stage), see train/README.md.

    The head is the paper's: global average pooling, `dropout`, a linear layer, a sigmoid for every class. scale: network
    pixels per native pixel. tile_px: side of the cuts that the network sees. validation_share: of every class's files.
    steps or epochs; an epoch is one pass over the training files.
    """

    task: Literal["pretrain"]
    encoder: Encoder = Encoder()
    scale: Positive = 0.5
    tile_px: int = Field(256, ge=32)
    augmentation: Augmentation = BasicAugmentation()
    dropout: float = Field(0.5, ge=0, lt=1)
    learning_rate: Positive = 1e-4
    batch: int = Field(32, ge=1)
    validation_share: float = Field(0.2, gt=0, lt=1)
