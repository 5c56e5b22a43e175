"""Profiles: measured, found again, and left alone where they are not meant."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microseg.core.errors import InputError
from microseg.deploy.pipeline.tile_memory import PLAN_BATCHES
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.tuning import profile
from microseg.deploy.tuning.bench import Bench, Trial, TuningCandidate
from microseg.deploy.tuning.profile import find_profile, profile_path, segment_config
from microseg.deploy.tuning.tune import tune
from microseg.runtime import EngineFile, EngineOutput, Runtime, RuntimeConfig, choose, read_manifest
from tests.engines import with_reference, write_threshold_engine
from tests.plans import write_plan

UNASKED: dict[str, Any] = {"runtime": None, "device": None, "threads": None, "batch": None, "use_profile": True}


@pytest.fixture(autouse=True)
def _configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSEG_CONFIG", str(tmp_path / "configuration"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[TuningCandidate]:
    """Times by formula instead of by clock: two threads, tiles of a quarter field and OpenVINO are fastest."""
    seen: list[TuningCandidate] = []

    def measure(self: Bench, candidate: TuningCandidate) -> Trial:
        seen.append(candidate)
        runtime_config = candidate.runtime_config
        speed = 1.0 + (runtime_config.runtime == "openvino") + (runtime_config.threads == 2) / 2
        speed += (candidate.max_tile_pixels == 32 * 32) / 4 + 0.001 * candidate.batch
        self._versions[runtime_config.runtime] = "1.0"
        return Trial(candidate, (8, 8), 1, speed, 3)

    monkeypatch.setattr(Bench, "measure", measure)
    monkeypatch.setattr("microseg.deploy.tuning.tune.usable_processors", lambda: 2)
    monkeypatch.setattr("microseg.runtime.runtime_config.compute_threads", lambda: 1)
    return seen


def test_the_best_of_each_setting_is_kept(tiny_engine: Path, quick: list[TuningCandidate]) -> None:
    found = tune(tiny_engine, field_px=(64, 64))
    best = found.profile
    assert (best.runtime, best.threads, best.max_tile_pixels, best.batch) == ("openvino", 2, 1024, 1)
    assert best.model_sha256 == read_manifest(tiny_engine).model_sha256 and found.complete
    assert quick[0] == TuningCandidate(choose(tiny_engine))
    config = segment_config(tiny_engine, **UNASKED)
    assert config.profile == found.path == profile_path(best.model_sha256)
    assert (config.runtime_config.runtime, config.runtime_config.threads, config.max_tile_pixels, config.batch) == (
        "openvino",
        2,
        1024,
        1,
    )


@pytest.mark.parametrize("asked", [None, "openvino"])
def test_streams_are_tried_where_openvino_is(
    tiny_engine: Path, monkeypatch: pytest.MonkeyPatch, asked: Runtime | None
) -> None:
    """With one stream OpenVINO is the slower runtime, with two the faster."""
    seen: list[TuningCandidate] = []

    def measure(self: Bench, candidate: TuningCandidate) -> Trial:
        seen.append(candidate)
        runtime_config = candidate.runtime_config
        self._versions[runtime_config.runtime] = "1.0"
        speed = 1.0 if runtime_config.runtime == "onnxruntime" else 0.8 * runtime_config.streams
        return Trial(candidate, (8, 8), 1, speed, 3)

    monkeypatch.setattr(Bench, "measure", measure)
    monkeypatch.setattr("microseg.deploy.tuning.tune.usable_processors", lambda: 4)
    monkeypatch.setattr("microseg.runtime.runtime_config.compute_threads", lambda: 4)
    monkeypatch.setattr("microseg.runtime.runtime_config.usable_processors", lambda: 4)
    best = tune(tiny_engine, field_px=(64, 64), runtime=asked).profile
    assert (best.runtime, best.streams, best.threads, best.batch) == ("openvino", 4, 4, 4)
    assert [candidate.batch for candidate in seen if candidate.runtime_config.streams == 4][-3:] == [8, 16, 32]
    config = segment_config(tiny_engine, **UNASKED)
    assert (config.runtime_config, config.batch) == (RuntimeConfig("openvino", "cpu", 4, 4), 4)
    seen.clear()
    assert tune(tiny_engine, field_px=(64, 64), runtime="onnxruntime").profile.streams == 2  # none is faster
    assert {candidate.runtime_config.runtime for candidate in seen} == {"onnxruntime"}
    assert {candidate.runtime_config.streams for candidate in seen} == {1, 2, 4}


def test_on_a_gpu_the_tensorrt_provider_is_tried(tiny_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    seen: list[TuningCandidate] = []

    def measure(self: Bench, candidate: TuningCandidate) -> Trial:
        seen.append(candidate)
        self._versions[candidate.runtime_config.runtime] = "1.0"
        return Trial(candidate, (8, 8), 1, 1.0 + (candidate.runtime_config.device == "tensorrt"), 3)

    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(Bench, "measure", measure)
    monkeypatch.setattr("microseg.runtime.runtime_config.gpu_present", lambda: True)
    for available, device in ((providers, "tensorrt"), (providers[1:], "cuda")):
        seen.clear()
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda available=available: available)
        assert tune(tiny_engine, field_px=(64, 64)).profile.device == device
        assert seen[0].runtime_config.device == "cuda" and {candidate.runtime_config.runtime for candidate in seen} == {
            "onnxruntime"
        }
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    assert tune(tiny_engine, field_px=(64, 64), device="cuda").profile.device == "cuda"


def test_a_plan_is_tuned_from_what_segment_runs_it_with(
    tiny_engine: Path, quick: list[TuningCandidate], tmp_path: Path
) -> None:
    tune(write_plan(tiny_engine, tmp_path / "bagged.plan"), field_px=(64, 64))
    plan = read_manifest(tmp_path / "bagged.plan").plan
    assert plan is not None
    assert [candidate.batch // plan.batch.opt for candidate in (quick[0], *quick[-2:])] == [PLAN_BATCHES, 1, 4]


def test_an_engine_that_cannot_be_opened_is_told_once(tiny_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise InputError("bagged.plan: needs a GPU. Remedy: one.")

    monkeypatch.setattr("microseg.deploy.tuning.bench.open_configured", refuse)
    with pytest.raises(InputError, match=r"^bagged\.plan: needs a GPU"):
        tune(tiny_engine, seconds=1, field_px=(64, 64))


@pytest.mark.usefixtures("quick")
def test_no_profile_of_an_engine_that_changed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = write_threshold_engine(tmp_path / "e.onnx")
    sha256 = read_manifest(engine).model_sha256

    def replaced(self: Bench, candidate: TuningCandidate) -> Trial:
        write_threshold_engine(engine, thresholds=((0.1,), (0.1,)))
        return Trial(candidate, (8, 8), 1, 1.0, 3)

    monkeypatch.setattr(Bench, "measure", replaced)
    with pytest.raises(InputError, match=r"e\.onnx: changed while it was read"):
        tune(engine, field_px=(64, 64))
    assert not profile_path(sha256).exists()


@pytest.mark.usefixtures("quick")  # by the clock either runtime may be the faster
def test_what_the_user_says_wins(tiny_engine: Path) -> None:
    tune(tiny_engine, field_px=(64, 64))
    assert segment_config(tiny_engine, **UNASKED | {"threads": 1}).runtime_config.threads == 1
    assert segment_config(tiny_engine, **UNASKED | {"batch": 5}).batch == 5
    assert segment_config(tiny_engine, **UNASKED | {"runtime": "openvino"}).profile is not None
    other = segment_config(tiny_engine, **UNASKED | {"runtime": "onnxruntime"})
    assert (other.profile, other.max_tile_pixels, other.runtime_config.runtime) == (None, None, "onnxruntime")
    assert segment_config(tiny_engine, **UNASKED | {"use_profile": False}).profile is None


@pytest.mark.usefixtures("quick")
def test_other_engines_and_machines(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tune(tiny_engine, field_px=(64, 64)).path
    other = write_threshold_engine(tmp_path / "other.onnx", [(0.3,)])
    assert find_profile(EngineFile(other)) is None
    copied = profile_path(read_manifest(other).model_sha256)
    copied.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="belongs to another engine or machine"):
        find_profile(EngineFile(other))
    content = json.loads(path.read_text(encoding="utf-8"))
    for damage in ("{", json.dumps(content | {"threads": 0}), json.dumps(content | {"colour": "blue"})):
        path.write_text(damage, encoding="utf-8")
        with pytest.raises(InputError, match=r"the tuning profile (is damaged|comes from a newer microseg)"):
            find_profile(EngineFile(tiny_engine))
    monkeypatch.setattr(profile, "machine_key", lambda: "f" * 16)
    assert find_profile(EngineFile(tiny_engine)) is None


def test_segment_says_that_it_was_tuned(tiny_engine: Path, wafer: Callable[..., Path], tmp_path: Path) -> None:
    folder = wafer(2)
    before = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "before"))
    assert before.summary["run"]["profile"] is None
    assert before.summary["settings"]["runtime"] == "onnxruntime"
    found = tune(tiny_engine, seconds=1, field_px=(128, 96), runtime="openvino")
    after = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "after"))
    assert after.summary["run"]["profile"] == str(found.path)
    assert after.summary["run"]["runtime"].startswith("openvino 20")
    assert after.summary["settings"]["runtime"] == "openvino"
    assert f"OpenVINO {after.summary['settings']['runtime_version']} on\nthe CPU" in (
        tmp_path / "after" / "report.html"
    ).read_text(encoding="utf-8")
    for phase, values in before.summary["phases"].items():
        assert after.summary["phases"][phase]["mean"] == pytest.approx(values["mean"], abs=1e-3)
    with pytest.raises(InputError, match=r"(?s)never mixes.*runtime.*Remedy: --no-profile if"):
        segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "before"))
    assert segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "before", use_profile=False))


def test_memory_that_the_user_gives_wins(tiny_engine: Path, wafer: Callable[..., Path], tmp_path: Path) -> None:
    path = tune(tiny_engine, seconds=1, field_px=(64, 64)).path
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"max_tile_pixels": 4096, "runtime": "onnxruntime"}), encoding="utf-8")
    folder = wafer(1)
    tuned = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "a"))
    given = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "b", memory_mb=600))
    assert tuned.summary["settings"]["max_tile_pixels"] == 4096 < given.summary["settings"]["max_tile_pixels"]


def measured(engine: Path, clock: Callable[[], float] = time.perf_counter, **candidate: Any) -> Trial:
    """The trial of these candidate, after that of the default."""
    bench_of = Bench(EngineFile(engine), (96, 64), 8000, 0.1, lambda trial: None, clock=clock)
    try:
        default = bench_of.measure(TuningCandidate(choose(engine, threads=1)))
        return bench_of.measure(TuningCandidate(choose(engine, threads=1), **candidate)) if candidate else default
    finally:
        bench_of.close()


def test_trials_are_as_segment_would_run_them(tiny_engine: Path) -> None:
    whole = measured(tiny_engine)
    assert (whole.tile_px, whole.tiles) == ((96, 64), 1) and whole.repeats >= 3
    assert whole.megapixels_per_second is not None and whole.megapixels_per_second > 0
    parts = measured(tiny_engine, max_tile_pixels=3000)
    assert parts.tiles > 1 and parts.tile_px[0] * parts.tile_px[1] <= 3000
    assert measured(tiny_engine, batch=2).note == "the batch exceeds the memory limit"
    assert "no tile with a halo" in measured(tiny_engine, max_tile_pixels=100).note
    ticks = itertools.count()
    assert measured(tiny_engine, lambda: 0.5 * next(ticks)).megapixels_per_second == pytest.approx(96 * 64 / 1e6 / 0.5)


def test_each_stream_has_a_tile_of_the_size_that_is_tried(tiny_engine: Path) -> None:
    bench_of = Bench(EngineFile(tiny_engine), (96, 64), 8000, 0.1, lambda trial: None)
    bench_of.measure(TuningCandidate(choose(tiny_engine, threads=1)))
    two = choose(tiny_engine, threads=2, streams=2)
    small, whole, more = (
        bench_of.measure(TuningCandidate(two, max_tile_pixels=pixels, batch=batch))
        for pixels, batch in ((3000, 2), (None, 2), (3000, 4))
    )
    bench_of.close()
    assert small.megapixels_per_second and small.tile_px == more.tile_px and 1500 < np.prod(small.tile_px) <= 3000
    assert 3000 < np.prod(whole.tile_px) <= 4000, "two of them are the memory that there is"
    assert more.note == "the batch exceeds the memory limit"


def test_reference_tiles_decide_which_speed_counts(tiny_engine: Path, tmp_path: Path) -> None:
    """One of eight copies, as a stream that goes wrong would give, is enough."""
    engine = with_reference(tiny_engine, tmp_path / "engine.onnx")
    bench_of = Bench(EngineFile(engine), (96, 64), 80000, 0.1, lambda trial: None)
    bench_of.measure(TuningCandidate(choose(engine, threads=1)))
    streams = TuningCandidate(choose(engine, "openvino", threads=2, streams=2), batch=2)
    good = bench_of.measure(streams)
    assert good.megapixels_per_second is not None and not good.note
    opened = bench_of._engine
    assert opened is not None and len(bench_of._tiles) == 3
    run = opened.run

    def wrong_once(tiles: Any) -> EngineOutput:
        out = run(tiles)
        out.labels[1, :8] = 0
        return out

    opened.run = wrong_once  # type: ignore[assignment,method-assign]
    assert re.match(r"differs from the default: tiles: labels: .*tiles: bainite", bench_of._differs(opened))
    bench_of.close()


def test_a_runtime_that_says_something_else_is_not_taken(tiny_engine: Path, tmp_path: Path) -> None:
    other = write_threshold_engine(tmp_path / "other.onnx", [(0.6,), (0.6,)])
    bench_of = Bench(EngineFile(tiny_engine), (96, 64), 8000, 0.1, lambda trial: None)
    bench_of.measure(TuningCandidate(choose(tiny_engine, threads=1)))
    bench_of._file = EngineFile(other)
    trial = bench_of.measure(TuningCandidate(choose(tiny_engine, "openvino", threads=1)))
    assert trial.megapixels_per_second is None and "differs from the default: tiles: labels" in trial.note
    bench_of.close()
