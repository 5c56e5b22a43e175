"""Run-length coded masks: numbers of pixels outside and inside in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError

# Five bits a character: seven of them hold any number of pixels that an image has.
_MOST_CHARACTERS = 7


def checked_runs(runs: Sequence[int], height: int, width: int, where: str) -> NDArray[np.int64]:
    """The runs of a mask, the first of which is outside.

    Args:
        runs: lengths in pixels.
        height: rows of the mask.
        width: columns of the mask.
        where: file and place, for messages.

    Returns:
        int64 (runs,), which add up to height * width.

    Raises:
        InputError: the runs are no numbers of pixels, or are not those of a mask of this size.
    """
    if len(runs) > height * width + 1 or any(type(run) is not int or run < 0 for run in runs):
        raise InputError(f"{where}: its runs (RLE) are no numbers of pixels. Remedy: export it again.")
    if sum(runs) != height * width:
        raise InputError(
            f"{where}: its runs (RLE) hold {sum(runs)} pixels, and the mask has {width} x {height}. Remedy: export it again."
        )
    return np.array(runs, np.int64)


def from_runs(runs: NDArray[np.int64], height: int, width: int, *, by_columns: bool) -> NDArray[np.bool_]:
    """A mask from its runs.

    Args:
        runs: as `checked_runs` gives them.
        height: rows of the mask.
        width: columns of the mask.
        by_columns: whether the pixels follow one another down the columns, as in COCO, instead of along the rows, as in CVAT.

    Returns:
        bool (height, width).
    """
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return pixels.reshape(width, height).T if by_columns else pixels.reshape(height, width)


def coco_runs(text: str, where: str) -> list[int]:
    """The runs of COCO's compressed form.

    Each number takes one or more characters from `0` on: five bits of the number, the lowest first, and a sixth that says that
    more follow; the last one's fifth bit is the sign. From the fourth number on, they are differences to the number two before.

    Args:
        text: the characters.
        where: file and place, for messages.

    Raises:
        InputError: the text ends within a number, or holds other characters.
    """
    runs: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits >= 5 * _MOST_CHARACTERS:
            raise InputError(f"{where}: is no run-length coded mask of COCO. Remedy: export it again.")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = bits = 0
    if bits:
        raise InputError(f"{where}: its run-length coded mask is cut off. Remedy: export it again.")
    return runs
