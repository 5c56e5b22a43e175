"""`python -m benchmarks.loader`: training tiles that one core cuts and augments in a second, for each augmentation.

Tiles of 636 px (the paper's cores of 512 px with a halo of 62 px) from fields of 1024 x 717 px in memory, one thread. Times
are processor times, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import cv2

from benchmarks.machine import machine, versions
from microseg.core.domains.domain import DomainField
from microseg.core.system.files import write_json
from microseg.synthetic.field import synthesise_field
from microseg.train.common.datasets import LabelledField, TileSampler
from microseg.train.common.recipe import (
    AugmentationConfig,
    BasicAugmentation,
    ExtendedAugmentation,
    NoAugmentation,
    RandomisedAugmentation,
)

PIPELINES: list[AugmentationConfig] = [
    NoAugmentation(),
    BasicAugmentation(),
    ExtendedAugmentation(),
    RandomisedAugmentation(),
]
CORE_PX, HALO_PX, BATCH = 512, 62, 12


def main() -> None:
    """Measure every augmentation, print a table, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    found = {augmentation.kind: rates(augmentation, options.batches, options.repeats) for augmentation in PIPELINES}
    median = {kind: statistics.median(values) for kind, values in found.items()}
    for kind, rate in median.items():
        print(f"{kind:11s} {rate:6.0f} tiles/s per core, {1000 / rate:5.1f} ms a tile")
    if options.json:
        figures: dict[str, Any] = {"tiles_per_s_per_core": median["extended"], "median": median, "repeats": found}
        figures |= {"tile_px": CORE_PX + 2 * HALO_PX, "batch": BATCH, "machine": machine()}
        write_json(options.json, figures | {"versions": versions("albumentations", "opencv-python-headless", "numpy")})


def rates(augmentation: AugmentationConfig, batches: int, repeats: int) -> list[float]:
    """Tiles per second of one core, one value for each repeat."""
    made = [synthesise_field("s", seed, size_px=(1024, 717)) for seed in range(3)]
    fields = [
        LabelledField(DomainField(f"{seed}.tif", Path(f"{seed}.tif"), None, str(seed)), "", field.image, field.labels)
        for seed, field in enumerate(made)
    ]
    sampler = TileSampler(
        fields, augmentation, core_px=CORE_PX, halo_px=HALO_PX, batch=BATCH, rare_phase_share=0.0, seed=(0,)
    )
    sampler.batch(0)
    found = []
    for repeat in range(repeats):
        begun = time.process_time()
        for step in range(batches):
            sampler.batch(1 + repeat * batches + step)
        found.append(batches * BATCH / (time.process_time() - begun))
    return found


if __name__ == "__main__":
    main()
