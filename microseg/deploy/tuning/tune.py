"""`microseg tune`: measure which configuration runs an engine fastest on this machine.

A candidate runs as `segment` runs it: with the tiles that its plan cuts a field into, in its batch. Each candidate gets a
warm-up, which does not count, and the median of several calls. One setting is varied at a time, starting from the best
candidate so far; settings that promise most come first. A plan has as many of its own batches under way as the batch holds. On
processors the streams share the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from microseg.core.schemas.manifest import Manifest
from microseg.core.system.files import require_writable, write_json, writing
from microseg.core.system.machine import machine, machine_key
from microseg.core.system.processor_count import usable_processors
from microseg.deploy.pipeline.tile_memory import default_batch, max_tile_pixels, side_by_side
from microseg.deploy.tuning.bench import Bench, Trial, TuningCandidate
from microseg.deploy.tuning.profile import profile_path
from microseg.deploy.tuning.profile_file import TuningProfile
from microseg.runtime import Device, EngineFile, Runtime, RuntimeConfig, choose
from microseg.runtime.onnxruntime_library import onnxruntime_library
from microseg.runtime.runtime_config import cpu_runtimes

# A gain below 3 % is noise; the simpler setting stays.
_WORTH = 0.97
_BATCHES = (1, 2, 4, 8)
_PLAN_BATCHES = (1, 2, 4)
_PARTS = (2, 4, 9)


@dataclass(frozen=True)
class TuneResult:
    """What `tune` found.

    Attributes:
        trials: all trials, the default first.
        best: the one that the profile keeps.
        profile: the profile.
        path: the profile's file.
        complete: whether the time was enough for every candidate.
    """

    trials: list[Trial]
    best: Trial
    profile: TuningProfile
    path: Path
    complete: bool


def tune(
    engine: Path,
    *,
    seconds: float = 120.0,
    field_px: tuple[int, int] = (1024, 768),
    memory_mb: int | None = None,
    runtime: Runtime | None = None,
    device: Device | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> TuneResult:
    """Measure candidates and write the profile that `segment` uses from then on.

    Args:
        engine: the engine's file.
        seconds: time to spend; the default configuration is always measured.
        field_px: (width, height) of a typical field on the network's grid, in pixels.
        memory_mb: memory to stay within, in 10**6 bytes; None for the default.
        runtime: measure this library only.
        device: measure this device only.
        on_trial: gets each trial.

    Raises:
        InputError: wrong engine or options, or the profile cannot be written.
        MissingExtraError: the runtime is not installed.
        FieldError: the default configuration does not compute.
    """
    with EngineFile(engine).unchanged() as file:
        manifest = file.require_intact().manifest
        path = profile_path(manifest.network_sha256)
        require_writable(path)
        allowed = max_tile_pixels(manifest, file.size_bytes, memory_mb)
        default = side_by_side(file, choose(file, runtime, device), memory_mb)
        bench = Bench(file, field_px, allowed, seconds, on_trial)
        best = bench.measure(TuningCandidate(default, batch=default_batch(manifest, default)))
        complete = True
        for candidates in (
            _runtimes(default, runtime, device),
            _threads,
            _streams(default, runtime),
            _tiles(field_px, allowed),
            _batches(manifest),
        ):
            for candidate in candidates(best.candidate):
                if bench.is_over:
                    complete = False
                    break
                trial = bench.measure(candidate)
                if _is_faster(trial, best):
                    best = trial
        bench.close()
    profile = _profile(manifest, best, field_px, bench.version_of(best.candidate.runtime_config.runtime))
    with writing(path):
        write_json(path, profile.model_dump(mode="json"))
    return TuneResult(bench.trials, best, profile, path, complete)


Candidates = Callable[[TuningCandidate], Iterator[TuningCandidate]]


def _runtimes(default: RuntimeConfig, asked: Runtime | None, device: Device | None) -> Candidates:
    """The other runtime on the CPU; on a GPU ONNX Runtime's TensorRT provider beside CUDA."""

    def candidates(best: TuningCandidate) -> Iterator[TuningCandidate]:
        if asked is None and default.device == "cpu":
            for name in cpu_runtimes():
                if name != default.runtime:
                    yield replace(best, runtime_config=replace(default, runtime=name, streams=1), batch=1)
        is_cuda = (default.runtime, default.device, device) == ("onnxruntime", "cuda", None)
        if is_cuda and "TensorrtExecutionProvider" in onnxruntime_library().get_available_providers():
            yield replace(best, runtime_config=replace(default, device="tensorrt"))

    return candidates


def _threads(best: TuningCandidate) -> Iterator[TuningCandidate]:
    """All processors that the process may use, one thread less, and half of the threads."""
    if best.runtime_config.device != "cpu":
        return
    now = best.runtime_config.threads or usable_processors()
    for number in sorted({usable_processors(), max(1, now - 1), max(1, now // 2)} - {now}, reverse=True):
        streams = min(best.runtime_config.streams, number)
        yield replace(best, runtime_config=replace(best.runtime_config, threads=number, streams=streams), batch=streams)


def _streams(default: RuntimeConfig, asked: Runtime | None) -> Candidates:
    """Several tiles side by side, each on its share of the threads; OpenVINO also where it was slower with one stream."""

    def candidates(best: TuningCandidate) -> Iterator[TuningCandidate]:
        if default.device != "cpu":
            return
        threads = best.runtime_config.threads or usable_processors()
        for runtime in cpu_runtimes():
            if runtime not in (best.runtime_config.runtime, asked or "openvino"):
                continue
            tried = best.runtime_config.streams if best.runtime_config.runtime == runtime else 1
            for number in sorted({1, 2, threads // 2, threads} - {0, tried}):
                if number <= threads:
                    config = replace(best.runtime_config, runtime=runtime, streams=number)
                    yield replace(best, runtime_config=config, batch=number)

    return candidates


def _tiles(field_px: tuple[int, int], allowed: int) -> Candidates:
    """Smaller tiles: more halo, but they may stay in the cache."""

    def candidates(best: TuningCandidate) -> Iterator[TuningCandidate]:
        whole = min(allowed, field_px[0] * field_px[1])
        for parts in _PARTS:
            yield replace(best, max_tile_pixels=whole // parts)

    return candidates


def _batches(manifest: Manifest) -> Candidates:
    """Other batches: multiples of the plan's own batch, or of the streams."""

    def candidates(best: TuningCandidate) -> Iterator[TuningCandidate]:
        numbers, one = (
            (_BATCHES, best.runtime_config.streams)
            if manifest.plan is None
            else (_PLAN_BATCHES, manifest.plan.batch.opt)
        )
        for batch in (number * one for number in numbers):
            if batch != best.batch:
                yield replace(best, batch=batch)

    return candidates


def _is_faster(trial: Trial, best: Trial) -> bool:
    new, old = trial.megapixels_per_second, best.megapixels_per_second
    return new is not None and old is not None and old < _WORTH * new


def _profile(manifest: Manifest, best: Trial, field_px: tuple[int, int], version: str) -> TuningProfile:
    candidate = best.candidate
    assert best.megapixels_per_second is not None
    return TuningProfile(
        model_sha256=manifest.network_sha256,
        machine_key=machine_key(),
        machine=machine(),
        created=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        runtime=candidate.runtime_config.runtime,
        version=version,
        device=candidate.runtime_config.device,
        threads=candidate.runtime_config.threads,
        streams=candidate.runtime_config.streams,
        batch=candidate.batch,
        max_tile_pixels=candidate.max_tile_pixels,
        field_px=field_px,
        megapixels_per_second=round(best.megapixels_per_second, 4),
    )
