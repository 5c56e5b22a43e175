"""The recipe of `microseg train uda`: a method and the keys that all methods share, frozen, strict and typed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.train.common.recipe import (
    AugmentationConfig,
    Fraction,
    Optimiser,
    Positive,
    RandomisedAugmentation,
    Schedule,
    with_kinds,
)

Weight = Annotated[float, Field(ge=0)]
# Suffix of the second round of a method, also in the name of its folder: dacs-2.
SECOND = "-2"


class SourceOnly(FrozenModel):
    """The control of every gain: training on the source goes on, and the target is not used."""

    kind: Literal["source"] = Field("source", description="The method.")


class Statistics(FrozenModel):
    """Target tiles pass through batch normalisation while training on the source goes on. There is no loss on them."""

    kind: Literal["statistics"] = Field("statistics", description="The method.")


class Normalise(FrozenModel):
    """No training: a grey curve for the target, and its own statistics in the batch normalisations."""

    kind: Literal["normalise"] = Field("normalise", description="The method.")
    intensity: Literal["none", "standardise", "histogram"] = Field(
        "none", description="Target grey values get the source's mean and standard deviation, or its histogram."
    )
    statistics: Fraction = Field(
        1.0, description="Share of the target's statistics (AdaBN, Li et al. 2016; mixed as Schneider et al. 2020)."
    )


class MinEnt(FrozenModel):
    """Entropy minimisation on the target (Vu et al. 2019)."""

    kind: Literal["minent"] = Field("minent", description="The method.")
    weight: Weight = Field(0.001, description="Weight of the entropy.")
    auxiliary: Weight = Field(0.0002, description="Weight of the entropy of a second head.")


class AdaptSegNet(FrozenModel):
    """Adversarial alignment of the output maps (Tsai et al. 2018), with one discriminator for each head."""

    kind: Literal["adaptsegnet"] = Field("adaptsegnet", description="The method.")
    adversarial: Weight = Field(0.001, description="Weight of the adversarial loss.")
    auxiliary: Weight = Field(0.0002, description="Weight of the adversarial loss of a second head.")
    loss: Literal["bce", "least_squares"] = Field(
        "bce", description="The discriminators' loss: binary cross-entropy, or least squares (Mao et al. 2017)."
    )
    discriminator_rate: Positive = Field(1e-4, description="Learning rate of the discriminators.")


class Advent(AdaptSegNet):
    """AdaptSegNet with discriminators that see entropy maps, -p log p / log P (Vu et al. 2019)."""

    kind: Literal["advent"] = Field("advent", description="The method.")  # type: ignore[assignment]


class IntraDA(AdaptSegNet):
    """ADVENT, then a second round from easy, pseudo-labelled target tiles to hard ones (Pan et al. 2020)."""

    kind: Literal["intrada"] = Field("intrada", description="The method.")  # type: ignore[assignment]
    easy_share: float = Field(0.67, gt=0, lt=1, description="Share of the target tiles that count as easy.")


class Dast(AdaptSegNet):
    """AdaptSegNet with discriminator attention and self-training (Yu et al. 2021).

    The second half of the steps also learns from pseudo-labels of the averaged network. The discriminator's attention
    weighs them; the authors' weighs features.
    """

    kind: Literal["dast"] = Field("dast", description="The method.")  # type: ignore[assignment]
    self_training: Weight = Field(0.5, description="Weight of the loss on pseudo-labels.")
    confidence: Fraction = Field(0.9, description="Confidence from which a pseudo-label counts.")


class Fda(FrozenModel):
    """Fourier domain adaptation (Yang and Soatto 2020): source tiles take low-frequency amplitudes of target tiles."""

    kind: Literal["fda"] = Field("fda", description="The method.")
    betas: Annotated[tuple[Annotated[float, Field(gt=0, lt=0.5)], ...], Field(min_length=1)] = Field(
        (0.01, 0.03, 0.05),
        description="Half-widths of the swapped band over the tile's side; fold k takes number k mod n.",
    )
    entropy: Weight = Field(0.005, description="Weight of the robust entropy on the target.")
    eta: Positive = Field(2.0, description="Exponent of the robust entropy.")


class Dacs(FrozenModel):
    """Class-mix between the domains with a mean teacher (Tranheden et al. 2021)."""

    kind: Literal["dacs"] = Field("dacs", description="The method.")
    weight: Weight = Field(1.0, description="Weight of the loss on mixed tiles.")
    confidence: Fraction = Field(0.968, description="Confidence from which a pseudo-label counts in full.")
    thresholds: Literal["one", "by_phase"] = Field(
        "one",
        description="One confidence for all phases, or a lower one for phases with less confidence (Zou et al. 2018).",
    )
    weighting: Literal["image", "pixel"] = Field(
        "pixel",
        description="Pseudo-labels count by their image's share of confident pixels (published), or by their own confidence.",
    )
    debias: bool = Field(True, description="Divide the teacher's probabilities by the phase weights of the loss.")
    jitter: float = Field(0.7, ge=0, le=2, description="Strength of the photometric changes of mixed tiles.")


class Masked(FrozenModel):
    """Masked-image consistency (Hoyer et al. 2023): patches of target tiles are hidden, and the pseudo-labels stay."""

    weight: Weight = Field(1.0, description="Weight of the loss.")
    ratio: float = Field(0.7, gt=0, lt=1, description="Share of the patches that are hidden.")
    patch_px: int = Field(32, ge=4, description="Side of a patch, network pixels.")


Method = Annotated[
    SourceOnly | Statistics | Normalise | MinEnt | AdaptSegNet | Advent | IntraDA | Dast | Fda | Dacs,
    Field(discriminator="kind"),
]


class UdaRecipe(FrozenModel):
    """A recipe of `microseg train uda`. Network, tile and loss are the source run's."""

    task: Literal["uda"] = Field(description="The command that the recipe is for.")
    method: Method = Field(description="The method, by its `kind`.")
    steps: int = Field(250, ge=1, description="Steps of the optimiser.")
    batch: int = Field(
        4, ge=1, description="Tiles of each domain in a step, at random places, of the source run's size."
    )
    optimiser: Optimiser = Field(
        Optimiser(learning_rate=5e-4, encoder_factor=0.3, weight_decay=1e-4),
        description="Learning rates and weight decay.",
    )
    schedule: Schedule = Field(
        Schedule(kind="polynomial", power=0.9, warmup=0.05), description="The learning rate over the steps."
    )
    augmentation: AugmentationConfig | None = Field(
        None,
        description="The pipeline of source tiles; null is the source run's, or the extended one where that is weaker.",
    )
    target_augmentation: AugmentationConfig | None = Field(
        None,
        description="The pipeline of target tiles; null is a mild one: rotations, 10 % of scale, and blur, sharpening or "
        "noise on four tiles of ten.",
    )
    statistics: Literal["both", "target", "source", "none"] = Field(
        "both",
        description="Domain whose tiles move the running statistics of batch normalisation (published: both); mixed tiles "
        "count as the target's.",
    )
    frozen_affine: bool = Field(False, description="Scale and shift of batch normalisation do not learn (published).")
    mic: Masked | None = Field(None, description="Masked-image consistency in addition to the method; null for none.")
    balanced_patches: bool = Field(
        False, description="Draw target tiles such that their mean pseudo-labelled fractions are the source's."
    )
    statistics_only: bool = Field(
        False,
        description="The method's own control: losses on the target have weight 0, and nothing else is taken from it.",
    )
    robust_share: Fraction = Field(
        0.0,
        description="Share of the steps, at the beginning, that learn from the source only, while target tiles pass through "
        "batch normalisation.",
    )
    style_share: Fraction = Field(
        0.0,
        description="Share of source tiles that are moved, by a random part, to the target's radial spectrum and mean grey.",
    )
    ema_decay: float = Field(0.98, ge=0, lt=1, description="Decay of the averaged weights, which are also the teacher.")
    snapshot_every: int = Field(50, ge=1, description="Steps between two snapshots, which are scored without labels.")
    keep_snapshots: bool = Field(False, description="Keep the weights of every snapshot on disk.")
    fraction_drift: float = Field(
        2.5,
        gt=1,
        description="Factor by which phase fractions may leave those of the source and of the unadapted network.",
    )
    second_round: int = Field(
        0,
        ge=0,
        description="Further steps in which every fold learns from the pseudo-labels of the whole bag; 0 for none.",
    )
    mixed_precision: bool = Field(
        True, description="bf16 on a GPU that has it, else fp16 with a scaled loss; a CPU computes in fp32."
    )
    seed: int = Field(0, ge=0, description="Seed of everything that is drawn.")

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, tree: Any) -> Any:
        """`--set target_augmentation.strength=1` needs no `kind` for the default kind."""
        return with_kinds(tree, {"target_augmentation": "extended", "augmentation": "basic"})

    @model_validator(mode="after")
    def _controls_use_no_target(self) -> UdaRecipe:
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
    def _target_has_no_labels(self) -> UdaRecipe:
        if isinstance(self.target_augmentation, RandomisedAugmentation):
            raise ValueError("target_augmentation: randomised changes grey values by label, and a target has no labels")
        return self


def rounds(recipe: UdaRecipe) -> list[UdaRecipe]:
    """The recipe of each round: the recipe itself, and that of its second round if it has one."""
    if not recipe.second_round:
        return [recipe]
    second = {"steps": recipe.second_round, "robust_share": 0.0, "balanced_patches": True, "second_round": 0}
    return [recipe, recipe.model_copy(update=second)]


def longer_source(recipe: UdaRecipe) -> UdaRecipe:
    """The control of a recipe: as many steps on the source alone, with the same rates and augmentation."""
    return recipe.model_copy(
        update={
            "steps": recipe.steps + recipe.second_round, "second_round": 0, "method": SourceOnly(), "mic": None,
            "robust_share": 0.0, "style_share": 0.0, "balanced_patches": False, "statistics": "both", "statistics_only": False,
        }
    )  # fmt: skip
