from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from microseg.train.uda.scoring.candidates import Table, consistency_gains

FIELDS, FOLDS = 5, 3
# Fields of coarse and of fine structure.
STRUCTURE = np.array([1.0, 1.5, 2.0, 3.0, 4.0])[:, None] * np.ones(FOLDS)
SCATTER = np.array([-1.0, 1.0, 0.0, 1.0, -1.0])


def _table(flips: float, photometric: float, spread: float = 0.0) -> Table:
    """Agreements whose disagreement grows with the structure, and scatters between fields by the factor exp(+-spread)."""
    scatter = np.exp(spread * SCATTER)[:, None]
    return {"flips": 1 - flips * STRUCTURE * scatter, "photometric": 1 - photometric * STRUCTURE * scatter}


def test_gains_are_paired_over_fields_and_folds() -> None:
    tables = {
        "unadapted": _table(0.05, 0.15),
        "source": _table(0.04, 0.02, spread=0.5),
        "dacs": _table(0.02, 0.02, spread=0.1),
    }
    assert consistency_gains("unadapted", tables) == []
    (longer,) = consistency_gains("source", tables)
    assert (longer.over, longer.criterion, longer.fields, longer.folds) == ("unadapted", "flips", FIELDS, FOLDS)
    assert longer.ratio == pytest.approx(0.8), "the agreement under another light does not count"
    # Folds are alike, so that the scatter of the fields alone is left.
    t = np.log(1 / 0.8) / (0.5 * SCATTER.std(ddof=1) / np.sqrt(FIELDS))
    assert longer.p == pytest.approx(scipy.stats.t.sf(t, FIELDS - 1))
    over = {gain.over: gain for gain in consistency_gains("dacs", tables)}
    assert over["unadapted"].criterion == over["source"].criterion == "self-consistency"
    assert over["unadapted"].ratio == pytest.approx(0.2) and over["source"].ratio == pytest.approx(2 / 3)
    gained = STRUCTURE[:, 0] * (0.1 - 0.02 * np.exp(0.1 * SCATTER))
    assert over["unadapted"].mean == pytest.approx(gained.mean())
    assert over["unadapted"].p is not None and over["unadapted"].p < 1e-4


def test_one_field_gives_no_test() -> None:
    values = {"unadapted": 0.2, "dacs": 0.1}
    tables = {name: {key: table[:1] for key, table in _table(at, at).items()} for name, at in values.items()}
    (gain,) = consistency_gains("dacs", tables)
    assert gain.mean == pytest.approx(0.1) and gain.ratio == pytest.approx(0.5)
    assert gain.p is None and gain.fields == 1


def test_what_agrees_to_the_last_pixel_has_a_ratio_too() -> None:
    whole: Table = {key: np.ones((2, 2)) for key in ("flips", "photometric")}
    (gain,) = consistency_gains("dacs", {"unadapted": whole, "dacs": whole})
    assert (gain.ratio, gain.p) == (1, 1)
