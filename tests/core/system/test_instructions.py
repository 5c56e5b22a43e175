"""Whether a processor's 8-bit products saturate, and what is said of an engine that relies on it that they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from microseg.core.schemas.fidelity import Quantisation
from microseg.core.system import instructions
from microseg.core.system.instructions import instruction_sets, saturation_notice, weight_bits


def test_the_instruction_set_decides_the_range_of_weights(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx2 avx512bw avx512_vnni\n", encoding="utf-8")
    assert instruction_sets(cpuinfo) == ["avx512_vnni", "avx2", "avx512bw"]
    assert weight_bits(["avx512_vnni", "avx2"], "x86_64") == 8
    assert weight_bits(["avx2", "avx512bw"], "x86_64") == 7
    assert weight_bits([], "AMD64") == 7
    assert weight_bits([], "aarch64") == 8
    assert instruction_sets(tmp_path / "none") == []


@pytest.mark.parametrize(("bits", "found", "is_told"), [(8, ["avx2"], True), (8, ["avx2", "avx_vnni"], False),
                                                        (7, ["avx2"], False), (8, [], False)])  # fmt: skip
def test_eight_bit_weights_without_vnni_are_told(
    bits: Literal[7, 8], found: list[str], is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions.weight_bits, "__defaults__", ("x86_64",))
    made = Quantisation(
        activations="asymmetric", weight_bits=bits, instruction_sets=[], calibrated_on="s", calibration_tiles=1
    )
    assert ("verify" in (saturation_notice(made, found) or "")) == is_told
    assert saturation_notice(None, found) is None
