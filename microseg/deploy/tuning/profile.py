"""What `tune` found out on this machine for one engine, and how `segment` is set up from it."""

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
    """How an engine is run. None is the default of `segment`. profile: the file that it comes from."""

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
    """What the user asked for, then what `tune` measured on this machine, then what file and hardware suggest.

    memory_mb: 10**6 bytes to stay within, or None; two tiles side by side need room for both.
    A profile of another runtime or device than the one asked for says nothing and is left alone. Raises InputError
    (also for a damaged profile), MissingExtraError.
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
                    f"{path}: what this profile asks for cannot be had: {error} Or --no-profile."
                ) from error
            return SegmentConfig(runtime_config, batch or profile.batch, profile.max_tile_pixels, path)
    return SegmentConfig(side_by_side(engine, choose(engine, runtime, device, threads), memory_mb), batch, None, None)


def profile_path(model_sha256: str) -> Path:
    """Where the profile of an engine on this machine is kept, in the user's configuration folder.

    `MICROSEG_CONFIG` names another folder, for services and shared stations.
    """
    return _config_folder() / "profiles" / f"{model_sha256[:16]}-{machine_key()}.json"


def find_profile(engine: EngineFile) -> tuple[Path, TuningProfile] | None:
    """The profile of this engine on this machine. Raises InputError if it is damaged, or of another engine or machine."""
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
    # Here, because checking it takes a tenth of a second that a station without profiles need not wait for.
    from microseg.deploy.tuning.profile_file import read_profile

    profile = read_profile(path)
    if profile.model_sha256 != model or profile.machine_key != machine_key():
        raise InputError(
            f"{path}: is of another engine or machine. Remedy: remove it, repeat `microseg tune {engine.path}` here, or use "
            "--no-profile."
        )
    return path, profile


def _config_folder() -> Path:
    if given := os.environ.get("MICROSEG_CONFIG"):
        return Path(given)
    return user_config_path("microseg", appauthor=False, roaming=True)
