from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from microseg.train.uda.style import Style, radial_spectrum


def _fields(sigma: float, scale: float = 1.0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    fields = []
    for _ in range(3):
        grey = cv2.GaussianBlur(rng.standard_normal((200, 180), dtype=np.float32), (0, 0), sigma)
        fields.append(np.clip(110 + scale * 25 * grey / grey.std(), 0, 255).astype(np.uint8))
    return fields


def test_tiles_become_as_sharp_and_as_bright_as_the_target() -> None:
    sharp, soft = _fields(1.0), [np.asarray(field // 2 + 80, np.uint8) for field in _fields(2.5)]
    tiles = torch.tensor(np.stack(sharp))[:, None].float()
    moved = Style.between(sharp, soft).carried_over(tiles, torch.ones(3))
    fields = [tile[0].round().byte().numpy() for tile in moved]
    before = np.abs(radial_spectrum(sharp) - radial_spectrum(soft))[:12].mean()
    after = np.abs(radial_spectrum(fields) - radial_spectrum(soft))[:12].mean()
    assert after < 0.15 * before
    assert abs(float(moved.mean()) - float(np.mean(soft))) < 1.0


def test_strength_nought_and_a_target_like_the_source_change_nothing() -> None:
    sharp = _fields(1.0)
    tiles = torch.tensor(np.stack(sharp))[:, None].float()
    assert torch.equal(Style.between(sharp, _fields(2.5)).carried_over(tiles, torch.zeros(3)), tiles)
    same = Style.between(sharp, sharp).carried_over(tiles, torch.ones(3))
    assert torch.allclose(same, tiles, atol=1e-2)


def test_what_is_sharp_stays_in_its_place() -> None:
    image = np.full((160, 160), 60, np.uint8)
    image[70:90, 40:120] = 200
    soft = np.asarray(cv2.GaussianBlur(image, (0, 0), 2.0), np.uint8)
    moved = Style.between([image], [soft]).carried_over(torch.tensor(image)[None, None].float(), torch.ones(1))[0, 0]
    found = np.argwhere(moved.numpy() > 130)
    assert np.abs(found.mean(0) - [79.5, 79.5]).max() < 0.5


def test_fields_smaller_than_a_window_have_a_spectrum() -> None:
    assert np.isfinite(radial_spectrum([np.arange(600, dtype=np.uint8).reshape(20, 30)])).all()


def test_tiles_count_as_often_as_they_are_drawn() -> None:
    """A target of two looks: with all the weight on one, the other is not seen."""
    rng = np.random.default_rng(3)
    source, dark, bright = (rng.integers(low, low + 60, (96, 96)).astype(np.uint8) for low in (90, 10, 180))
    found = Style.between([source], [dark, bright], np.array([0.0, 1.0]))
    alone = Style.between([source], [bright])
    assert np.allclose(found.log_gain, alone.log_gain) and found.mean_target == alone.mean_target
    even = Style.between([source], [dark, bright], np.array([0.5, 0.5]))
    assert dark.mean() < even.mean_target < bright.mean()
