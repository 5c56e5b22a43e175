"""Images of all kinds that `segment` reads, and what disks, copies and programs do to them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = (64, 80)
# One in so many files is left as it is: its result must be the same as without the others.
INTACT_EVERY = 100


def write_damaged(folder: Path, count: int, seed: int) -> tuple[list[str], list[str]]:
    """Fill a folder with images, of which nearly all are damaged.

    Args:
        folder: the folder, which is made.
        count: number of files.
        seed: decides every byte.

    Returns:
        Names of all files, and of those that are intact.
    """
    folder.mkdir(parents=True)
    originals = _originals(np.random.default_rng(seed))
    names, intact = [], []
    for index in range(count):
        random = np.random.default_rng([seed, index])
        kind = list(originals)[random.integers(len(originals))]
        data = originals[kind]
        if is_intact := index % INTACT_EVERY == 0:
            kind, data = "tiff-plain.tif", originals["tiff-plain.tif"]
        name = f"{index:05d}-{kind}"
        if is_intact:
            intact.append(name)
        else:
            damage = _DAMAGES[random.integers(len(_DAMAGES))]
            data = damage(data, random)
        (folder / name).write_bytes(data)
        names.append(name)
    return names, intact


def _originals(random: Generator) -> dict[str, bytes]:
    """Encoded images by kind and suffix."""
    grey = material(random)
    return {
        **{f"tiff-{name}.tif": _tiff(grey, **options) for name, options in _tiffs(grey).items()},
        **{f"{name}": _bitmap(*picture) for name, picture in _bitmaps(grey).items()},
    }


def material(random: Generator) -> NDArray[np.uint8]:
    """Smooth noise over all grey values, uint8."""
    import cv2

    noise = cv2.GaussianBlur(random.standard_normal(SIDE_PX).astype(np.float32), (0, 0), 4)
    return np.asarray((noise - noise.min()) * (255 / np.ptp(noise))).astype(np.uint8)


def _tiffs(grey: NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
    """Options of tifffile by name; `image` in place of the grey picture."""
    wide, colour = grey.astype(np.uint16) << 4, np.dstack([grey] * 3)
    fei = b"[Scan]\r\nPixelWidth=2.77e-008\r\nPixelHeight=2.77e-008\r\n"
    zeiss = "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 27.7 nm\r\n\0".encode("cp1252")
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "strips": {"rowsperstrip": 7},
        "tiles": {"tile": (32, 32)},
        "tiles-deflate": {"tile": (16, 48), "compression": "zlib", "predictor": True},
        "big": {"bigtiff": True},
        "motorola": {"byteorder": ">", "image": wide},
        "12bit": {"image": wide},
        "uint32": {"image": wide.astype(np.uint32)},
        "int16": {"image": (wide.astype(np.int32) - 2000).astype(np.int16)},
        "float": {"image": grey.astype(np.float32) / 255},
        "white-is-zero": {"photometric": "miniswhite"},
        "rgb": {"image": colour, "photometric": "rgb"},
        "planar": {"image": np.moveaxis(colour, 2, 0), "photometric": "rgb", "planarconfig": "separate"},
        "pages": {"image": np.stack([grey, 255 - grey]), "photometric": "minisblack"},
        "palette": {"photometric": "palette", "colormap": np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)},
        "imagej": {"imagej": True, "resolution": (36.1, 36.1), "metadata": {"unit": "um"}},
        "ome": {"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.0277, "PhysicalSizeXUnit": "um"}},
        "fei": {"extratags": [(34682, 2, len(fei), fei, True)]},
        "zeiss": {"extratags": [(34118, 2, len(zeiss), zeiss, True)]},
    }
    for codec in ("lzw", "packbits", "zlib", "zstd", "lzma", "jpeg"):
        kinds[codec] = {"compression": codec, "rowsperstrip": 16}
    kinds["lzw-12bit"] = {"compression": "lzw", "predictor": True, "image": wide}
    return kinds


def _tiff(grey: NDArray[np.uint8], image: NDArray[Any] | None = None, **options: Any) -> bytes:
    with io.BytesIO() as stream:
        tifffile.imwrite(stream, grey if image is None else image, **{"metadata": None} | options)
        return stream.getvalue()


def _bitmaps(grey: NDArray[np.uint8]) -> dict[str, tuple[Image.Image, str, dict[str, Any]]]:
    """Picture, format and options of Pillow by kind and suffix."""
    picture = Image.fromarray(grey)
    alpha = Image.merge("LA", (picture, Image.new("L", picture.size, 255)))
    return {
        "png-grey.png": (picture, "PNG", {}),
        "png-16bit.png": (Image.fromarray(grey.astype(np.uint16) << 8), "PNG", {}),
        "png-rgb.png": (picture.convert("RGB"), "PNG", {}),
        "png-palette.png": (picture.quantize(16), "PNG", {}),
        "png-alpha.png": (alpha, "PNG", {}),
        "png-1bit.png": (picture.convert("1"), "PNG", {}),
        "jpeg-grey.jpg": (picture, "JPEG", {"quality": 95}),
        "jpeg-progressive.jpeg": (picture, "JPEG", {"quality": 90, "progressive": True}),
        "jpeg-rgb.jpg": (picture.convert("RGB"), "JPEG", {}),
        "jpeg-cmyk.jpg": (picture.convert("CMYK"), "JPEG", {}),
        "bmp-grey.bmp": (picture, "BMP", {}),
        "bmp-rgb.bmp": (picture.convert("RGB"), "BMP", {}),
        "bmp-1bit.bmp": (picture.convert("1"), "BMP", {}),
    }


def _bitmap(picture: Image.Image, name: str, options: dict[str, Any]) -> bytes:
    with io.BytesIO() as stream:
        picture.save(stream, name, **options)
        return stream.getvalue()


def _range(data: bytes, random: Generator) -> slice:
    start = int(random.integers(len(data)))
    return slice(start, start + int(random.integers(1, 1 + len(data) // 4)))


def _cut_off(data: bytes, random: Generator) -> bytes:
    return data[: random.integers(len(data))]


def _flipped(data: bytes, random: Generator) -> bytes:
    changed = bytearray(data)
    for place in random.integers(len(data), size=random.integers(1, 20)):
        changed[place] ^= int(random.integers(1, 256))
    return bytes(changed)


def _flipped_in_front(data: bytes, random: Generator) -> bytes:
    front = min(len(data), 256)
    return _flipped(data[:front], random) + data[front:]


def _zeroed(data: bytes, random: Generator) -> bytes:
    part = _range(data, random)
    return data[: part.start] + bytes(len(data[part])) + data[part.stop :]


def _overwritten(data: bytes, random: Generator) -> bytes:
    part = _range(data, random)
    return data[: part.start] + random.bytes(len(data[part])) + data[part.stop :]


def _grown(data: bytes, random: Generator) -> bytes:
    place = int(random.integers(len(data)))
    return data[:place] + random.bytes(int(random.integers(1, 1000))) + data[place:]


def _shrunk(data: bytes, random: Generator) -> bytes:
    part = _range(data, random)
    return data[: part.start] + data[part.stop :]


def _extreme_number(data: bytes, random: Generator) -> bytes:
    """A size, a count or an offset of a header becomes 0, -1, or as large as it gets."""
    number = random.choice(np.array([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 100_000], np.uint32))
    place = int(random.integers(min(len(data), 400)))
    order = "<" if random.integers(2) else ">"
    return data[:place] + struct.pack(f"{order}I", int(number)) + data[place + 4 :]


def _changed_tag(data: bytes, random: Generator) -> bytes:
    """One of the four parts of an entry in the directory of a TIFF: number, type, count, value."""
    if data[:4] != b"II*\0":
        return _extreme_number(data, random)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entry = start + 2 + 12 * int(random.integers(count))
    offset, code = ((0, "<H"), (2, "<H"), (4, "<I"), (8, "<I"))[random.integers(4)]
    number = int(random.choice(np.array([0, 1, 2, 13, 255, 256, 65_535, 70_000, 2**31 - 1, 2**32 - 1])))
    changed = bytearray(data)
    struct.pack_into(code, changed, entry + offset, number % (1 << (16 if code == "<H" else 32)))
    return bytes(changed)


def _something_else(data: bytes, random: Generator) -> bytes:
    return (b"", b"<html><body>404 Not Found</body></html>", random.bytes(500), bytes(len(data)), data + data)[
        random.integers(5)
    ]


_DAMAGES: tuple[Callable[[bytes, Generator], bytes], ...] = (
    _cut_off, _cut_off, _flipped, _flipped_in_front, _zeroed, _overwritten, _grown, _shrunk, _extreme_number,
    _changed_tag, _changed_tag, _something_else,
)  # fmt: skip
