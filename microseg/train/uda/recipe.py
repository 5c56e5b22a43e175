"""The recipe of `train uda`: a method and what all methods share, as frozen, strict, typed configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.train.common.recipe import (
    Augmentation,
    Optimiser,
    Positive,
    RandomisedAugmentation,
    Schedule,
    Share,
    with_kinds,
)

Weight = Annotated[float, Field(ge=0)]
# What the second round of a method is called after it, also as a folder: dacs-2.
SECOND = "-2"


class SourceOnly(FrozenModel):
    """Source training goes on and the target is not looked at: the control that every gain is stated against."""

    kind: Literal["source"] = "source"


class Statistics(FrozenModel):
    """Target tiles pass through batch normalisation while source training goes on; no loss on them."""

    kind: Literal["statistics"] = "statistics"


class Normalise(FrozenModel):
    """No training. intensity: target grey values get the mean and spread, or the histogram, of the source's.

    statistics: share of the target's own in every batch normalisation (Li et al. 2016; mixed as Schneider et al. 2020).
    """

    kind: Literal["normalise"] = "normalise"
    intensity: Literal["none", "standardise", "histogram"] = "none"
    statistics: Share = 1.0


class MinEnt(FrozenModel):
    """Entropy minimisation on the target (Vu et al. 2019); `auxiliary` weighs that of a second head."""

    kind: Literal["minent"] = "minent"
    weight: Weight = 0.001
    auxiliary: Weight = 0.0002


class AdaptSegNet(FrozenModel):
    """Adversarial alignment of the output maps (Tsai et al. 2018), one discriminator for each head.

    adversarial, auxiliary: weights of the two heads' losses. loss: binary cross-entropy or least squares.
    """

    kind: Literal["adaptsegnet"] = "adaptsegnet"
    adversarial: Weight = 0.001
    auxiliary: Weight = 0.0002
    loss: Literal["bce", "least_squares"] = "bce"
    discriminator_rate: Positive = 1e-4


class Advent(AdaptSegNet):
    """AdaptSegNet whose discriminators see entropy maps, -p log p / log C (Vu et al. 2019)."""

    kind: Literal["advent"] = "advent"  # type: ignore[assignment]


class IntraDA(AdaptSegNet):
    """ADVENT, then a second round from the easy, pseudo-labelled share of target tiles to the hard ones (Pan et al. 2020)."""

    kind: Literal["intrada"] = "intrada"  # type: ignore[assignment]
    easy_share: float = Field(0.67, gt=0, lt=1)


class Dast(AdaptSegNet):
    """Discriminator attention and self-training (Yu et al. 2021).

    Pseudo-labels of the averaged network, above `confidence`, count from half-way on, more where the discriminator still
    tells the target apart. Ours: the attention weighs these labels; the authors' weighs features.
    """

    kind: Literal["dast"] = "dast"  # type: ignore[assignment]
    self_training: Weight = 0.5
    confidence: Share = 0.9


class Fda(FrozenModel):
    """Fourier domain adaptation (Yang and Soatto 2020): source tiles take low-frequency amplitudes of target tiles.

    betas: half-widths of the swapped band over the tile's side; fold k takes betas[k mod n], so that the bag is the
    paper's multi-band mean. entropy, eta: weight and exponent of the robust entropy on the target.
    """

    kind: Literal["fda"] = "fda"
    betas: Annotated[tuple[Annotated[float, Field(gt=0, lt=0.5)], ...], Field(min_length=1)] = (0.01, 0.03, 0.05)
    entropy: Weight = 0.005
    eta: Positive = 2.0


class Dacs(FrozenModel):
    """Class-mix between the domains with a mean teacher (Tranheden et al. 2021).

    confidence: what a pseudo-label counts as sure from; thresholds: for all of them, or at most, and less for phases that
    the teacher is less sure of (Zou et al. 2018). weighting: `image`, the share of sure pixels, as published, or
    `pixel`, every pixel by its own confidence. debias: the teacher's posterior is divided by the loss's phase weights.
    jitter: strength of the photometric change of mixed tiles.
    """

    kind: Literal["dacs"] = "dacs"
    weight: Weight = 1.0
    confidence: Share = 0.968
    thresholds: Literal["one", "by_phase"] = "one"
    weighting: Literal["image", "pixel"] = "pixel"
    debias: bool = True
    jitter: float = Field(0.7, ge=0, le=2)


class Masked(FrozenModel):
    """Masked-image consistency (Hoyer et al. 2023): patches of the target are hidden, the teacher's labels stay."""

    weight: Weight = 1.0
    ratio: float = Field(0.7, gt=0, lt=1)
    patch_px: int = Field(32, ge=4)


Method = Annotated[
    SourceOnly | Statistics | Normalise | MinEnt | AdaptSegNet | Advent | IntraDA | Dast | Fda | Dacs,
    Field(discriminator="kind"),
]


class UdaRecipe(FrozenModel):
    """A recipe of `train uda`; network, tile and loss are the source run's.

    batch: tiles of each domain in a step, of the source run's size, at random places even if its own lie on a grid.
    augmentation: of the source's tiles; null takes the source run's pipeline, or the extended one where that is weaker.
    target_augmentation: null is a mild one (turns, a tenth of scale; in four tiles of ten a little blur, sharpening or
    noise). statistics: whose tiles move the running statistics of batch normalisation: `both` (published), `target`,
    `source`, or `none` (they stay the source run's); with class-mix those of the target are the mixed ones, as published.
    frozen_affine: scale and shift of batch normalisation do not learn (published). mic: masked-image consistency on top
    of any method. balanced_patches: target tiles are drawn such that their pseudo-labelled fractions are the source's.
    statistics_only: every loss on the target has weight 0, the method's own control. robust_share: of the steps, at the
    beginning, that the source alone is learned from, while target tiles pass through batch normalisation: with a strong
    `augmentation`, a teacher worth learning from. style_share: of source tiles, that are moved towards the target's
    radial spectrum and mean grey, each by a random part of the way. fraction_drift: factor by which a fraction may leave
    those of source and start. second_round: steps that follow the others, in which every fold learns from the
    pseudo-labels of the whole bag, on target tiles drawn as with `balanced_patches`.
    """

    task: Literal["uda"]
    method: Method
    steps: int = Field(250, ge=1)
    batch: int = Field(4, ge=1)
    optimiser: Optimiser = Optimiser(learning_rate=5e-4, encoder_factor=0.3, weight_decay=1e-4)
    schedule: Schedule = Schedule(kind="polynomial", power=0.9, warmup=0.05)
    augmentation: Augmentation | None = None
    target_augmentation: Augmentation | None = None
    statistics: Literal["both", "target", "source", "none"] = "both"
    frozen_affine: bool = False
    mic: Masked | None = None
    balanced_patches: bool = False
    statistics_only: bool = False
    robust_share: Share = 0.0
    style_share: Share = 0.0
    ema_decay: float = Field(0.98, ge=0, lt=1)
    snapshot_every: int = Field(50, ge=1)
    keep_snapshots: bool = False
    fraction_drift: float = Field(2.5, gt=1)
    second_round: int = Field(0, ge=0)
    mixed_precision: bool = True
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, tree: Any) -> Any:
        """`--set target_augmentation.strength=1` needs no `kind` where it means the default one."""
        return with_kinds(tree, {"target_augmentation": "extended", "augmentation": "basic"})

    @model_validator(mode="after")
    def _is_no_control_that_looks_at_the_target(self) -> UdaRecipe:
        looks = {"mic": self.mic is not None, "second_round": self.second_round, "style_share": self.style_share}
        if isinstance(self.method, SourceOnly | Normalise) and any(looks.values()):
            key = next(key for key, does in looks.items() if does)
            raise ValueError(f"{key}: method {self.method.kind} learns nothing from the target")
        return self

    @model_validator(mode="after")
    def _has_a_teacher(self) -> UdaRecipe:
        if self.second_round and not isinstance(self.method, Dacs | Dast) and self.mic is None:
            raise ValueError(f"second_round: method {self.method.kind} has no teacher; dacs, dast and mic have one")
        return self

    @model_validator(mode="after")
    def _target_is_not_changed_by_phase(self) -> UdaRecipe:
        if isinstance(self.target_augmentation, RandomisedAugmentation):
            raise ValueError("target_augmentation: randomised changes grey values by phase, and a target has no labels")
        return self


def rounds(recipe: UdaRecipe) -> list[UdaRecipe]:
    """The recipe, and what its second round is trained by."""
    if not recipe.second_round:
        return [recipe]
    second = {"steps": recipe.second_round, "robust_share": 0.0, "balanced_patches": True, "second_round": 0}
    return [recipe, recipe.model_copy(update=second)]


def longer_source(recipe: UdaRecipe) -> UdaRecipe:
    """The control of a recipe: as many steps at the same rates on the source alone, under the same augmentation."""
    return recipe.model_copy(
        update={
            "steps": recipe.steps + recipe.second_round, "second_round": 0, "method": SourceOnly(), "mic": None,
            "robust_share": 0.0, "style_share": 0.0, "balanced_patches": False, "statistics": "both", "statistics_only": False,
        }
    )  # fmt: skip
