"""`segment` over a plan, rehearsed on the host: tiles within its shapes, batches for two on their way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microseg.core.errors import InputError
from microseg.deploy.evaluate import evaluate_engine
from microseg.deploy.segment import SegmentOptions, segment
from microseg.runtime import tensorrt_open
from tests.host_cuda import HostCuda, open_on_host
from tests.plans import write_plan


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> HostCuda:
    cuda = HostCuda()
    monkeypatch.setattr(tensorrt_open, "open_plan", lambda path, manifest, choice: open_on_host(path, cuda))
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
    with pytest.raises(InputError, match="--memory-mb 500: a plan's memory is fixed when it is built"):
        segment(SegmentOptions(tmp_path / "domain" / "images", plan, out=tmp_path / "other", memory_mb=500))
