"""Whether a processor's 8-bit products saturate, and what is said of an engine that relies on it that they do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from archspec.cpu import detect

from microseg.core.schemas.fidelity import Quantisation
from microseg.core.system import processor
from microseg.core.system.processor import (
    instruction_sets,
    processor_flags,
    processor_name,
    saturation_notice,
    weight_bits,
)


def test_the_instruction_set_decides_the_range_of_weights() -> None:
    assert instruction_sets({"fpu", "avx2", "avx512bw", "avx512_vnni"}) == ["avx512_vnni", "avx2", "avx512bw"]
    assert weight_bits(["avx512_vnni", "avx2"], "x86_64") == 8
    assert weight_bits(["avx2", "avx512bw"], "x86_64") == 7
    assert weight_bits([], "AMD64") == 7
    assert weight_bits([], "aarch64") == 8
    assert instruction_sets(set()) == []


@pytest.fixture
def _asked_anew() -> Iterator[None]:
    processor_flags.cache_clear()
    processor_name.cache_clear()
    yield
    processor_flags.cache_clear()
    processor_name.cache_clear()


@pytest.mark.usefixtures("_asked_anew")
def test_windows_is_asked_by_the_cpuid_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc/cpuinfo there: an engine that saturates is still told of."""
    host = SimpleNamespace(vendor="GenuineIntel", features={"sse2", "avx2", "fma"}, brand_string=lambda: "A  CPU ")
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    detect._machine.cache_clear()
    monkeypatch.setattr(detect, "CpuidInfoCollector", lambda: host)
    monkeypatch.setattr(detect, "INFO_FACTORY", {"Windows": [detect.cpuid_info]})
    try:
        found = instruction_sets()
        assert found == ["avx2"] and "fma" in processor_flags()
        made = Quantisation(
            activations="asymmetric", weight_bits=8, instruction_sets=[], calibrated_on="s", calibration_tiles=1
        )
        assert "sums may saturate" in (saturation_notice(made, found) or "")
    finally:
        detect._machine.cache_clear()


@pytest.mark.usefixtures("_asked_anew")
def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise OSError("no such file")

    monkeypatch.setattr(detect, "detected_info", fails)
    assert processor_flags() == frozenset() and instruction_sets() == []


def test_this_processor() -> None:
    assert processor_name().strip()
    if Path("/proc/cpuinfo").exists() and "avx2" in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        assert "avx2" in instruction_sets()


@pytest.mark.parametrize(("bits", "found", "is_told"), [(8, ["avx2"], True), (8, ["avx2", "avx_vnni"], False),
                                                        (7, ["avx2"], False), (8, [], False)])  # fmt: skip
def test_eight_bit_weights_without_vnni_are_told(
    bits: Literal[7, 8], found: list[str], is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor.weight_bits, "__defaults__", ("x86_64",))
    made = Quantisation(
        activations="asymmetric", weight_bits=bits, instruction_sets=[], calibrated_on="s", calibration_tiles=1
    )
    assert ("verify" in (saturation_notice(made, found) or "")) == is_told
    assert saturation_notice(None, found) is None
