"""Engine profiles by name and file, and what is wrong with them in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from microseg.core.errors import InputError
from microseg.export.tensorrt.plan_profile import FullProfile, RtxProfile, load_profile, profile_names, require_stride

FOLDER = Path(__file__).parents[3] / "export"
# Strides of the networks that recipes build: U-Net of 3 to 5 stages, DeepLabv2.
STRIDES = (8, 16, 32)

RTX = "flavour: tensorrt_rtx\ntile_px: {min: 64, opt: 128, max: 256}\nbatch: {min: 1, opt: 2, max: 4}\n"


def test_every_profile_loads_by_name_and_by_file_and_fits_every_network() -> None:
    assert {"rtx-station", "rtx-small", "a100", "l4", "t4"} == set(profile_names())
    for path in FOLDER.glob("*.yaml"):
        name, profile = load_profile(str(path))
        assert (load_profile(path.stem), name) == ((path.stem, profile), path.name)
        for stride in STRIDES:
            require_stride(name, profile, stride)
    assert isinstance(load_profile("rtx-station")[1], RtxProfile)
    assert isinstance(load_profile("a100")[1], FullProfile)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RTX + "timing_cache: true\n", r"unknown key 'timing_cache'; allowed here: batch, compute_capabilities"),
        (RTX.replace("max: 256", "largest: 256"), r"tile_px.max is missing; unknown key 'tile_px.largest'"),
        (RTX.replace("opt: 128", "opt: 512"), r"tile_px = .*min 64, opt 512 and max 256 must not decrease"),
        (RTX.replace("tensorrt_rtx", "openvino"), "flavour = 'openvino': allowed are 'tensorrt_rtx', 'tensorrt'"),
        ("tile_px: {}\n", "flavour is missing"),
        (RTX + "compute_capabilities: ['9.0']\n", r"compute_capabilities.0 = '9.0': .*'8.6'"),
        (RTX + "workspace_mb: 0\n", "workspace_mb = 0"),
        ("[]\n", "holds no `key: value` pairs"),
        ("", "holds no `key: value` pairs"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        load_profile(str(path))
    assert str(path) in str(error.value)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"--profile h200: no such profile\. Remedy: one of a100, l4, rtx-small"):
        load_profile("h200")


def test_sides_are_multiples_of_the_stride() -> None:
    profile = load_profile("rtx-station")[1]
    assert profile.tile_px.min == 64
    with pytest.raises(
        InputError, match=r"tile_px.min = 64 is not a multiple of the engine's stride of 48 px.*48 or 96"
    ):
        require_stride("rtx-station", profile, 48)
