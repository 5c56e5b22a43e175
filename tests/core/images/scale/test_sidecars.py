"""Texts beside an image, as JEOL, Hitachi and TESCAN write them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from microseg.core.images.micrograph import open_micrograph
from microseg.core.images.scale.statement import StatedScale
from tests.core.samples import edges_and_source, noise

JEOL = "$CM_FORMAT JEOL\r\n$CM_MAG 10000\r\n$CM_FULL_SIZE 64 32\r\n$$SM_MICRON_BAR {bar}\r\n$$SM_MICRON_MARKER {marker}\r\n"
HITACHI = "[SemImageFile]\r\nInstructName=SU8000\r\nImageName=a.tif\r\nDataSize=64x32\r\nPixelSize=9,921875\r\n"
TESCAN = "[MAIN]\r\nDevice=MIRA3\r\nPixelSizeX=4.1e-008\r\nPixelSizeY=4.1e-008\r\n[SEM]\r\nHV=15000\r\n"


def scale_of(folder: Path, image: str, sidecar: str, text: bytes, rows: int = 32) -> StatedScale:
    picture = noise(rows, 64)
    if image.lower().endswith("tif"):
        tifffile.imwrite(folder / image, picture, metadata=None)
    else:
        Image.fromarray(picture).save(folder / image)
    (folder / sidecar).write_bytes(text)
    with open_micrograph(folder / image) as micrograph:
        return micrograph.scale


@pytest.mark.parametrize(
    ("bar", "marker", "um"),
    [
        ("100", "1um", 0.01),
        ("200", "100nm", 0.0005),
        ("50", "10\xb5m", 0.2),
        ("50", "10 ?m", 0.2),
        ("40", "0,5 mm", 12.5),
    ],
)
@pytest.mark.parametrize("image", ["a.tif", "a.bmp", "a.png"])
def test_jeol(tmp_path: Path, image: str, bar: str, marker: str, um: float) -> None:
    found = scale_of(tmp_path, image, "a.txt", JEOL.format(bar=bar, marker=marker).encode("latin-1"), rows=36)
    assert edges_and_source(found) == (um, um, "a.txt of JEOL (SM_MICRON_MARKER)")


def test_jeol_of_a_picture_of_another_size(tmp_path: Path) -> None:
    text = JEOL.format(bar=100, marker="1um").replace("64 32", "128 64")
    found = scale_of(tmp_path, "a.tif", "a.txt", text.encode())
    assert found.pixel_size is None
    assert "a.txt of JEOL (SM_MICRON_MARKER) states 0.01 um a pixel for a picture of 128 columns" in (
        found.contradiction or ""
    )


@pytest.mark.parametrize("encoding", ["ascii", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_hitachi(tmp_path: Path, encoding: str) -> None:
    found = scale_of(tmp_path, "a.tif", "a.txt", HITACHI.encode(encoding))
    assert edges_and_source(found) == (0.009921875, 0.009921875, "a.txt of Hitachi (PixelSize)")


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("a.png", "a-png.hdr"),
        ("a.tif", "a.hdr"),
        ("a.tif", "a-tif.hdr"),
        ("A.TIF", "A.HDR"),
        ("A.PNG", "A-PNG.HDR"),
        ("A.PNG", "A-png.hdr"),
    ],
)
def test_tescan(tmp_path: Path, image: str, sidecar: str) -> None:
    found = scale_of(tmp_path, image, sidecar, TESCAN.encode())
    assert edges_and_source(found) == (0.041, 0.041, f"{sidecar} of TESCAN (PixelSizeX)")


@pytest.mark.parametrize(
    "text",
    [
        b"", b"Operator: Meier\r\nSpecimen 12\r\n", b"$CM_MAG 100\r\n", b"$$SM_MICRON_BAR 0\r\n$$SM_MICRON_MARKER 1um\r\n",
        b"PixelSize=10\r\n",        b"0 0.5 0.5 0.1 0.1\n", np.random.default_rng(0).bytes(2000),
        b"[SemImageFile]\r\nPixelSize=unknown\r\n",
    ],
)  # fmt: skip
def test_other_texts_state_nothing(tmp_path: Path, text: bytes) -> None:
    assert scale_of(tmp_path, "a.tif", "a.txt", text) == StatedScale()


@pytest.mark.parametrize(
    "text", ["$$SM_MICRON_MARKER x{}b\n$$SM_MICRON_BAR 10\n", "[SemImageFile]\nPixelSize=1 x{}b\n"]
)
def test_endless_spaces_cost_no_time(tmp_path: Path, text: str) -> None:
    assert scale_of(tmp_path, "a.tif", "a.txt", text.format(" " * 1_000_000).encode()) == StatedScale()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_and_a_folder_of_that_name_are_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "a.hdr").mkdir()
    tifffile.imwrite(tmp_path / "a.tif", noise(32, 64), metadata=None)
    with open_micrograph(tmp_path / "a.tif") as micrograph:
        assert micrograph.scale == StatedScale()


def test_file_and_sidecar_that_differ(tmp_path: Path) -> None:
    tag = "[Scan]\r\nPixelWidth=1.1e-008\r\n"
    (tmp_path / "a.txt").write_text(JEOL.format(bar=100, marker="1um"))
    tifffile.imwrite(tmp_path / "a.tif", noise(32, 64), metadata=None, extratags=[(34682, 2, 0, tag, True)])
    with open_micrograph(tmp_path / "a.tif") as micrograph:
        assert micrograph.scale.contradiction == (
            "FEI tag 34682 (Scan.PixelWidth) states 0.011 um a pixel, a.txt of JEOL (SM_MICRON_MARKER) states 0.01 um"
        )
