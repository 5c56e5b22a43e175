"""Files of microscopes, and images that are not TIFF, PNG, BMP or JPEG."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from nion.data import Calibration, DataAndMetadata
from nionswift_plugin.DM_IO.dm3_image_utils import save_image
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import FieldError
from microseg.core.images.formats.czi import _zstd_1
from microseg.core.images.micrograph import open_micrograph
from tests.core.samples import noise

SAMPLES = Path(__file__).parents[4] / "shared" / "formats"
HAS_SAMPLES = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the sample files of microscopes")


def _dm(path: Path, pixels: NDArray[Any], *units: str) -> Path:
    calibrations = [Calibration.Calibration(0.0, scale, unit) for scale, unit in zip((45.0, 27.7), units, strict=True)]
    with path.open("wb") as stream:
        save_image(DataAndMetadata.new_data_and_metadata(pixels, None, calibrations), stream, int(path.suffix[-1]))
    return path


@pytest.mark.parametrize("name", ["a.dm3", "a.dm4"])
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_digital_micrograph(tmp_path: Path, name: str, dtype: str) -> None:
    grey = noise(40, 60).astype(dtype)
    with open_micrograph(_dm(tmp_path / name, grey, "nm", "nm")) as micrograph:
        assert np.array_equal(micrograph.rows(0, 40), grey)
        assert micrograph.pixel_size is not None
        assert (micrograph.pixel_size.width_um, micrograph.pixel_size.height_um) == pytest.approx((0.0277, 0.045))
        assert micrograph.pixel_size.source == "DigitalMicrograph calibration"


def test_a_diffraction_pattern_has_no_pixel_size(tmp_path: Path) -> None:
    with open_micrograph(_dm(tmp_path / "a.dm3", noise(40, 60, "uint16"), "1/nm", "1/nm")) as micrograph:
        assert micrograph.pixel_size is None


@HAS_SAMPLES
@pytest.mark.parametrize(
    ("name", "dtype", "largest"),
    [("FOV7_HV110_P0500510000.czi", "uint8", 244), ("newCZI_compressed.czi", "uint16", 2056)],
)
def test_czi(name: str, dtype: str, largest: int) -> None:
    with open_micrograph(SAMPLES / name) as micrograph:
        rows = micrograph.rows(0, micrograph.height)
        assert rows.shape == (512, 512) and rows.dtype == dtype and rows.max() == largest
        assert micrograph.pixel_size is None  # both state a scale of 0


@HAS_SAMPLES
@pytest.mark.parametrize(
    ("name", "found"),
    [("S3_1Pos_2Mosaic_T1_Z1_CH1.czi", r"several planes \(S: 3;"), ("ref_F_2_1.dm4", r"shape \(3, 4, 5\)")],
)
def test_several_planes_are_refused_in_words(name: str, found: str) -> None:
    with pytest.raises(FieldError, match=f"{found}.*Remedy: save the"):
        open_micrograph(SAMPLES / name)


def test_zstd_with_low_and_high_bytes_apart() -> None:
    values = noise(8, 8, "uint16").ravel()
    apart = np.concatenate([(values & 255).astype(np.uint8), (values >> 8).astype(np.uint8)]).tobytes()
    assert np.array_equal(_zstd_1(b"\3\1\1" + imagecodecs.zstd_encode(apart), values.dtype), values)
    assert np.array_equal(_zstd_1(b"\1" + imagecodecs.zstd_encode(values.tobytes()), values.dtype), values)


@pytest.mark.parametrize(("name", "head"), [("a.czi", b"ZISRAWFILE"), ("a.dm3", b"\0\0\0\3"), ("a.dm4", b"\0\0\0\4")])
def test_damaged_files_are_named(tmp_path: Path, name: str, head: bytes) -> None:
    (tmp_path / name).write_bytes(head + bytes(range(200)))
    with pytest.raises(FieldError, match=rf"{name}: cannot be decoded"):
        open_micrograph(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "head", "package"), [("a.czi", b"ZISRAWFILE", "czifile"), ("a.dm3", b"\0\0\0\3", "nionswift_plugin")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, head: bytes, package: str
) -> None:
    for module in [module for module in sys.modules if module.startswith((package, "microseg.core.images.formats."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(head + bytes(20))
    with pytest.raises(FieldError, match=r"not read: a .* file needs the package .*pip install 'microseg\[formats\]'"):
        open_micrograph(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jp2", "a.j2k", "a.webp", "a.jfif"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_other_images(tmp_path: Path, name: str, mode: str) -> None:
    grey = noise(64, 80)
    options: dict[str, dict[str, Any]] = {"a.webp": {"lossless": True}, "a.jfif": {"format": "JPEG", "quality": 97}}
    Image.fromarray(grey).convert(mode).save(tmp_path / name, **options.get(name, {}))
    with open_micrograph(tmp_path / name) as micrograph:
        assert np.abs(micrograph.rows(0, 64).astype(int) - grey).max() <= (6 if name == "a.jfif" else 0)


def test_16_bits_of_jpeg_2000(tmp_path: Path) -> None:
    grey = noise(64, 80, "uint16")
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(grey, level=0, codecformat="jp2"))
    with open_micrograph(tmp_path / "a.jp2") as micrograph:
        assert micrograph.dtype == np.uint16 and np.array_equal(micrograph.rows(0, 64), grey)


@pytest.mark.parametrize("name", ["a.jp2", "a.webp"])
def test_a_cut_off_image_is_refused(tmp_path: Path, name: str) -> None:
    Image.fromarray(noise(200, 200)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FieldError, match="cannot be decoded"):
        open_micrograph(tmp_path / name)
