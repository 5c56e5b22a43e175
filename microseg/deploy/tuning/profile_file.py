"""The schema of a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel

Positive = Annotated[int, Field(ge=1)]


class TuningProfile(FrozenModel):
    """The fastest way found to run one engine on one machine.

    max_tile_pixels: largest tile worth taking; null where as large as memory allows was fastest. field_px: (width,
    height) on the network's grid of the field that it was measured for. megapixels_per_second: of such fields, network
    alone. version: the runtime's. streams: OpenVINO's.
    """

    profile_version: Literal[1] = 1
    model_sha256: str
    machine_key: str
    machine: dict[str, Any]
    created: str
    runtime: Literal["onnxruntime", "openvino", "tensorrt"]
    version: str
    device: Literal["cpu", "cuda", "tensorrt"]
    threads: Positive | None
    streams: Positive = 1
    batch: Positive
    max_tile_pixels: Positive | None
    field_px: tuple[Positive, Positive]
    megapixels_per_second: float = Field(gt=0)


def read_profile(path: Path) -> TuningProfile:
    """A profile as `tune` wrote it. Raises InputError for anything else."""
    try:
        return TuningProfile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Remedy: --no-profile.") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "file"
        raise InputError(
            f"{path}: is no profile that this version reads ({where}: {problem['msg']}). Remedy: remove it and repeat "
            "`microseg tune`, or use --no-profile."
        ) from error
