"""The gate: what it counts, and what it lets through."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.agreement.check_table import require_agreement
from microseg.agreement.torch_parity import BAG, TilePair, parity_table, torch_parity
from microseg.core.errors import GateError
from microseg.core.schemas.fidelity import FoldParity


def refuse(parities: list[FoldParity]) -> None:
    require_agreement(parity_table(parities), "The engine", "torch", "another version")


PHASES = ["matrix", "crack"]


def soft(labels: NDArray[np.uint8], sure: float = 0.9) -> NDArray[np.float32]:
    """Probabilities (1, 2, H, W) whose arg max is `labels`."""
    return np.where(labels == np.arange(2)[:, None, None], sure, 1 - sure).astype(np.float32)[None]


def pair(wrong: int = 0, shift: float = 0.0, fold_shift: float = 0.0) -> TilePair:
    """Two folds on 100 x 100 px; the engine's second fold calls `wrong` pixels a crack that are none."""
    labels = np.zeros((100, 100), np.uint8)
    labels[:20] = 1
    votes = np.stack([labels, labels])
    votes[1].reshape(-1)[5000 : 5000 + wrong] = 1
    folds = np.concatenate([soft(labels), soft(labels)])
    folds[1] += np.float32(fold_shift)
    return TilePair([soft(labels), soft(labels)], labels, votes, soft(labels)[0] + np.float32(shift), folds)


def test_agreement_passes() -> None:
    parities = torch_parity([pair(), pair()], PHASES)
    assert [parity.fold for parity in parities] == [BAG, 0, 1]
    refuse(parities)


def test_figures_are_pooled_over_tiles() -> None:
    bag, first, second = torch_parity([pair(), pair(wrong=10)], PHASES)
    assert bag.label_disagreement == first.label_disagreement == 0
    assert second.label_disagreement == pytest.approx(10 / 20_000)
    assert second.fraction_difference_points == pytest.approx({"matrix": 0.05, "crack": 0.05})


@pytest.mark.parametrize(
    ("wrong", "shift", "fold_shift", "message"),
    [
        (10, 0.0, 0.0, r"fold 1: fraction of matrix: 0\.1000 points, limit 0\.01 points\. 3 of 12 checks failed"),
        (0, 0.01, 0.0, r"the bag: probability difference: 0\.01, limit 0\.002"),
        (0, float("nan"), 0.0, "the bag: probability difference: nan"),
        (0, 0.0, 0.01, r"fold 1: probability difference: 0\.01, limit 0\.002"),
    ],
)
def test_disagreement_is_refused_with_its_figure(wrong: int, shift: float, fold_shift: float, message: str) -> None:
    with pytest.raises(GateError, match=message) as caught:
        refuse(torch_parity([pair(wrong, shift, fold_shift)], PHASES))
    assert "Nothing was written" in str(caught.value)
    assert caught.value.exit_code == 4


def test_not_a_number_on_one_tile_of_many_is_refused() -> None:
    with pytest.raises(GateError, match="probability difference: nan"):
        refuse(torch_parity([pair(), pair(shift=float("nan")), pair()], PHASES))


def test_a_rare_phase_that_suffers_is_refused_though_few_labels_differ() -> None:
    (bag, *_) = torch_parity([pair()], PHASES)
    moved = bag.model_copy(update={"fraction_difference_points": {"matrix": 0.0, "crack": 0.02}})
    with pytest.raises(GateError, match=r"fraction of crack: 0\.0200 points, limit 0\.01 points"):
        refuse([moved])
