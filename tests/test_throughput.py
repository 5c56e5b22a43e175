"""What `benchmarks.throughput` compares with: peers that give the labels they should, ratios the right way up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import throughput_peers
from benchmarks.random_engine import write_random_engine
from benchmarks.throughput import ENGINES, figures
from microseg.runtime import read_manifest
from microseg.runtime.runtime_config import choose


@pytest.mark.parametrize("peer", ["naive", "monai", "toolbelt"])
def test_peers_label_every_pixel_as_the_whole_field_is(peer: str) -> None:
    torch = pytest.importorskip("torch")
    if peer in throughput_peers.PACKAGES:
        pytest.importorskip(throughput_peers.PACKAGES[peer])
    image = np.random.default_rng(0).integers(0, 256, (300, 420), np.uint8)

    def forward(tiles: Any) -> Any:
        return torch.cat([128 - tiles, tiles - 127], 1)

    found = throughput_peers.LABELS[peer](forward, image, 256, 64)
    np.testing.assert_array_equal(found, image >= 128)


def test_ratios_are_slower_over_faster_of_the_same_repeat() -> None:
    sides = ["naive", "monai", "ort_tiles", *ENGINES, "network_1", "network_2"]
    sides += ["f32_many", "network_f32", "network_f32_many", "network_int8"]
    each = {side: [1.0, 1.0, 1.0] for side in sides}
    each |= {"naive": [9.0, 9.0, 9.0], "monai": [3.0, 6.0, 30.0], "f32": [1.0, 2.0, 10.0], "student_int8": [0.5] * 3}
    each |= {"network_f32": [0.9, 1.9, 9.6], "network_f32_many": [0.98] * 3, "network_1": [1.9] * 3}
    found = figures(each, ["naive", "monai", "ort_tiles"])
    assert found["fastest_torch_peer"] == "monai"
    assert found["ratio_f32_to_torch_peer"] == pytest.approx(3)
    assert found["ratio_distilled_int8_to_peer_bag"] == pytest.approx(60)
    assert found["outside_network_share"] == pytest.approx(0.05)
    assert found["outside_network_share_many_fields"] == pytest.approx(0.02)
    assert found["scaling_two_threads"] == pytest.approx(0.95)


def test_its_int8_engines_run_where_exported_ones_would(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("openvino")
    decoder = (32, 16, 16, 16, 16)
    path = write_random_engine(tmp_path / "int8.onnx", "resnet18", 2, 600.0, decoder, precision="int8", is_student=True)
    made = read_manifest(path).quantisation
    assert made is not None and made.activations == "asymmetric"
    assert choose(path, device="cpu").runtime == "openvino"
