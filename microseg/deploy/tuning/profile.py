"""The tuning profile of an engine on this machine, and the configuration that `segment` makes of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_config_path

from microseg.core.errors import InputError
from microseg.core.system.machine import machine_key
from microseg.deploy.pipeline.tile_memory import TileLimits, default_batch, max_tile_pixels, side_by_side, tile_pixels
from microseg.runtime import Device, EngineFile, Runtime, RuntimeConfig, choose

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest
    from microseg.deploy.tuning.profile_file import TuningProfile


@dataclass(frozen=True)
class SegmentConfig:
    """How `segment` runs an engine.

    Attributes:
        runtime_config: runtime, device, threads and streams.
        batch: tiles under way at once; None for the default.
        max_tile_pixels: the largest tile that the profile found worth its size; None for as large as memory allows.
        profile: the profile's file, where one is used.
    """

    runtime_config: RuntimeConfig
    batch: int | None
    max_tile_pixels: int | None
    profile: Path | None

    def limits(self, manifest: Manifest, engine_bytes: int, memory_mb: int | None) -> TileLimits:
        """Tiles under way at once and their size.

        Args:
            manifest: the engine's manifest.
            engine_bytes: size of the engine's file.
            memory_mb: memory to stay within, in 10**6 bytes; None for the default, or what the profile found.

        Raises:
            InputError: `memory_mb` leaves no room for a tile.
        """
        largest = tile_pixels(max_tile_pixels(manifest, engine_bytes, memory_mb), self.runtime_config)
        if memory_mb is None and self.max_tile_pixels is not None:
            largest = min(largest, self.max_tile_pixels)
        return TileLimits(
            largest, self.batch or default_batch(manifest, self.runtime_config), self.runtime_config.streams
        )


def segment_config(
    source: Path | EngineFile,
    *,
    runtime: Runtime | None,
    device: Device | None,
    threads: int | None,
    batch: int | None,
    use_profile: bool,
    memory_mb: int | None = None,
) -> SegmentConfig:
    """The configuration for an engine: the user's options win, then the profile of this machine, then file and hardware.

    A profile of another runtime or device than the user's is not used.

    Args:
        source: the engine's file.
        runtime: the library that computes, or None.
        device: what computes, or None.
        threads: CPU threads, or None.
        batch: tiles under way at once, or None.
        use_profile: whether to look for a profile.
        memory_mb: memory to stay within, in 10**6 bytes, or None. Two tiles side by side need room for both.

    Raises:
        InputError: the combination is impossible, or the profile is damaged.
        MissingExtraError: the runtime is not installed.
    """
    engine = EngineFile.of(source)
    found = find_profile(engine) if use_profile else None
    if found is not None:
        path, profile = found
        if runtime in (None, profile.runtime) and device in (None, profile.device):
            try:
                runtime_config = choose(
                    engine, profile.runtime, profile.device, threads or profile.threads, profile.streams
                )
            except InputError as error:
                raise InputError(
                    f"{path}: the configuration of this profile is not available: {error} Or use --no-profile."
                ) from error
            return SegmentConfig(runtime_config, batch or profile.batch, profile.max_tile_pixels, path)
    return SegmentConfig(side_by_side(engine, choose(engine, runtime, device, threads), memory_mb), batch, None, None)


def profile_path(model_sha256: str) -> Path:
    """The file of an engine's profile on this machine, in the user's configuration folder.

    The environment variable `MICROSEG_CONFIG` names another folder, for services and shared stations.

    Args:
        model_sha256: SHA-256 of the engine's network.
    """
    return _config_folder() / "profiles" / f"{model_sha256[:16]}-{machine_key()}.json"


def find_profile(engine: EngineFile) -> tuple[Path, TuningProfile] | None:
    """The file and content of this engine's profile on this machine, else None. Raises InputError where it is damaged."""
    if not (_config_folder() / "profiles").is_dir():
        return None
    content = engine.unchecked_manifest
    try:
        model = str(content["plan"]["plan_sha256"] if content.get("plan") else content["model_sha256"])
    except (KeyError, TypeError):
        return None  # the check of the manifest reports what is wrong
    path = profile_path(model)
    if not path.is_file():
        return None
    # Imported here: the schema takes a tenth of a second, which a station without profiles does not wait for.
    from microseg.deploy.tuning.profile_file import read_profile

    profile = read_profile(path)
    if profile.model_sha256 != model or profile.machine_key != machine_key():
        raise InputError(
            f"{path}: belongs to another engine or machine. Remedy: repeat `microseg tune {engine.path}` here, remove the "
            "file, or use --no-profile."
        )
    return path, profile


def _config_folder() -> Path:
    if given := os.environ.get("MICROSEG_CONFIG"):
        return Path(given)
    return user_config_path("microseg", appauthor=False, roaming=True)
