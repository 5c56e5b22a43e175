"""What is safe to infer about a domain without domain.yaml, and the domain.yaml to write where nothing is."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain_file import COLORS
from microseg.core.domains.labels import NO_BLUR, Mask, hidden_index, read_mask
from microseg.core.domains.layout import mask_suffix
from microseg.core.domains.phases import MAX_PHASES, OTHER, TRANSPARENT, UNLABELLED, PhaseSpec
from microseg.core.errors import InputError

# More indices than this in a mask are grey values rather than phases.
_MAX_INFERRED = 16
# From so many values on, a mask whose values are one object each numbers objects.
_MIN_OBJECTS = 6
_MOST_PARTS = 1.1
_OBJECTS_LOOKED_AT = 64
_LISTED = 8
_PLAIN = re.compile(r"[A-Za-z][\w./-]*( [\w./-]+)*", re.ASCII)
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_MASK_WORDS = {"mask", "masks", "annot", "annotation", "annotations", "label", "labels", "gt", "groundtruth"}


class ProposalError(InputError):
    """Phases cannot be inferred without risk, but a domain.yaml can be proposed.

    Attributes:
        text: its keys, apart from those of the folders.
    """

    def __init__(self, message: str, text: str) -> None:
        super().__init__(f"{message}:\n\n{text}")
        self.text = text


@dataclass(frozen=True)
class InferredPhases:
    """Phases that labels show without a domain.yaml.

    Attributes:
        phases: the phases; phase0, phase1 ... where masks give no names.
        unlabelled: mask value of pixels without label, or None.
        notices: what of it may be meant otherwise.
    """

    phases: tuple[PhaseSpec, ...]
    unlabelled: int | str | None
    notices: tuple[str, ...] = ()


def infer_phases(source: Path, masks: Sequence[Path], unlabelled: int | str | None) -> InferredPhases:
    """Phases of masks that hold indices alone, or black and white.

    Understood are the indices 0 to P-1 (also where some never occur), 1 to P without 0 (as ilastik numbers them; 0 may be
    stated as unlabelled), and 0 with the white of 8 or 16 bit. 255 beside indices is taken as unlabelled.

    Args:
        source: the domain, for messages.
        masks: files of the masks.
        unlabelled: the value of pixels without label as stated, or None.

    Raises:
        InputError: the masks hold colours, grey values, instance labels or something else. The message shows the domain.yaml to
            write.
    """
    counts = _counts(source, masks)
    values = sorted(value for value in counts if isinstance(value, int) and value != unlabelled)
    if len(values) + (unlabelled in counts) < len(counts):
        raise _proposal(source, counts)
    if unlabelled is None and values in ([0, 255], [0, 65535]):
        return InferredPhases(_numbered(values), None)
    notices = []
    if unlabelled is None and len(values) > 2 and values[-1] == UNLABELLED:
        unlabelled = values.pop()
        notices.append("mask value 255 beside indices is taken as pixels without label")
    elif unlabelled is None and len(values) > 2 and values[0] == 0 and 2 * counts[0] > sum(counts.values()):
        notices.append(
            "mask value 0 covers most of the area and is taken as 'phase0': where it means that nothing is labelled "
            "(scribbles), write `unlabelled: 0` in domain.yaml"
        )
    first = 1 if unlabelled == 0 or (len(values) > 1 and values == list(range(1, len(values) + 1))) else 0
    last = max(values, default=0)
    # Fewer than half of the numbers up to the largest: rather grey values than indices.
    if last < _MAX_INFERRED and (len(values) < 2 or 2 * len(values) > last):
        return InferredPhases(_numbered(range(first, max(2 + first, last + 1))), unlabelled, tuple(notices))
    raise _proposal(source, counts)


def _numbered(values: Sequence[int]) -> tuple[PhaseSpec, ...]:
    return tuple(PhaseSpec(f"phase{i}", COLORS[i % len(COLORS)], (value,)) for i, value in enumerate(values))


def _counts(source: Path, masks: Sequence[Path]) -> Counter[int | str]:
    """Pixels of each value over all masks. Palettes count by index, unless it has several colours or greys in disorder."""
    counts: Counter[int | str] = Counter()
    colors: dict[int, bytes] = {}
    for path in masks:
        mask = read_mask(path)
        if mask.palette is not None:
            for index in np.unique(mask.pixels).tolist():
                if colors.setdefault(index, mask.palette[index].tobytes()) != mask.palette[index].tobytes():
                    return _counts_by_colour(masks)
        found = _opaque_counts(mask)
        # Cellpose names its files so, and numbers objects.
        fewest = 3 if path.stem.lower().endswith("_cp_masks") else _MIN_OBJECTS
        if len(found) >= fewest and is_numbered_by_object(mask.pixels):
            raise _instances(source, path, len(found))
        counts.update(found)
    return _counts_by_colour(masks) if _are_disordered_greys(colors) else counts


def _counts_by_colour(masks: Sequence[Path]) -> Counter[int | str]:
    return sum((_opaque_counts(read_mask(path), by_colour=True) for path in masks), Counter())


def _are_disordered_greys(colors: Mapping[int, bytes]) -> bool:
    """Whether a palette shows greys in another order than its indices count them, as that of a 1-bit file may."""
    greys = [color[0] for _, color in sorted(colors.items()) if len(set(color)) == 1]
    return len(set(greys)) == len(colors) and greys != sorted(greys)


def _opaque_counts(mask: Mask, by_colour: bool = False) -> Counter[int | str]:
    """Pixels of each value. Transparent ones count as such, or not at all where the mask is that of a report."""
    pixels = mask.palette[mask.pixels] if by_colour and mask.palette is not None else mask.pixels
    if mask.transparent is None:
        return _value_counts(pixels)
    counts = _value_counts(pixels[~mask.transparent][None])
    if mask.palette is None or hidden_index(mask, ()) is None:
        counts[TRANSPARENT] = int(np.count_nonzero(mask.transparent))
    return counts


def is_numbered_by_object(pixels: NDArray[Any]) -> bool:
    """Whether the values beside 0 follow one another and are one connected object each, as in instance labels.

    Args:
        pixels: (h, w) of values; colours are none.
    """
    if pixels.ndim != 2:
        return False
    values, counts = np.unique(pixels[pixels > 0], return_counts=True)
    # Of objects that were numbered, a part of the field may lack some.
    if not len(values) or values[-1] > 2 * len(values):
        return False
    parts = 0
    looked_at = values[np.argsort(counts, kind="stable")[:_OBJECTS_LOOKED_AT]]
    for value in looked_at:
        rows, columns = (np.flatnonzero((pixels == value).any(axis)) for axis in (1, 0))
        box = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        parts += cv2.connectedComponents((box == value).astype(np.uint8), connectivity=8)[0] - 1
    return parts <= _MOST_PARTS * len(looked_at)


def _instances(source: Path, mask: Path, values: int) -> ProposalError:
    return ProposalError(
        f"{source}: {mask.name} holds instance labels: {values} values, each of them one object. They number objects "
        f"and name no phases.\nRemedy: export a mask of classes, or {_target(source)} (0 is what is no object)",
        'phases:\n  - {name: phase0, value: 0}\n  - {name: phase1, value: "other"}\n',
    )


def _value_counts(pixels: NDArray[Any]) -> Counter[int | str]:
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


def _proposal(source: Path, counts: Counter[int | str]) -> InputError:
    """An error that shows the domain.yaml to write, with the values of the masks; without, where there are too many."""
    if any(isinstance(value, str) and value != TRANSPARENT for value in counts):
        # Masks that hold no colour, among others that do: their greys are the micrograph.
        greys = [value for value in counts if isinstance(value, int)]
        counts = counts + Counter({"grey": sum(counts.pop(value) for value in greys)}) if greys else counts
    total = sum(counts.values())
    numbers = sorted(value for value in counts if isinstance(value, int))
    if _MAX_INFERRED < len(numbers) <= MAX_PHASES and numbers == list(range(numbers[0], numbers[0] + len(counts))):
        return ProposalError(
            f"{source}: the masks hold the values {numbers[0]} to {numbers[-1]} without a gap. These are the indices of "
            f"{len(numbers)} phases, or grey values.\nRemedy: where they are indices, {_target(source)} with names for them",
            phases_text([(f"phase{index}", value, counts[value] / total) for index, value in enumerate(numbers)]),
        )
    if len(counts) > _MAX_INFERRED:
        commonest = counts.most_common(_LISTED)
        share = 100 * sum(count for _, count in commonest) / total
        listed = ", ".join(str(value) for value, _ in commonest)
        found = f"{source}: the masks hold {len(counts)} different values; {listed} cover {share:.1f} % of the area."
        return InputError(f"{found} Masks have one value for each phase. {NO_BLUR}")
    ordered = sorted(
        counts, key=lambda value: (isinstance(value, str), value if isinstance(value, int) else 0, str(value))
    )
    return ProposalError(
        f"{source}: the masks hold {len(counts)} different values that are not phase indices, and their meaning "
        f'is unknown.\nRemedy: {_target(source)} with names for them ("other" is anything else, `unlabelled: VALUE` is for '
        "pixels without label)",
        phases_text([(f"phase{index}", value, counts[value] / total) for index, value in enumerate(ordered)]),
    )


def phases_text(phases: Sequence[tuple[str, int | str, float | None]]) -> str:
    """The key `phases` of a domain.yaml.

    Args:
        phases: name, mask value and share of the area (0-1, None where it is unknown) of each phase.
    """
    return "phases:\n" + "".join(
        f"  - {{name: {yaml_text(name)}, value: {yaml_text(value)}}}"
        + ("\n" if share is None else f"   # {100 * share:.2f} % of the area\n")
        for name, value, share in phases
    )


def yaml_text(value: str | int) -> str:
    """A value as a domain.yaml has it: in quotes where YAML would take it for something else."""
    plain = isinstance(value, int) or (_PLAIN.fullmatch(value) is not None and value.lower() not in _YAML_WORDS)
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def named_phases(source: Path, tool: str, areas: Counter[str], unlabelled: int | str | None) -> InferredPhases:
    """Phases with the names of the labels of label files, where those leave no doubt.

    They do not where the labels cover all pixels, or what is in no shape is stated as unlabelled. Beside one label alone, what
    is in no shape is the other phase.

    Args:
        source: the domain, for messages.
        tool: the tool that wrote the files.
        areas: pixels of each label; those in no shape under an empty name.
        unlabelled: the value of pixels without label as stated, or None.

    Raises:
        InputError: several labels and pixels in no shape, or no labels. The message shows the domain.yaml to write.
    """
    names = sorted(name for name in areas if name and name != unlabelled)
    ground = next(name for name in ("background", "rest", "") if name not in names)
    notices = []
    if names and areas[""] and unlabelled != OTHER:
        share = 100 * areas[""] / sum(areas.values())
        notices.append(f"what lies in no shape ({share:.2f} % of the area) is taken as the phase {ground!r}")
        names = [ground, *names]
        if len(names) > 2:
            raise _named_proposal(source, tool, names, areas)
    if len(names) < 2:
        raise InputError(
            f"{source}: the {tool} files hold {len(names)} labels ({', '.join(names)}). Remedy: label two phases at least."
        )
    values = [name if name in areas else OTHER for name in names]
    phases = tuple(
        PhaseSpec(name, COLORS[index % len(COLORS)], (value,))
        for index, (name, value) in enumerate(zip(names, values, strict=True))
    )
    return InferredPhases(phases, unlabelled, tuple(notices))


def _named_proposal(source: Path, tool: str, names: Sequence[str], areas: Counter[str]) -> ProposalError:
    total = sum(areas.values())
    phases = [(names[0], OTHER, areas[""] / total), *((name, name, areas[name] / total) for name in names[1:])]
    return ProposalError(
        f"{source}: the {tool} files hold {len(names) - 1} labels, and {100 * areas[''] / total:.2f} % of the area lie in no "
        f"shape; what that means is unknown.\nRemedy: {_target(source)} (where it means that nothing is labelled, "
        "`unlabelled: other` in place of the first phase)",
        f"labels: {tool}\n{phases_text(phases)}",
    )


def _target(source: Path) -> str:
    written = f"write {source / 'domain.yaml'}, as `microseg check --write-yaml` does,"
    return written if source.is_dir() else f"add to {source}"


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
    by_suffix = [s for s in stems if (end := mask_suffix(s)) and s.removesuffix(end) in stems]
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
