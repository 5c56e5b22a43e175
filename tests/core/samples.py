"""Small images and domain folders made in a moment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image

from microseg.core.images.scale.statement import StatedScale


def noise(height: int, width: int, dtype: str = "uint8", seed: int = 0) -> NDArray[Any]:
    """Random grey values over the whole range of `dtype`; floats 0..1."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.random((height, width)).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, (height, width), dtype=dtype, endpoint=True)


def edges_and_source(scale: StatedScale) -> tuple[float, float, str] | None:
    """Width and height of a pixel in um, rounded to seven digits, and where they are stated; None without a size."""
    size = scale.pixel_size
    return None if size is None else (float(f"{size.width_um:.7g}"), float(f"{size.height_um:.7g}"), size.source)


def write_domain(
    folder: Path, masks: Mapping[str, NDArray[Any]] | None = None, described: Mapping[str, Any] | None = None
) -> Path:
    """A domain folder: `images/NAME.tif` of noise, `masks/NAME.png` as given, `domain.yaml` if described."""
    (folder / "images").mkdir(parents=True)
    for number, (name, mask) in enumerate((masks or {}).items()):
        tifffile.imwrite(folder / "images" / f"{name}.tif", noise(mask.shape[0], mask.shape[1], seed=number))
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    if described is not None:
        (folder / "domain.yaml").write_text(yaml.safe_dump(dict(described)), encoding="utf-8")
    return folder


def halves(height: int = 32, width: int = 40, values: tuple[int, ...] = (0, 1)) -> NDArray[np.uint8]:
    """A mask of vertical bands, one a value."""
    return np.repeat(np.array(values, np.uint8), -(-width // len(values)))[:width][None].repeat(height, 0)
