"""`segment` over a plan, rehearsed on the host: tiles within its shapes, batches for two on their way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microseg.core.errors import InputError
from microseg.core.schemas.keys import REFERENCE_KEY
from microseg.core.schemas.plan import plan_manifest_path
from microseg.deploy.acceptance.verify import VerifyOptions
from microseg.deploy.evaluate import evaluate_engine
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.tuning.profile import find_profile, profile_path, segment_config
from microseg.deploy.tuning.tune import tune
from microseg.runtime import EngineFile, Runtime, read_manifest
from microseg.runtime.engine_metadata import text_beside
from microseg.runtime.tensorrt import opening as tensorrt_open
from tests.host_cuda import HostCuda, host_reference, open_on_host
from tests.plans import write_plan
from tests.verification import verify


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> HostCuda:
    cuda = HostCuda()
    monkeypatch.setattr(tensorrt_open, "open_plan", lambda path, manifest, config: open_on_host(path, cuda))
    return cuda


def test_masks_are_those_of_the_plan(tiny_engine: Path, tmp_path: Path, cuda: HostCuda) -> None:
    plan = write_plan(tiny_engine, tmp_path / "bagged.plan")
    sizes = ((300, 40), (150, 130), (20, 17))
    fields = [np.random.default_rng(height).integers(0, 256, (height, width), np.uint8) for width, height in sizes]
    for kind in ("images", "masks"):
        (tmp_path / "domain" / kind).mkdir(parents=True)
    for index, pixels in enumerate(fields):
        Image.fromarray(pixels).save(tmp_path / "domain" / "images" / f"{index}.png")
        Image.fromarray((pixels > 100).astype(np.uint8)).save(tmp_path / "domain" / "masks" / f"{index}.png")
    result = segment(SegmentOptions(tmp_path / "domain" / "images", plan, out=tmp_path / "report"))
    assert not result.summary["failed"] and result.summary["settings"]["device"] == "cuda"
    for index, pixels in enumerate(fields):
        with Image.open(result.report / "masks" / f"{index}.png.png") as mask:
            assert np.array_equal(np.asarray(mask), pixels > 100)
    assert not cuda.memory
    assert evaluate_engine(plan, tmp_path / "domain")["miou"] == 1
    run = result.summary["run"]
    assert (run["runtime"], run["provider"]) == ("tensorrt 11.4", "rehearsal")
    with pytest.raises(InputError, match="--memory-mb 500: a plan has fixed memory"):
        segment(SegmentOptions(tmp_path / "domain" / "images", plan, out=tmp_path / "other", memory_mb=500))


@pytest.fixture
def plan(tiny_engine: Path, tmp_path: Path) -> Path:
    """A plan with a reference tile that the rehearsal labels as it says."""
    path = write_plan(tiny_engine, tmp_path / "bagged.plan")
    manifest = read_manifest(path)
    plan_manifest_path(path).write_text(text_beside(manifest, host_reference(manifest)), encoding="utf-8")
    return path


@pytest.mark.usefixtures("cuda")
def test_verify_runs_the_reference_tiles_of_a_plan(plan: Path) -> None:
    content = verify(VerifyOptions(plan))
    assert content["passed"], content["checks"]
    marked = read_manifest(plan).plan
    assert marked is not None and marked.verified and marked.comparison is not None
    assert marked.comparison.fraction_difference_points == {"ferrite": 0, "bainite": 0}
    names = [check["check"] for check in content["checks"]]
    # It was built without its probabilities.
    assert {"manifest", "features", "reference tiles: labels", "reference tiles: votes of the folds"} <= set(names)
    assert content["runtime"] == {
        "name": "tensorrt", "version": "11.4", "provider": "rehearsal", "device": "cuda", "threads": None,
        "streams": 1,
    }  # fmt: skip


@pytest.mark.usefixtures("cuda")
def test_verify_finds_what_was_changed(plan: Path) -> None:
    beside = plan_manifest_path(plan)
    content = json.loads(beside.read_text(encoding="utf-8"))
    # Written in another way, or marked as verified, it is still the same manifest.
    beside.write_text(json.dumps(content), encoding="utf-8")
    assert verify(VerifyOptions(plan))["passed"]
    assert verify(VerifyOptions(plan))["passed"]
    content["phases"][0]["name"] = "pearlite"
    beside.write_text(json.dumps(content), encoding="utf-8")
    failed = [check["check"] for check in verify(VerifyOptions(plan))["checks"] if not check["passed"]]
    assert failed == ["manifest"]
    marked = read_manifest(plan).plan
    assert marked is not None and not marked.verified
    content[REFERENCE_KEY]["tiles"] = []
    beside.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="reference tiles is damaged"):
        verify(VerifyOptions(plan))
    del content[REFERENCE_KEY]
    beside.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="holds no reference tiles"):
        verify(VerifyOptions(plan))
    plan.write_bytes(b"another plan")
    record = verify(VerifyOptions(plan, against=plan))
    assert not record["passed"] and record["runtime"] is None


@pytest.mark.usefixtures("cuda")
def test_a_plan_and_its_onnx_file_have_profiles_of_their_own(
    tiny_engine: Path, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSEG_CONFIG", str(tmp_path / "configuration"))
    ours = tune(plan, seconds=1, field_px=(100, 70))
    assert {trial.candidate.runtime_config.runtime for trial in ours.trials} == {"tensorrt"}
    # Tiles of the whole field would be beyond the sides that the plan runs.
    assert all(max(trial.tile_px) <= 64 for trial in ours.trials)
    assert find_profile(EngineFile(tiny_engine)) is None
    theirs = profile_path(read_manifest(tiny_engine).network_sha256)
    assert theirs != ours.path
    config = segment_config(plan, runtime=None, device=None, threads=None, batch=None, use_profile=True)
    assert (config.profile, config.runtime_config.runtime, config.runtime_config.device) == (
        ours.path,
        "tensorrt",
        "cuda",
    )


def test_what_runs_a_plan_and_what_does_not(tiny_engine: Path, plan: Path, tmp_path: Path) -> None:
    cases: tuple[tuple[Path, Runtime, str], ...] = (
        (plan, "onnxruntime", r"bagged\.plan: a plan runs with --runtime tensorrt"),
        (plan, "openvino", r"bagged\.plan: a plan runs with --runtime tensorrt"),
        (tiny_engine, "tensorrt", r"--runtime tensorrt runs \.plan files"),
    )
    for engine, runtime, message in cases:
        with pytest.raises(InputError, match=message):
            segment(SegmentOptions(tmp_path, engine, out=tmp_path.with_name("report"), runtime=runtime))
