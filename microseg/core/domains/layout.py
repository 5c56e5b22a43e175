"""Where a folder keeps images and masks: folders and suffixes as tools and people name them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from microseg.core.errors import InputError
from microseg.core.system.listing import entries_of

IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "imagestr"})
MASK_FOLDERS = frozenset(
    {
        "masks",
        "mask",
        "labels",
        "label",
        "gt",
        "groundtruth",
        "ground_truth",
        "annot",
        "annotation",
        "annotations",
        "labelstr",
        "labelsts",
    }
)
# Cellpose writes _cp_masks, ilastik _Simple Segmentation. The longer ones come first: they end in shorter ones.
MASK_SUFFIXES = (
    "_simple segmentation",
    "_cp_masks",
    "_labels",
    "_label",
    "_annot",
    "_masks",
    "_mask",
    "_seg",
)


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds masks, in any case.

    Args:
        name: the folder's name without its path.
    """
    return name.lower() in MASK_FOLDERS


def mask_suffix(stem: str) -> str:
    """The suffix of a mask beside its image, as the stem has it; empty without one.

    Args:
        stem: the file's name without its suffix for the format.
    """
    found = next((suffix for suffix in MASK_SUFFIXES if stem.lower().endswith(suffix)), "")
    return stem[len(stem) - len(found) :]


def image_folders(base: Path) -> list[str]:
    """The image folders below a domain folder: the one named `images` or alike, else the folder itself.

    Args:
        base: the domain folder.

    Raises:
        InputError: several folders have such names.
    """
    found = _only(base, IMAGE_FOLDERS, "images") or "."
    return [found, *_test_folders(base, found, "images")]


def mask_folders(base: Path) -> list[str]:
    """The mask folders below a domain folder: the one named `masks` or alike, in any case; none without one.

    Args:
        base: the domain folder.

    Raises:
        InputError: several folders have such names.
    """
    found = _only(base, MASK_FOLDERS - {"labelsts"}, "masks")
    return [] if found is None else [found, *_test_folders(base, found, "labels")]


def is_test_folder(name: str) -> bool:
    """Whether a folder of this name holds nnU-Net's test images.

    Args:
        name: the folder's name without its path.
    """
    return name.lower() == "imagests"


def _test_folders(base: Path, found: str, kind: str) -> list[str]:
    """nnU-Net's imagesTs or labelsTs beside imagesTr or labelsTr, where both are there."""
    has_both = found.lower() == f"{kind}tr" and (base / "imagesTs").is_dir() and (base / "labelsTs").is_dir()
    return [f"{kind}Ts"] if has_both else []


def _only(base: Path, names: Iterable[str], usual: str) -> str | None:
    """The folder of one of the names; the usual name wins."""
    if (base / usual).is_dir():
        return usual
    try:
        found = sorted(entry.name for entry in entries_of(base) if entry.name.lower() in names and entry.is_folder)
    except OSError:  # whoever lists its images says why
        return None
    if len(found) > 1:
        raise InputError(
            f"{base}: the folders {', '.join(found)} may all hold the {usual}. Remedy: state `{usual}` in domain.yaml."
        )
    return found[0] if found else None
