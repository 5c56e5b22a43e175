"""Pixel sizes as the vendors write them, and the ones that must not be believed."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from microseg.core.images.micrograph import open_micrograph
from microseg.core.images.pixel_size import PixelSize
from microseg.core.images.scale.statement import StatedScale
from microseg.core.images.scale.tiff_scale import tiff_scale
from tests.core.samples import edges_and_source, noise


def pixel_size(path: Path, width: int = 64, **options: Any) -> float | None:
    tifffile.imwrite(path, noise(32, width), metadata=None, **options)
    with open_micrograph(path) as micrograph:
        return micrograph.pixel_size_um


def scale_of(path: Path, width: int = 64, height: int = 32, **options: Any) -> StatedScale:
    tifffile.imwrite(path, noise(height, width), metadata=None, **options)
    with open_micrograph(path) as micrograph:
        return micrograph.scale


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


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-16", "cp932", "cp1253", "gbk", "mac_greek"])
def test_zeiss_with_a_decimal_comma_in_any_code_page(tmp_path: Path, encoding: str) -> None:
    micro = "\N{GREEK SMALL LETTER MU}" if encoding in ("cp932", "cp1253", "gbk", "mac_greek") else "\xb5"
    lines = ("0", "AP_IMAGE_PIXEL_SIZE", f"Image Pixel Size = 11,08E-3 {micro}m", "AP_WIDTH", "Width = 709,1 nm")
    text = "\r\n".join(lines).encode(encoding)
    found = scale_of(tmp_path / "a.tif", extratags=[(34118, 1, len(text), text, True)])
    assert edges_and_source(found) == (0.01108, 0.01108, "Zeiss tag 34118 (Image Pixel Size)")


def test_zeiss_width_is_that_of_the_stored_picture(tmp_path: Path) -> None:
    stored = ("AP_WIDTH", "Width = 6.4 \xb5m", "DP_IMAGE_STORE", "Store resolution = 64 * 32")
    assert edges_and_source(scale_of(tmp_path / "a.tif", **zeiss(*stored))) == (0.1, 0.1, "Zeiss tag 34118 (Width)")
    halved = scale_of(tmp_path / "b.tif", width=32, height=16, **zeiss(*stored))
    assert halved.pixel_size is None
    assert halved.contradiction == (
        "Zeiss tag 34118 (Width) states 0.1 um a pixel for a picture of 64 columns, but the picture has 32 columns (0.2 um a "
        "pixel, if it shows the same width)"
    )


def test_zeiss_pixel_and_width_of_a_halved_picture_differ(tmp_path: Path) -> None:
    found = scale_of(tmp_path / "a.tif", width=32, **zeiss("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 100 nm", *WIDTH))
    assert found.contradiction == (
        "Zeiss tag 34118 (Image Pixel Size) states 0.1 um a pixel, Zeiss tag 34118 (Width) states 0.2 um"
    )


def test_digits_of_a_rounded_width_are_no_contradiction(tmp_path: Path) -> None:
    found = scale_of(
        tmp_path / "a.tif",
        **zeiss("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 27.7 nm", "AP_WIDTH", "Width = 1.8 \xb5m"),
    )
    assert found.pixel_size is not None and found.pixel_size.width_um == pytest.approx(0.0277)


def test_zeiss_height_of_a_tilted_face(tmp_path: Path) -> None:
    stored = ("AP_HEIGHT", "Height = 6.4 \xb5m", "DP_IMAGE_STORE", "Store resolution = 64 * 32")
    found = scale_of(
        tmp_path / "a.tif", **zeiss("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 100.0 nm", *stored)
    ).pixel_size
    assert found is not None and (found.width_um, found.height_um) == pytest.approx((0.1, 0.2))
    cropped = scale_of(
        tmp_path / "b.tif", height=16, **zeiss("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 100.0 nm", *stored)
    )
    assert cropped.pixel_size is not None and cropped.pixel_size.height_um == pytest.approx(0.1)


def test_zeiss_monitor_pixel_is_the_images_at_1024_columns(tmp_path: Path) -> None:
    assert pixel_size(tmp_path / "a.tif", width=1024, **zeiss(*MONITOR_PIXEL)) == pytest.approx(0.0554)


@pytest.mark.parametrize("code", [34680, 34682])
def test_fei(tmp_path: Path, code: int) -> None:
    assert pixel_size(tmp_path / "a.tif", **fei("[Scan]\r\nPixelWidth=2.77e-008\r\n", code)) == pytest.approx(0.0277)
    fallback = "[IRBeam]\r\nHFW=6.4e-006\r\n[Image]\r\nResolutionX=64\r\n"
    assert pixel_size(tmp_path / "b.tif", **fei(fallback, code)) == pytest.approx(0.1)


def test_fei_pixel_height_and_source(tmp_path: Path) -> None:
    found = scale_of(tmp_path / "a.tif", **fei("[Scan]\r\nPixelWidth=2.77e-008\r\nPixelHeight=4,5e-008\r\n"))
    assert edges_and_source(found) == (0.0277, 0.045, "FEI tag 34682 (Scan.PixelWidth)")
    field = "[EBeam]\r\nHFW=6.4e-006\r\nVFW=6.4e-006\r\n[Image]\r\nResolutionX=64\r\nResolutionY=32\r\n"
    found = scale_of(tmp_path / "b.tif", height=40, **fei(field, 34680))
    assert edges_and_source(found) == (0.1, 0.2, "FEI tag 34680 (EBeam.HFW)")


STALE = "[Scan]\r\nPixelWidth=1e-007\r\n"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("[Image]\r\nResolutionX=128\r\n", "for a picture of 128 columns, but the picture has 64 columns"),
        ("[EBeam]\r\nHFW=1.28e-005\r\n", r"\(EBeam\.HFW\) states 0\.2 um"),
        ("HorFieldsize=1.28e-005\r\n", r"\(Scan\.HorFieldsize\) states 0\.2 um"),
    ],
)
def test_fei_of_a_picture_that_was_resized(tmp_path: Path, more: str, told: str) -> None:
    found = scale_of(tmp_path / "a.tif", **fei(STALE + more))
    assert found.pixel_size is None
    assert found.contradiction is not None
    assert re.search(rf"FEI tag 34682 \(Scan\.PixelWidth\) states 0\.1 um.*{told}", found.contradiction)


def test_fei_field_of_the_beam_that_is_used(tmp_path: Path) -> None:
    beams = "[EBeam]\r\nHFW=9.9e-005\r\n[IBeam]\r\nHFW=6.4e-006\r\n"
    assert pixel_size(tmp_path / "a.tif", **fei("[Beam]\r\nBeam=IBeam\r\n" + beams)) == pytest.approx(0.1)
    assert pixel_size(tmp_path / "b.tif", **fei(STALE + beams)) == pytest.approx(0.1)
    assert "EBeam.HFW" in (scale_of(tmp_path / "c.tif", **fei(beams)).contradiction or "")


@pytest.mark.parametrize("end", ["", "\r\n"])
def test_tescan(tmp_path: Path, end: str) -> None:
    text = (
        b"\x01\x00\x04\x00\xff\xd8\x00\xfe[MAIN]\r\nDevice=MIRA3\r\nPixelSizeX=4.1e-008\r\nPixelSizeY=4.2e-008"
        + end.encode()
    )
    found = scale_of(tmp_path / "a.tif", extratags=[(50431, 7, len(text), text, True)])
    assert edges_and_source(found) == (0.041, 0.042, "TESCAN tag 50431 (PixelSizeX)")


def test_vendor_tags_of_another_page(tmp_path: Path) -> None:
    """Olympus and others write them to any page; what a page states of a picture of another width is not believed."""
    path = tmp_path / "a.tif"
    ini = "[Olympus Soft Imaging]\r\nPixelSizeX=1.25e-07\r\n"
    with tifffile.TiffWriter(path) as file:
        file.write(noise(32, 64), metadata=None)
        file.write(noise(8, 16), metadata=None, extratags=[(33471, 2, 0, ini, True)])
    with open_micrograph(path) as micrograph:
        assert micrograph.pixel_size_um == pytest.approx(0.125)
    with tifffile.TiffWriter(path) as file:
        file.write(noise(8, 16), metadata=None)
        file.write(noise(32, 64), metadata=None, extratags=[(33471, 2, 0, ini, True)])
    with tifffile.TiffFile(path) as tif:
        assert tiff_scale(tif, tif.pages[0]).statements == ()
        assert len(tiff_scale(tif, tif.pages[1]).statements) == 1


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
    [
        ("micron", 0.25),
        ("um", 0.25),
        ("\\u00B5m", 0.25),
        ("nm", 0.00025),
        ("mm", 250.0),
        ("pixel", None),
        ("cm", 2500.0),
    ],
)
def test_imagej(tmp_path: Path, unit: str, expected: float | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(32, 64), imagej=True, resolution=(4.0, 4.0), metadata={"unit": unit})
    with open_micrograph(path) as micrograph:
        assert micrograph.pixel_size_um == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("unit", "per_unit", "dpi"),
    [
        ("cm", 118.11, 300),
        ("inch", 72.0, 72),
        ("cm", 28.346, 72),
        ("cm", 28.0, 72),
        ("cm", 38.0, 96),
        ("inch", 300.0, 300),
    ],
)
def test_resolution_of_a_printer_that_imagej_kept_is_no_scale(
    tmp_path: Path, unit: str, per_unit: float, dpi: int
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(32, 64), imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    with open_micrograph(path) as micrograph:
        assert micrograph.pixel_size is None
        (remark,) = micrograph.scale.remarks
        assert remark.startswith(f"ImageJ states {per_unit:.6g} pixels per {unit}, the {dpi} dpi of a printer")


def test_imagej_rows_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(32, 64), imagej=True, resolution=(4.0, 2.0), metadata={"unit": "um"})
    with open_micrograph(path) as micrograph:
        assert micrograph.pixel_size == PixelSize(0.25, 0.5, "ImageJ (pixels per µm)")


def test_imagej_describes_a_stack_on_its_first_page(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for description in ("ImageJ=1.54f\nimages=2\nunit=um\n", None):
            file.write(noise(32, 64), metadata=None, resolution=(4.0, 4.0), description=description)
    with tifffile.TiffFile(path) as tif:
        (stated,) = tiff_scale(tif, tif.pages[1]).statements
    assert stated.width_um == 0.25


def test_two_statements_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for per_um, agrees in ((10.05, True), (10.2, False)):
        tifffile.imwrite(
            path, noise(32, 64), imagej=True, resolution=(per_um, per_um), metadata={"unit": "um"},
            **fei("[Scan]\r\nPixelWidth=1e-007\r\n"),
        )  # fmt: skip
        with open_micrograph(path) as micrograph:
            assert (micrograph.pixel_size is not None) == agrees
            told = micrograph.scale.contradiction
    assert told == "FEI tag 34682 (Scan.PixelWidth) states 0.1 um a pixel, ImageJ (pixels per µm) states 0.098039 um"


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


TWO_IMAGES = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0"><Pixels SizeX="16" SizeY="8" SizeC="1" SizeZ="1" SizeT="1" PhysicalSizeX="9"
 PhysicalSizeY="9"><TiffData IFD="{first}" PlaneCount="1"/></Pixels></Image>
<Image ID="Image:1"><Pixels SizeX="64" SizeY="32" SizeC="1" SizeZ="1" SizeT="1" PhysicalSizeX="250000"
 PhysicalSizeXUnit="pm" PhysicalSizeY="0.0000005" PhysicalSizeYUnit="m">
<TiffData IFD="{second}" PlaneCount="1">{file}</TiffData></Pixels></Image></OME>"""
ELSEWHERE = '<UUID FileName="other.ome.tif">urn:uuid:1</UUID>'


@pytest.mark.parametrize(("first", "second", "file"), [(1, 0, ""), (0, 0, ""), (5, 6, ""), (1, 0, ELSEWHERE)])
def test_ome_of_the_image_that_the_page_belongs_to(tmp_path: Path, first: int, second: int, file: str) -> None:
    text = TWO_IMAGES.format(first=first, second=second, file=file)
    found = scale_of(tmp_path / "a.ome.tif", description=text.encode())
    if first == second:  # the first image claims the page, and is of another size
        assert "states 9 um a pixel for a picture of 16 columns" in (found.contradiction or "")
    else:
        assert edges_and_source(found) == (0.25, 0.5, "OME-XML (PhysicalSizeX)")


def test_ome_with_endless_elements_is_read_at_once(tmp_path: Path) -> None:
    nested = "<Pixels>" * 50_000 + "</Pixels>" * 50_000
    text = OME.format(head="", size='PhysicalSizeX="0.25"').replace("<TiffData/>", f"<TiffData/>{nested}")
    assert pixel_size(tmp_path / "a.ome.tif", description=text.encode()) == 0.25


def test_ome_that_counts_endless_planes_is_read_at_once(tmp_path: Path) -> None:
    text = OME.format(head="", size='PhysicalSizeX="0.25"').replace('="1"', '="999999999"')
    assert pixel_size(tmp_path / "a.ome.tif", description=text.encode()) == 0.25


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


@pytest.mark.parametrize("code", [34118, 34680, 34682, 33471, 33560, 50431])
def test_damaged_tags_are_as_good_as_none(tmp_path: Path, code: int) -> None:
    junk = np.random.default_rng(code).bytes(200)
    assert pixel_size(tmp_path / "a.tif", extratags=[(code, 1, len(junk), junk, True)]) is None
