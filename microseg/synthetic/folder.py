"""Domain folders of synthetic micrographs (microseg/docs/design.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.special import betaincinv

from microseg.core.errors import InputError
from microseg.core.system.files import write_bytes, write_json, write_yaml
from microseg.synthetic.appearance import Appearance
from microseg.synthetic.field import (
    DEFAULT_FRACTION,
    appearance_of,
    field_extent,
    synthesise_field,
)
from microseg.synthetic.microscope import write_lom_tiff, write_sem_tiff

# Raise it when a change makes other micrographs from the same seed.
GENERATOR_VERSION = 1
RECORD = "synthetic.json"
PHASES = (("ferrite", "#0072b2"), ("lath-bainite", "#e69f00"))
# Standard deviation of the fraction between fields.
FRACTION_SPREAD = 0.08
_GOLDEN = 0.6180339887498949


def field_seed(seed: int, index: int) -> int:
    """The seed of one field of a folder. It does not depend on the number of fields.

    Args:
        seed: seed of the folder.
        index: number of the field, from 0.
    """
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def field_fraction(mean: float, index: int) -> float:
    """The fraction of one field, beta distributed over the fields with even quantiles, so that few fields meet the mean.

    Args:
        mean: mean area fraction of lath bainite, 0-1.
        index: number of the field, from 0.
    """
    spread = min(FRACTION_SPREAD, 0.4 * mean, 0.4 * (1 - mean))
    if spread == 0:
        return mean
    concentration = mean * (1 - mean) / spread**2 - 1
    quantile = (0.5 + index * _GOLDEN) % 1.0
    return float(betaincinv(mean * concentration, (1 - mean) * concentration, quantile))


def write_domain(
    out: Path,
    domain: str,
    fields: int,
    seed: int,
    *,
    field_um: tuple[float, float] | None = None,
    size_px: tuple[int, int] | None = None,
    fraction: float = DEFAULT_FRACTION,
) -> list[Path]:
    """Write a domain folder: images, masks and domain.yaml. Field i of a seed has one structure in every domain.

    Files that the same call left before are kept.

    Args:
        out: the folder.
        domain: s, t1, t2 or t3.
        fields: number of fields.
        seed: seed of the folder.
        field_um: (width, height) of a field in micrometres, or None.
        size_px: (width, height) of a field in native pixels, which wins, or None.
        fraction: mean area fraction of lath bainite over the fields, 0-1.

    Returns:
        The image files.

    Raises:
        InputError: an option out of range, or a folder that holds something else.
    """
    look = appearance_of(domain)
    extent_um, size = field_extent(look, field_um, size_px)
    if fields < 1:
        raise InputError(f"{fields} fields cannot be made. Remedy: --fields 1 or more.")
    if seed < 0:
        raise InputError(f"seed {seed} is negative. Remedy: --seed 0 or more.")
    if not 0.0 <= fraction <= 1.0:
        raise InputError(f"fraction {fraction:g} is not between 0 and 1. Remedy: a number from 0 to 1.")
    record = {
        "generator": GENERATOR_VERSION,
        "domain": domain.lower(),
        "seed": seed,
        "fields": fields,
        "field_um": list(extent_um),
        "size_px": list(size),
        "fraction": fraction,
    }
    _claim(out, record)
    images = []
    for index in range(fields):
        stem = f"{domain.lower()}-{seed}-{index + 1:03d}"
        image, mask = out / "images" / f"{stem}.tif", out / "masks" / f"{stem}.png"
        images.append(image)
        if image.is_file() and mask.is_file():
            continue
        made = synthesise_field(
            domain,
            field_seed(seed, index),
            field_um=field_um,
            size_px=size_px,
            fraction=field_fraction(fraction, index),
        )
        write = write_lom_tiff if look.invert else write_sem_tiff
        write_bytes(mask, cv2.imencode(".png", made.labels)[1].tobytes())
        write(image, made.image, made.pixel_size_um)
    write_yaml(out / "domain.yaml", _domain_yaml(domain, look))
    return images


def _claim(out: Path, record: dict[str, Any]) -> None:
    """Raise InputError unless the folder is absent, empty, or begun with the same settings."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file. Remedy: give a folder.")
    kept = out / RECORD
    if kept.is_file():
        try:
            before = json.loads(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = None
        if before != record:
            raise InputError(f"{out}: holds synthetic fields made with other settings ({RECORD}). Remedy: another OUT.")
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty and was not made by this command. Remedy: another OUT.")
    try:
        write_json(kept, record)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}). Remedy: another OUT.") from error


def _domain_yaml(domain: str, look: Appearance) -> dict[str, Any]:
    return {
        "name": f"synthetic-{domain.lower()}",
        "images": "images",
        "masks": "masks",
        "phases": [{"name": name, "value": index, "color": color} for index, (name, color) in enumerate(PHASES)],
        "pixel_size_um": look.pixel_size_um,
        "invert": look.invert,
    }
