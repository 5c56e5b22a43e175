"""Time an engine in one configuration after another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.agreement.check_table import CheckTable
from microseg.agreement.labels import compare_labels, mean_fractions
from microseg.core.errors import MicrosegError
from microseg.core.preparation.tiling import plan_tiles
from microseg.core.schemas.reference import unpack
from microseg.core.schemas.tolerance import LIMITS
from microseg.deploy.pipeline.tile_memory import tile_pixels
from microseg.runtime import Engine, EngineFile, RuntimeConfig, open_configured

_REPEATS = 3
_MOST_REPEATS = 15
# A configuration is measured for at least this share of the time.
_SHARE = 0.05


@dataclass(frozen=True)
class TuningCandidate:
    """One configuration.

    Attributes:
        runtime_config: runtime, device, threads and streams.
        max_tile_pixels: the largest tile in pixels; None for as large as memory allows.
        batch: tiles under way at once.
    """

    runtime_config: RuntimeConfig
    max_tile_pixels: int | None = None
    batch: int = 1


@dataclass(frozen=True)
class Trial:
    """A configuration and its speed.

    Attributes:
        candidate: the configuration.
        tile_px: (width, height) of a tile in pixels.
        tiles: number of tiles of a field.
        megapixels_per_second: speed in pixels of fields, halo and mirrored border not counted; None where it failed.
        repeats: number of calls; the speed is that of their median.
        note: why it failed, else "".
    """

    candidate: TuningCandidate
    tile_px: tuple[int, int]
    tiles: int
    megapixels_per_second: float | None
    repeats: int
    note: str = ""


class Bench:
    """Opens engines and measures times. Candidates of the same runtime and threads share one open engine.

    Args:
        file: the engine.
        field_px: width and height of a field in pixels.
        allowed: pixels of all tiles under way at once.
        seconds: how long all trials may take together.
        on_trial: called after each trial.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        file: EngineFile,
        field_px: tuple[int, int],
        allowed: int,
        seconds: float,
        on_trial: Callable[[Trial], None],
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.trials: list[Trial] = []
        self._file = file
        self._manifest = file.manifest
        self._field_px = field_px
        self._allowed = allowed
        self._clock = clock
        self._until = clock() + seconds
        self._least = _SHARE * seconds
        self._on_trial = on_trial
        self._engine: Engine | None = None
        self._refusal = ""
        self._versions: dict[str, str] = {}
        self._image = _texture(*field_px)
        self._tiles = self._compared()
        self._wanted: list[NDArray[np.uint8]] = []

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self._clock() >= self._until

    def measure(self, candidate: TuningCandidate) -> Trial:
        """Measure one candidate. One that fails, or whose labels differ from the default's, gets a note and no speed.

        Args:
            candidate: the configuration. The first one is the default.

        Raises:
            MicrosegError: the default fails.
        """
        width, height = self._field_px
        largest = tile_pixels(self._allowed, candidate.runtime_config)
        largest = min(largest, candidate.max_tile_pixels or largest)
        shape, number, speed, repeats, note = (0, 0), 0, None, 0, ""
        try:
            manifest = self._manifest
            plan = plan_tiles(height, width, manifest.stride, manifest.halo_px, largest, manifest.max_side_px)
            shape, number = (plan[0].width, plan[0].height), len(plan)
            fitting = candidate.runtime_config.streams * max(1, largest // (plan[0].width * plan[0].height))
            if not self.trials:
                candidate = replace(candidate, batch=min(candidate.batch, fitting))  # as `segment` does
            if candidate.batch > fitting:
                note = "the batch exceeds the memory limit"
            else:
                engine = self._opened(candidate.runtime_config)
                note = self._refusal
                if not note:
                    batch = np.repeat(_tile(self._image, shape)[None, None], candidate.batch, 0)
                    times = self._times(engine, batch)
                    per_field = statistics.median(times) * number / candidate.batch
                    speed, repeats = width * height / 1e6 / per_field, len(times)
        except MicrosegError as error:
            if not self.trials:
                raise
            note = str(error)
        trial = Trial(candidate, shape, number, speed, repeats, note)
        self.trials.append(trial)
        self._on_trial(trial)
        return trial

    def version_of(self, runtime: str) -> str:
        """The version of a measured runtime."""
        return self._versions[runtime]

    def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _compared(self) -> list[NDArray[np.uint8]]:
        """Tiles (H, W) on which each configuration must give the labels of the default."""
        if (reference := self._file.reference) is not None:
            return [unpack(tile, len(self._manifest.folds))[0] for tile in reference.tiles]
        side = 8 * self._manifest.stride
        if (plan := self._manifest.plan) is not None:
            side = min(max(side, plan.tile_px.min), plan.tile_px.max)
        return [_tile(self._image, (side, side))]

    def _opened(self, runtime_config: RuntimeConfig) -> Engine:
        if self._engine is None or self._engine.config != runtime_config:
            self.close()
            self._engine = open_configured(self._file, runtime_config)
            self._versions[runtime_config.runtime] = self._engine.version
            self._refusal = self._differs(self._engine)
        return self._engine

    def _differs(self, engine: Engine) -> str:
        """How the labels of an engine differ from the default's, beyond the limits of its precision; "" where they agree.

        The comparison uses the engine's reference tiles, or the texture without them, as many at once as there are streams.
        """
        manifest, streams = self._manifest, engine.config.streams
        found = [
            labels for tile in self._tiles for labels in engine.run(np.repeat(tile[None, None], streams, 0)).labels
        ]
        if not self._wanted:
            self._wanted = found[::streams]
        wanted = [labels for labels in self._wanted for _ in range(streams)]
        phases = [phase.name for phase in manifest.phases]
        table = CheckTable(phases, LIMITS[manifest.precision])
        table.compare("tiles", compare_labels(found, wanted, len(phases)), mean_fractions(wanted, len(phases)))
        failed = [row.text for row in table.checks if not row.passed]
        return f"differs from the default: {'; '.join(failed)}" if failed else ""

    def _times(self, engine: Engine, batch: NDArray[np.uint8]) -> list[float]:
        """Seconds of each call with the batch, which the engine's streams share, after a warm-up."""
        times: list[float] = []
        calls = np.array_split(batch, min(engine.config.streams, len(batch)))
        with ThreadPoolExecutor(len(calls)) as streams:
            list(streams.map(engine.run, calls))
            begun = self._clock()
            while len(times) < _REPEATS or (len(times) < _MOST_REPEATS and self._clock() - begun < self._least):
                start = self._clock()
                list(streams.map(engine.run, calls))
                times.append(self._clock() - start)
        return times


def _texture(width: int, height: int) -> NDArray[np.uint8]:
    """Smooth noise over all grey values, uint8 (height, width)."""
    noise = np.random.default_rng(0).standard_normal((height, width)).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), 4))
    return np.asarray((smooth - smooth.min()) * (255 / np.ptp(smooth))).astype(np.uint8)


def _tile(image: NDArray[np.uint8], tile_px: tuple[int, int]) -> NDArray[np.uint8]:
    """A tile, uint8 (height, width), of the texture, which is repeated where the tile is larger."""
    return np.resize(image, (tile_px[1], tile_px[0])) if image.shape != tile_px[::-1] else image
