"""Measures of made-up fields, and parts with a known error."""

from __future__ import annotations

import numpy as np

from microseg.core.alarm.calibrate import HOME, CalibrationPart, calibrated
from microseg.core.alarm.measures import FieldMeasures
from microseg.core.alarm.schema import Alarm

NAMES = ("grey_mean", "grey_std", "band_0", "band_1", "band_2", "band_3", "noise", "shading", "borders", "unsure")


def field(rng: np.random.Generator, off: float = 0.0, fraction: float | None = None, **moved: float) -> FieldMeasures:
    """A field whose measures follow its fraction; `off` moves features and votes, `moved` single measures."""
    share = float(rng.uniform(0.3, 0.7)) if fraction is None else fraction
    values = {name: share + float(rng.normal(0, 0.1)) for name in NAMES}
    values["unsure"] += off
    for name, by in moved.items():
        values[name] += by
    features = share + rng.normal(0, 0.1, (2, 16)) + off
    return FieldMeasures(256 * 256, np.array([1 - share, share]), values, features)


def parts(seed: int = 1, fields: int = 8) -> list[CalibrationPart]:
    """Four parts of each field at home, and corrupted ones whose error grows with the distance."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(fields):
        for _ in range(4):
            error = float(rng.normal(0.01, 0.005))
            found.append(CalibrationPart(f"f{number}", HOME, field(rng), np.array([-error, error])))
        for off in (0.1, 0.3, 0.6, 1.0):
            error = 0.01 + 0.2 * off
            found.append(CalibrationPart(f"f{number}", "noise", field(rng, off), np.array([-error, error])))
    return found


def _alarm() -> Alarm:
    found = calibrated(parts(), "s")
    assert found is not None
    return found


ALARM = _alarm()
