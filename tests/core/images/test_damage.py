"""Whatever a damaged file makes a decoder raise is a reason, not the end of the run."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks.damage import write_damaged
from microseg.core.errors import FieldError
from microseg.core.images.micrograph import open_micrograph
from tests.core.samples import noise


def test_a_table_of_colours_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    table = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    tifffile.imwrite(path, noise(32, 40), photometric="palette", colormap=table, metadata=None)
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack("<HHI", 320, 3, 768))
    struct.pack_into("<I", data, place + 4, 1)
    path.write_bytes(data)
    with pytest.raises(FieldError, match=r"palette\.tif: .*Remedy"), open_micrograph(path) as micrograph:
        micrograph.rows(0, micrograph.height)


def test_every_damage_is_a_reason_or_a_picture(tmp_path: Path) -> None:
    names, intact = write_damaged(tmp_path / "in", 500, 20261130)
    read, reasons = set(), {}
    for name in names:
        try:
            with open_micrograph(tmp_path / "in" / name) as micrograph:
                for start in range(0, micrograph.height, 64):
                    rows = micrograph.rows(start, min(start + 64, micrograph.height))
                    assert rows.shape[1] == micrograph.width
                read.add(name)
        except FieldError as error:
            reasons[name] = str(error)
    assert not [name for name, reason in reasons.items() if name not in reason or "Remedy: " not in reason]
    assert set(intact) <= read and len(read) < 400


@pytest.mark.parametrize("code", [322, 323])
def test_a_tag_of_several_tile_sizes_is_refused_before_memory_is_taken(tmp_path: Path, code: int) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(96, 96), tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        entry = tif.pages[0].tags[code].offset  # type: ignore[union-attr]
    data = bytearray(path.read_bytes())
    # Forty LONG values that begin at byte 8.
    data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 40, 8)
    path.write_bytes(data)
    with pytest.raises(FieldError, match=r"a\.tif: states several sizes of its tiles or strips.*Remedy"):
        open_micrograph(path)
