"""Where the strips or tiles of a TIFF page lie, also where the file states their lengths wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from microseg.core.errors import FieldError

AGAIN = "Remedy: copy or save the image again."
JPEG = (6, 7, 33007, 34892)
_OLD_JPEG, _PACKBITS = 6, 32773
# These decoders fail where data are missing: LZW, deflate, PackBits, JPEG 2000, LZMA, PNG, zstd. JPEG is checked by its end.
_TELLING = (*JPEG, 5, 8, 32946, _PACKBITS, 33003, 33004, 33005, 34712, 34925, 34933, 50000, 50013)
# Offsets and lengths of damaged tags are cut to this: their sums stay within 64 bits.
_HUGE = 1 << 60
# Compressed data are hardly longer than this many times what they hold, and tables.
_LONGEST, _TABLES_BYTES = 2, 1 << 16
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


class Segments:
    """The strips or tiles of a page. One thread at a time may use it.

    A length that is 0, not stated or beyond the end of the file says nothing. Then that of uncompressed data follows from the
    size of the picture, and compressed data are read up to the next strip or tile.

    Attributes:
        rows, columns: size of a strip or tile in pixels.
        down, across: their number in a column and in a row of the picture.
        missing: bool (planes x down x across), True for those that were never written.
    """

    def __init__(self, path: Path, tif: tifffile.TiffFile, page: Any, planes: int) -> None:
        """Find the strips or tiles.

        Args:
            path: the file.
            tif: the open file.
            page: its page.
            planes: planes of the page that are stored one after the other.

        Raises:
            FieldError: data are missing, or nothing was ever written.
        """
        self._path, self._page, self._handle = path, page, tif.filehandle
        self._size = int(tif.filehandle.size)
        self._kind = "tiles" if page.is_tiled else "strips"
        offsets, counts = _numbers(page.dataoffsets), _numbers(page.databytecounts)
        if page.compression == _OLD_JPEG and (stream := self._whole_stream()) is not None:
            page.rowsperstrip = page.imagelength
            offsets, counts = np.array([stream]), np.array([0])
        height, width = int(page.imagelength), int(page.imagewidth)
        self.rows, self.columns = (
            (int(page.tilelength), int(page.tilewidth))
            if page.is_tiled
            else (min(int(page.rowsperstrip), height), width)
        )
        if self.rows < 1 or self.columns < 1:
            raise FieldError(f"{path}: states {self._kind} of {self.columns} x {self.rows} px. {AGAIN}")
        self.down, self.across = math.ceil(height / self.rows), math.ceil(width / self.columns)
        number = planes * self.down * self.across
        if len(offsets) < number:
            raise FieldError(
                f"{path}: states where {len(offsets)} {self._kind} are, and {width} x {height} px are {number}. {AGAIN}"
            )
        self._offsets, self._stated = offsets[:number], np.zeros(number, np.int64)
        self._stated[: len(counts)] = counts[:number]
        self._raw = self._raw_bytes(planes)
        self.missing = self._never_written()
        self._room = self._bytes_to_the_next()
        self._counts = self._plain_counts() if page.compression == 1 else self._compressed_counts()
        is_jpeg = page.compression in JPEG
        self._tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if is_jpeg else {}
        self._needs_end = is_jpeg and page.jpegheader is None
        # Looked up here: it reads tags of the file, and would move the position between seek and read.
        self._decode = page.decode
        beyond = ~self.missing & (self._offsets + self._stated > self._size)
        if page.compression != 1 and beyond.any():
            # A file that was cut off fails here, and not after half of the measurement.
            self.decode(int(beyond.argmax()))

    def decode(self, index: int) -> tuple[NDArray[Any], int]:
        """Decode a strip or tile.

        Args:
            index: its number.

        Returns:
            Values (rows, columns, samples), and the column of the picture at which they begin.

        Raises:
            FieldError: its data are missing.
        """
        count = int(self._counts[index])
        longest = int(min(self._room[index], _LONGEST * self._raw[index] + _TABLES_BYTES))
        try:
            try:
                return self._decoded(index, count)
            except Exception:
                # A length within the file may be wrong, too.
                if self._page.compression == 1 or longest <= count:
                    raise
                return self._decoded(index, longest)
        except Exception as error:
            if self._offsets[index] + self._stated[index] > self._size:
                raise self._too_short(int(self._offsets[index] + self._stated[index])) from error
            raise

    def never_written(self, planes: int) -> Callable[[int, int], NDArray[np.bool_]] | None:
        """A function that gives rows, bool (n, width), True for pixels that were never written; None where all were."""
        if not self.missing.any():
            return None
        blocks = np.asarray(self.missing.reshape(planes, self.down, self.across).any(axis=0), np.bool_)
        width = int(self._page.imagewidth)
        return lambda start, stop: blocks[np.arange(start, stop) // self.rows].repeat(self.columns, axis=1)[:, :width]

    def _decoded(self, index: int, count: int) -> tuple[NDArray[Any], int]:
        self._handle.seek(int(self._offsets[index]))
        encoded = self._handle.read(count)
        if self._needs_end and encoded.rfind(_JPEG_END) < 0:
            # libjpeg makes up grey for what is missing.
            raise ValueError(f"{len(encoded)} bytes of JPEG data without an end marker")
        if self._page.compression == _PACKBITS and count != self._stated[index]:
            encoded = _packbits(encoded, int(self._raw[index]))
        data, (_, _, _, left, _), _ = self._decode(encoded, index, **self._tables)
        return data[0], left

    def _whole_stream(self) -> int | None:
        """Where an old-style JPEG file has a stream of the whole picture (tag 513, JPEGInterchangeFormat); else None."""
        (start,) = _numbers(self._page.tags.valueof(513, (0,))[:1]).tolist()
        if not 0 < start < self._size:
            return None
        self._handle.seek(start)
        return start if self._handle.read(2) == _JPEG_START else None

    def _raw_bytes(self, planes: int) -> NDArray[np.int64]:
        """Bytes of each strip or tile without compression."""
        page = self._page
        rows = np.full(self.down, self.rows, np.int64)
        if not page.is_tiled:
            rows[-1] = page.imagelength - (self.down - 1) * self.rows
        return np.tile(np.repeat(rows * self._row_bytes(self.columns), self.across), planes)

    def _row_bytes(self, columns: int) -> int:
        page = self._page
        samples = 1 if page.planarconfig == 2 else int(page.samplesperpixel)
        bits = sum(page.bitspersample) if isinstance(page.bitspersample, tuple) else samples * int(page.bitspersample)
        return (columns * bits + 7) // 8

    def _never_written(self) -> NDArray[np.bool_]:
        """A sparse file states neither offset nor length, or no length and the offset of another one that has one."""
        empty = self._stated == 0
        missing = empty & (self._offsets == 0)
        if not empty.all():
            missing |= empty & np.isin(self._offsets, self._offsets[~empty])
        if missing.all():
            raise FieldError(
                f"{self._path}: none of its {len(missing)} {self._kind} was ever written. Remedy: save it again."
            )
        return np.asarray(missing, np.bool_)

    def _bytes_to_the_next(self) -> NDArray[np.int64]:
        """Bytes from the start of each one to the next one, to the header of the page or to the end of the file."""
        starts = np.append(self._offsets[~self.missing], [int(self._page.offset), self._size])
        bounds = np.unique(np.minimum(starts, self._size))
        following = np.minimum(np.searchsorted(bounds, self._offsets, side="right"), len(bounds) - 1)
        return np.maximum(bounds[following] - self._offsets, 0)

    def _plain_counts(self) -> NDArray[np.int64]:
        """Lengths of uncompressed data."""
        raw, stated = self._raw, self._stated
        is_known = stated == raw
        if self._page.is_tiled:
            # Some programs cut the tiles at the lower and the right edge to the picture.
            rows = self._page.imagelength - (self.down - 1) * self.rows
            columns = self._page.imagewidth - (self.across - 1) * self.columns
            for width in (self.columns, columns):
                is_known |= stated == rows * self._row_bytes(width)
        is_there = (self._room >= raw) | (stated > raw)
        counts = np.where(is_known, stated, raw)
        short = ~self.missing & ~is_known & ~is_there
        self._require(int((self._offsets + counts)[~self.missing].max()))
        if short.any():
            index = int(short.argmax())
            have = int(stated[index] or self._room[index])
            raise FieldError(
                f"{self._path}: of its {self._kind}, number {index + 1} has {have} bytes and needs {int(raw[index])}. {AGAIN}"
            )
        return counts

    def _compressed_counts(self) -> NDArray[np.int64]:
        """Lengths of compressed data: as stated, or up to the next strip or tile."""
        used = ~self.missing
        self._require(int(self._offsets[used].max()) + 1)
        ends = self._offsets + self._stated
        beyond = used & (ends > self._size)
        if beyond.any() and self._page.compression not in _TELLING:
            raise self._too_short(int(ends[used].max()))
        longest = np.minimum(self._room, _LONGEST * self._raw + _TABLES_BYTES)
        return np.where(beyond | (self._stated == 0), longest, self._stated)

    def _require(self, needed: int) -> None:
        if needed > self._size:
            raise self._too_short(needed)

    def _too_short(self, needed: int) -> FieldError:
        return too_short(self._path, self._kind, needed, self._size)


def packed_bits(page: Any) -> int | None:
    """Bits of a value where they are fewer than those of its type, 1 to 7 and 9 to 15; else None.

    Args:
        page: a page of tifffile.
    """
    bits = page.bitspersample
    return bits if isinstance(bits, int) and bits < 16 and bits != 8 else None


def too_short(path: Path, what: str, needed: int, size: int) -> FieldError:
    """The error for a file that ends before its data do.

    Args:
        path: the file.
        what: "strips" or "tiles".
        needed: the byte up to which they reach.
        size: bytes of the file.
    """
    return FieldError(f"{path}: its {what} reach to byte {needed}, and the file has {size} bytes. {AGAIN}")


def _numbers(values: Sequence[int]) -> NDArray[np.int64]:
    """Offsets or lengths; those that no file can have are cut."""
    return np.array([min(max(int(value), 0), _HUGE) for value in values], np.int64)


def _packbits(encoded: bytes, size: int) -> bytes:
    """The part of PackBits data that holds so many bytes (TIFF 6.0, section 9): the data themselves state no end."""
    position, found = 0, 0
    while found < size and position < len(encoded):
        head = encoded[position]
        literal = head < 128
        found += head + 1 if literal else (257 - head) * (head > 128)
        position += head + 2 if literal else 1 + (head > 128)
    return encoded[:position]
