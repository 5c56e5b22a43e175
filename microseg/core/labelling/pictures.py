"""Pictures of fields to label and of doubtful labels: grey values, phases over them, and marks; small, for a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.pictures.overlay import Overlay, thumbnail
from microseg.core.schemas.bag import PhaseInfo

SIDE_PX = 440
_MARK_BGR = (32, 32, 208)
_PALE = 0.55


def plain_picture(grey: NDArray[np.uint8]) -> str:
    """Grey values, uint8 (h, w), as the address of a picture in a page."""
    return _address(np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8))


def phase_picture(grey: NDArray[np.uint8], labels: NDArray[np.uint8], phases: Sequence[PhaseInfo]) -> str:
    """The phases' colours over grey values, both uint8 (h, w); what is in no phase is pale."""
    height, width = labels.shape
    overlay = Overlay(height, width, [phase.color for phase in phases])
    overlay.add(grey, labels)
    return _address(overlay.finish())


def marked_picture(grey: NDArray[np.uint8], marks: NDArray[np.bool_]) -> str:
    """Marked pixels, bool (h, w), in red over pale grey values. They stay visible where the picture is reduced."""
    height, width = grey.shape
    factor = max(1, -(-max(height, width) // (2 * SIDE_PX)))
    small = (-(-width // factor), -(-height // factor))
    pale = cv2.resize(grey, small, interpolation=cv2.INTER_AREA).astype(np.float32) * (1 - _PALE) + 255 * _PALE
    picture = np.repeat(pale[..., None], 3, axis=2)
    weight = np.sqrt(cv2.resize(marks.astype(np.float32), small, interpolation=cv2.INTER_AREA))[..., None]
    picture = (1 - weight) * picture + weight * np.array(_MARK_BGR, np.float32)
    return _address(np.rint(picture).astype(np.uint8))


def _address(picture: NDArray[np.uint8]) -> str:
    """A picture, uint8 (h, w, 3) BGR, as a data URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(thumbnail(picture, SIDE_PX)).decode('ascii')}"
