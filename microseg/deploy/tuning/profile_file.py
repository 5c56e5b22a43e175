"""The schema of a tuning profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from microseg.core.schemas.versioned import VersionedModel

PROFILE_VERSION = 1
Positive = Annotated[int, Field(ge=1)]


class TuningProfile(VersionedModel):
    """The fastest configuration that `tune` found for one engine on one machine."""

    schema_name: ClassVar[str] = "tuning-profile"
    schema_version: ClassVar[tuple[int, int]] = (PROFILE_VERSION, 0)
    version_key: ClassVar[str] = "profile_version"

    profile_version: int = Field(PROFILE_VERSION, description="Version of the profile.")
    model_sha256: str = Field(
        description="SHA-256 of the engine's network: of an ONNX file without metadata, or of a plan."
    )
    machine_key: str = Field(description="Key of the machine; a profile is used on this machine only.")
    machine: dict[str, Any] = Field(description="The machine: processor, memory, card, system.")
    created: str = Field(description="Time of the measurement, ISO 8601.")
    runtime: Literal["onnxruntime", "openvino", "tensorrt"] = Field(description="Library that computes.")
    version: str = Field(description="Version of the library.")
    device: Literal["cpu", "cuda", "tensorrt"] = Field(description="Device that computes.")
    threads: Positive | None = Field(description="CPU threads of the network; null for the library's own choice.")
    streams: Positive = Field(1, description="Calls of the engine under way at once.")
    batch: Positive = Field(description="Tiles under way at once.")
    max_tile_pixels: Positive | None = Field(
        description="Largest tile, pixels; null where tiles as large as memory allows are fastest."
    )
    field_px: tuple[Positive, Positive] = Field(
        description="Width and height of the measured field on the network's grid, pixels."
    )
    megapixels_per_second: float = Field(gt=0, description="Speed of the network on such fields, megapixels/s.")


def read_profile(path: Path) -> TuningProfile:
    """Read a profile that `tune` wrote.

    Args:
        path: the profile's file.

    Raises:
        InputError: the file cannot be read, is damaged, or is of a newer microseg.
    """
    return TuningProfile.read_json(path, "the tuning profile", "repeat `microseg tune`, or use --no-profile")
