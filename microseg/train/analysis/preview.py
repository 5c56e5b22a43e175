"""`microseg preview`: training tiles of a domain, as the network sees them under a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.system.files import replacing, require_writable
from microseg.train.common.data import load_training_data
from microseg.train.common.datasets import Batch, TileSampler
from microseg.train.common.recipe import Recipe

_TINT = 0.45


def preview(source: Path, recipe: Recipe, out: Path, tiles: int = 4) -> DomainEntry:
    """Write a PNG with one row for each tile, before and after the augmentation, each without and with its labels.

    Args:
        source: A labelled domain.
        recipe: The recipe.
        out: The PNG.
        tiles: Number of tiles.

    Returns:
        The domain as a run would record it.

    Raises:
        InputError: The domain cannot be trained on, or `out` cannot be written or is one of its files.
    """
    data = load_training_data(source, recipe.scale, recipe.folds, split=recipe.split)
    require_writable(out, [path for item in data.fields for path in (item.field.image, item.field.mask)])
    with TileSampler(
        data.fields, recipe.augmentation, core_px=recipe.tile.core_px, halo_px=recipe.tile.halo_px, batch=tiles,
        rare_phase_share=recipe.rare_phase_share, seed=(recipe.seed, 0), on_grid=recipe.tile.placement == "grid",
    ) as sampler:  # fmt: skip
        pairs = [sampler.before_and_after(0, i) for i in range(tiles)]
    _draw(out, pairs, data.phases, recipe)
    return data.entry


def _draw(out: Path, pairs: Sequence[tuple[Batch, Batch]], phases: Sequence[PhaseInfo], recipe: Recipe) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    side = pairs[0][0].tiles.shape[-1]
    figure = Figure(figsize=(12, 3 * len(pairs) + 0.8), layout="constrained")
    grid = figure.subplots(len(pairs), 4, squeeze=False)
    titles = ("as it is", "with its labels", f"what the network sees ({recipe.augmentation.kind})", "with its labels")
    for row, (before, after) in zip(grid, pairs, strict=True):
        row[0].set_ylabel(before.sources[0], fontsize=8)
        panels = [panel for batch in (before, after) for panel in (_bare(batch), _tinted(batch, phases, recipe))]
        for axes, panel in zip(row, panels, strict=True):
            axes.imshow(panel, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            halo = recipe.tile.halo_px
            core = (halo - 0.5, halo - 0.5), side - 2 * halo, side - 2 * halo
            axes.add_patch(Rectangle(*core, fill=False, edgecolor="white", linewidth=0.8, linestyle=":"))
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    known: list[Any] = [Patch(color=phase.color, label=phase.name) for phase in phases]
    figure.legend(handles=known, loc="outside lower center", ncols=len(phases), frameon=False)
    figure.suptitle(
        f"Tiles of {side} px at {recipe.scale:g} network pixels per native pixel; the loss counts inside the dots",
        fontsize=10,
    )
    with replacing(out) as part:
        figure.savefig(part, format="png", dpi=100)


def _bare(batch: Batch) -> NDArray[np.uint8]:
    tile: NDArray[np.uint8] = batch.tiles[0, 0]
    return tile


def _tinted(batch: Batch, phases: Sequence[PhaseInfo], recipe: Recipe) -> NDArray[np.uint8]:
    """The tile in colour, uint8 (S, S, 3), with its core tinted by phase. Unlabelled pixels stay grey."""
    colour = np.repeat(batch.tiles[0, 0][..., None], 3, axis=2).astype(np.float32)
    inner = slice(recipe.tile.halo_px, recipe.tile.halo_px + recipe.tile.core_px)
    core = colour[inner, inner]
    for index, phase in enumerate(phases):
        rgb = np.array([int(phase.color[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
        here = batch.labels[0] == index
        core[here] = (1 - _TINT) * core[here] + _TINT * rgb
    assert len(phases) <= UNLABELLED
    return np.rint(colour).astype(np.uint8)
