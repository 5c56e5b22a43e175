"""Pixel sizes as the vendors write them, and the ones that must not be believed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from microseg.core.images.micrograph import open_micrograph
from tests.core.samples import noise


def pixel_size(path: Path, width: int = 64, **options: Any) -> float | None:
    tifffile.imwrite(path, noise(32, width), metadata=None, **options)
    with open_micrograph(path) as micrograph:
        return micrograph.pixel_size_um


def zeiss(*lines: str) -> dict[str, Any]:
    text = "\r\n".join(("0", *lines)).encode("cp1252")
    return {"extratags": [(34118, 1, len(text), text, True)]}


def fei(text: str, code: int = 34682) -> dict[str, Any]:
    return {"extratags": [(code, 2, 0, text, True)]}


IMAGE_PIXEL = ("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 27.7 nm")
MONITOR_PIXEL = ("AP_PIXEL_SIZE", "Pixel Size = 55.4 nm")
WIDTH = ("AP_WIDTH", "Width = 6.4 \xb5m")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((*IMAGE_PIXEL,), 0.0277),
        ((*MONITOR_PIXEL, *IMAGE_PIXEL), 0.0277),
        ((*MONITOR_PIXEL, *WIDTH), 0.1),
        ((*MONITOR_PIXEL,), None),
        (("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 980.5 pm"), 0.0009805),
        (("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 0.5 \xb5m"), 0.5),
        (("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 0 nm"), None),
    ],
)
def test_zeiss(tmp_path: Path, lines: tuple[str, ...], expected: float | None) -> None:
    assert pixel_size(tmp_path / "a.tif", **zeiss(*lines)) == (None if expected is None else pytest.approx(expected))


def test_zeiss_monitor_pixel_is_the_images_at_1024_columns(tmp_path: Path) -> None:
    assert pixel_size(tmp_path / "a.tif", width=1024, **zeiss(*MONITOR_PIXEL)) == pytest.approx(0.0554)


@pytest.mark.parametrize("code", [34680, 34682])
def test_fei(tmp_path: Path, code: int) -> None:
    assert pixel_size(tmp_path / "a.tif", **fei("[Scan]\r\nPixelWidth=2.77e-008\r\n", code)) == pytest.approx(0.0277)
    fallback = "[IRBeam]\r\nHFW=6.4e-006\r\n[Image]\r\nResolutionX=64\r\n"
    assert pixel_size(tmp_path / "b.tif", **fei(fallback, code)) == pytest.approx(0.1)


def test_olympus(tmp_path: Path) -> None:
    ini = "[Olympus Soft Imaging]\r\nPixelSizeX=1.25e-07\r\n"
    assert pixel_size(tmp_path / "ini.tif", extratags=[(33471, 2, 0, ini, True)]) == pytest.approx(0.125)
    # The structure holds an offset into the file: write it once to learn where it lies.
    path = tmp_path / "sis.tif"
    for offset in (0, None):
        where = offset
        if where is None:
            with tifffile.TiffFile(path) as tif:
                where = tif.pages.first.tags[33560].valueoffset + 68
        head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 0, 0, 1, 1, 120, b"x", 1) + struct.pack("<hhI", 1, 1, where)
        block = head + struct.pack("<10xhdd8xd2x34s32s", -9, 125.0, 125.0, 50.0, b"cam", b"pic")
        tifffile.imwrite(path, noise(32, 64), metadata=None, extratags=[(33560, 1, len(block), block, True)])
    with open_micrograph(path) as micrograph:
        assert micrograph.pixel_size_um == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("micron", 0.25), ("um", 0.25), ("\\u00B5m", 0.25), ("nm", 0.00025), ("mm", 250.0), ("pixel", None)],
)
def test_imagej(tmp_path: Path, unit: str, expected: float | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(32, 64), imagej=True, resolution=(4.0, 4.0), metadata={"unit": unit})
    with open_micrograph(path) as micrograph:
        assert micrograph.pixel_size_um == (None if expected is None else pytest.approx(expected))


def test_ome(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, noise(32, 64), metadata={"PhysicalSizeX": 27.7, "PhysicalSizeXUnit": "nm"})
    with open_micrograph(path) as micrograph:
        assert micrograph.pixel_size_um == pytest.approx(0.0277)


OME = """<?xml version="1.0" encoding="UTF-8"?>{head}
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="64" SizeY="32" SizeC="1" SizeZ="1" SizeT="1"
{size}><TiffData/></Pixels></Image></OME>"""


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("PhysicalSizeX='0.25' PhysicalSizeXUnit='&#181;m'", 0.25),
        ('PhysicalSizeX="0.25" PhysicalSizeXUnit="&#xB5;m"', 0.25),
        ('PhysicalSizeX = "250" PhysicalSizeXUnit = "nm"', 0.25),
        ("PhysicalSizeX='0.25'", 0.25),
        ("PhysicalSizeY='0.25'", None),
        ("PhysicalSizeX='0.25' PhysicalSizeXUnit='pixel'", None),
        ("PhysicalSizeX='0.25", None),
    ],
)
def test_ome_as_others_write_it(tmp_path: Path, size: str, expected: float | None) -> None:
    text = OME.format(head="", size=size)
    assert pixel_size(tmp_path / "a.ome.tif", description=text.encode()) == expected


BOMB = "<!DOCTYPE b [" + '<!ENTITY a0 "0">' + "".join(
    f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)
) + "]>"  # fmt: skip
READS_A_FILE = '<!DOCTYPE b [<!ENTITY a9 SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("head", [BOMB, READS_A_FILE, "<!DOCTYPE b>"])
def test_ome_with_a_dtd_gives_no_scale(tmp_path: Path, head: str) -> None:
    entity = "" if head == "<!DOCTYPE b>" else ' Name="&a9;"'
    text = OME.format(head=head, size=f"PhysicalSizeX='0.25'{entity}")
    assert pixel_size(tmp_path / "a.ome.tif", description=text.encode()) is None


def test_the_printers_resolution_is_not_believed(tmp_path: Path) -> None:
    assert pixel_size(tmp_path / "a.tif", resolution=(300, 300), resolutionunit="INCH") is None


@pytest.mark.parametrize("code", [34118, 34680, 34682, 33471, 33560])
def test_damaged_tags_are_as_good_as_none(tmp_path: Path, code: int) -> None:
    junk = np.random.default_rng(code).bytes(200)
    assert pixel_size(tmp_path / "a.tif", extratags=[(code, 1, len(junk), junk, True)]) is None
