"""Small synthetic tiles in every appearance, which an engine carries for `verify`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microseg.synthetic.appearance import DOMAINS
from microseg.synthetic.field import synthesise_field

SIDE_PX = 256
_SEED = 20


def reference_tiles() -> list[tuple[str, NDArray[np.uint8]]]:
    """Names and tiles uint8 (256, 256): each domain as it is and inverted. Always the same; takes about 1.5 s."""
    found = []
    for domain in DOMAINS:
        image = synthesise_field(domain, _SEED, size_px=(SIDE_PX, SIDE_PX)).image
        found += [(f"{domain}", image), (f"{domain}, inverted", 255 - image)]
    return found
