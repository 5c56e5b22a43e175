"""Plan profiles: the tiles, batches and cards that a TensorRT plan is built for. The top-level export/ holds shipped ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from microseg.core.content_problems import problems, told
from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.plan import HardwareCompatibility, SizeRange
from microseg.core.system.yaml_file import read_yaml

PACKAGED = Path(__file__).parents[1] / "profiles"
CHECKOUT = Path(__file__).parents[3] / "export"

ComputeCapability = Literal["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"]


class _Shapes(FrozenModel):
    tile_px: SizeRange = Field(
        description="Height and width of a tile, px: `min`, `opt` and `max`, multiples of the engine's stride."
    )
    batch: SizeRange = Field(
        description="Tiles at once: `min`, `opt` and `max`. microseg runs `opt` tiles at a time, two such batches on their way."
    )
    workspace_mb: int | None = Field(
        None, gt=0, description="Largest scratch memory of a layer, MB. Default: the memory of the card."
    )
    keep_probability: bool = Field(
        False, description="Keep the output `probability`, 4 bytes for each phase and pixel of a tile."
    )
    tf32: bool = Field(False, description="Let float32 layers multiply in TensorFloat-32: faster, 10 bits of mantissa.")
    refittable: bool = Field(
        False,
        description="Allow other weights in the plan later (`--refit`). Slower; needs a card to build. Not with "
        "`version_compatible`.",
    )


class RtxProfile(_Shapes):
    """A plan of TensorRT for RTX: built on any machine; the station compiles its kernels at first use."""

    flavour: Literal["tensorrt_rtx"] = Field("tensorrt_rtx", description="The TensorRT that builds and runs the plan.")
    compute_capabilities: tuple[ComputeCapability, ...] = Field(
        (),
        description='Cards to serve, such as `["8.6", "8.9"]`. Default: all from Ampere on that this TensorRT serves.',
    )


class FullProfile(_Shapes):
    """A plan of full TensorRT: built and tuned on the card that will run it."""

    flavour: Literal["tensorrt"] = Field("tensorrt", description="The TensorRT that builds and runs the plan.")
    hardware_compatibility: HardwareCompatibility = Field(
        "none",
        description="Other cards that may run the plan, more slowly: `none`, `same_compute_capability` or `ampere_plus`.",
    )
    version_compatible: bool = Field(
        False,
        description="Build for the lean runtime (`microseg[tensorrt-lean]`) of this or a newer version of the same major. "
        "The plan carries no runtime, so opening it never runs code from the file.",
    )
    timing_cache: bool = Field(
        True, description="Keep the measured times in a `.timing` file beside the plan; the next build is faster."
    )


PlanProfile = RtxProfile | FullProfile
_CHECKED: TypeAdapter[PlanProfile] = TypeAdapter(Annotated[PlanProfile, Field(discriminator="flavour")])


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load_profile(name_or_file: str) -> tuple[str, PlanProfile]:
    """Read a profile.

    Args:
        name_or_file: name of a shipped profile, or a YAML file.

    Returns:
        The name, without folder, and the profile.

    Raises:
        InputError: no such profile, or a wrong key or value. The message names the key, the value and what is allowed.
    """
    path, name = Path(name_or_file), Path(name_or_file).name
    if path.suffix not in (".yaml", ".yml"):
        path = _folder() / f"{name_or_file}.yaml"
        if not path.is_file():
            raise InputError(
                f"--profile {name_or_file}: no such profile. Remedy: one of {', '.join(profile_names())}, or a YAML file."
            )
    content = read_yaml(path)
    try:
        return name, _CHECKED.validate_python(content)
    except ValidationError as error:
        raise InputError(
            f"{path}: {told(problems(error, content, *get_args(PlanProfile)))}. Remedy: correct the profile."
        ) from error


def require_stride(name: str, profile: PlanProfile, stride: int) -> None:
    """Raise InputError where a tile of the profile is not a multiple of the engine's stride."""
    for key, size in profile.tile_px.model_dump().items():
        if size % stride:
            raise InputError(
                f"profile {name}: tile_px.{key} = {size} is not a multiple of the engine's stride of {stride} px. "
                f"Remedy: {max(size // stride, 1) * stride} or {(size // stride + 1) * stride}."
            )


def _folder() -> Path:
    """The profiles of an installed package, or the top-level export/ of a checkout."""
    return PACKAGED if PACKAGED.is_dir() else CHECKOUT
