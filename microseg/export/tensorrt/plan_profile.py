"""Engine profiles: what a TensorRT plan is built for, found by name or file in the top-level export/ folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.plan import HardwareCompatibility, SizeRange
from microseg.core.schemas.validation import problems, told
from microseg.core.system.files import read_yaml

PACKAGED = Path(__file__).parents[1] / "profiles"
CHECKOUT = Path(__file__).parents[3] / "export"

ComputeCapability = Literal["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"]


class _Shapes(FrozenModel):
    tile_px: SizeRange
    batch: SizeRange
    workspace_mb: int | None = Field(None, gt=0)
    keep_probability: bool = False
    tf32: bool = False
    refittable: bool = False


class RtxProfile(_Shapes):
    """A plan of TensorRT for RTX: built on any machine, its kernels compiled on the station at first use.

    tile_px: height and width of a tile, each. batch: tiles at once. workspace_mb: scratch memory of a layer at most, by
    default what the card has. keep_probability: keep that output, float32 (N, P, H, W). tf32: let float32 layers
    multiply in TensorFloat-32 (10 bits of mantissa). refittable: weights can be exchanged later; needs a card to build.
    compute_capabilities: the cards to serve; by default all from Ampere on that this version of TensorRT serves.
    """

    flavour: Literal["tensorrt_rtx"] = "tensorrt_rtx"
    compute_capabilities: tuple[ComputeCapability, ...] = ()


class FullProfile(_Shapes):
    """A plan of full TensorRT: built and tuned on the card it will run on. The shared keys: see RtxProfile.

    hardware_compatibility: the other cards it may run on, at some loss. version_compatible: run by the lean runtime,
    also of a newer version of the same major. timing_cache: keep the measured tactics beside the plan, which makes the
    next build faster.
    """

    flavour: Literal["tensorrt"] = "tensorrt"
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    timing_cache: bool = True


PlanProfile = RtxProfile | FullProfile
_CHECKED: TypeAdapter[PlanProfile] = TypeAdapter(Annotated[PlanProfile, Field(discriminator="flavour")])


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load_profile(name_or_file: str) -> tuple[str, PlanProfile]:
    """(name, profile) from a shipped name or a YAML file; the name is what `--profile` takes, less the folder.

    Raises InputError that names the key, what was given and what is allowed.
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
        raise InputError(f"{path}: {told(problems(error, content, *get_args(PlanProfile)))}") from error


def require_stride(name: str, profile: PlanProfile, stride: int) -> None:
    """Raise InputError where a tile of the profile is not a multiple of the engine's stride."""
    for key, size in profile.tile_px.model_dump().items():
        if size % stride:
            raise InputError(
                f"profile {name}: tile_px.{key} = {size} is no multiple of the engine's stride of {stride} px. "
                f"Remedy: {max(size // stride, 1) * stride} or {(size // stride + 1) * stride}."
            )


def _folder() -> Path:
    """Profiles inside an installed package, or the checkout's top-level export/ of an editable install."""
    return PACKAGED if PACKAGED.is_dir() else CHECKOUT
