"""What is safe to infer about a domain without domain.yaml, and the domain.yaml to write where nothing is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain_file import COLORS
from microseg.core.domains.labels import read_mask
from microseg.core.domains.pairing import MASK_SUFFIXES
from microseg.core.domains.phases import PhaseSpec
from microseg.core.errors import InputError

# More indices than this in a mask are grey values rather than phases.
_MAX_INFERRED = 16
_LISTED = 8
_MASK_WORDS = {"mask", "masks", "annot", "annotation", "annotations", "label", "labels", "gt", "groundtruth"}


def infer_phases(source: Path, masks: Sequence[Path], unlabelled: int | str | None) -> tuple[PhaseSpec, ...]:
    """Phases phase0 ... phaseP-1 of masks that hold small indices alone.

    Args:
        source: the domain, for messages.
        masks: files of the masks.
        unlabelled: the value of pixels without label, or None.

    Raises:
        InputError: the masks hold colours, grey values or something else. The message shows the domain.yaml to write.
    """
    counts: Counter[int | str] = Counter()
    for mask in masks:
        counts.update(_value_counts(*read_mask(mask)))
    values = [value for value in counts if value != unlabelled]
    indices = [value for value in values if isinstance(value, int)]
    if len(indices) == len(values) and max(indices, default=0) < _MAX_INFERRED:
        number = max(2, max(indices, default=0) + 1)
        return tuple(PhaseSpec(f"phase{i}", COLORS[i % len(COLORS)], (i,)) for i in range(number))
    raise InputError(_proposal(source, counts))


def _value_counts(pixels: NDArray[Any], palette: NDArray[np.uint8] | None) -> Counter[int | str]:
    if pixels.ndim == 2 or (pixels == pixels[..., :1]).all():
        values, counts = np.unique(pixels if pixels.ndim == 2 else pixels[..., 0], return_counts=True)
        return Counter({int(value): int(count) for value, count in zip(values, counts, strict=True)})
    codes = pixels[..., 0].astype(np.uint32) << 16 | pixels[..., 1].astype(np.uint32) << 8 | pixels[..., 2]
    is_grey = (pixels == pixels[..., :1]).all(axis=2)
    values, counts = np.unique(codes[~is_grey], return_counts=True)
    found: Counter[int | str] = Counter({f"#{v:06x}": int(n) for v, n in zip(values, counts, strict=True)})
    if is_grey.any():
        found["grey"] = int(is_grey.sum())
    return found


def _proposal(source: Path, counts: Counter[int | str]) -> str:
    """An error that shows the domain.yaml to write, with the commonest values of the masks."""
    total = sum(counts.values())
    lines = []
    commonest = counts.most_common(_LISTED)
    for value, count in commonest if len(counts) > _LISTED else sorted(commonest, key=lambda item: str(item[0])):
        shown = value if isinstance(value, int) else f'"{value}"'
        lines.append(f"  - {{name: NAME, value: {shown}}}   # {100 * count / total:.2f} % of the area")
    more = f"  # ... {len(counts) - _LISTED} more values\n" if len(counts) > _LISTED else ""
    target = source / "domain.yaml" if source.is_dir() else source
    return (
        f"{source}: the masks hold {len(counts)} different values that are not phase indices, and their meaning "
        f'is unknown.\nRemedy: write {target} with names for them ("other" is anything else, `unlabelled: VALUE` is for '
        "pixels without label):\n\nphases:\n" + "\n".join(lines) + "\n" + more
    )


def refuse_mixed_folder(folder: Path, images: Sequence[Path]) -> None:
    """Raise InputError where a folder without domain.yaml seems to hold images and their masks.

    Args:
        folder: the folder.
        images: the image files found in it.
    """
    relative = [path.relative_to(folder) for path in images]
    by_folder = sorted(
        {part for path in relative for part in path.parts[:-1] if _MASK_WORDS & set(re.split("[^a-z]+", part.lower()))}
    )
    stems = {path.with_suffix("").as_posix() for path in relative}
    by_suffix = [s for s in stems if any(s.endswith(end) and s.removesuffix(end) in stems for end in MASK_SUFFIXES)]
    if not by_folder and not by_suffix:
        return
    seen = f"the folders {', '.join(by_folder)}" if by_folder else f"files such as {min(by_suffix)}"
    images_name = sorted({path.parts[0] for path in relative if len(path.parts) > 1 and path.parts[0] not in by_folder})
    raise InputError(
        f"{folder}: {seen} look like masks among the images.\n"
        f"Remedy: write {folder / 'domain.yaml'} (several folders as a list), or give one folder of images:\n\n"
        f"images: {images_name[0] if images_name else 'FOLDER_OF_IMAGES'}\n"
        f"masks: {by_folder[0] if by_folder else 'FOLDER_OF_MASKS'}   # null for none\n"
        'mask_suffix: ""   # "_mask" where a.tif belongs to a_mask.tif\n'
        "phases:\n  - {name: NAME, value: 0}\n  - {name: NAME, value: 1}\n"
    )
