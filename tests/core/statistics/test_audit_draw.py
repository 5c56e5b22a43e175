"""The draw of audited fields: equal chances, neighbours that are alike, and sections that all get their share."""

from __future__ import annotations

import numpy as np
import pytest

from microseg.core.statistics.audit_draw import audit_order, shares, systematic_positions


def test_smooth_fractionator_goes_up_and_comes_down() -> None:
    """Gundersen 2002: items 1 to 7 by size become 1, 3, 5, 7, 6, 4, 2."""
    sizes = np.array([4, 1, 7, 3, 2, 6, 5]) / 10
    order = audit_order(np.stack([1 - sizes, sizes], 1))
    found = sizes[order] * 10
    assert found.round().tolist() in ([1, 3, 5, 7, 6, 4, 2], [7, 5, 3, 1, 2, 4, 6])


def test_the_phase_that_varies_most_orders() -> None:
    found = np.array([[0.5, 0.1, 0.4], [0.5, 0.3, 0.2], [0.49, 0.2, 0.31]])
    assert found[audit_order(found), 2].tolist() == [0.2, 0.4, 0.31]


@pytest.mark.parametrize(("fields", "number"), [(60, 8), (7, 7), (9, 2), (5, 1)])
def test_every_field_has_the_same_chance(fields: int, number: int) -> None:
    starts = (np.arange(fields * 20) + 0.5) / (fields * 20)
    drawn = [systematic_positions(fields, number, start) for start in starts]
    assert all(len(set(each.tolist())) == number for each in drawn)
    times = np.bincount(np.concatenate(drawn), minlength=fields)
    assert times / len(starts) == pytest.approx(number / fields, abs=0.06)


def test_impossible_draws_are_refused() -> None:
    for arguments in ((8, 9, 0.0), (8, 0, 0.0), (8, 2, 1.0)):
        with pytest.raises(ValueError, match="fields, start"):
            systematic_positions(*arguments)


def test_sections_share_in_proportion() -> None:
    assert shares([60], 8, 2) == [8]
    assert shares([30, 30], 8, 2) == [4, 4]
    assert shares([50, 10], 12, 2) == [10, 2]
    assert shares([50, 1], 8, 2) == [7, 1]
    assert shares([3, 2], 99, 2) == [3, 2]
    with pytest.raises(ValueError, match="3 fields for 2 sections, 4 at least"):
        shares([9, 9], 3, 2)
